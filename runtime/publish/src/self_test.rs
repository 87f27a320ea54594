//! What a node does before it says that it is ready: sees that instances can be made, and that no memory remembers.
//!
//! A machine on which writes to protected pages are not told, or pages that are dropped keep their contents, is found out
//! before it mixes two tenants' memory. A few memories show it as well as all: they are made alike, when they are needed.

use std::sync::Arc;

use mayfly_host::engine::Engine;
use mayfly_host::engine::memory::Hosted;
use mayfly_host::engine::ticker::TICK_EPOCHS;
use mayfly_host::program::LoadedModule;
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Sandbox;
use mayfly_observe::logs::LogSink;
use wasmtime::{Instance, Store};

/// A guest that traps if its memory is not as its module says, then spoils it: low, in the middle, at the end, and
/// in more separate runs than one page scan reports (32).
pub const GUEST: &[u8] = include_bytes!("self_test/guest.wasm");

/// Memories at once.
const SLOTS: usize = 8;

/// Rounds over them: the second finds what the first left; the third is the first in which only some pages are open, and
/// the fourth finds what that one left.
const ROUNDS: usize = 4;

/// Ticks for one guest, 30 s: it needs microseconds, but a machine that is short of memory may take its time.
const PATIENCE_TICKS: u64 = 3_000;

/// Why a node is not fit to serve.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// An instance could not be made although the pool should have room.
    #[error("slot {slot} of {slots} cannot be used: {why}; lower engine.slots")]
    Slot {
        /// Which one, counted from 1.
        slot: usize,
        /// How many there should be.
        slots: usize,
        /// What the engine says.
        why: String,
    },
    /// A fresh instance was not fresh.
    #[error(
        "a new instance saw what an earlier one wrote ({0}): on this machine, memory cannot be kept apart: do not serve from it"
    )]
    Remembered(String),
}

/// Fills some slots at once with the self-test guest, lets each spoil its memory, and does so again.
///
/// # Errors
/// [`SelfTestError`] names the key to change.
pub async fn run(
    engine: &Engine,
    revision: &Arc<Revision>,
    logs: &LogSink,
) -> Result<(), SelfTestError> {
    let slots = SLOTS.min(engine.plan().instances());
    for _ in 0..ROUNDS {
        let mut held = Vec::with_capacity(slots);
        for slot in 1..=slots {
            let failed = |why: wasmtime::Error| {
                let why = format!("{why:#}");
                SelfTestError::Slot { slot, slots, why }
            };
            held.push(instantiate(revision, logs).await.map_err(failed)?);
        }
        for (store, instance) in &mut held {
            call(store, *instance, &revision.module).await?;
        }
    }
    Ok(())
}

async fn instantiate(
    revision: &Arc<Revision>,
    logs: &LogSink,
) -> wasmtime::Result<(Hosted<Sandbox>, Instance)> {
    let sandbox = Sandbox::rehearsal(revision.terms.clone(), logs.clone());
    let mut store = revision.module.host(sandbox)?;
    store.set_epoch_deadline(PATIENCE_TICKS * TICK_EPOCHS);
    let instance = store.instantiate(&revision.module.pre).await?;
    Ok((store, instance))
}

async fn call(
    store: &mut Store<Sandbox>,
    instance: Instance,
    module: &LoadedModule,
) -> Result<(), SelfTestError> {
    let remembered = |error: wasmtime::Error| SelfTestError::Remembered(format!("{error:#}"));
    // Counted from now: the last slot may have waited for all others to be made.
    store.set_epoch_deadline(PATIENCE_TICKS * TICK_EPOCHS);
    for export in module.calls.iter() {
        let func =
            instance.get_module_export(&mut *store, export).and_then(wasmtime::Extern::into_func);
        let Some(func) = func else { continue };
        let func = func.typed::<(), ()>(&*store).map_err(remembered)?;
        func.call_async(&mut *store, ()).await.map_err(remembered)?;
    }
    Ok(())
}
