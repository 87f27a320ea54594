//! A global allocator for functions whose init is large.
//!
//! A snapshot carries whatever init left in memory, and a request pays for each page that it writes. So there are two
//! lives, with [`seal`] between them:
//!
//! - *Init*: what is freed is zeroed, since zero pages are not stored. (What init frees of a model of 47 MB, its file
//!   and its graph before it was optimised, is more than the weights.) Small blocks come from regions of their own:
//!   reference counts and the like are written by requests, and each one between two weights would be a page copied
//!   and a run of its own.
//! - *Requests*: everything comes from one arena above what init left. Nothing of a request lands between weights, and
//!   the arena is there already: memory that grows while a request is handled costs the host two `mprotect` calls
//!   under a lock that all instances share.

#[cfg_attr(
    not(any(target_family = "wasm", test)),
    allow(dead_code, reason = "off wasm there is no snapshot, and the allocator is the system's")
)]
mod heaps;
#[cfg_attr(
    not(any(target_family = "wasm", test)),
    allow(dead_code, reason = "off wasm there is no snapshot, and the allocator is the system's")
)]
mod large;

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;

use heaps::Heaps;

#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: SnapshotAllocator = SnapshotAllocator::new();

/// Ends init: from here on memory comes from the arena.
pub(crate) fn seal() {
    #[cfg(target_family = "wasm")]
    ALLOCATOR.with(Heaps::seal);
}

/// Bytes in blocks of 16 KiB and more that init has not freed: a model's weights, and little else.
pub(crate) fn weight_bytes() -> u64 {
    #[cfg(target_family = "wasm")]
    return ALLOCATOR.with(|heaps| heaps.weight_bytes());
    #[cfg(not(target_family = "wasm"))]
    0
}

/// Runs `work` in init and makes the arena large enough for a request that needs as much memory as `work` did.
#[cfg(feature = "onnx")]
pub(crate) fn rehearse<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_family = "wasm")]
    ALLOCATOR.with(Heaps::begin_rehearsal);
    let result = work();
    #[cfg(target_family = "wasm")]
    ALLOCATOR.with(Heaps::end_rehearsal);
    result
}

/// Zeroes what is freed before the snapshot is taken, and gives requests an arena.
pub struct SnapshotAllocator(UnsafeCell<Heaps>);

// SAFETY: wasm32-wasip1 has no threads, and off wasm nothing reaches a shared allocator: it is the global one there only.
unsafe impl Sync for SnapshotAllocator {}

impl SnapshotAllocator {
    /// An allocator in its first life.
    #[must_use]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(Heaps::new()))
    }

    fn with<R>(&self, work: impl FnOnce(&mut Heaps) -> R) -> R {
        // SAFETY: there is one thread, and nothing in `heaps` allocates through the global allocator, so there is no
        // second borrow.
        work(unsafe { &mut *self.0.get() })
    }
}

impl Default for SnapshotAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for SnapshotAllocator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnapshotAllocator")
    }
}

// SAFETY: `Heaps` hands out each block once, as long and as aligned as its layout says.
unsafe impl GlobalAlloc for SnapshotAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one that `Heaps` asks for; so below.
        self.with(|heaps| unsafe { heaps.alloc(layout, false) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        self.with(|heaps| unsafe { heaps.alloc(layout, true) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        self.with(|heaps| unsafe { heaps.dealloc(block, layout) });
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        self.with(|heaps| unsafe { heaps.realloc(block, layout, size) })
    }
}
