//! How near the process is to its memory budget: requests are refused before the kernel kills.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// How often memory is looked at: a guest fills some 100 MiB meanwhile.
const EVERY: Duration = Duration::from_millis(100);
/// From here on, functions that hold many slots are refused.
const TIGHT_PERCENT: u64 = 95;
/// From here on, every request is.
const FULL_PERCENT: u64 = 98;

const EASY: u8 = 0;
const TIGHT: u8 = 1;
const FULL: u8 = 2;

/// The level, kept by a thread that ends with this.
#[derive(Debug)]
pub struct Pressure {
    level: Arc<AtomicU8>,
    _stop: SyncSender<()>,
}

impl Pressure {
    /// Starts to watch this process against a budget in bytes.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch(budget: u64) -> io::Result<Self> {
        let level = Arc::new(AtomicU8::new(EASY));
        let (stop, stopped) = sync_channel::<()>(0);
        let watched = level.clone();
        // Opened once: when descriptors run out is no time to lose sight of memory.
        let status = File::open("/proc/self/status").ok();
        std::thread::Builder::new().name("mayfly-memory".into()).spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let Some(used) = status.as_ref().and_then(read).and_then(|s| unevictable(&s))
                else {
                    continue;
                };
                let now = grade(used, budget);
                let before = watched.swap(now, Ordering::Relaxed);
                if now > before {
                    tracing::warn!(budget, "memory is nearly used up: requests are refused");
                }
            }
        })?;
        Ok(Self { level, _stop: stop })
    }

    /// Whether a request must be refused now; `modest` if its function holds few slots.
    pub fn refuses(&self, modest: bool) -> bool {
        match self.level.load(Ordering::Relaxed) {
            EASY => false,
            TIGHT => !modest,
            _ => true,
        }
    }
}

/// What the file says now; it is about 1.5 KiB.
fn read(status: &File) -> Option<String> {
    let mut text = [0; 8 << 10];
    let n = status.read_at(&mut text, 0).ok()?;
    Some(String::from_utf8_lossy(&text[..n]).into_owned())
}

fn grade(used: u64, budget: u64) -> u8 {
    match used.saturating_mul(100) / budget.max(1) {
        percent if percent >= FULL_PERCENT => FULL,
        percent if percent >= TIGHT_PERCENT => TIGHT,
        _ => EASY,
    }
}

/// Bytes that the kernel cannot take back: what is mapped from files it can.
fn unevictable(status: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((kib("RssAnon:")? + kib("RssShmem:").unwrap_or(0)) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_are_at_their_percents() {
        for (used, level) in
            [(0, EASY), (94, EASY), (95, TIGHT), (97, TIGHT), (98, FULL), (200, FULL)]
        {
            assert_eq!(grade(used, 100), level, "{used}");
        }
        assert_eq!(grade(1, 0), FULL);
    }

    #[test]
    fn this_process_has_memory() {
        let status = File::open("/proc/self/status").unwrap();
        read(&status).unwrap();
        let text = read(&status).unwrap();
        assert!(unevictable(&text).unwrap() > 1 << 20);
        assert_eq!(unevictable("RssAnon:\t 12 kB\nRssShmem: 3 kB\n"), Some(15 << 10));
        assert_eq!(unevictable("nothing"), None);
    }

    #[test]
    fn a_small_function_is_refused_last() {
        let pressure = Pressure::watch(u64::MAX).unwrap();
        for (level, refused) in
            [(EASY, [false, false]), (TIGHT, [false, true]), (FULL, [true, true])]
        {
            pressure.level.store(level, Ordering::Relaxed);
            assert_eq!([pressure.refuses(true), pressure.refuses(false)], refused);
        }
    }
}
