//! The thread that looks at memory and acts.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mayfly_observe::metrics::Metrics;
use wasmtime::EngineWeak;

use super::marks::Marks;
use super::{EASY, FULL, Shared, TIGHT};
use crate::admission::greedy::{self, Held};
use crate::admission::registry::Large;
use crate::engine::memory::Arenas;
use crate::engine::ticker::nudge;
use crate::engine::{Engine, scan, trim};

/// Until those that were ended are measured again, should they not leave.
const STUCK: Duration = Duration::from_millis(100);
/// An instance that holds less is not ended for it.
const WORTH_BYTES: u64 = 64 << 10;
/// Idle memories that are cleared at each look: some 10 us each.
const CLEARED: usize = 64;
/// Between two tries to give back what the allocator keeps, and between two without a sign that there is something.
const TRIM: Duration = Duration::from_secs(2);
const TRIM_SELDOM: Duration = Duration::from_secs(5);
/// Connections and requests, below which their going frees too little to look for.
const CROWD: i64 = 64;

/// The state of the thread. It allocates nothing once it runs, but for a log line.
pub struct Watch {
    shared: Arc<Shared>,
    marks: Marks,
    engine: EngineWeak,
    arenas: Arenas,
    metrics: Arc<Metrics>,
    /// Opened once: when descriptors run out is no time to lose sight of memory.
    status: Option<File>,
    large: Vec<Large>,
    held: Vec<Held>,
    sums: Vec<u64>,
    chosen: Vec<usize>,
    ended: Instant,
    trim: Trim,
}

impl Watch {
    pub fn new(
        shared: Arc<Shared>,
        marks: Marks,
        engine: &Engine,
        metrics: Arc<Metrics>,
        slots: usize,
    ) -> Self {
        Self {
            shared,
            marks,
            engine: engine.wasmtime().weak(),
            arenas: engine.arenas().clone(),
            metrics,
            status: File::open("/proc/self/status").ok(),
            large: Vec::with_capacity(slots),
            held: Vec::with_capacity(slots),
            sums: Vec::with_capacity(slots),
            chosen: Vec::with_capacity(slots),
            ended: Instant::now(),
            trim: Trim::new(),
        }
    }

    /// One look; says when to look again.
    pub fn step(&mut self) -> Duration {
        let Some(used) = self.status.as_ref().and_then(used) else {
            return Duration::from_secs(1);
        };
        let before = self.shared.level.load(std::sync::atomic::Ordering::Relaxed);
        if used >= self.marks.high {
            self.relieve(used);
        } else if before != EASY {
            self.recover(used);
        } else {
            self.count_room(used);
        }
        // At each level: what a crowd leaves in the allocator would keep everybody refused long after it has gone.
        let level = self.shared.level.load(std::sync::atomic::Ordering::Relaxed);
        self.arenas.set_short(level != EASY, CLEARED);
        if self.trim.is_due(used, crowd(&self.metrics), level == FULL) {
            trim::trim();
            self.trim.done(used, self.status.as_ref().and_then(self::used).unwrap_or(used));
        }
        self.shared.account.wake();
        let large = self.shared.registry.len() > 0 || self.shared.account.is_waited_for();
        self.marks.pause(used, large)
    }

    /// What may be promised is what is not the process's own: what it holds while no instance is there.
    fn count_room(&mut self, used: u64) {
        if self.shared.account.claimed() == 0 {
            self.shared.account.set_room(self.marks.high.saturating_sub(used));
        }
    }

    /// Above the high mark. Unless enough of it is leaving already, nobody large runs on until the greediest have been
    /// chosen, and these end.
    fn relieve(&mut self, used: u64) {
        self.list();
        let everybody = used >= self.marks.full;
        let left = used.saturating_sub(self.leaving(self.ended.elapsed() > STUCK));
        if left >= self.marks.high {
            self.hold(|_| true);
            self.end_greediest(left.saturating_sub(self.marks.low));
        }
        if !everybody {
            self.release(|large| !large.usage.is_greedy());
        }
        self.hold(|large| everybody || large.usage.is_greedy());
        let leaving = self.large.iter().any(|large| large.meter.fate.is_doomed());
        if !leaving {
            // Nothing will come of waiting.
            self.release(|_| true);
        }
        let level = if leaving || !everybody { TIGHT } else { FULL };
        if self.shared.set_level(level) {
            let ended = self.chosen.len();
            if level == FULL {
                tracing::warn!(
                    used,
                    "memory is used up and nobody is left to end: requests are refused"
                );
            } else {
                tracing::warn!(used, ended, "memory is nearly used up: the greediest are ended");
            }
        }
        self.large.clear();
    }

    /// Below the mark again: those that were held go on once those that were ended are gone, or there is room enough.
    fn recover(&mut self, used: u64) {
        self.list();
        let leaving = self.large.iter().any(|large| large.meter.fate.is_doomed());
        if leaving && used > self.marks.low {
            self.release(|large| !large.usage.is_greedy());
        } else {
            self.shared.set_level(EASY);
            // Listed again: whoever was added since may have been held for the old level, but not for this one.
            self.list();
            self.release(|_| true);
        }
        self.large.clear();
    }

    fn list(&mut self) {
        self.large.clear();
        self.shared.registry.list(&mut self.large);
    }

    /// Keeps some from running on; those that run see it at once.
    fn hold(&self, which: impl Fn(&Large) -> bool) {
        let mut any = false;
        for large in self.large.iter().filter(|large| which(large)) {
            any |= large.meter.fate.hold();
        }
        if any {
            self.tick();
        }
    }

    fn release(&self, which: impl Fn(&Large) -> bool) {
        for large in self.large.iter().filter(|large| which(large)) {
            large.meter.fate.release();
        }
    }

    /// What those that were ended still hold; asked of the kernel if they should be gone by now.
    fn leaving(&self, measured: bool) -> u64 {
        let doomed = self.large.iter().filter(|large| large.meter.fate.is_doomed());
        let hold =
            |large: &Large| if measured { holds(large) } else { large.meter.fate.held_bytes() };
        doomed.map(hold).sum()
    }

    fn end_greediest(&mut self, over: u64) {
        self.held.clear();
        for at in 0..self.large.len() {
            let large = &self.large[at];
            let name = &large.usage.function;
            // By name: two revisions of a function are one function.
            let same = self.large[..at].iter().position(|other| other.usage.function == *name);
            let function = same.map_or(at, |same| self.held[same].function);
            let bytes = if large.meter.fate.is_doomed() { 0 } else { holds(large) };
            if bytes > 0 && large.base != 0 {
                large.usage.note(bytes, large.bytes as u64, false);
            }
            let bytes = if bytes < WORTH_BYTES { 0 } else { bytes };
            self.held.push(Held { function, bytes });
        }
        greedy::sum(&self.held, &mut self.sums);
        for (large, held) in self.large.iter().zip(&self.held) {
            large.usage.set_greedy(self.sums[held.function] >= self.marks.greedy);
        }
        greedy::choose(&self.held, over, &mut self.sums, &mut self.chosen);
        for &at in &self.chosen {
            self.large[at].meter.fate.doom(self.held[at].bytes);
        }
        if !self.chosen.is_empty() {
            self.ended = Instant::now();
            self.tick();
        }
    }

    /// Guests that run see their fate now, not at the ticker's next turn.
    fn tick(&self) {
        if let Some(engine) = self.engine.upgrade() {
            nudge(&engine);
        }
    }
}

/// What an instance holds. Where the kernel does not tell, and as long as nobody knows where its memory is, all of it.
fn holds(large: &Large) -> u64 {
    let all = large.bytes as u64;
    if large.base == 0 { all } else { scan::private_bytes(large.base, large.bytes).unwrap_or(all) }
}

fn crowd(metrics: &Metrics) -> i64 {
    metrics.connections.get() + metrics.active_requests.get()
}

/// When to ask the allocator for what it keeps: once a crowd has gone, as long as that gives something, now and then, and
/// again and again while everybody is refused.
#[derive(Debug)]
struct Trim {
    /// What was used after the last time.
    floor: u64,
    most: i64,
    /// The last time gave something: a crowd does not go all at once.
    again: bool,
    last: Instant,
}

impl Trim {
    fn new() -> Self {
        Self { floor: 0, most: 0, again: false, last: Instant::now() }
    }

    fn is_due(&mut self, used: u64, crowd: i64, refuses: bool) -> bool {
        if self.floor == 0 || used < self.floor {
            self.floor = used;
        }
        self.most = self.most.max(crowd);
        let since = self.last.elapsed();
        let gone = self.most >= CROWD && crowd <= self.most / 2;
        let more = used > self.floor + self.floor / 20 + (8 << 20);
        since >= TRIM && (gone || self.again || refuses) || since >= TRIM_SELDOM && more
    }

    fn done(&mut self, before: u64, after: u64) {
        let again = after + after / 20 < before;
        *self = Self { floor: after, most: 0, again, last: Instant::now() };
    }
}

/// Bytes that the kernel cannot take back: what is mapped from files it can.
fn used(status: &File) -> Option<u64> {
    // It is about 1.5 KiB.
    let mut text = [0; 8 << 10];
    let n = status.read_at(&mut text, 0).ok()?;
    unevictable(std::str::from_utf8(&text[..n]).ok()?)
}

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
    fn this_process_has_memory() {
        let status = File::open("/proc/self/status").unwrap();
        let held = vec![1_u8; 2 << 20];
        assert!(used(&status).unwrap() > std::hint::black_box(&held).len() as u64);
        assert_eq!(unevictable("RssAnon:\t 12 kB\nRssShmem: 3 kB\n"), Some(15 << 10));
        assert_eq!(unevictable("nothing"), None);
    }

    #[test]
    fn the_allocator_is_asked_once_a_crowd_has_gone() {
        let mut trim = Trim::new();
        let past = Instant::now().checked_sub(TRIM).unwrap();
        trim.last = past;
        assert!(!trim.is_due(100 << 20, 0, false), "nothing has come");
        assert!(!trim.is_due(700 << 20, 5_000, false), "it is there");
        assert!(!trim.is_due(700 << 20, 3_000, false));
        assert!(trim.is_due(700 << 20, 2_000, false));
        trim.done(700 << 20, 300 << 20);
        assert!(!trim.is_due(300 << 20, 0, false), "at once");
        trim.last = past;
        assert!(trim.is_due(300 << 20, 0, false), "it gave something, and may not have given all");
        trim.done(120 << 20, 119 << 20);
        trim.last = past;
        assert!(!trim.is_due(700 << 20, 0, false), "no crowd has gone since");
        assert!(trim.is_due(700 << 20, 0, true), "everybody is refused");
        trim.last = past.checked_sub(TRIM_SELDOM).unwrap();
        assert!(trim.is_due(700 << 20, 0, false), "but it is asked now and then");
        assert!(!trim.is_due(125 << 20, 0, false), "unless there is little to gain");
    }
}
