//! How the engine comes by arenas: through its own hooks for memories, stacks and signals.
#![expect(
    unsafe_code,
    reason = "the engine's hooks are unsafe to implement: it trusts the memory that they give"
)]

use std::cell::Cell;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;

use wasmtime::unix::StoreExt as _;
use wasmtime::{Config, Instance, InstancePre, LinearMemory, MemoryCreator, MemoryType, Store};

use super::arena::Arena;
use super::ground::{GUARD_BYTES, MEMORY_BYTES};
use super::{Arenas, Lease};

thread_local! {
    /// The arena for the instance that this thread is about to make.
    static NEXT: Cell<Option<Arc<Arena>>> = const { Cell::new(None) };
}

/// Makes an engine take its memories and stacks from here.
pub fn into_config(arenas: &Arenas, config: &mut Config) {
    config
        .allocation_strategy(wasmtime::InstanceAllocationStrategy::OnDemand)
        .with_host_memory(Arc::new(Creator))
        .with_host_stack(arenas.0.stacks.clone());
}

/// A store, and the memory that is lent to its instance: given back when the store is gone.
pub struct Hosted<T: 'static> {
    // In this order: a lease ends after its instance.
    store: Store<T>,
    lease: Lease,
}

impl<T: Send + 'static> Hosted<T> {
    /// Lends a memory to a store, for one instance.
    #[must_use]
    pub fn new(mut store: Store<T>, lease: Lease) -> Self {
        if let Some(arena) = lease.arena.clone() {
            // SAFETY: the handler only loads and stores atomics of the arena and makes one system call, both of which a
            // signal handler may do; it says yes only when the page that was written to is open now.
            unsafe {
                store.set_signal_handler(move |signal, info, _| {
                    // SAFETY: the kernel's own record of the signal, or null.
                    signal == libc::SIGSEGV
                        && info.as_ref().is_some_and(|info| {
                            info.si_code == SEGV_ACCERR && arena.fault(info.si_addr().addr())
                        })
                });
            }
        }
        Self { store, lease }
    }

    /// Makes the instance.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn instantiate(&mut self, module: &InstancePre<T>) -> wasmtime::Result<Instance> {
        let arena = self.lease.arena.clone();
        let mut making = pin!(module.instantiate_async(&mut self.store));
        // The memory is made in the first poll; a start function may need more of them, on other threads.
        let mut next = arena;
        poll_fn(move |cx| {
            NEXT.set(next.take());
            let made = making.as_mut().poll(cx);
            NEXT.set(None);
            made
        })
        .await
    }

    /// Bytes that making the memory fresh has to see to.
    #[must_use]
    pub fn work_bytes(&self) -> usize {
        self.lease.work_bytes()
    }

    /// The memory itself.
    #[cfg(test)]
    pub(super) fn arena(&self) -> Option<Arc<Arena>> {
        self.lease.arena.clone()
    }
}

/// What `si_code` says of a page that is there and may not be written to.
const SEGV_ACCERR: i32 = 2;

impl<T: 'static> Deref for Hosted<T> {
    type Target = Store<T>;

    fn deref(&self) -> &Store<T> {
        &self.store
    }
}

impl<T: 'static> DerefMut for Hosted<T> {
    fn deref_mut(&mut self) -> &mut Store<T> {
        &mut self.store
    }
}

struct Creator;

// SAFETY: what it gives is a `Linear`, see there.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let Some(arena) = NEXT.take() else {
            return Err("an instance has one memory, which has to be lent to it".into());
        };
        if reserved.is_some_and(|bytes| bytes > MEMORY_BYTES) || guard > GUARD_BYTES {
            return Err(format!("{reserved:?} and {guard} bytes are more than an arena has"));
        }
        // More than that is a snapshot's: its code is that of the module without one.
        if minimum > arena.bytes() {
            return Err(format!("a memory of {} bytes for {minimum}", arena.bytes()));
        }
        Ok(Box::new(Linear(arena)))
    }
}

/// A memory as the engine knows it.
struct Linear(Arc<Arena>);

// SAFETY: the arena is reserved for as long as this lives, does not move, and nobody else has it: it came out of a lease,
// which makes nothing of it before this is dropped. All of `byte_size` may be read, and written to after a fault that
// the store's handler sees to; what is behind may not be touched, to the end of the guard.
unsafe impl LinearMemory for Linear {
    fn byte_size(&self) -> usize {
        self.0.bytes()
    }

    fn byte_capacity(&self) -> usize {
        MEMORY_BYTES
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.0.grow(bytes).map_err(Into::into)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.base()
    }
}
