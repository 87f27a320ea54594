//! Times of one invocation, noted while it runs, for a head that may leave before its guest's end.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Written by the guest's side, read by the client's.
#[derive(Default)]
pub struct Notes {
    instantiate_ns: AtomicU64,
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
