//! Native stacks for instances. They are kept for the next as they are: a guest sees nothing of one.
#![expect(unsafe_code, reason = "maps stacks, as the engine's hook asks for")]

use std::io;
use std::ops::Range;
use std::sync::Arc;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use wasmtime::{StackCreator, StackMemory};

use super::stripes::Stripes;

/// Stacks that nobody uses; with those in use as many as were ever used at once.
#[derive(Debug, Default)]
pub struct Stacks(Arc<Stripes<Mapped>>);

// SAFETY: what it gives is a `Stack`, see there.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let mapped = match self.0.pop() {
            // All are of the engine's one size.
            Some(mapped) if mapped.bytes == size + mapped.guard => mapped,
            _ => Mapped::new(size)?,
        };
        Ok(Box::new(Stack { mapped: Some(mapped), home: self.0.clone() }))
    }
}

/// A stack while an instance has it.
struct Stack {
    mapped: Option<Mapped>,
    home: Arc<Stripes<Mapped>>,
}

impl Stack {
    fn all(&self) -> Range<*mut u8> {
        let Some(mapped) = &self.mapped else { unreachable!("it is taken only when dropped") };
        mapped.base..mapped.base.wrapping_add(mapped.bytes)
    }

    fn guard(&self) -> usize {
        self.mapped.as_ref().map_or(0, |mapped| mapped.guard)
    }
}

// SAFETY: whole pages that are mapped for as long as this lives, which nobody else has, above a page that nobody may touch.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.all().end
    }

    fn range(&self) -> Range<usize> {
        let all = self.all();
        all.start.addr() + self.guard()..all.end.addr()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let start = self.all().start;
        start..start.wrapping_add(self.guard())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(mapped) = self.mapped.take() {
            self.home.push(mapped);
        }
    }
}

/// A guard page, and a stack above it.
#[derive(Debug)]
struct Mapped {
    base: *mut u8,
    bytes: usize,
    guard: usize,
}

// SAFETY: the pointer is to a mapping that only this has.
unsafe impl Send for Mapped {}
// SAFETY: nothing is done through a shared one.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn new(size: usize) -> io::Result<Self> {
        let guard = rustix::param::page_size();
        let bytes = size + guard;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let how = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, wherever the kernel puts it.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, how, flags) }?;
        let mapped = Self { base: base.cast(), bytes, guard };
        // SAFETY: its first page, which nobody uses.
        unsafe { mprotect(base, guard, MprotectFlags::empty()) }?;
        Ok(mapped)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: a mapping of our own that nobody uses any more.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
    }
}
