//! Large blocks while init runs: the lowest place that fits, and no notes beside them.
//!
//! An ordinary heap writes sizes and links into what it frees, and takes the place that fits best. Both spread a
//! snapshot: each note is a page of the image, and the image reaches to the highest. Here free memory is all zero, what
//! is free is written down apart, and what is made last goes as low as it can.

use std::ops::Range;

/// Blocks begin and end at multiples of this: a cache line, and what tract aligns its numbers to at most.
const GRAIN: usize = 64;
/// Free ranges that can be written down; a model of 400 nodes leaves 60. What does not fit is never used again.
const RANGES: usize = 1_024;
const WASM_PAGE: usize = 64 << 10;

/// Free memory, in order of address, none touching the next.
pub(super) struct Large {
    free: [(usize, usize); RANGES],
    count: usize,
    /// Gives so many bytes, a multiple of a wasm page and zero, or null.
    grow: fn(usize) -> *mut u8,
    /// Where memory ends.
    end: fn() -> usize,
}

impl Large {
    pub(super) const fn new(grow: fn(usize) -> *mut u8, end: fn() -> usize) -> Self {
        Self { free: [(0, 0); RANGES], count: 0, grow, end }
    }

    /// A block of zeros, or null.
    pub(super) fn alloc(&mut self, size: usize, align: usize) -> *mut u8 {
        let Some(size) = size.checked_next_multiple_of(GRAIN) else { return std::ptr::null_mut() };
        let align = align.max(GRAIN);
        for at in 0..self.count {
            let (start, end) = self.free[at];
            let begin = start.next_multiple_of(align);
            if begin.checked_add(size).is_some_and(|stop| stop <= end) {
                self.remove(at);
                // The end first: if there is no room to write both down, the larger one should stay.
                self.insert(begin + size..end);
                self.insert(start..begin);
                return std::ptr::with_exposed_provenance_mut(begin);
            }
        }
        if self.extend(size + align).is_none() {
            return std::ptr::null_mut();
        }
        self.alloc(size, align)
    }

    /// Takes a block back. It must be zero.
    pub(super) fn free(&mut self, block: *mut u8, size: usize) {
        let start = block.expose_provenance();
        self.insert(start..start + size.next_multiple_of(GRAIN));
    }

    /// All memory above the highest block, made to be `size` bytes at least; it is not given out any more.
    pub(super) fn take_top(&mut self, size: usize) -> Option<Range<usize>> {
        if self.top() < size {
            self.extend(size)?;
        }
        let (start, end) = *self.free[..self.count].last()?;
        self.remove(self.count - 1);
        // Nothing is given out after this, and what is written down need not be in the snapshot.
        self.free = [(0, 0); RANGES];
        self.count = 0;
        Some(start..end)
    }

    /// Bytes that are free at memory's end.
    fn top(&self) -> usize {
        match self.free[..self.count].last() {
            Some((start, end)) if *end == (self.end)() => end - start,
            _ => 0,
        }
    }

    /// Gets as much memory as is missing to `size` bytes at its end.
    fn extend(&mut self, size: usize) -> Option<()> {
        let size = size.saturating_sub(self.top()).checked_next_multiple_of(WASM_PAGE)?;
        let block = (self.grow)(size);
        if block.is_null() {
            return None;
        }
        let start = block.expose_provenance();
        if self.count == RANGES && self.free[RANGES - 1].1 != start {
            // It must be written down, or whoever needs it would make memory grow again and again: in the place of the
            // smallest.
            let smallest = (0..RANGES).min_by_key(|&at| self.free[at].1 - self.free[at].0);
            self.remove(smallest.unwrap_or(0));
        }
        self.insert(start..start + size);
        Some(())
    }

    fn insert(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let at = self.free[..self.count].partition_point(|(start, _)| *start < range.start);
        let joins_next = at < self.count && self.free[at].0 == range.end;
        let joins_previous = at > 0 && self.free[at - 1].1 == range.start;
        match (joins_previous, joins_next) {
            (true, true) => {
                self.free[at - 1].1 = self.free[at].1;
                self.remove(at);
            }
            (true, false) => self.free[at - 1].1 = range.end,
            (false, true) => self.free[at].0 = range.start,
            (false, false) if self.count < RANGES => {
                self.free.copy_within(at..self.count, at + 1);
                self.free[at] = (range.start, range.end);
                self.count += 1;
            }
            (false, false) => {}
        }
    }

    fn remove(&mut self, at: usize) {
        self.free.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::heaps::{grow, memory_end};
    use super::*;

    fn heap() -> Large {
        let mut heap = Large::new(grow, memory_end);
        // One region for all of a test, so that addresses can be compared.
        let block = heap.alloc(8 << 20, 64);
        heap.free(block, 8 << 20);
        heap
    }

    #[test]
    fn the_lowest_place_is_taken_and_neighbours_join() {
        let mut heap = heap();
        let [a, b, c] = [5_000, 10_000, 7_000].map(|size| heap.alloc(size, 16));
        assert!(a < b && b < c);
        heap.free(a, 5_000);
        heap.free(b, 10_000);
        assert_eq!(heap.alloc(15_000, 64), a, "both together");
        heap.free(a, 15_000);
        assert_eq!(heap.alloc(100, 64), a);
        heap.free(a, 100);
        heap.free(c, 7_000);
        assert_eq!(heap.count, 1, "all of it is one range again");
    }

    #[test]
    fn alignment_is_kept_and_what_it_skips_is_not_lost() {
        let mut heap = heap();
        let first = heap.alloc(64, 64);
        let page = heap.alloc(4096, 1 << 16);
        assert_eq!(page.addr() % (1 << 16), 0);
        let between = heap.alloc(4096, 64);
        assert!(first < between && between < page);
    }

    #[test]
    fn the_top_is_what_lies_above_the_highest_block() {
        let mut heap = heap();
        let low = heap.alloc(1 << 20, 64);
        let high = heap.alloc(1 << 20, 64);
        heap.free(low, 1 << 20);
        let top = heap.take_top(1 << 20).unwrap();
        assert_eq!(top.start, high.addr() + (1 << 20));
        assert!(top.len() >= 6 << 20 && top.end == memory_end());
    }

    #[test]
    fn what_cannot_be_written_down_is_lost_and_no_more() {
        let mut heap = Large::new(grow, memory_end);
        let blocks: Vec<_> = (0..3 * RANGES).map(|_| heap.alloc(64, 64)).collect();
        for block in blocks.iter().step_by(2) {
            heap.free(*block, 64);
        }
        assert_eq!(heap.count, RANGES);
        assert!(heap.free[..heap.count].windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert!(!heap.alloc(64, 64).is_null());
    }

    #[test]
    fn memory_that_grows_is_written_down_whatever_is_lost_for_it() {
        let mut heap = Large::new(grow, memory_end);
        let blocks: Vec<_> = (0..3 * RANGES).map(|_| heap.alloc(64, 64)).collect();
        let top = heap.top();
        if top > 0 {
            assert!(!heap.alloc(top, 64).is_null());
        }
        for block in blocks.iter().step_by(2) {
            heap.free(*block, 64);
        }
        assert_eq!((heap.count, heap.top()), (RANGES, 0), "as many as fit, and none at the end");
        let end = memory_end();
        assert_eq!(heap.alloc(1 << 20, 64).addr(), end);
        assert!(memory_end() - end <= (1 << 20) + WASM_PAGE, "memory grew once");
    }

    #[test]
    fn without_memory_there_is_null() {
        let mut heap = Large::new(|_| std::ptr::null_mut(), || 0);
        assert!(heap.alloc(1 << 20, 64).is_null());
        assert!(heap.alloc(usize::MAX - 3, 64).is_null());
        assert!(heap.take_top(1).is_none());
    }
}
