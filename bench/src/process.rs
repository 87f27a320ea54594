//! Child processes: started on given cores, read through /proc, never left behind.

use std::collections::VecDeque;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A child that dies with its handle. Its output goes to a file, for when it fails.
pub struct Process {
    child: Child,
    log: tempfile::NamedTempFile,
    what: String,
}

/// What /proc says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Resident bytes, those of shared files included.
    pub rss: u64,
    /// Resident bytes, each shared page counted in parts: what removing the process would free.
    pub pss: u64,
    /// Resident bytes that no file backs.
    pub anonymous: u64,
    /// Most resident bytes so far.
    pub peak: u64,
}

/// What a process has spent so far, cheap to read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// CPU time of all live threads, and of children that ended, in microseconds.
    pub cpu_us: f64,
    /// Page faults that needed no disk, of the process and of children that ended.
    pub minor_faults: u64,
}

impl Process {
    /// Starts a command on the given cores (all, if none are given).
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(command: &mut Command, cores: &[usize]) -> anyhow::Result<Self> {
        let what = format!("{:?}", command.get_program());
        let log = tempfile::NamedTempFile::new()?;
        command.stdin(Stdio::null()).stdout(log.reopen()?).stderr(log.reopen()?);
        let child =
            on_cores(cores, || command.spawn()).with_context(|| format!("cannot start {what}"))?;
        Ok(Self { child, log, what })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails, with the end of what it wrote, if the process has ended.
    ///
    /// # Errors
    /// When it has.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(5).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            anyhow::bail!("{} ended ({status}):\n{tail}", self.what);
        }
        Ok(())
    }

    /// What it uses now, with its children.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut sum = usage(self.id());
        for child in children(self.id()) {
            let u = usage(child);
            sum.rss += u.rss;
            sum.pss += u.pss;
            sum.anonymous += u.anonymous;
            sum.peak += u.peak;
        }
        sum
    }

    /// What it has spent so far, with its children.
    #[must_use]
    pub fn spent(&self) -> Spent {
        children(self.id()).into_iter().chain([self.id()]).map(spent).fold(
            Spent::default(),
            |a, b| Spent {
                cpu_us: a.cpu_us + b.cpu_us,
                minor_faults: a.minor_faults + b.minor_faults,
            },
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Children of children (workers) get the signal of their parent's end; ours are few and die with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `f` with this thread on the given cores; a child made by `f` stays there.
pub fn on_cores<T>(cores: &[usize], f: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None).ok();
    if pin(cores) {
        let result = f();
        if let Some(before) = before {
            let _ = sched_setaffinity(None, &before);
        }
        result
    } else {
        f()
    }
}

/// Moves this thread to the given cores; says whether that was possible.
pub fn pin(cores: &[usize]) -> bool {
    if cores.is_empty() {
        return false;
    }
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).is_ok()
}

/// The cores that a server and the load generator get: one each if there are two at least, else the same.
#[must_use]
pub fn cores() -> (Vec<usize>, Vec<usize>) {
    let allowed: Vec<usize> = sched_getaffinity(None)
        .map(|set| (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
        .unwrap_or_default();
    match allowed.as_slice() {
        [first, .., last] => (vec![*first], vec![*last]),
        _ => (Vec::new(), Vec::new()),
    }
}

/// What /proc says of a process; zeros once it is gone.
#[must_use]
pub fn usage(pid: u32) -> Usage {
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let (smaps, status) = (read("smaps_rollup"), read("status"));
    let kib = |text: &str, key: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
            })
            .unwrap_or(0)
            << 10
    };
    Usage {
        rss: kib(&smaps, "Rss:"),
        pss: kib(&smaps, "Pss:"),
        anonymous: kib(&smaps, "Anonymous:"),
        peak: kib(&status, "VmHWM:"),
    }
}

fn spent(pid: u32) -> Spent {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces: fields count from behind it, state first.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let field = |i: usize| fields.get(i).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    // Ended children's time is kept in ticks of ten milliseconds; over a second that is one percent.
    let ended_us = (field(13) + field(14)) as f64 * 10_000.0;
    Spent { cpu_us: cpu_us(pid) + ended_us, minor_faults: field(7) + field(8) }
}

/// CPU time of a process's live threads in microseconds, by the scheduler's own count (nanoseconds; `stat` counts in
/// steps of ten milliseconds).
fn cpu_us(pid: u32) -> f64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let ns: u64 = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    ns as f64 / 1_000.0
}

/// Minor faults of this thread so far.
#[must_use]
pub fn own_minor_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or("");
    fields.split_whitespace().nth(7).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let direct: Vec<u32> = std::fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let further: Vec<u32> = direct.iter().flat_map(|child| children(*child)).collect();
    [direct, further].concat()
}

/// An address on loopback that is free now, and none of the last few that were given: those may not be in use yet.
///
/// # Errors
/// When there is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    static GIVEN: Mutex<VecDeque<SocketAddr>> = Mutex::new(VecDeque::new());
    loop {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !given.contains(&address) {
            given.push_back(address);
            if given.len() > 64 {
                given.pop_front();
            }
            return Ok(address);
        }
    }
}

/// Asks the kernel to drop every file under `dir`, or `dir` itself, from the page cache. Written pages are synced
/// first; pages that a process has mapped stay.
///
/// # Errors
/// When a file cannot be opened.
pub fn drop_from_page_cache(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            drop_from_page_cache(&entry?.path())?;
        }
        return Ok(());
    }
    if !path.is_file() {
        return Ok(());
    }
    let file = File::open(path).with_context(|| format!("{}", path.display()))?;
    rustix::fs::fsync(&file)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_and_ended() {
        let process = Process::spawn(Command::new("sleep").arg("60"), &[]).unwrap();
        let (pid, usage) = (process.id(), process.usage());
        assert!(usage.rss > 0 && process.spent().minor_faults > 0, "{usage:?}");
        drop(process);
        assert_eq!(super::usage(pid), Usage::default());
    }

    #[test]
    fn one_that_ends_early_says_why() {
        let mut process =
            Process::spawn(Command::new("sh").args(["-c", "echo no luck; exit 3"]), &[]).unwrap();
        let error = loop {
            if let Err(error) = process.check() {
                break error.to_string();
            }
        };
        assert!(error.contains("no luck"), "{error}");
    }
}
