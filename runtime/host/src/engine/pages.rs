//! Which pages of an instance are its own, and which still come from the image that all instances share.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde::Serialize;

/// Granularity of copy-on-write, in bytes.
pub const PAGE: u64 = 4 << 10;

/// Requests between two measurements, which cost about a microsecond for each MiB of memory.
const EVERY: u64 = 1_024;
/// Requests before a measurement whose slots are left as the reset leaves them: the next to have one of those is
/// measured, and what was put back for it is not to be taken for what it dirtied.
const BARE: u64 = 8;
/// Runs that are remembered; guests dirty 4 to 30, and each costs a call.
const RUNS: usize = 64;
/// Fewer dirty pages are not remembered but left to their faults: 16 us.
const EXPECTED_FROM_PAGES: u64 = 32;
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

/// A run of neighbouring pages: its first byte and the one after its last, in the memory.
pub type Run = [u64; 2];

/// What the measured requests of a revision left.
#[derive(Debug, Default)]
pub struct Footprint {
    requests: AtomicU64,
    seen: Mutex<Option<Measured>>,
    /// Where the dirty pages of `seen.most` were, if there were enough of them.
    dirty: ArcSwapOption<Vec<Run>>,
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
        let Some((pages, runs)) = measure(memory) else { return };
        let mut seen = self.seen.lock();
        let old = seen.unwrap_or(Measured { requests: 0, most: pages, last: pages });
        let more = old.requests == 0 || pages.dirty > old.most.dirty;
        let most = if more { pages } else { old.most };
        *seen = Some(Measured { requests: old.requests + 1, most, last: pages });
        if more && pages.dirty >= EXPECTED_FROM_PAGES {
            self.dirty.store(Some(Arc::new(runs)));
        }
    }

    /// Where the next request in a slot will probably write; nothing if that is little or not known yet, and for the
    /// slots that the next measurement may see.
    #[must_use]
    pub fn expected(&self) -> Option<Arc<Vec<Run>>> {
        let requests = self.requests.load(Ordering::Relaxed);
        let measured_soon = requests < 2 || requests % EVERY >= EVERY - BARE;
        if measured_soon { None } else { self.dirty.load_full() }
    }

    /// What was seen so far; nothing before the first request, or where the kernel does not tell.
    #[must_use]
    pub fn seen(&self) -> Option<Measured> {
        *self.seen.lock()
    }
}

/// Counts the pages of some memory of this process, and says where its first dirty runs are; nothing if the kernel
/// does not tell.
#[must_use]
pub fn measure(memory: &[u8]) -> Option<(Pages, Vec<Run>)> {
    static PAGE_MAP: OnceLock<Option<File>> = OnceLock::new();
    let map = PAGE_MAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
    let first = memory.as_ptr().addr() as u64 / PAGE;
    let count = (memory.len() as u64).div_ceil(PAGE);
    let (mut pages, mut runs, mut in_run) = (Pages::default(), Vec::new(), false);
    let mut buffer = vec![0; ENTRIES * 8];
    for start in (0..count).step_by(ENTRIES) {
        let entries = usize::try_from(count - start).unwrap_or(usize::MAX).min(ENTRIES);
        let bytes = &mut buffer[..entries * 8];
        map.read_exact_at(bytes, (first + start) * 8).ok()?;
        for (page, entry) in (start..).zip(bytes.as_chunks::<8>().0) {
            let (present, shared) = kind(u64::from_le_bytes(*entry));
            let dirty = present && !shared;
            pages.shared += u64::from(present && shared);
            pages.dirty += u64::from(dirty);
            if dirty && !in_run {
                pages.runs += 1;
                runs.push([page * PAGE, page * PAGE]);
                runs.truncate(RUNS);
            }
            if dirty
                && pages.runs <= RUNS as u64
                && let Some(run) = runs.last_mut()
            {
                run[1] = (page + 1) * PAGE;
            }
            in_run = dirty;
        }
    }
    Some((pages, runs))
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
        let Some((before, _)) = measure(memory) else { return };
        for page in [3, 4, 5, 10, 40, 41] {
            memory[page << 12] = 1;
        }
        let (after, runs) = measure(memory).unwrap();
        assert_eq!((before.dirty, before.runs), (0, 0), "{before:?}");
        assert_eq!((after.dirty, after.runs, after.shared), (6, 3, 0), "{after:?}");
        assert_eq!(runs, [[3 << 12, 6 << 12], [10 << 12, 11 << 12], [40 << 12, 42 << 12]]);
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
        assert_eq!(footprint.expected(), None, "the next one is measured too");
        for page in 8..48 {
            memory[page << 12] = 1;
        }
        for _ in 0..10 {
            footprint.note(memory);
        }
        let second = footprint.seen().unwrap();
        assert_eq!((second.requests, second.most.dirty, second.last.runs), (2, 41, 2));
        assert_eq!(*footprint.expected().unwrap(), [[0, 1 << 12], [8 << 12, 48 << 12]]);
        for _ in footprint.requests.load(Ordering::Relaxed)..EVERY - BARE {
            footprint.note(memory);
        }
        assert_eq!(footprint.expected(), None, "a measurement is near");
    }
}
