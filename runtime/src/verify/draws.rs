//! Hashes of one key in many instances of one snapshot: each must have seeds of its own.
//!
//! A snapshot is made after init, so what init drew is the same in all of them. A guest whose maps hashed alike in every
//! request could be flooded with colliding keys, and one that made tokens would make the same token twice.

use std::collections::HashSet;
use std::sync::Arc;

use wasmtime::Store;

use super::VerifyError;
use crate::engine::Engine;
use crate::logs::LogSink;
use crate::revision::Revision;
use crate::sandbox::Sandbox;

/// Ticks for one instance, 5 s as when it is deployed: it only draws a few words and hashes.
const PATIENCE_TICKS: u64 = 500;

/// A guest that keeps what it drew in init, and hashes with that and with what it draws now. The first is a constant;
/// if the host did not draw anew, the hash would be one too.
pub const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "mayfly_abi_1"))
    (func (export "mayfly_init") (drop (call $random (i32.const 2048) (i32.const 8))))
    (func (export "mayfly_handle"))
    (func $mix (param $hash i64) (param $word i64) (result i64)
        (local.set $hash (i64.mul (i64.xor (local.get $hash) (local.get $word)) (i64.const 0x9E3779B97F4A7C15)))
        (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 29))))
    (func (export "mayfly_seed_probe") (result i64)
        (drop (call $random (i32.const 2056) (i32.const 16)))
        (call $mix (call $mix (call $mix (i64.load (i32.const 2048)) (i64.load (i32.const 2056)))
            (i64.load (i32.const 2064))) (i64.const 0x79656b))))"#;

/// Makes so many instances and asks each for its hash; gives how many had been seen before.
///
/// # Errors
/// [`VerifyError::Draw`] when an instance cannot be made or does not answer.
pub async fn repeats(
    engine: &Engine,
    revision: &Arc<Revision>,
    logs: &LogSink,
    draws: u64,
) -> Result<u64, VerifyError> {
    let mut seen = HashSet::new();
    for _ in 0..draws {
        let hash = draw(engine, revision, logs).await;
        seen.insert(hash.map_err(|error| VerifyError::Draw(format!("{error:#}")))?);
    }
    Ok(draws - seen.len() as u64)
}

async fn draw(engine: &Engine, revision: &Arc<Revision>, logs: &LogSink) -> wasmtime::Result<i64> {
    let mut store =
        Store::new(engine.wasmtime(), Sandbox::rehearsal(revision.clone(), logs.clone()));
    store.limiter(Sandbox::limiter);
    store.set_epoch_deadline(PATIENCE_TICKS);
    let instance = revision.module.pre.instantiate_async(&mut store).await?;
    let probe = instance.get_typed_func::<(), i64>(&mut store, mayfly_abi::EXPORT_SEED_PROBE)?;
    probe.call_async(&mut store, ()).await
}
