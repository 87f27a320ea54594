//! Which pages of an instance are its own, and which still come from the image that all instances share.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// Granularity of copy-on-write, in bytes.
pub const PAGE: u64 = 4 << 10;

/// Requests between two measurements, which cost about a microsecond for each MiB of memory.
const EVERY: u64 = 1_024;
/// Entries of the page map that are read at once.
const ENTRIES: usize = 4_096;

/// What one request left of its instance's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Pages {
    /// Pages of 4 KiB that are this instance's alone: written, or read where the image has none.
    pub dirty: u64,
    /// Runs of neighbours among them.
    pub runs: u64,
    /// Pages that it shares with every other instance of the revision, out of the image's file. Any at all means that
    /// copy-on-write applies.
    pub shared: u64,
}

/// What the measured requests of a revision left.
#[derive(Debug, Default)]
pub struct Footprint {
    requests: AtomicU64,
    seen: Mutex<Option<Measured>>,
}

/// See [`Footprint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Requests that were measured.
    pub requests: u64,
    /// The one with the most dirty pages.
    pub most: Pages,
    /// The last one.
    pub last: Pages,
}

impl Footprint {
    /// Measures one of the first two requests, and then one in 1,024. After the response: it takes its time.
    pub fn note(&self, memory: &[u8]) {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        if before >= 2 && !before.is_multiple_of(EVERY) {
            return;
        }
        let Some(pages) = measure(memory) else { return };
        let mut seen = self.seen.lock();
        let old = seen.unwrap_or(Measured { requests: 0, most: pages, last: pages });
        let more = old.requests == 0 || pages.dirty > old.most.dirty;
        let most = if more { pages } else { old.most };
        *seen = Some(Measured { requests: old.requests + 1, most, last: pages });
    }

    /// What was seen so far; nothing before the first request, or where the kernel does not tell.
    #[must_use]
    pub fn seen(&self) -> Option<Measured> {
        *self.seen.lock()
    }
}

/// Counts the pages of some memory of this process; nothing if the kernel does not tell.
#[must_use]
pub fn measure(memory: &[u8]) -> Option<Pages> {
    let page = rustix::param::page_size();
    let (mut pages, mut next) = (Pages::default(), 0);
    walk(memory.as_ptr().addr(), memory.len().div_ceil(page), page, |at, shared| {
        if shared {
            pages.shared += 1;
            return;
        }
        pages.dirty += 1;
        pages.runs += u64::from(pages.dirty == 1 || at != next);
        next = at + 1;
    })?;
    Some(pages)
}

/// Runs of those of so many pages that are this process's alone, counted from the first; nothing if the kernel does not
/// tell.
#[must_use]
pub fn private(address: usize, count: usize, page: usize) -> Option<Vec<Range<u32>>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    walk(address, count, page, |at, shared| {
        let Ok(at) = u32::try_from(at) else { return };
        match runs.last_mut() {
            _ if shared => {}
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    })?;
    Some(runs)
}

/// Says of each page that is there whether it is a file's.
fn walk(
    address: usize,
    count: usize,
    page: usize,
    mut there: impl FnMut(usize, bool),
) -> Option<()> {
    static PAGE_MAP: OnceLock<Option<File>> = OnceLock::new();
    let map = PAGE_MAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
    let first = address / page;
    let mut buffer = vec![0; ENTRIES.min(count) * 8];
    for start in (0..count).step_by(ENTRIES) {
        let entries = (count - start).min(ENTRIES);
        let bytes = &mut buffer[..entries * 8];
        map.read_exact_at(bytes, (first + start) as u64 * 8).ok()?;
        for (at, entry) in (start..).zip(bytes.as_chunks::<8>().0) {
            let (present, shared) = kind(u64::from_le_bytes(*entry));
            if present {
                there(at, shared);
            }
        }
    }
    Some(())
}

/// Whether a page is there (or swapped out), and whether it is a file's: bits 63, 62 and 61 of the page map.
fn kind(entry: u64) -> (bool, bool) {
    (entry >> 62 != 0, entry >> 61 & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beyond the most that glibc's threshold for a mapping of its own can grow to: such a block is fresh.
    const OWN_MAPPING: usize = 40 << 20;

    /// Whole pages of fresh memory.
    fn fresh(block: &mut [u8]) -> &mut [u8] {
        let skip = block.as_ptr().align_offset(4096);
        &mut block[skip..skip + (64 << 12)]
    }

    #[test]
    fn pages_and_runs_are_counted() {
        let mut block = vec![0u8; OWN_MAPPING];
        let memory = fresh(&mut block);
        let Some(before) = measure(memory) else { return };
        for page in [3, 4, 5, 10, 40, 41] {
            memory[page << 12] = 1;
        }
        let after = measure(memory).unwrap();
        assert_eq!((before.dirty, before.runs), (0, 0), "{before:?}");
        assert_eq!((after.dirty, after.runs, after.shared), (6, 3, 0), "{after:?}");
        let runs = private(memory.as_ptr().addr(), 64, 4096).unwrap();
        assert_eq!(runs, [3..6, 10..11, 40..42]);
    }

    #[test]
    fn the_first_two_requests_are_measured_and_then_few() {
        let footprint = Footprint::default();
        let mut block = vec![0u8; OWN_MAPPING];
        let memory = fresh(&mut block);
        assert!(footprint.seen().is_none());
        memory[0] = 1;
        footprint.note(memory);
        let Some(first) = footprint.seen() else { return };
        assert_eq!((first.requests, first.most.dirty), (1, 1));
        for page in 8..48 {
            memory[page << 12] = 1;
        }
        for _ in 0..10 {
            footprint.note(memory);
        }
        let second = footprint.seen().unwrap();
        assert_eq!((second.requests, second.most.dirty, second.last.runs), (2, 41, 2));
    }
}
