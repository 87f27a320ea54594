//! Hashes of one key in many instances of one snapshot: each must have seeds of its own.
//!
//! A snapshot is made after init, so what init drew is the same in all of them. A guest whose maps hashed alike in every
//! request could be flooded with colliding keys, and one that made tokens would make the same token twice.

use std::collections::HashSet;
use std::sync::Arc;

use mayfly_host::engine::ticker::TICK_EPOCHS;
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Sandbox;
use mayfly_observe::logs::LogSink;

use super::VerifyError;

/// Ticks for one instance, 5 s as when it is deployed: it only draws a few words and hashes.
const PATIENCE_TICKS: u64 = 500;

/// A guest that hashes with what it drew in init and with what it draws now.
pub const GUEST: &[u8] = include_bytes!("guests/draws.wasm");

/// Makes so many instances and asks each for its hash; gives how many had been seen before.
///
/// # Errors
/// [`VerifyError::Draw`] when an instance cannot be made or does not answer.
pub async fn repeats(
    revision: &Arc<Revision>,
    logs: &LogSink,
    draws: u64,
) -> Result<u64, VerifyError> {
    let mut seen = HashSet::new();
    for _ in 0..draws {
        let hash = draw(revision, logs).await;
        seen.insert(hash.map_err(|error| VerifyError::Draw(format!("{error:#}")))?);
    }
    Ok(draws - seen.len() as u64)
}

async fn draw(revision: &Arc<Revision>, logs: &LogSink) -> wasmtime::Result<i64> {
    let sandbox = Sandbox::rehearsal(revision.terms.clone(), logs.clone());
    let mut store = revision.module.host(sandbox)?;
    store.set_epoch_deadline(PATIENCE_TICKS * TICK_EPOCHS);
    let instance = store.instantiate(&revision.module.pre).await?;
    let probe = instance.get_typed_func::<(), i64>(&mut *store, mayfly_abi::EXPORT_SEED_PROBE)?;
    probe.call_async(&mut *store, ()).await
}
