//! `mayfly_fetch_v1`: calls to others.
//!
//! A call runs only while its guest waits for one: its future is polled by the imports that wait, and is dropped with the
//! sandbox. What it holds is bounded by `OUTBOUND_BUFFER_BYTES` in each direction.

mod frame;
mod moves;

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use mayfly_abi::{ERR_FETCH_CLOSED, ERR_FETCH_NAME, MODULE_FETCH};
use mayfly_core::limits::outbound;
use mayfly_outbound::{Call, CallBody, Code, Fault, Upload};
use wasmtime::{Caller, Linker, Result};

use super::host::{Range, memory};
use crate::profile::Watch;
use crate::sandbox::{Fetches, Sandbox};

/// Adds the family.
///
/// # Errors
/// Only if a name is defined twice.
pub fn add_to_linker(linker: &mut Linker<Sandbox>, watch: impl Watch<Sandbox>) -> Result<()> {
    linker.func_wrap_async(
        MODULE_FETCH,
        "fetch",
        move |caller, (head, head_len, body, body_len): (u32, u32, u32, u32)| {
            let span = watch.begin(&caller, MODULE_FETCH, "fetch");
            Box::new(moves::fetch(caller, Range(head, head_len), Range(body, body_len), span))
        },
    )?;
    linker.func_wrap(MODULE_FETCH, "begin", begin)?;
    linker.func_wrap_async(
        MODULE_FETCH,
        "write",
        move |caller, (handle, ptr, len): (i32, u32, u32)| {
            let span = watch.begin(&caller, MODULE_FETCH, "write");
            Box::new(moves::write(caller, handle, Range(ptr, len), span))
        },
    )?;
    linker.func_wrap(MODULE_FETCH, "finish", finish)?;
    linker.func_wrap_async(
        MODULE_FETCH,
        "wait",
        move |caller, (ptr, count, timeout): (u32, u32, i32)| {
            let span = watch.begin(&caller, MODULE_FETCH, "wait");
            Box::new(wait(caller, ptr, count, timeout, span))
        },
    )?;
    linker.func_wrap_async(
        MODULE_FETCH,
        "head",
        move |caller, (handle, ptr, cap): (i32, u32, u32)| {
            let span = watch.begin(&caller, MODULE_FETCH, "head");
            Box::new(head(caller, handle, Range(ptr, cap), span))
        },
    )?;
    linker.func_wrap_async(
        MODULE_FETCH,
        "read",
        move |caller, (handle, ptr, cap): (i32, u32, u32)| {
            let span = watch.begin(&caller, MODULE_FETCH, "read");
            Box::new(moves::read(caller, handle, Range(ptr, cap), span))
        },
    )?;
    linker.func_wrap_async(MODULE_FETCH, "pipe", move |caller, (handle,): (i32,)| {
        let span = watch.begin(&caller, MODULE_FETCH, "pipe");
        Box::new(moves::pipe(caller, handle, span))
    })?;
    linker.func_wrap(MODULE_FETCH, "drop", drop_one)?;
    linker.func_wrap(MODULE_FETCH, "fetch_error", fetch_error)?;
    Ok(())
}

/// Starts a call whose body is written piece by piece.
fn begin(mut caller: Caller<'_, Sandbox>, ptr: u32, len: u32) -> Result<i32> {
    let memory = memory(&mut caller)?;
    let (bytes, sandbox) = memory.data_and_store_mut(&mut caller);
    let decoded = decode(sandbox, Range(ptr, len).of(bytes)?);
    let (call, length) = match decoded {
        Ok(decoded) => decoded,
        Err(number) => return Ok(number),
    };
    Ok(start(sandbox, call, CallBody::Stream(Upload::with_length(length))))
}

/// A frame as a call, or the number that its guest gets.
fn decode(sandbox: &mut Sandbox, frame: &[u8]) -> std::result::Result<(Call, Option<u64>), i32> {
    frame::decode(frame, sandbox.hops()).map_err(|fault| sandbox.fetches().refuse(fault))
}

/// Starts a call if it is allowed; the log is told what would allow one that is not, once.
fn start(sandbox: &mut Sandbox, call: Call, body: CallBody) -> i32 {
    let terms = sandbox.terms.clone();
    let started = match &terms.outbound {
        Some(access) => sandbox.fetches().start(access, terms.limits(), call, body),
        None => Err(mayfly_outbound::denied(call.method.as_str(), &call.target)),
    };
    started.unwrap_or_else(|fault| {
        if fault.code == Code::Denied && !std::mem::replace(&mut sandbox.fetches().told, true) {
            sandbox.say(&fault.words);
        }
        sandbox.fetches().refuse(fault)
    })
}

fn finish(mut caller: Caller<'_, Sandbox>, handle: i32) -> i32 {
    match caller.data_mut().fetches().get(handle) {
        Some(slot) => {
            slot.fetch.end_upload();
            0
        }
        None => ERR_FETCH_CLOSED,
    }
}

fn drop_one(mut caller: Caller<'_, Sandbox>, handle: i32) {
    caller.data_mut().fetches().drop_one(handle);
}

/// The first of these calls of which something is there; -1 if none is in time.
async fn wait(
    mut caller: Caller<'_, Sandbox>,
    ptr: u32,
    count: u32,
    timeout_ms: i32,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    let most =
        usize::try_from(caller.data().terms.limits().outbound_parallel).unwrap_or(usize::MAX);
    if count as usize > most {
        let words = format!("wait was given {count} calls; there are {most} at most");
        return Ok(caller.data_mut().fetches().refuse(Fault::new(Code::Budget, words)));
    }
    let bytes = Range(ptr, count * 4).of(memory.data(&caller))?;
    let (handles, _) = bytes.as_chunks::<4>();
    let handles: Vec<i32> = handles.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
    let first = poll_fn(|cx| {
        let fetches: &mut Fetches = caller.data_mut().fetches();
        // All are driven on, whichever is first.
        let mut first = None;
        for (at, handle) in handles.iter().enumerate() {
            let ready = fetches
                .get(*handle)
                .is_none_or(|slot| slot.fetch.poll_progress(cx, slot.head_was_read).is_ready());
            if ready && first.is_none() {
                first = Some(at);
            }
        }
        first.map_or(Poll::Pending, |at| Poll::Ready(i32::try_from(at).unwrap_or(i32::MAX)))
    });
    let Ok(timeout_ms) = u64::try_from(timeout_ms) else {
        return Ok(if handles.is_empty() { -1 } else { first.await });
    };
    Ok(tokio::time::timeout(Duration::from_millis(timeout_ms), first).await.unwrap_or(-1))
}

/// Waits for an answer's head, and gives it as a response frame.
async fn head(
    mut caller: Caller<'_, Sandbox>,
    handle: i32,
    at: Range,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    at.of(memory.data(&caller))?;
    let mut scratch = Vec::new();
    let encoded = poll_fn(|cx| {
        let Some(slot) = caller.data_mut().fetches().get(handle) else {
            return Poll::Ready(Err(ERR_FETCH_CLOSED));
        };
        slot.head_was_read = true;
        slot.fetch.poll_head(cx).map(|head| match head {
            Ok(head) => {
                scratch.resize(frame::most(head), 0);
                frame::encode(head, &mut scratch).ok_or(ERR_FETCH_NAME)
            }
            Err(fault) => Err(fault.code.number()),
        })
    })
    .await;
    let len = match encoded {
        Ok(len) => len,
        Err(number) => return Ok(number),
    };
    if len <= at.1 as usize {
        let to = Range(at.0, u32::try_from(len).unwrap_or(0));
        to.of_mut(memory.data_mut(&mut caller))?.copy_from_slice(&scratch[..len]);
    }
    Ok(i32::try_from(len).unwrap_or(i32::MAX))
}

/// The words of a call's failure; of the last one without a handle if there is no such call.
fn fetch_error(mut caller: Caller<'_, Sandbox>, handle: i32, ptr: u32, cap: u32) -> Result<i32> {
    let memory = memory(&mut caller)?;
    let (bytes, sandbox) = memory.data_and_store_mut(&mut caller);
    let words = sandbox.fetches().words(handle).as_bytes();
    let words = &words[..words.len().min(outbound::OUTBOUND_FRAME_BYTES)];
    if words.len() <= cap as usize {
        let len = u32::try_from(words.len()).unwrap_or(0);
        Range(ptr, len).of_mut(bytes)?.copy_from_slice(words);
    }
    Ok(i32::try_from(words.len()).unwrap_or(i32::MAX))
}
