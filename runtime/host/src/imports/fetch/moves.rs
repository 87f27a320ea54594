//! Bytes of calls and answers between a guest's memory and the wire, piece by piece.

use std::future::poll_fn;
use std::task::{Poll, ready};

use bytes::Bytes;
use mayfly_abi::{ERR_CLOSED, ERR_FETCH_CLOSED, ERR_STATE};
use mayfly_core::limits::{node, outbound};
use mayfly_core::units::format_duration;
use mayfly_outbound::{CallBody, Code, Fault, Upload};
use wasmtime::{Caller, Memory, Result};

use super::super::host::{Range, memory};
use super::super::pieces::pause;
use super::{decode, start};
use crate::exchange::{WriteError, write_all};
use crate::sandbox::Sandbox;
use crate::sandbox::stdio::write_failed;

/// Starts a call with its body. One of more than a piece is streamed with its length, so that the host never holds it.
pub(super) async fn fetch(
    mut caller: Caller<'_, Sandbox>,
    head: Range,
    body: Range,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    let (bytes, sandbox) = memory.data_and_store_mut(&mut caller);
    let whole = body.of(bytes)?;
    let (call, _) = match decode(sandbox, head.of(bytes)?) {
        Ok(decoded) => decoded,
        Err(number) => return Ok(number),
    };
    let is_small = whole.len() <= outbound::OUTBOUND_BUFFER_BYTES;
    let terms = sandbox.terms.clone();
    if is_small && let Err(fault) = sandbox.fetches().send(whole.len() as u64, terms.limits()) {
        return Ok(sandbox.fetches().refuse(fault));
    }
    let sent = match is_small {
        true => CallBody::Whole(Bytes::copy_from_slice(whole)),
        false => CallBody::Stream(Upload::with_length(Some(whole.len() as u64))),
    };
    let handle = start(sandbox, call, sent);
    if handle < 0 {
        return Ok(handle);
    }
    if is_small {
        // Its name is asked for, or its first bytes go out, while the guest goes on.
        poll_fn(|cx| {
            let slot = caller.data_mut().fetches().get(handle);
            let _ = slot.map(|slot| slot.fetch.poll_head(cx).is_ready());
            Poll::Ready(())
        })
        .await;
    } else if put(&mut caller, memory, handle, body).await? == 0
        && let Some(slot) = caller.data_mut().fetches().get(handle)
    {
        slot.fetch.end_upload();
    }
    // What went wrong meanwhile is in place of its head.
    Ok(handle)
}

/// More of a call's body.
pub(super) async fn write(
    mut caller: Caller<'_, Sandbox>,
    handle: i32,
    at: Range,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    at.of(memory.data(&caller))?;
    put(&mut caller, memory, handle, at).await
}

async fn put(
    caller: &mut Caller<'_, Sandbox>,
    memory: Memory,
    handle: i32,
    Range(ptr, len): Range,
) -> Result<i32> {
    let most = u32::try_from(outbound::OUTBOUND_BUFFER_BYTES).unwrap_or(u32::MAX);
    let mut done = 0;
    while done < len {
        if done > 0 {
            pause(caller).await?;
        }
        let n = (len - done).min(most);
        let piece = Bytes::copy_from_slice(Range(ptr + done, n).of(memory.data(&*caller))?);
        let sandbox = caller.data_mut();
        let terms = sandbox.terms.clone();
        if let Err(fault) = sandbox.fetches().send(n.into(), terms.limits()) {
            return Ok(fail(sandbox, handle, fault));
        }
        let pushed =
            tokio::time::timeout(outbound::OUTBOUND_IDLE, push(caller, handle, piece)).await;
        match pushed {
            Ok(0) => done += n,
            Ok(number) => return Ok(number),
            Err(_) => {
                let time = format_duration(outbound::OUTBOUND_IDLE);
                let fault = Fault::new(
                    Code::Timeout,
                    format!("nothing of the call's body was taken for {time}"),
                );
                return Ok(fail(caller.data_mut(), handle, fault));
            }
        }
    }
    Ok(0)
}

/// Waits until a piece has room, and drives the call meanwhile.
async fn push(caller: &mut Caller<'_, Sandbox>, handle: i32, piece: Bytes) -> i32 {
    let mut piece = Some(piece);
    poll_fn(|cx| {
        let Some(slot) = caller.data_mut().fetches().get(handle) else {
            return Poll::Ready(ERR_FETCH_CLOSED);
        };
        let _ = slot.fetch.poll_head(cx).is_ready();
        if let Some(fault) = slot.fetch.fault() {
            return Poll::Ready(fault.code.number());
        }
        let Some(upload) = slot.fetch.upload() else { return Poll::Ready(ERR_STATE) };
        if !ready!(upload.poll_room(cx)) {
            return Poll::Ready(ERR_FETCH_CLOSED);
        }
        upload.push(piece.take().unwrap_or_default());
        Poll::Ready(0)
    })
    .await
}

/// Up to `cap` more bytes of an answer.
pub(super) async fn read(
    mut caller: Caller<'_, Sandbox>,
    handle: i32,
    at: Range,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    at.of(memory.data(&caller))?;
    if at.1 == 0 {
        return Ok(0);
    }
    match next(&mut caller, handle, at.1 as usize).await {
        Ok(bytes) => {
            let len = u32::try_from(bytes.len()).unwrap_or(0);
            Range(at.0, len).of_mut(memory.data_mut(&mut caller))?.copy_from_slice(&bytes);
            Ok(len.cast_signed())
        }
        Err(number) => Ok(number),
    }
}

/// The rest of an answer becomes the body of the response, without passing guest memory.
pub(super) async fn pipe(
    mut caller: Caller<'_, Sandbox>,
    handle: i32,
    _span: impl Send,
) -> Result<i32> {
    let exchange = caller.data().exchange.clone();
    if !exchange.started() {
        return Ok(ERR_STATE);
    }
    loop {
        let bytes = match next(&mut caller, handle, node::HOSTCALL_BYTES).await {
            Ok(bytes) => bytes,
            Err(number) => return Ok(number),
        };
        if bytes.is_empty() {
            return Ok(0);
        }
        match write_all(&exchange, bytes).await {
            Ok(()) => {}
            Err(WriteError::Gone) => return Ok(ERR_CLOSED),
            Err(WriteError::State) => return Ok(ERR_STATE),
            Err(error @ WriteError::TooLarge) => {
                return write_failed(&exchange, error).map_or(Ok(ERR_CLOSED), Err);
            }
        }
        pause(&mut caller).await?;
    }
}

async fn next(
    caller: &mut Caller<'_, Sandbox>,
    handle: i32,
    most: usize,
) -> std::result::Result<Bytes, i32> {
    let most = most.min(node::HOSTCALL_BYTES);
    let bytes = poll_fn(|cx| {
        let Some(slot) = caller.data_mut().fetches().get(handle) else {
            return Poll::Ready(Err(ERR_FETCH_CLOSED));
        };
        slot.head_was_read = true;
        slot.fetch.poll_read(cx, most).map(|read| read.map_err(|fault| fault.code.number()))
    })
    .await?;
    let sandbox = caller.data_mut();
    let terms = sandbox.terms.clone();
    match sandbox.fetches().receive(bytes.len() as u64, terms.limits()) {
        Ok(()) => Ok(bytes),
        Err(fault) => Err(fail(sandbox, handle, fault)),
    }
}

/// Ends a call so; its guest gets the number.
fn fail(sandbox: &mut Sandbox, handle: i32, fault: Fault) -> i32 {
    let number = fault.code.number();
    match sandbox.fetches().get(handle) {
        Some(slot) => slot.fetch.fail(fault),
        None => drop(sandbox.fetches().refuse(fault)),
    }
    number
}
