//! Times of one invocation, noted while it runs, for a head that may leave before its guest's end.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What waits are counted from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Written by the guest's side, read by the client's.
#[derive(Default)]
pub struct Notes {
    instantiate_ns: AtomicU64,
    /// Waiting for the request's body, before the wait that is under way.
    waited_ns: AtomicU64,
    /// When that began, in nanoseconds since the process' first; 0 = there is none.
    waits_since_ns: AtomicU64,
    /// Microseconds since arrival at which the guest called `mark(i)`, plus one; 0 = never.
    marks: [AtomicU32; 8],
}

impl Notes {
    /// Notes what making the instance took, in nanoseconds.
    pub fn set_instantiated(&self, ns: u64) {
        self.instantiate_ns.store(ns, Ordering::Relaxed);
    }

    /// What making the instance took, in nanoseconds; 0 if it is not made yet.
    pub fn instantiate_ns(&self) -> u64 {
        self.instantiate_ns.load(Ordering::Relaxed)
    }

    /// The guest waits for its request's body until what this gives is dropped, however that comes.
    pub fn wait(&self) -> Wait<'_> {
        self.waits_since_ns.store(now_ns(), Ordering::Relaxed);
        Wait(self)
    }

    /// How long the wait has taken that is under way, if one is.
    pub fn waits_for(&self) -> Duration {
        match self.waits_since_ns.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_nanos(now_ns().saturating_sub(since)),
        }
    }

    /// How long it has waited so, in nanoseconds. Whoever ends a guest asks while it still waits.
    pub fn waited_ns(&self) -> u64 {
        let under_way = u64::try_from(self.waits_for().as_nanos()).unwrap_or(u64::MAX);
        self.waited_ns.load(Ordering::Relaxed).saturating_add(under_way)
    }

    /// Notes a guest's mark at `us` microseconds since arrival; ids over 7 are nobody's.
    pub fn mark(&self, id: u32, us: u32) {
        if let Some(mark) = self.marks.get(id as usize) {
            mark.store(us.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// The marks that were set: id and microseconds since arrival.
    pub fn marks(&self) -> impl Iterator<Item = (usize, u32)> {
        let marks = self.marks.iter().map(|mark| mark.load(Ordering::Relaxed));
        marks.enumerate().filter_map(|(id, us)| Some((id, us.checked_sub(1)?)))
    }
}

fn now_ns() -> u64 {
    u64::try_from(BEGINNING.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// A wait that counts.
pub struct Wait<'n>(&'n Notes);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = self.0.waited_ns();
        self.0.waits_since_ns.store(0, Ordering::Relaxed);
        self.0.waited_ns.store(waited, Ordering::Relaxed);
    }
}
