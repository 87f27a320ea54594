//! The pages themselves: one range of address space for all arenas, and an image mapped into some of them.
//!
//! Here is all the `unsafe` of instances' memory. What it relies on: an arena's pages lie in a range that was reserved for
//! it alone and is never given back; whoever has a [`Pages`] is the only one that maps within it; and no reference into it
//! lives while its contents are changed, which [`Lease`](super::Lease) sees to by waiting for its store's end.
#![expect(unsafe_code, reason = "the one place in which instances' memory is mapped")]

use std::ffi::c_void;
use std::io;
use std::sync::Arc;

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};

use super::book::Ground;
use super::image::Image;
use super::runs::Run;

/// What a wasm address can reach: 4 GiB.
pub const MEMORY_BYTES: usize = 4 << 30;
/// Behind that: what an instruction's offset reaches without a check of bounds, as the engine is told.
pub const GUARD_BYTES: usize = 32 << 20;
/// Address space of one arena. The guard behind one is in front of the next.
pub const ARENA_BYTES: usize = MEMORY_BYTES + GUARD_BYTES;
/// One call drops the pages of so many bytes, for 40 us: each holds a lock on the whole address space.
const STEP_BYTES: usize = 1 << 20;

/// Address space for arenas; nothing is mapped in it at first. Given back when the last arena is gone.
#[derive(Debug)]
pub struct Field {
    base: *mut u8,
    arenas: usize,
}

// SAFETY: the pointer is an address; what lies there is handed out as disjoint `Pages`.
unsafe impl Send for Field {}
// SAFETY: as above.
unsafe impl Sync for Field {}

impl Field {
    /// Reserves address space for so many arenas, with a guard in front of the first.
    ///
    /// # Errors
    /// When there is not so much.
    pub fn reserve(arenas: usize) -> io::Result<Arc<Self>> {
        let bytes = arenas.checked_mul(ARENA_BYTES).and_then(|n| n.checked_add(GUARD_BYTES));
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new mapping, wherever the kernel puts it, which nobody may touch.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::empty(),
                flags(MapFlags::empty()),
            )
        }?;
        Ok(Arc::new(Self { base: base.cast(), arenas }))
    }

    fn bytes(&self) -> usize {
        self.arenas * ARENA_BYTES + GUARD_BYTES
    }

    /// The pages of one arena. Each index is to be asked for once.
    ///
    /// # Panics
    /// Beyond the last.
    #[must_use]
    pub fn pages(self: &Arc<Self>, index: usize) -> Pages {
        assert!(index < self.arenas, "there are {} arenas", self.arenas);
        // SAFETY: within the reservation, by the check above.
        let base = unsafe { self.base.add(GUARD_BYTES + index * ARENA_BYTES) };
        Pages { base, page: rustix::param::page_size(), image: None, _field: self.clone() }
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        // SAFETY: our own reservation, of which nothing is in use: every arena holds on to it.
        let _ = unsafe { munmap(self.base.cast(), self.bytes()) };
    }
}

/// The pages of one arena.
#[derive(Debug)]
pub struct Pages {
    base: *mut u8,
    page: usize,
    image: Option<Arc<Image>>,
    _field: Arc<Field>,
}

// SAFETY: the pointer is to the arena's own range, which no other `Pages` has.
unsafe impl Send for Pages {}
// SAFETY: through a shared one only mappings are changed, which the kernel orders; contents are changed by `refresh`,
// whose caller has the arena for itself.
unsafe impl Sync for Pages {}

impl Pages {
    /// The first byte.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Bytes of one page.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        self.page
    }

    /// What the next [`lay`](Ground::lay) maps; the image before is needed no more.
    pub fn set_image(&mut self, image: Option<Arc<Image>>) {
        self.image = image;
    }

    fn image_bytes(&self) -> usize {
        self.image.as_ref().map_or(0, |image| image.bytes())
    }

    /// Where a run begins, and its bytes: within the arena, or nothing.
    fn at(&self, run: &Run) -> io::Result<(*mut c_void, usize)> {
        let (start, end) = (run.start as usize * self.page, run.end as usize * self.page);
        if start > end || end > MEMORY_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: within the arena, by the check above.
        Ok((unsafe { self.base.add(start) }.cast(), end - start))
    }

    fn protect(&self, run: &Run, how: MprotectFlags) -> io::Result<()> {
        let (at, bytes) = self.at(run)?;
        // SAFETY: pages of our own arena, mapped or reserved. Nobody relies on reading or writing them but the instance,
        // and its engine expects a fault where it may not.
        unsafe { mprotect(at, bytes, how) }.map_err(Into::into)
    }
}

fn flags(more: MapFlags) -> MapFlags {
    MapFlags::PRIVATE | MapFlags::NORESERVE | more
}

impl Ground for Pages {
    type Error = io::Error;

    fn lay(&self, pages: u32, before: u32) -> io::Result<()> {
        let fixed = flags(MapFlags::FIXED);
        let (base, bytes) = self.at(&(0..pages))?;
        let from_image = self.image_bytes().min(bytes);
        let zeros = self.base.wrapping_add(from_image).cast();
        // SAFETY: both ranges are within our own arena, which nobody uses meanwhile. The file is not written to while
        // it is mapped (a sealed memory file, or one of the store's, which are never changed in place); if somebody else
        // truncates it, reading it ends the process, as it does with code.
        unsafe {
            if let (Some(image), true) = (&self.image, from_image > 0) {
                mmap(base, from_image, ProtFlags::READ, fixed, image.file(), 0)?;
            }
            if bytes > from_image {
                mmap_anonymous(zeros, bytes - from_image, ProtFlags::READ, fixed)?;
            }
        }
        if before > pages {
            let (beyond, bytes) = self.at(&(pages..before))?;
            // SAFETY: within our own arena; what was there is dropped.
            unsafe { mmap_anonymous(beyond, bytes, ProtFlags::empty(), fixed) }?;
        }
        Ok(())
    }

    fn open(&self, run: Run) -> io::Result<()> {
        self.protect(&run, MprotectFlags::READ | MprotectFlags::WRITE)
    }

    fn close(&self, run: Run) -> io::Result<()> {
        self.protect(&run, MprotectFlags::READ)
    }

    fn shut(&self, run: Run) -> io::Result<()> {
        self.protect(&run, MprotectFlags::empty())
    }

    fn forget(&self, run: Run) -> io::Result<()> {
        let (mut at, mut left) = self.at(&run)?;
        while left > 0 {
            let step = left.min(STEP_BYTES);
            // SAFETY: whole pages of our own arena, whose contents become those that were laid.
            unsafe { madvise(at, step, Advice::LinuxDontNeed) }?;
            at = at.wrapping_byte_add(step);
            left -= step;
        }
        Ok(())
    }

    fn refresh(&self, run: Run) {
        let Ok((at, bytes)) = self.at(&run) else { return };
        let start = run.start as usize * self.page;
        let image = self.image.as_ref().map_or(&[][..], |image| image.contents());
        let fresh = image.get(start..).unwrap_or_default();
        let fresh = &fresh[..fresh.len().min(bytes)];
        // SAFETY: the run is open, so all of it is mapped and may be written to; nobody else has the arena.
        unsafe {
            let at: *mut u8 = at.cast();
            std::ptr::copy_nonoverlapping(fresh.as_ptr(), at, fresh.len());
            at.add(fresh.len()).write_bytes(0, bytes - fresh.len());
        }
    }

    fn populate(&self, run: Run) {
        let Ok((at, bytes)) = self.at(&run) else { return };
        // SAFETY: pages of our own arena; what is written is what is there.
        let _ = unsafe { madvise(at, bytes, Advice::LinuxPopulateWrite) };
    }
}
