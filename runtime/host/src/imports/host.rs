//! Whatever runs a guest, and places in that guest's memory.

use mayfly_core::Outcome;
use wasmtime::{Caller, Memory, Result};

use super::pieces::Timed;
use crate::sandbox::{Assets, Sandbox, Stop};

/// The data of a store that imports can be linked for: a request's, init's, and that of `mayfly run`.
pub trait Host: Timed {
    /// The guest's memory, once its instance is made.
    fn memory(&self) -> Option<Memory>;

    /// What the module carries, while it may ask.
    fn assets(&self) -> Option<&Assets>;
}

impl Host for Sandbox {
    fn memory(&self) -> Option<Memory> {
        self.memory
    }

    fn assets(&self) -> Option<&Assets> {
        self.terms.assets.as_deref()
    }
}

/// A pointer and a length, as a guest gave them.
#[derive(Debug, Clone, Copy)]
pub struct Range(pub u32, pub u32);

impl Range {
    /// The bytes of this range.
    ///
    /// # Errors
    /// A trap, unless all of it is in memory.
    pub fn of(self, memory: &[u8]) -> Result<&[u8]> {
        let start = self.0 as usize;
        memory.get(start..start + self.1 as usize).ok_or_else(out_of_bounds)
    }

    /// The same, to be written to.
    ///
    /// # Errors
    /// A trap, unless all of it is in memory.
    pub fn of_mut(self, memory: &mut [u8]) -> Result<&mut [u8]> {
        let start = self.0 as usize;
        memory.get_mut(start..start + self.1 as usize).ok_or_else(out_of_bounds)
    }
}

fn out_of_bounds() -> wasmtime::Error {
    wasmtime::Trap::MemoryOutOfBounds.into()
}

/// The caller's memory.
///
/// # Errors
/// When it exports none.
pub fn memory<T: Host>(caller: &mut Caller<'_, T>) -> Result<Memory> {
    if let Some(memory) = caller.data().memory() {
        return Ok(memory);
    }
    // Only while a start function runs: after instantiation the memory is known.
    let memory = caller.get_export("memory").and_then(wasmtime::Extern::into_memory);
    memory.ok_or_else(|| Stop(Outcome::Trap("the module exports no memory".into())).into())
}
