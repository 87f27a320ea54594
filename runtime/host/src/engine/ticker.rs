//! The thread that raises the engine's epoch each `TICK`, and each `PROFILE_TICK` while a function is profiled.
//!
//! A thread of its own, not a task: a guest that loops on an executor would keep the executor from ever ticking.
//!
//! A tick is [`TICK_EPOCHS`] epochs. Without a profile they come all at once; with one, they come singly. Whoever waits
//! for that many sees a tick as before, and only guests that are profiled wait for less.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mayfly_core::limits::node::{PROFILE_TICK, PROFILES, TICK};
use wasmtime::Engine;

/// Epochs of a tick: what a store's deadline is set to.
pub const TICK_EPOCHS: u64 = 5;

const _: () = assert!(TICK.as_micros() == 5 * PROFILE_TICK.as_micros());

/// Ticks until it is dropped, or the engine is gone.
pub struct Ticker {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the ticker has counted, and how fast it goes.
#[derive(Debug, Default)]
pub struct Beats {
    count: AtomicU64,
    epochs: AtomicU64,
    profiles: AtomicUsize,
}

impl Beats {
    /// How many there were. One that comes late counts once: what guests did in the time that it was late is not known.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// How much time has passed, in epochs of `PROFILE_TICK`.
    #[must_use]
    pub fn epochs(&self) -> u64 {
        self.epochs.load(Relaxed)
    }

    fn beat(&self, engine: &Engine, epochs: u64) {
        // First the count: a guest that sees the epoch finds it there.
        self.advance(1, epochs);
        for _ in 0..epochs {
            engine.increment_epoch();
        }
    }

    /// The same for whoever has no engine: tests that own time.
    pub(crate) fn advance(&self, beats: u64, epochs: u64) {
        self.epochs.fetch_add(epochs, Relaxed);
        self.count.fetch_add(beats, Relaxed);
    }

    fn is_quick(&self) -> bool {
        self.profiles.load(Relaxed) > 0
    }
}

/// Makes every guest that runs look at its clock now, as a tick would.
pub fn nudge(engine: &Engine) {
    for _ in 0..TICK_EPOCHS {
        engine.increment_epoch();
    }
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(engine: &Engine, beats: Arc<Beats>) -> std::io::Result<Self> {
        // Room for one word: whoever says it does not wait for the thread.
        let (wake, woken) = sync_channel::<()>(1);
        let engine = engine.weak();
        let thread = std::thread::Builder::new().name("mayfly-ticker".into()).spawn(move || {
            let (mut pace, mut last) = (Pace(0x9e37_79b9), Instant::now());
            loop {
                let quick = beats.is_quick();
                match woken.recv_timeout(if quick { pace.next() } else { TICK }) {
                    Err(RecvTimeoutError::Timeout) => {}
                    // The pace has changed.
                    Ok(()) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                let Some(engine) = engine.upgrade() else { return };
                // A tick that comes late is not made up for: deadlines are checked against clocks, not counts. A beat is,
                // up to a tick: of five that others wait for, each may come late.
                let since = last.elapsed().as_micros() / PROFILE_TICK.as_micros();
                last = Instant::now();
                let passed = u64::try_from(since).unwrap_or(TICK_EPOCHS).clamp(1, TICK_EPOCHS);
                beats.beat(&engine, if quick { passed } else { TICK_EPOCHS });
            }
        })?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            // Full means that it is told already.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // It may be the ticker itself that drops the last handle.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Pauses between beats, half a `PROFILE_TICK` to one and a half: a guest whose own work comes each millisecond, as its
/// clock does, would otherwise be met at the same place each time.
struct Pace(u32);

impl Pace {
    fn next(&mut self) -> Duration {
        // Marsaglia's xorshift: nobody has to be surprised by it.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        PROFILE_TICK / 2 + PROFILE_TICK * (self.0 % 1_024) / 1_024
    }
}

/// The quick beat, for as long as a profile has it.
pub struct Quick {
    beats: Arc<Beats>,
    ticker: Option<Arc<Ticker>>,
}

impl Quick {
    /// Begins it; nothing if the node has as many profiles as it may.
    #[must_use]
    pub fn begin(beats: &Arc<Beats>, ticker: Option<&Arc<Ticker>>) -> Option<Self> {
        let more = |profiles: usize| (profiles < PROFILES).then_some(profiles + 1);
        beats.profiles.fetch_update(Relaxed, Relaxed, more).ok()?;
        if let Some(ticker) = ticker {
            ticker.wake();
        }
        Some(Self { beats: beats.clone(), ticker: ticker.cloned() })
    }

    /// The beats themselves.
    #[must_use]
    pub fn beats(&self) -> Arc<Beats> {
        self.beats.clone()
    }
}

impl Drop for Quick {
    fn drop(&mut self) {
        self.beats.profiles.fetch_sub(1, Relaxed);
        if let Some(ticker) = &self.ticker {
            ticker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_a_beat_long_on_average_and_never_the_same_for_long() {
        let mut pace = Pace(0x9e37_79b9);
        let pauses: Vec<_> = (0..1_000).map(|_| pace.next()).collect();
        assert!(pauses.iter().all(|p| (PROFILE_TICK / 2..PROFILE_TICK * 3 / 2).contains(p)));
        let sum: Duration = pauses.iter().sum();
        assert!(sum > 950 * PROFILE_TICK && sum < 1_050 * PROFILE_TICK, "{sum:?}");
        assert!(pauses.windows(8).all(|p| p.iter().any(|other| *other != p[0])));
    }

    #[test]
    fn a_node_has_so_many_profiles_at_once() {
        let beats = Arc::<Beats>::default();
        let mut held: Vec<_> = (0..PROFILES).map(|_| Quick::begin(&beats, None).unwrap()).collect();
        assert!(beats.is_quick() && Quick::begin(&beats, None).is_none());
        held.pop();
        assert!(Quick::begin(&beats, None).is_some());
        held.clear();
        assert!(!beats.is_quick());
    }
}
