//! How near the process is to its memory budget, and what is done about it before the kernel kills.
//!
//! A thread of its own looks at the memory in use, the more often the nearer it is to the budget. Beyond the high mark
//! it holds the large instances where they are, measures them, ends the greediest function's until what is left is below
//! the low mark, and lets the others go on. Only when nobody is left to end are all requests refused.

mod marks;
mod watch;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mayfly_core::limits::node::REFUSING_UNREADY;
use mayfly_observe::metrics::Metrics;

use super::account::Account;
use super::registry::Registry;
use crate::engine::Engine;
use marks::Marks;
use watch::Watch;

/// How much the thread goes before others.
const WATCH_NICE: i32 = -10;

/// Room for everybody.
const EASY: u8 = 0;
/// Somebody is being ended: functions that hold much get nothing more.
const TIGHT: u8 = 1;
/// Nobody is left to end.
const FULL: u8 = 2;

/// Whether memory is short in this process: for guests that run without a node, of which publish tries some.
static SHORT: AtomicBool = AtomicBool::new(false);

/// Whether memory is short in this process.
pub fn memory_is_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// The state of the node's memory, kept by a thread that ends with this.
#[derive(Debug)]
pub struct Pressure {
    shared: Arc<Shared>,
    _stop: SyncSender<()>,
}

/// What requests and the thread share.
#[derive(Debug)]
struct Shared {
    level: AtomicU8,
    /// Milliseconds from `began` on since when everybody is refused; 0 if that is not so.
    full_since: AtomicU64,
    began: Instant,
    account: Account,
    registry: Registry,
}

impl Pressure {
    /// Starts to watch this process against a budget in bytes, with instances in at most so many slots.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch(
        budget: u64,
        slots: usize,
        engine: &Engine,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let marks = Marks::of(budget, std::thread::available_parallelism().map_or(1, usize::from));
        let shared = Arc::new(Shared {
            level: AtomicU8::new(EASY),
            full_since: AtomicU64::new(0),
            began: Instant::now(),
            account: Account::new(marks.high),
            registry: Registry::new(slots),
        });
        let (stop, stopped) = sync_channel::<()>(0);
        let mut watch = Watch::new(shared.clone(), marks, engine, metrics, slots);
        // The first look is made here, so that the first request finds the room counted.
        let mut pause = watch.step();
        std::thread::Builder::new().name("mayfly-memory".into()).spawn(move || {
            // Where that is allowed: it needs little, but that at once.
            let _ = rustix::process::nice(WATCH_NICE);
            while stopped.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                pause = watch.step();
            }
        })?;
        Ok(Self { shared, _stop: stop })
    }

    /// What is promised to instances.
    pub fn account(&self) -> &Account {
        &self.shared.account
    }

    /// The large instances.
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Whether a request must be refused now, whoever it is for.
    pub fn is_full(&self) -> bool {
        self.shared.level.load(Ordering::Relaxed) == FULL
    }

    /// Whether only functions that hold little get anything now.
    pub fn is_tight(&self) -> bool {
        self.shared.level.load(Ordering::SeqCst) != EASY
    }

    /// Whether everybody has been refused for longer than a moment.
    pub fn is_unready(&self) -> bool {
        let since = self.shared.full_since.load(Ordering::Relaxed);
        since != 0 && self.shared.began.elapsed() > Duration::from_millis(since) + REFUSING_UNREADY
    }
}

impl Shared {
    /// Sets the level; says whether it has become worse.
    fn set_level(&self, level: u8) -> bool {
        let before = self.level.swap(level, Ordering::SeqCst);
        SHORT.store(level != EASY, Ordering::Relaxed);
        if (before == FULL) != (level == FULL) {
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            self.full_since.store(if level == FULL { now } else { 0 }, Ordering::Relaxed);
        }
        level > before
    }
}
