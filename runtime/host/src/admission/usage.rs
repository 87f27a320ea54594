//! What instances of a revision were seen to take of the node's memory, and so what the next one is counted at before
//! it has taken anything.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mayfly_core::FunctionName;
use mayfly_core::limits::node::{INSTANCE_BYTES, LARGE_MEMORY_BYTES};

/// Each measured instance lowers what the next is counted at by at most this part.
const FORGET: u64 = 8;
/// Instances of which one is measured, which takes as long as its reset at most.
const EVERY: u64 = 16;

/// One per revision.
#[derive(Debug)]
pub struct Usage {
    /// Whose revision it is: the greediest function is ended first, whatever its revision.
    pub function: FunctionName,
    /// Bytes of linear memory that a fresh instance can touch at once.
    initial: u64,
    /// The most that an instance was seen to hold, slowly forgotten; 0 as long as none was measured.
    seen: AtomicU64,
    /// The largest linear memory of an instance whose use was measured.
    grown: AtomicU64,
    /// Instances at their end.
    ended: AtomicU64,
    /// Whether its function held much the last time that memory ran out.
    greedy: AtomicBool,
}

impl Usage {
    /// Of a revision whose instances start with so much linear memory.
    #[must_use]
    pub fn new(function: FunctionName, initial: u64) -> Self {
        Self {
            function,
            initial,
            seen: AtomicU64::new(0),
            grown: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            greedy: AtomicBool::new(false),
        }
    }

    /// What one more instance is counted at.
    #[must_use]
    pub fn claim(&self) -> u64 {
        let memory = match self.seen.load(Ordering::Relaxed) {
            0 => self.initial,
            // Small ones are not measured but counted whole.
            _ if self.initial < LARGE_MEMORY_BYTES && !self.has_grown() => self.initial,
            seen => seen,
        };
        memory + INSTANCE_BYTES
    }

    /// What an instance is to be counted at whose memory grows to this size, if growing changes it: one that becomes
    /// larger than any that was measured may touch all of it.
    #[must_use]
    pub fn claim_grown(&self, memory_bytes: u64) -> Option<u64> {
        (memory_bytes > self.grown.load(Ordering::Relaxed)).then_some(memory_bytes + INSTANCE_BYTES)
    }

    /// An instance is at its end, or in the middle of its life, and holds this much now.
    pub fn note(&self, held: u64, memory_bytes: u64, at_end: bool) {
        let before = self.seen.load(Ordering::Relaxed);
        let floor = if at_end { before - before / FORGET } else { before };
        // Lost updates of two at once are made good by the next.
        self.seen.store(held.max(floor).max(1), Ordering::Relaxed);
        self.grown.fetch_max(memory_bytes, Ordering::Relaxed);
    }

    /// Whether the instance that is at its end is one to measure: the first ones, and then a few.
    pub fn is_due(&self) -> bool {
        let before = self.ended.fetch_add(1, Ordering::Relaxed);
        before < 2 || before.is_multiple_of(EVERY)
    }

    /// Whether it is to be held while memory is short.
    pub fn is_greedy(&self) -> bool {
        self.greedy.load(Ordering::Relaxed)
    }

    /// Notes whether it holds much.
    pub fn set_greedy(&self, greedy: bool) {
        self.greedy.store(greedy, Ordering::Relaxed);
    }

    fn has_grown(&self) -> bool {
        self.grown.load(Ordering::Relaxed) > self.initial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(initial: u64) -> Usage {
        Usage::new(FunctionName::new("f").unwrap(), initial)
    }

    #[test]
    fn an_instance_is_counted_at_what_it_can_touch_until_one_was_seen() {
        let usage = usage(128 << 20);
        assert_eq!(usage.claim(), (128 << 20) + INSTANCE_BYTES);
        usage.note(5 << 20, 128 << 20, true);
        assert_eq!(usage.claim(), (5 << 20) + INSTANCE_BYTES);
        usage.note(80 << 20, 128 << 20, false);
        assert_eq!(usage.claim(), (80 << 20) + INSTANCE_BYTES);
        usage.note(8 << 20, 128 << 20, true);
        assert_eq!(usage.claim(), (70 << 20) + INSTANCE_BYTES, "an eighth is forgotten");
    }

    #[test]
    fn a_small_one_is_counted_whole() {
        let usage = usage(64 << 10);
        usage.note(8 << 10, 64 << 10, true);
        assert_eq!(usage.claim(), (64 << 10) + INSTANCE_BYTES);
    }

    #[test]
    fn growth_counts_beyond_what_was_measured() {
        let usage = usage(1 << 20);
        assert_eq!(usage.claim_grown(64 << 20), Some((64 << 20) + INSTANCE_BYTES));
        usage.note(3 << 20, 64 << 20, true);
        assert_eq!(usage.claim_grown(64 << 20), None);
        assert_eq!(usage.claim_grown(65 << 20), Some((65 << 20) + INSTANCE_BYTES));
        assert_eq!(usage.claim(), (3 << 20) + INSTANCE_BYTES);
    }
}
