//! What is put back into a slot after its reset, so that the next request does not pay for it page by page.
//!
//! A reset drops every page of a slot beyond the lowest 256 KiB, those of the shared image too: wasmtime knows only the
//! kernel's page scan as a way to keep some, and that one misses pages that are being moved (see [`pool`](super::pool)).
//! A request would then fault on each 16 pages of the image that it reads, and on each page that it writes, for about
//! 0.5 us: a ninth of a ResNet-18, two thirds of a voice detector. After the response is out, one call maps the
//! image's pages again, and one for each run makes private the pages that requests of this revision write to.

use std::sync::Arc;

use super::pages::{PAGE, Run};

/// Images below this are not mapped again: their few faults cost less than the call.
const IMAGE_FROM_BYTES: u64 = 1 << 20;
/// A call that took less than this for each page has not touched so many of them, whose first bytes are in no cache.
const CALL_NS_PER_PAGE: u64 = 20;
/// Mapped by one call; others can change the address space between two.
const STEP_BYTES: u64 = 8 << 20;

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
    /// request is expected to write, of which an idle slot may hold `idle_bytes`. `call_ns` is what this call took.
    #[must_use]
    pub fn new(
        memory: &[u8],
        image: &'i [Run],
        dirty: Option<Arc<Vec<Run>>>,
        idle_bytes: u64,
        call_ns: u64,
    ) -> Option<Self> {
        let len = memory.len() as u64;
        let inside = image.iter().all(|[_, end]| *end <= len);
        let image = if inside && bytes(image) >= IMAGE_FROM_BYTES { image } else { &[] };
        let dirty = dirty.filter(|runs| {
            let pages = bytes(runs).min(idle_bytes) / PAGE;
            (1..=call_ns / CALL_NS_PER_PAGE).contains(&pages)
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

    const LONG: u64 = u64::MAX;

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
        let quick = Warm::new(memory, &[], Some(dirty), 2 << 20, 1_000);
        assert!(quick.is_none(), "a call of a microsecond has not touched 512 pages");
    }
}
