//! Where blocks come from, in init and afterwards.

use std::alloc::Layout;
use std::cell::Cell;

use dlmalloc::Dlmalloc;

use super::large::Large;

/// Blocks below this come from the small heap in init.
const SMALL: usize = 4 << 10;
/// Blocks from this on count as weights.
const WEIGHT: usize = 16 << 10;
/// What the small heap takes at once. The first is taken before there are any weights, and should be the only one: a
/// later one may lie above them, and the image reaches to it. What is not used of it is zero pages.
const SMALL_REGION: usize = 8 << 20;
/// The arena of a function that rehearses nothing; only address space until it is used.
const ARENA: usize = 8 << 20;
/// Over what a rehearsal needed: the request and the response, and what does not fit where it lay then.
const ARENA_SPARE: usize = 2 << 20;
const WASM_PAGE: usize = 64 << 10;

/// All memory of a module, in its first life (init) or its second (requests).
pub(super) struct Heaps {
    small: Dlmalloc<Region>,
    large: Large,
    /// Empty until init ends.
    arena: Dlmalloc<Region>,
    sealed: bool,
    live: usize,
    weights: usize,
    /// The most that was live since the rehearsal began, and what was live then.
    peak: usize,
    base: usize,
    need: usize,
}

impl Heaps {
    pub(super) const fn new() -> Self {
        Self {
            small: Dlmalloc::new_with_allocator(Region::new()),
            large: Large::new(grow, memory_end),
            arena: Dlmalloc::new_with_allocator(Region::new()),
            sealed: false,
            live: 0,
            weights: 0,
            peak: 0,
            base: 0,
            need: 0,
        }
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        self.weights as u64
    }

    pub(super) fn begin_rehearsal(&mut self) {
        (self.base, self.peak) = (self.live, self.live);
    }

    pub(super) fn end_rehearsal(&mut self) {
        self.need = self.need.max(self.peak - self.base);
    }

    /// Ends init. Without memory for an arena, requests make it grow.
    pub(super) fn seal(&mut self) {
        let size = (self.need + self.need / 8 + ARENA_SPARE).max(ARENA);
        if let Some(top) = self.large.take_top(size) {
            let arena = self.arena.allocator_mut();
            arena.give(top.start, top.len());
        }
        self.arena.allocator().beyond.set(memory_end());
        self.sealed = true;
    }

    /// # Safety
    /// As [`GlobalAlloc::alloc`](std::alloc::GlobalAlloc::alloc).
    pub(super) unsafe fn alloc(&mut self, layout: Layout, zeroed: bool) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        let home = self.home(layout);
        // SAFETY: the caller's promise is the same as each heap's.
        let mut block = unsafe { self.take(home, size, align, zeroed) };
        if block.is_null() && home == Home::Small {
            let region = self.large.alloc(SMALL_REGION, WASM_PAGE);
            if !region.is_null() {
                self.small.allocator_mut().give(region.addr(), SMALL_REGION);
                // SAFETY: as above.
                block = unsafe { self.take(home, size, align, zeroed) };
            }
        }
        if !self.sealed && !block.is_null() {
            self.live += size;
            self.peak = self.peak.max(self.live);
            self.weights += if size >= WEIGHT { size } else { 0 };
        }
        block
    }

    /// # Safety
    /// As [`GlobalAlloc::alloc`](std::alloc::GlobalAlloc::alloc).
    unsafe fn take(&mut self, home: Home, size: usize, align: usize, zeroed: bool) -> *mut u8 {
        // SAFETY: the caller's promise is the same as each heap's.
        unsafe {
            match (home, zeroed) {
                (Home::Arena, false) => self.arena.malloc(size, align),
                (Home::Arena, true) => self.arena.calloc(size, align),
                (Home::Small, false) => self.small.malloc(size, align),
                (Home::Small, true) => self.small.calloc(size, align),
                // Its memory is zero in either case.
                (Home::Large, _) => self.large.alloc(size, align),
            }
        }
    }

    /// # Safety
    /// As [`GlobalAlloc::dealloc`](std::alloc::GlobalAlloc::dealloc).
    pub(super) unsafe fn dealloc(&mut self, block: *mut u8, layout: Layout) {
        let (size, align) = (layout.size(), layout.align());
        if self.sealed {
            // What init made and a request gives up stays where it is: to free it would be to write beside weights,
            // and the instance is gone with the request.
            if self.arena.allocator().holds(block) {
                // SAFETY: the caller's promise, and the block lies in the arena.
                unsafe { self.arena.free(block, size, align) };
            }
            return;
        }
        self.live -= size;
        self.weights -= if size >= WEIGHT { size } else { 0 };
        // SAFETY: the block is the caller's to give up, as long as its layout says, and comes from where a layout like
        // this one comes from.
        unsafe {
            wipe(block, size);
            match self.home(layout) {
                Home::Small => self.small.free(block, size, align),
                Home::Large | Home::Arena => self.large.free(block, size),
            }
        }
    }

    /// # Safety
    /// As [`GlobalAlloc::realloc`](std::alloc::GlobalAlloc::realloc).
    pub(super) unsafe fn realloc(
        &mut self,
        block: *mut u8,
        layout: Layout,
        size: usize,
    ) -> *mut u8 {
        if self.sealed && self.arena.allocator().holds(block) {
            // SAFETY: the caller's promise, and the block lies in the arena.
            return unsafe { self.arena.realloc(block, layout.size(), layout.align(), size) };
        }
        // A heap would move the block and leave a copy behind.
        // SAFETY: the caller promises that `size`, rounded up to the alignment, fits an `isize`, and that the block is
        // as long as its layout says.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()), false);
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }

    fn home(&self, layout: Layout) -> Home {
        match layout.size() {
            _ if self.sealed => Home::Arena,
            0..SMALL => Home::Small,
            _ => Home::Large,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Small,
    Large,
    Arena,
}

/// # Safety
/// `len` bytes from `block` on must be writable.
unsafe fn wipe(block: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::write_bytes(block, 0, len) };
    // The compiler may drop stores to memory that is freed next, unless somebody could look at them.
    std::hint::black_box(block);
}

/// What a heap takes its blocks from: a region that it is given and takes whole, and perhaps what memory grows by.
struct Region {
    start: Cell<usize>,
    end: Cell<usize>,
    taken: Cell<bool>,
    /// Where memory ended when the arena was made: what lies beyond is the arena's too. Only it grows.
    beyond: Cell<usize>,
}

impl Region {
    const fn new() -> Self {
        Self {
            start: Cell::new(0),
            end: Cell::new(0),
            taken: Cell::new(true),
            beyond: Cell::new(usize::MAX),
        }
    }

    fn give(&mut self, start: usize, len: usize) {
        self.start.set(start);
        self.end.set(start + len);
        self.taken.set(false);
    }

    fn holds(&self, block: *mut u8) -> bool {
        let at = block.addr();
        (self.start.get()..self.end.get()).contains(&at) || at >= self.beyond.get()
    }
}

// SAFETY: the region is this heap's alone and zero, and so is what memory grows by.
unsafe impl dlmalloc::Allocator for Region {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let whole = self.end.get() - self.start.get();
        if size <= whole && !self.taken.replace(true) {
            return (std::ptr::with_exposed_provenance_mut(self.start.get()), whole, 0);
        }
        if self.beyond.get() == usize::MAX {
            return (std::ptr::null_mut(), 0, 0);
        }
        let size = size.next_multiple_of(WASM_PAGE);
        (grow(size), size, 0)
    }
    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        std::ptr::null_mut()
    }
    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }
    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }
    fn can_release_part(&self, _: u32) -> bool {
        false
    }
    fn allocates_zeros(&self) -> bool {
        true
    }
    fn page_size(&self) -> usize {
        WASM_PAGE
    }
}

#[cfg(target_family = "wasm")]
fn memory_end() -> usize {
    core::arch::wasm32::memory_size(0).saturating_mul(WASM_PAGE)
}

/// `size` bytes at memory's end, or null.
#[cfg(target_family = "wasm")]
fn grow(size: usize) -> *mut u8 {
    match core::arch::wasm32::memory_grow(0, size / WASM_PAGE) {
        usize::MAX => std::ptr::null_mut(),
        page => std::ptr::with_exposed_provenance_mut(page * WASM_PAGE),
    }
}

#[cfg(not(target_family = "wasm"))]
pub(super) use off_wasm::{grow, memory_end};

/// A memory for tests, of each thread: only address space until it is used.
#[cfg(not(target_family = "wasm"))]
mod off_wasm {
    use std::cell::Cell;

    const MEMORY: usize = 512 << 20;

    thread_local! {
        static NEXT: Cell<usize> = Box::leak(vec![0u8; MEMORY].into_boxed_slice())
            .as_mut_ptr().expose_provenance().next_multiple_of(super::WASM_PAGE).into();
        static END: Cell<usize> = const { Cell::new(0) };
    }

    pub(in super::super) fn memory_end() -> usize {
        NEXT.get()
    }

    pub(in super::super) fn grow(size: usize) -> *mut u8 {
        let start = NEXT.get();
        if END.get() == 0 {
            END.set(start + MEMORY - super::WASM_PAGE);
        }
        if start + size > END.get() {
            return std::ptr::null_mut();
        }
        NEXT.set(start + size);
        std::ptr::with_exposed_provenance_mut(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).unwrap()
    }

    /// A freed block without its ends, where a heap writes addresses, whose bytes may be any.
    fn inner(block: &[u8]) -> impl Iterator<Item = &u8> {
        block[64..block.len() - 16].iter()
    }

    #[test]
    fn what_init_frees_is_zero_but_for_the_heaps_own_notes() {
        let mut heaps = Heaps::new();
        // SAFETY: the block is used as long as its layout says; what is read after it was freed belongs to a region
        // that the small heap never gives back.
        unsafe {
            let keep = heaps.alloc(layout(512), false);
            let block = heaps.alloc(layout(2048), false);
            let after = heaps.alloc(layout(512), false);
            block.write_bytes(0xaa, 2048);
            heaps.dealloc(block, layout(2048));
            let dirty = inner(std::slice::from_raw_parts(block, 2048)).filter(|b| **b == 0xaa);
            assert_eq!(dirty.count(), 0);
            assert!(!keep.is_null() && !after.is_null());
        }
    }

    #[test]
    fn requests_get_the_arena_and_leave_init_alone() {
        let mut heaps = Heaps::new();
        // SAFETY: each block is used as long as its layout says, and given up once.
        unsafe {
            let weights = heaps.alloc(layout(WEIGHT), false);
            weights.write_bytes(7, WEIGHT);
            let small = heaps.alloc(layout(64), false);
            small.write_bytes(9, 64);
            assert_eq!(heaps.weight_bytes(), WEIGHT as u64);
            heaps.seal();
            let blocks: Vec<_> =
                (1..200).map(|i| (heaps.alloc(layout(i * 100), true), i * 100)).collect();
            for (block, size) in &blocks {
                assert!(heaps.arena.allocator().holds(*block));
                assert!(std::slice::from_raw_parts(*block, *size).iter().all(|byte| *byte == 0));
                block.write_bytes(1, *size);
            }
            for (block, size) in blocks {
                heaps.dealloc(block, layout(size));
            }
            let moved = heaps.realloc(small, layout(64), 128);
            assert!(heaps.arena.allocator().holds(moved));
            assert_eq!(std::slice::from_raw_parts(moved, 64), [9; 64]);
            heaps.dealloc(weights, layout(WEIGHT));
            assert_eq!(
                (*weights, *small),
                (7, 9),
                "what init made is neither wiped nor handed out again"
            );
        }
    }

    #[test]
    fn the_arena_holds_what_the_rehearsal_needed() {
        let mut heaps = Heaps::new();
        heaps.begin_rehearsal();
        // SAFETY: the block is not used.
        unsafe {
            let block = heaps.alloc(layout(40 << 20), false);
            heaps.dealloc(block, layout(40 << 20));
        }
        heaps.end_rehearsal();
        heaps.seal();
        // SAFETY: the block is not used.
        unsafe {
            let end = memory_end();
            assert!(!heaps.alloc(layout(40 << 20), false).is_null());
            assert_eq!(memory_end(), end, "nothing had to grow");
            let more = heaps.alloc(layout(40 << 20), false);
            assert!(heaps.arena.allocator().holds(more) && memory_end() > end);
        }
    }

    #[test]
    fn a_block_that_grows_in_init_leaves_no_copy() {
        let mut heaps = Heaps::new();
        // SAFETY: as above; the small heap keeps its regions.
        unsafe {
            let block = heaps.alloc(layout(1024), false);
            block.write_bytes(5, 1024);
            let grown = heaps.realloc(block, layout(1024), 3000);
            assert_eq!(std::slice::from_raw_parts(grown, 1024), [5; 1024]);
            let left = inner(std::slice::from_raw_parts(block, 1024)).filter(|byte| **byte == 5);
            assert!(grown == block || left.count() == 0);
        }
    }
}
