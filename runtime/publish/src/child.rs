//! Child processes of the same binary, for what must not happen in the process that serves: compiling, and running
//! untrusted code outside the pool. A job goes in on stdin, the result comes out on stdout, both anonymous files;
//! a child has no other descriptor, no environment, and no way to get more ([`confine`]).

pub mod confine;
pub mod wire;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use mayfly_core::limits::node;
use mayfly_core::units::{format_duration, format_size};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use serde::Serialize;
use serde::de::DeserializeOwned;

use mayfly_store::artifact::mapped;

pub use confine::Caps;

/// What a child is told to do: the hidden verbs of the `mayfly` binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Wasm in, native code out; runs no guest.
    Compile,
    /// Runs a guest's init; hands back what it left in memory, and numbers.
    Preinit,
}

impl Verb {
    const ALL: [Self; 2] = [Self::Compile, Self::Preinit];

    /// The first argument of the process.
    #[must_use]
    pub fn argument(self) -> &'static str {
        match self {
            Self::Compile => "__compile",
            Self::Preinit => "__preinit",
        }
    }

    /// The verb that a first argument names, if it is one of the hidden ones.
    #[must_use]
    pub fn from_argument(argument: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.argument() == argument)
    }
}

/// How a child failed, as far as the kernel tells.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The process could not be started or talked to.
    #[error("the child process for {verb} could not be run: {source}")]
    Run {
        /// Which child.
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Out of CPU time.
    #[error("limit reached: {} of CPU time", format_duration(*.0))]
    Cpu(Duration),
    /// Out of wall time.
    #[error("limit reached: {} of time", format_duration(*.0))]
    Wall(Duration),
    /// Out of memory.
    #[error("limit reached: {} of memory, the guest's and its image's (CHILD_DATA_BYTES, and half of the machine's)", format_size(*.0))]
    Memory(u64),
    /// The kernel ended it, as it does when memory runs out: this process goes first.
    #[error("limit reached: the machine's memory (the process was killed by the kernel)")]
    Killed,
    /// The result is too large.
    #[error("limit reached: the result is over {} (CHILD_OUTPUT_BYTES)", format_size(*.0))]
    Output(u64),
    /// It crashed.
    #[error("the process ended by {how}{}", said(.stderr))]
    Died {
        /// `signal 11`, or `exit code 70`.
        how: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// Its answer is not what our own child would write.
    #[error("{0}")]
    Answer(io::Error),
}

impl ChildError {
    /// Whether the module is at fault: it asked for more than a child may use, or broke the child that handled it.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::Cpu(_) | Self::Wall(_) | Self::Memory(_) | Self::Killed | Self::Output(_)
        )
    }
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(", saying: {stderr}") }
}

/// What a child sends back: a header, and blobs whose meaning the header's type gives.
pub type Answer<R> = (R, Vec<Bytes>);

/// Starts children.
#[derive(Debug, Clone)]
pub struct Children {
    program: OsString,
    /// What a compilation may take.
    compile_cpu: Duration,
}

impl Default for Children {
    /// Children of this very binary, even after its file was replaced by an upgrade.
    fn default() -> Self {
        Self::of("/proc/self/exe")
    }
}

impl Children {
    /// Children of another program that calls [`run`]; tests run in a binary of their own.
    #[must_use]
    pub fn of(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), compile_cpu: node::CHILD_CPU }
    }

    /// The same with more time for a compilation, for code that is the caller's own.
    #[must_use]
    pub fn with_compile_cpu(self, compile_cpu: Duration) -> Self {
        Self { compile_cpu, ..self }
    }

    pub(super) fn compile_caps(&self) -> Caps {
        Caps::of_node(self.compile_cpu.as_secs())
    }

    /// Runs one child to its end. Dropping the future does not stop it; the wall limit does.
    ///
    /// # Errors
    /// [`ChildError`] says which limit it reached or how it died.
    pub async fn run<H, R>(
        &self,
        verb: Verb,
        header: H,
        blobs: Vec<Bytes>,
        caps: Caps,
        wall: Duration,
    ) -> Result<Answer<R>, ChildError>
    where
        H: Serialize + Send + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let (send, receive) = tokio::sync::oneshot::channel();
        let program = self.program.clone();
        let run = move || {
            // Nobody waits any more: the publish was dropped with its runtime.
            let _ = send.send(run_blocking(&program, verb, &header, &blobs, caps, wall));
        };
        let failed = |source| ChildError::Run { verb: verb.argument(), source };
        // A thread of its own, because a child is killed when the thread that started it ends.
        std::thread::Builder::new().name("mayfly-child".into()).spawn(run).map_err(failed)?;
        receive.await.map_err(|_| failed(io::Error::other("its thread panicked")))?
    }
}

fn run_blocking<R: DeserializeOwned>(
    program: &OsString,
    verb: Verb,
    header: &impl Serialize,
    blobs: &[Bytes],
    caps: Caps,
    wall: Duration,
) -> Result<Answer<R>, ChildError> {
    let failed = |source| ChildError::Run { verb: verb.argument(), source };
    let mut job = anonymous("job").map_err(failed)?;
    wire::write(&mut job, header, blobs).map_err(failed)?;
    // Both sides read what neither can change any more.
    mapped::seal(&job).map_err(failed)?;
    let result = anonymous("result").map_err(failed)?;
    let child = Command::new(program)
        .arg0("mayfly")
        .arg(verb.argument())
        .args(
            [u64::from(std::process::id()), caps.cpu_s, caps.data_bytes, caps.output_bytes]
                .map(|n| n.to_string()),
        )
        .env_clear()
        .current_dir("/")
        .stdin(job)
        .stdout(result.try_clone().map_err(failed)?)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (status, stderr) = supervise(child, wall).map_err(failed)?;
    judge(status, &stderr, &caps, wall)?;
    mapped::sealed(result).and_then(wire::read).map_err(ChildError::Answer)
}

fn anonymous(name: &str) -> io::Result<File> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into())
}

/// Waits for the end, draining stderr; kills at the deadline, which is then said by `None`.
fn supervise(mut child: Child, wall: Duration) -> io::Result<(Option<ExitStatus>, String)> {
    let deadline = Instant::now() + wall;
    let mut stderr = child.stderr.take();
    let mut said = Vec::new();
    let outcome = wait(&child, &mut stderr, &mut said, deadline);
    let in_time = matches!(outcome, Ok(true));
    if !in_time {
        child.kill()?;
    }
    // Reaped in every case, so that no zombie is left.
    let status = child.wait()?;
    outcome?;
    while let Some(pipe) = &mut stderr {
        if !drain(pipe, &mut said) {
            stderr = None;
        }
    }
    let text = String::from_utf8_lossy(&said).trim().to_owned();
    Ok((in_time.then_some(status), text))
}

/// False at the deadline.
fn wait(
    child: &Child,
    stderr: &mut Option<ChildStderr>,
    said: &mut Vec<u8>,
    deadline: Instant,
) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the child has no process id"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if let Some(pipe) = &*stderr {
            fds.push(PollFd::new(pipe, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = !fds[0].revents().is_empty();
        let readable = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if ended {
            return Ok(true);
        }
        if readable && stderr.as_mut().is_some_and(|pipe| !drain(pipe, said)) {
            *stderr = None;
        }
    }
}

/// Reads once; false at the end. What is over the cap is dropped, so that a child cannot fill our memory.
fn drain(pipe: &mut ChildStderr, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    match pipe.read(&mut buffer) {
        Ok(0) => false,
        Ok(n) => {
            let room = node::CHILD_STDERR_BYTES.saturating_sub(said.len());
            said.extend_from_slice(&buffer[..n.min(room)]);
            true
        }
        Err(error) => error.kind() == io::ErrorKind::Interrupted,
    }
}

fn judge(
    status: Option<ExitStatus>,
    stderr: &str,
    caps: &Caps,
    wall: Duration,
) -> Result<(), ChildError> {
    let Some(status) = status else { return Err(ChildError::Wall(wall)) };
    if status.success() {
        return Ok(());
    }
    Err(match status.signal() {
        Some(libc::SIGXCPU) => ChildError::Cpu(Duration::from_secs(caps.cpu_s)),
        Some(libc::SIGXFSZ) => ChildError::Output(caps.output_bytes),
        // Rust's last words before it aborts; RLIMIT_DATA refused an allocation.
        Some(libc::SIGABRT) if stderr.contains("memory allocation of") => {
            ChildError::Memory(caps.data_bytes)
        }
        // Not ours: at the deadline there is no status.
        Some(libc::SIGKILL) => ChildError::Killed,
        Some(signal) => ChildError::Died { how: format!("signal {signal}"), stderr: last(stderr) },
        None => {
            let code = status.code().unwrap_or(-1);
            ChildError::Died { how: format!("exit code {code}"), stderr: last(stderr) }
        }
    })
}

/// Its last words: what was said before is of no use to the person who deploys.
fn last(stderr: &str) -> String {
    mayfly_host::traps::last_words(stderr).chars().take(500).collect()
}

/// What `main` calls when its first argument is a [`Verb`]: confines the process, lets `work` do the job, and ends.
pub fn run(verb: Verb, work: impl FnOnce(Io) -> anyhow::Result<()>) -> ! {
    let code = match serve(verb, work) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error:#}");
            70
        }
    };
    std::process::exit(code)
}

fn serve(verb: Verb, work: impl FnOnce(Io) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let numbers = std::env::args().skip(2).map(|argument| argument.parse::<u64>());
    let numbers = numbers.collect::<Result<Vec<_>, _>>().context("this verb is Mayfly's own")?;
    let [parent, cpu_s, data_bytes, output_bytes] = numbers[..] else {
        bail!("{} is started by mayfly itself, not by hand", verb.argument());
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if u64::try_from(now) != Ok(parent) {
        bail!("the process that started this one is gone");
    }
    close_inherited().context("closing what the starter of mayfly left open")?;
    confine::go_first();
    let job = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let result = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    confine::confine(&Caps { cpu_s, data_bytes, output_bytes })
        .context("confining this process")?;
    work(Io { job, result })
}

/// Ours are closed on exec; those that a shell or a supervisor left open in Mayfly itself are not.
#[expect(unsafe_code, reason = "no crate offers this call as a safe one")]
fn close_inherited() -> io::Result<()> {
    // SAFETY: this thread is the only one, and nothing in this process owns a descriptor beyond the standard three yet.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A child's job and its result.
pub struct Io {
    job: File,
    result: File,
}

impl Io {
    /// Reads the job, does it, writes the result.
    ///
    /// # Errors
    /// When the job cannot be read or done, or the result not written.
    pub fn answer<H: DeserializeOwned, R: Serialize>(
        mut self,
        work: impl FnOnce(H, Vec<Bytes>) -> anyhow::Result<Answer<R>>,
    ) -> anyhow::Result<()> {
        let job = mapped::sealed(self.job).and_then(wire::read);
        let (header, blobs) = job.context("reading the job")?;
        let (header, blobs) = work(header, blobs)?;
        wire::write(&mut self.result, &header, &blobs).context("writing the result")
    }
}
