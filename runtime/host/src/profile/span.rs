//! What imports say of themselves: nothing, or when they begin and end.
//!
//! A type, not a flag: imports are linked once with [`Unwatched`], which leaves no instruction, and for the instances of
//! a profile once more with one that watches.

use std::sync::Arc;

use wasmtime::Caller;

use super::Probe;
use super::probe::Entered;

/// What imports of a linker tell of their calls.
pub trait Watch<T: 'static>: Copy + Send + Sync + 'static {
    /// One call, until it is dropped.
    type Span: Send + 'static;

    /// An import begins.
    fn begin(self, caller: &Caller<'_, T>, module: &'static str, name: &'static str) -> Self::Span;
}

/// Tells nothing.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

/// A call of which nothing is told.
#[derive(Debug)]
pub struct Untold;

impl<T: 'static> Watch<T> for Unwatched {
    type Span = Untold;

    fn begin(self, _: &Caller<'_, T>, _: &'static str, _: &'static str) -> Untold {
        Untold
    }
}

/// One call of an import, by an invocation that has a probe.
#[derive(Debug)]
pub struct Span {
    probe: Arc<Probe>,
    import: (&'static str, &'static str),
    entered: Entered,
}

impl Span {
    /// It begins.
    #[must_use]
    pub fn begin<T: 'static>(
        probe: Arc<Probe>,
        caller: &Caller<'_, T>,
        module: &'static str,
        name: &'static str,
    ) -> Self {
        let entered = probe.enters(caller);
        Self { probe, import: (module, name), entered }
    }
}

impl Drop for Span {
    /// However it ends: a guest may be ended while it waits.
    fn drop(&mut self) {
        self.probe.leaves(self.import, &self.entered);
    }
}
