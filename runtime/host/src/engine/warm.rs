//! What is put back into a slot after its reset, so that the next request does not pay for it page by page.
//!
//! A reset drops every page of a slot beyond the lowest 256 KiB, those of the shared image too: wasmtime knows only the
//! kernel's page scan as a way to keep some, and that one misses pages that are being moved (see [`pool`](super::pool)).
//! A request would then fault on each 16 pages of the image that it reads, and on each page that it writes, for about
//! 0.5 us: a ninth of a ResNet-18, two thirds of a voice detector. After the response is out, one call maps the
//! image's pages again, and one for each run makes private the pages that requests of this revision write to.

use std::sync::Arc;
use std::time::Duration;

use super::pages::{PAGE, Run};

/// Images below this are not mapped again: their few faults cost less than the call.
const IMAGE_FROM_BYTES: u64 = 1 << 20;
/// A call that took less CPU time than this for each page has not touched so many of them, whose first bytes are in no
/// cache: making the slot ready costs no more pages than that.
const CALL_NS_PER_PAGE: u64 = 20;
/// Mapped by one call; others can change the address space between two.
const STEP_BYTES: u64 = 2 << 20;
/// Given back by one call: 256 pages, for 40 us.
const GIVE_BACK_BYTES: usize = 1 << 20;

/// A slot that is about to be given back, and what is to be in it again.
#[derive(Debug, Clone)]
pub struct Warm<'i> {
    base: usize,
    len: u64,
    image: &'i [Run],
    dirty: Option<Arc<Vec<Run>>>,
    idle_bytes: u64,
}

impl<'i> Warm<'i> {
    /// Remembers where an instance's memory is, if there is enough to put back: its image, and the pages that the next
    /// request is expected to write, of which an idle slot may hold `idle_bytes`; and no more of both together than this
    /// call, which took so much CPU time, can have touched.
    #[must_use]
    pub fn new(
        memory: &[u8],
        image: &'i [Run],
        dirty: Option<Arc<Vec<Run>>>,
        idle_bytes: u64,
        call: Duration,
    ) -> Option<Self> {
        let touched = u64::try_from(call.as_nanos()).unwrap_or(u64::MAX) / CALL_NS_PER_PAGE;
        let len = memory.len() as u64;
        let inside = image.iter().all(|[_, end]| *end <= len);
        let worth = bytes(image) >= IMAGE_FROM_BYTES && bytes(image) / PAGE <= touched;
        let image = if inside && worth { image } else { &[] };
        let left = touched - bytes(image) / PAGE;
        let dirty = dirty.filter(|runs| {
            let pages = bytes(runs).min(idle_bytes) / PAGE;
            (1..=left).contains(&pages)
        });
        let base = memory.as_ptr().addr();
        (!image.is_empty() || dirty.is_some()).then_some(Self {
            base,
            len,
            image,
            dirty,
            idle_bytes,
        })
    }

    /// Maps the image's pages where they are in the page cache already, and makes private what will be written. By then
    /// another instance may have the slot, or another revision: nothing is changed but what the kernel has mapped, and
    /// errors mean only that it has not.
    pub fn again(self) {
        for run in self.image {
            self.populate(*run, Access::Read);
        }
        let mut left = self.idle_bytes;
        for &[start, end] in self.dirty.iter().flat_map(|runs| runs.iter()) {
            let end = end.min(self.len).min(start.saturating_add(left));
            left -= end.saturating_sub(start);
            self.populate([start, end], Access::Write);
        }
    }

    fn populate(&self, [start, end]: Run, access: Access) {
        let mut at = start / PAGE * PAGE;
        while at < end {
            let (Ok(offset), Ok(len)) =
                (usize::try_from(at), usize::try_from(STEP_BYTES.min(end - at)))
            else {
                return;
            };
            if populate(self.base + offset, len, access).is_err() {
                return;
            }
            at += STEP_BYTES;
        }
    }
}

/// Gives the pages of a memory that nobody uses any more back to the system, those of its first `keep` bytes excepted:
/// they hold zeros or their image's bytes afterwards. In steps, because each holds a lock on the whole address space, and
/// the pool's own call would hold it for 40 ms of a memory of 128 MiB.
pub fn give_back(memory: &mut [u8], keep: usize) {
    let page = usize::try_from(PAGE).unwrap_or(4096);
    let first = memory.as_ptr().align_offset(page).saturating_add(keep.next_multiple_of(page));
    let Some(rest) = memory.get_mut(first..) else { return };
    let whole = rest.len() / page * page;
    for step in rest[..whole].chunks_mut(GIVE_BACK_BYTES) {
        if forget(step).is_err() {
            return;
        }
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "part of how the engine's slots are reset")]
fn forget(pages: &mut [u8]) -> rustix::io::Result<()> {
    // SAFETY: these are whole pages that we have for ourselves, and bytes that may have any value: the kernel gives them
    // that of zero, or of the file that they were mapped from, and changes nothing beside them.
    unsafe {
        let start = pages.as_mut_ptr().cast();
        rustix::mm::madvise(start, pages.len(), rustix::mm::Advice::LinuxDontNeed)
    }
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &mut [u8]) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOSYS)
}

fn bytes(runs: &[Run]) -> u64 {
    runs.iter().map(|[start, end]| end.saturating_sub(*start)).sum()
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "part of how the engine's slots are reset; the call moves no bytes")]
fn populate(start: usize, len: usize, access: Access) -> rustix::io::Result<()> {
    let advice = match access {
        Access::Read => rustix::mm::Advice::LinuxPopulateRead,
        Access::Write => rustix::mm::Advice::LinuxPopulateWrite,
    };
    let start = std::ptr::without_provenance_mut(start);
    // SAFETY: these faults change no byte of any mapping, and no protection: reading maps what is there, writing makes
    // the page private with the same bytes. If the range is mapped otherwise by now, or not at all, less is mapped or
    // the call fails; pages that may not be written are refused.
    unsafe { rustix::mm::madvise(start, len, advice) }
}

#[cfg(not(target_os = "linux"))]
fn populate(_: usize, _: usize, _: Access) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::super::pages::measure;
    use super::*;

    const LONG: Duration = Duration::from_secs(1_000);

    #[test]
    fn an_image_is_mapped_again_and_nothing_is_written() {
        let mut block = vec![0u8; 8 << 20];
        block[5 << 20] = 7;
        let image = [[0, 1 << 20], [3 << 20, 4 << 20]];
        Warm::new(&block, &image, None, 0, LONG).unwrap().again();
        assert_eq!(block[5 << 20], 7);
        assert!(block[..4 << 20].iter().all(|byte| *byte == 0));
        let small = Warm::new(&block, &[[0, 4096]], None, 0, LONG);
        assert!(small.is_none(), "a small image is left to its faults");
        let beyond = Warm::new(&block, &[[0, 16 << 20]], None, 0, LONG);
        assert!(beyond.is_none(), "beyond the memory there is no image");
    }

    #[test]
    fn expected_pages_are_made_private_up_to_what_an_idle_slot_may_hold() {
        // Beyond the most that glibc's threshold for a mapping of its own can grow to: such a block is fresh.
        let block = vec![0u8; 40 << 20];
        let memory = &block[block.as_ptr().align_offset(4096)..][..8 << 20];
        let Some((before, _)) = measure(memory) else { return };
        let dirty = Arc::new(vec![[1 << 20, 2 << 20], [4 << 20, 7 << 20]]);
        Warm::new(memory, &[], Some(dirty.clone()), 2 << 20, LONG).unwrap().again();
        let (after, runs) = measure(memory).unwrap();
        assert_eq!((before.dirty, after.dirty), (0, (2 << 20) / PAGE));
        assert_eq!(runs, [[1 << 20, 2 << 20], [4 << 20, 5 << 20]]);
        assert!(memory.iter().all(|byte| *byte == 0));
        let quick = Warm::new(memory, &[], Some(dirty), 2 << 20, Duration::from_micros(1));
        assert!(quick.is_none(), "a call of a microsecond has not touched 512 pages");
    }

    #[test]
    fn a_quick_call_has_no_large_image_mapped_again() {
        let block = vec![0u8; 8 << 20];
        let image = [[0, 8 << 20]];
        for (us, again) in [(1, false), (40, false), (41, true)] {
            let warm = Warm::new(&block, &image, None, 0, Duration::from_micros(us));
            assert_eq!(warm.is_some(), again, "{us} us for 2,048 pages");
        }
        // Image and dirty pages count together: 2,048 and 256.
        let dirty = Arc::new(vec![[0, 1 << 20]]);
        for (us, both) in [(45, false), (47, true)] {
            let call = Duration::from_micros(us);
            let warm = Warm::new(&block, &image, Some(dirty.clone()), 1 << 20, call).unwrap();
            assert_eq!(warm.dirty.is_some(), both, "{us} us");
        }
    }

    #[test]
    fn what_is_given_back_is_zero_and_its_neighbours_are_not() {
        let mut block = vec![7u8; 40 << 20];
        let skip = block.as_ptr().align_offset(4096);
        give_back(&mut block[skip + 1..skip + (20 << 20) + 1], 256 << 10);
        let kept = 4096 + (256 << 10);
        assert!(block[..skip + kept].iter().all(|byte| *byte == 7));
        assert!(block[skip + kept..skip + (20 << 20)].iter().all(|byte| *byte == 0));
        assert!(block[skip + (20 << 20)..].iter().all(|byte| *byte == 7));
        give_back(&mut [1, 2, 3], 4096);
    }
}
