//! A global allocator for functions whose init is large.
//!
//! What init frees (a model's file, a graph before it was optimised) would stay in memory as
//! garbage, and the snapshot would carry it: for a model of 47 MB that is 65 MB more than the
//! weights. So until init ends, memory is zeroed when it is freed; zero pages are not
//! stored. Afterwards, while requests are handled, it is the system's allocator and nothing else.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: SnapshotAllocator = SnapshotAllocator;

static SEALED: AtomicBool = AtomicBool::new(false);

/// Memory that a request finds at the heap's end, in bytes. A memory that grows while a request is
/// handled costs the host two `mprotect` calls under a lock that all instances share.
const RESERVE: usize = 8 << 20;

/// Ends init: from here on memory is freed without being zeroed.
pub(crate) fn seal() {
    reserve();
    SEALED.store(true, Ordering::Relaxed);
}

/// Grows memory by asking for it and giving it back: the heap never shrinks. Untouched pages are
/// zero, so they are not in the snapshot.
fn reserve() {
    let Ok(layout) = Layout::from_size_align(RESERVE, 16) else { return };
    // SAFETY: the size is not 0, and the block goes back with the layout it was made with.
    unsafe {
        // The compiler knows `malloc` and `free`, and drops a pair of them that nobody looks at.
        let block = std::hint::black_box(System.alloc(layout));
        if !block.is_null() {
            System.dealloc(block, layout);
        }
    }
}

/// Zeroes what is freed before the snapshot is taken.
#[derive(Debug)]
pub struct SnapshotAllocator;

// SAFETY: every block comes from `System` and goes back to it with the layout it was made with.
unsafe impl GlobalAlloc for SnapshotAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same as `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !SEALED.load(Ordering::Relaxed) {
            // SAFETY: the block is the caller's to give up, and as long as its layout says.
            unsafe { wipe(block, layout.size()) };
        }
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if SEALED.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise is the same as `System`'s.
            return unsafe { System.realloc(block, layout, size) };
        }
        // `System` would move the block and leave a copy behind.
        // SAFETY: the caller promises that `size`, rounded up to the alignment, fits an `isize`.
        unsafe {
            let new = System.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// # Safety
/// `len` bytes from `block` on must be writable.
unsafe fn wipe(block: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::write_bytes(block, 0, len) };
    // The compiler may drop stores to memory that is freed next, unless somebody could look at them.
    std::hint::black_box(block);
}
