//! `mayfly_http_v1`, the imports of reactor modules.
//!
//! Every pointer and length comes from the guest. A range outside its memory traps; nothing here allocates by a
//! guest's number beyond `HOSTCALL_BYTES`, and nothing recurses.

use bytes::Bytes;
use http::Version;
use mayfly_abi::{ERR_BODY, ERR_CLOSED, ERR_STATE, HeadWriter, MODULE_HTTP, RequestLine};
use mayfly_core::Outcome;
use mayfly_core::limits::node;
use rand::RngCore as _;
use wasmtime::{Caller, Linker, Memory, Result};

use super::WASI;
use super::host::{Range, memory};
use super::pieces::pause;
use crate::exchange::{BodyError, WriteError, write_all};
use crate::profile::Watch;
use crate::sandbox::head::{self, for_guest};
use crate::sandbox::stdio::{too_large, write_failed};
use crate::sandbox::{Inbound, Sandbox, Stop};

/// Adds the family.
///
/// # Errors
/// Only if a name is defined twice.
pub fn add_to_linker(linker: &mut Linker<Sandbox>, watch: impl Watch<Sandbox>) -> Result<()> {
    linker.func_wrap(
        MODULE_HTTP,
        "request_head",
        move |caller: Caller<'_, Sandbox>, ptr: u32, cap: u32| {
            let _span = watch.begin(&caller, MODULE_HTTP, "request_head");
            request_head(caller, ptr, cap)
        },
    )?;
    linker.func_wrap_async(
        MODULE_HTTP,
        "request_body_read",
        move |caller, (ptr, cap): (u32, u32)| {
            let span = watch.begin(&caller, MODULE_HTTP, "request_body_read");
            Box::new(request_body_read(caller, ptr, cap, span))
        },
    )?;
    linker.func_wrap_async(
        MODULE_HTTP,
        "response_start",
        move |caller, (head, head_len, body, body_len): (u32, u32, u32, u32)| {
            let span = watch.begin(&caller, MODULE_HTTP, "response_start");
            Box::new(response_start(caller, Range(head, head_len), Range(body, body_len), span))
        },
    )?;
    linker.func_wrap_async(
        MODULE_HTTP,
        "response_write",
        move |caller, (ptr, len): (u32, u32)| {
            let span = watch.begin(&caller, MODULE_HTTP, "response_write");
            Box::new(response_write(caller, Range(ptr, len), span))
        },
    )?;
    link_random(linker, watch)?;
    linker.func_wrap(MODULE_HTTP, "mark", mark)?;
    Ok(())
}

/// WASI's is replaced: a fresh draw costs no context, which most SDK guests never need.
fn link_random(linker: &mut Linker<Sandbox>, watch: impl Watch<Sandbox>) -> Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap(
        WASI,
        "random_get",
        move |caller: Caller<'_, Sandbox>, ptr: u32, len: u32| {
            let _span = watch.begin(&caller, WASI, "random_get");
            random_get(caller, ptr, len)
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// `random_get` of WASI, without a WASI context: from the thread's generator, which the system seeded.
fn random_get(mut caller: Caller<'_, Sandbox>, ptr: u32, len: u32) -> Result<i32> {
    const ERRNO_INVAL: i32 = 28;
    if u64::from(len) > node::RANDOM_BYTES {
        return Ok(ERRNO_INVAL);
    }
    let memory = memory(&mut caller)?;
    rand::rng().fill_bytes(Range(ptr, len).of_mut(memory.data_mut(&mut caller))?);
    Ok(0)
}

fn request_head(mut caller: Caller<'_, Sandbox>, ptr: u32, cap: u32) -> Result<u32> {
    let memory = memory(&mut caller)?;
    let (bytes, sandbox) = memory.data_and_store_mut(&mut caller);
    let room = Range(ptr, cap).of_mut(bytes)?;
    if let Some(written) = encode(&sandbox.inbound, room) {
        return Ok(written);
    }
    // It did not fit: say how long it is, so that the guest can come back with enough.
    let mut scratch = vec![0; head_bytes_max(&sandbox.inbound)];
    encode(&sandbox.inbound, &mut scratch)
        .ok_or_else(|| Stop(Outcome::Internal("a request head does not encode".into())).into())
}

/// An upper bound: what the gateway let in, and a little for what we add.
fn head_bytes_max(inbound: &Inbound) -> usize {
    let headers = &inbound.parts.headers;
    let names = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum::<usize>();
    // A guest gets the host twice, once as the request's authority.
    let host = inbound.authority().len() + inbound.prefix().len();
    names + host + inbound.parts.uri.to_string().len() * 2 + 1024
}

fn encode(inbound: &Inbound, buffer: &mut [u8]) -> Option<u32> {
    let parts = &inbound.parts;
    let path_and_query = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let below = &path_and_query[inbound.base_len..];
    // `/name` and `/name?q` have nothing below the route; a path is never empty for a guest.
    let with_slash;
    let target = match below.as_bytes().first() {
        Some(b'/') => below,
        None => "/",
        Some(_) => {
            with_slash = format!("/{below}");
            &with_slash
        }
    };
    let (base, with_prefix) = (inbound.base(), inbound.prefix());
    // As the client knows it: what a proxy took off is part of it.
    let with_prefix = (!with_prefix.is_empty()).then(|| format!("{with_prefix}{base}"));
    let mut remote = arrayvec::ArrayString::<64>::new();
    let _ = std::fmt::Write::write_fmt(&mut remote, format_args!("{}", inbound.remote));
    let line = RequestLine {
        method: parts.method.as_str().as_bytes(),
        target: target.as_bytes(),
        base: with_prefix.as_deref().unwrap_or(base).as_bytes(),
        scheme: inbound.scheme().as_bytes(),
        authority: inbound.authority(),
        remote: remote.as_bytes(),
        request_id: inbound.request_id.as_str().as_bytes(),
        version: match parts.version {
            Version::HTTP_10 => 10,
            Version::HTTP_2 => 20,
            _ => 11,
        },
    };
    let mut writer = HeadWriter::request(buffer, &line).ok()?;
    for (name, value) in for_guest(&parts.headers) {
        writer.header(name.as_str().as_bytes(), value.as_bytes()).ok()?;
    }
    u32::try_from(writer.finish()).ok()
}

async fn request_body_read(
    mut caller: Caller<'_, Sandbox>,
    ptr: u32,
    cap: u32,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    // Checked before the wait: a guest that passes a bad range learns it at once.
    Range(ptr, cap).of(memory.data(&caller))?;
    let exchange = caller.data().exchange.clone();
    match exchange.read((cap as usize).min(node::HOSTCALL_BYTES)).await {
        Ok(bytes) => {
            let len = u32::try_from(bytes.len()).unwrap_or(0);
            Range(ptr, len).of_mut(memory.data_mut(&mut caller))?.copy_from_slice(&bytes);
            Ok(len.cast_signed())
        }
        Err(BodyError::TooLarge) => Err(too_large(&exchange)),
        Err(BodyError::Broken | BodyError::Malformed | BodyError::Idle) => Ok(ERR_BODY),
    }
}

async fn response_start(
    mut caller: Caller<'_, Sandbox>,
    head_at: Range,
    body_at: Range,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    let (bytes, sandbox) = memory.data_and_store_mut(&mut caller);
    if head_at.1 as usize > mayfly_abi::limits::RESPONSE_HEAD_BYTES {
        let error = head::HeadError::TooLong(mayfly_abi::limits::RESPONSE_HEAD_BYTES);
        return Err(Stop(Outcome::BadResponse(error.to_string())).into());
    }
    body_at.of(bytes)?;
    let head = head::decode(head_at.of(bytes)?)
        .map_err(|error| Stop(Outcome::BadResponse(error.to_string())))?;
    if sandbox.exchange.start(head).is_err() {
        return Ok(ERR_STATE);
    }
    write(&mut caller, memory, body_at).await
}

async fn response_write(
    mut caller: Caller<'_, Sandbox>,
    at: Range,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    at.of(memory.data(&caller))?;
    write(&mut caller, memory, at).await
}

/// Copies a range to the client in parts of `HOSTCALL_BYTES`, waiting while it is slow.
async fn write(
    caller: &mut Caller<'_, Sandbox>,
    memory: Memory,
    Range(ptr, len): Range,
) -> Result<i32> {
    let exchange = caller.data().exchange.clone();
    let mut done = 0;
    while done < len {
        // Where nobody buffers, nobody waits either: a body that goes nowhere is written to its end in one go.
        if done > 0 {
            pause(caller).await?;
        }
        let n = (len - done).min(u32::try_from(node::HOSTCALL_BYTES).unwrap_or(u32::MAX));
        let part = Bytes::copy_from_slice(Range(ptr + done, n).of(memory.data(&caller))?);
        match write_all(&exchange, part).await {
            Ok(()) => done += n,
            Err(WriteError::Gone) => return Ok(ERR_CLOSED),
            Err(WriteError::State) => return Ok(ERR_STATE),
            Err(error @ WriteError::TooLarge) => {
                return write_failed(&exchange, error).map_or(Ok(ERR_CLOSED), Err);
            }
        }
    }
    // An empty write still has to tell a guest that it forgot the head.
    Ok(if exchange.started() { 0 } else { ERR_STATE })
}

fn mark(caller: Caller<'_, Sandbox>, id: u32) {
    let sandbox = caller.data();
    let us = u32::try_from(sandbox.inbound.arrived.elapsed().as_micros()).unwrap_or(u32::MAX - 1);
    sandbox.exchange.notes.mark(id, us);
}
