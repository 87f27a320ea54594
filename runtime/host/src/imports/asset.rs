//! `mayfly_asset_v1`: what a module carries, by name. In init; and while a request is handled, for revisions whose init
//! runs then.

use bytes::Bytes;
use mayfly_abi::{ERR_NO_ASSET, MODULE_ASSET};
use wasmtime::{Caller, Linker, Memory, Result};

use super::host::{Host, Range, memory};
use super::pieces::copy_in;
use crate::profile::Watch;

/// Adds the family, for any host.
///
/// # Errors
/// Only if a name is defined twice.
pub fn add_to_linker<T: Host>(linker: &mut Linker<T>, watch: impl Watch<T>) -> Result<()> {
    linker.func_wrap(MODULE_ASSET, "asset_len", asset_len)?;
    linker.func_wrap_async(
        MODULE_ASSET,
        "asset_read",
        move |caller, (name, name_len, offset, ptr, len): (u32, u32, u64, u32, u32)| {
            let span = watch.begin(&caller, MODULE_ASSET, "asset_read");
            Box::new(asset_read(caller, Range(name, name_len), offset, Range(ptr, len), span))
        },
    )?;
    Ok(())
}

fn asset_len<T: Host>(mut caller: Caller<'_, T>, name: u32, name_len: u32) -> Result<i64> {
    let memory = memory(&mut caller)?;
    let asset = asset(&caller, memory, Range(name, name_len))?;
    Ok(asset
        .map_or(i64::from(ERR_NO_ASSET), |asset| i64::try_from(asset.len()).unwrap_or(i64::MAX)))
}

async fn asset_read<T: Host>(
    mut caller: Caller<'_, T>,
    name: Range,
    offset: u64,
    Range(ptr, len): Range,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    let Some(asset) = asset(&caller, memory, name)? else {
        return Ok(ERR_NO_ASSET);
    };
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(asset.len());
    // A positive i32, so that no length looks like an error.
    let n = i32::try_from((asset.len() - from).min(len as usize)).unwrap_or(i32::MAX);
    // All of it, before the first byte is copied.
    Range(ptr, n.cast_unsigned()).of(memory.data(&caller))?;
    copy_in(&mut caller, memory, ptr, &asset[from..][..n.cast_unsigned() as usize]).await?;
    Ok(n)
}

/// An asset by the name in guest memory.
fn asset<T: Host>(caller: &Caller<'_, T>, memory: Memory, name: Range) -> Result<Option<Bytes>> {
    if name.1 as usize > mayfly_abi::limits::ASSET_NAME_BYTES {
        return Ok(None);
    }
    let name = name.of(memory.data(caller))?;
    let Ok(name) = std::str::from_utf8(name) else { return Ok(None) };
    Ok(caller.data().assets().and_then(|assets| assets.get(name)))
}
