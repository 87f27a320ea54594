//! Which pages of an instance are its own, and which still come from the image that all instances share.
//!
//! A reset drops every page of a slot, the shared ones too: wasmtime knows only the kernel's page scan as a way to keep
//! those, and that one misses pages that are being moved (see [`pool`](super::pool)). What a request would then pay
//! page by page, about 0.5 us for each 16, is put back in one call after the response is out.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// Granularity of copy-on-write, in bytes.
pub const PAGE: u64 = 4 << 10;

/// Images below this are not put back: their few faults cost less than the call.
const WARM_FROM_BYTES: u64 = 1 << 20;
/// Mapped by one call; others can change the address space between two.
const WARM_STEP_BYTES: u64 = 8 << 20;
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
        let most = if pages.dirty > old.most.dirty { pages } else { old.most };
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
    static PAGE_MAP: OnceLock<Option<File>> = OnceLock::new();
    let map = PAGE_MAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
    let first = memory.as_ptr().addr() as u64 / PAGE;
    let end = first + (memory.len() as u64).div_ceil(PAGE);
    let (mut pages, mut in_run) = (Pages::default(), false);
    let mut buffer = vec![0; ENTRIES * 8];
    let mut at = first;
    while at < end {
        let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(ENTRIES);
        let bytes = &mut buffer[..count * 8];
        map.read_exact_at(bytes, at * 8).ok()?;
        for entry in bytes.as_chunks::<8>().0 {
            let (present, shared) = kind(u64::from_le_bytes(*entry));
            let dirty = present && !shared;
            pages.shared += u64::from(present && shared);
            pages.dirty += u64::from(dirty);
            pages.runs += u64::from(dirty && !in_run);
            in_run = dirty;
        }
        at += count as u64;
    }
    Some(pages)
}

/// Whether a page is there (or swapped out), and whether it is a file's: bits 63, 62 and 61 of the page map.
fn kind(entry: u64) -> (bool, bool) {
    (entry >> 62 != 0, entry >> 61 & 1 == 1)
}

/// A slot that was just given back, and the image that is to be mapped in it again.
#[derive(Debug, Clone, Copy)]
pub struct Warm<'i> {
    base: usize,
    image: &'i [[u64; 2]],
}

impl<'i> Warm<'i> {
    /// Remembers where an instance's memory is, if its image is large enough to matter.
    #[must_use]
    pub fn new(memory: &[u8], image: &'i [[u64; 2]]) -> Option<Self> {
        let bytes: u64 = image.iter().map(|[start, end]| end.saturating_sub(*start)).sum();
        let inside = image.iter().all(|[_, end]| *end <= memory.len() as u64);
        (inside && bytes >= WARM_FROM_BYTES).then(|| Self { base: memory.as_ptr().addr(), image })
    }

    /// Maps the image's pages where they are in the page cache already. By then another instance may have the slot, or
    /// another revision: nothing is changed but what the kernel has mapped, and errors mean only that it has not.
    pub fn again(self) {
        for &[start, end] in self.image {
            let mut at = start / PAGE * PAGE;
            while at < end {
                let len = WARM_STEP_BYTES.min(end - at);
                let (Ok(offset), Ok(len)) = (usize::try_from(at), usize::try_from(len)) else {
                    return;
                };
                if populate(self.base + offset, len).is_err() {
                    return;
                }
                at += WARM_STEP_BYTES;
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "part of how the engine's slots are reset; the call moves no bytes")]
fn populate(start: usize, len: usize) -> rustix::io::Result<()> {
    let start = std::ptr::without_provenance_mut(start);
    // SAFETY: MADV_POPULATE_READ reads: it changes no byte of any mapping, and no protection. If the range is mapped
    // otherwise by now, or not at all, it maps less or fails.
    unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxPopulateRead) }
}

#[cfg(not(target_os = "linux"))]
fn populate(_: usize, _: usize) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOSYS)
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
        memory[8 << 12] = 1;
        for _ in 0..10 {
            footprint.note(memory);
        }
        let second = footprint.seen().unwrap();
        assert_eq!((second.requests, second.most.dirty, second.last.runs), (2, 2, 2));
    }

    #[test]
    fn an_image_is_mapped_again_and_nothing_is_written() {
        let mut block = vec![0u8; 8 << 20];
        block[5 << 20] = 7;
        let warm = Warm::new(&block, &[[0, 1 << 20], [3 << 20, 4 << 20]]).unwrap();
        warm.again();
        assert_eq!(block[5 << 20], 7);
        assert!(block[..4 << 20].iter().all(|byte| *byte == 0));
        assert!(Warm::new(&block, &[[0, 4096]]).is_none(), "a small image is left to its faults");
        assert!(
            Warm::new(&block, &[[0, 16 << 20]]).is_none(),
            "beyond the memory there is no image"
        );
    }
}
