//! WASI preview 1 as guests get it: wasmtime-wasi's, but for the functions whose work is a guest's number.
//!
//! Those of wasmtime-wasi look through a list of buffers of any length (16 million fit their own limit of 128 MiB),
//! then write a whole buffer, or read a whole path, without a look at the clock. Ours look at `IOVECS` buffers, hand
//! the first that is not empty on in pieces of `STDIO_PIECE_BYTES`, each in a memory of its own that holds nothing
//! else, and look at the clock between two. Which descriptors are open, and what each is, stays wasmtime-wasi's to
//! know. What the other functions do is listed with its amount in the test `host_work`.

use mayfly_core::limits::node;
use wasmtime::{Caller, Extern, Linker, Memory, Result, Trap};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as wasi, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

use super::pieces::{Timed, pause};
use super::{ENV, WASI};
use crate::profile::Watch;

const SUCCESS: i32 = 0;
const ERRNO_INVAL: i32 = 28;
const ERRNO_NAMETOOLONG: i32 = 37;

/// Where things lie in the memory of one piece: first the list of one buffer, then how much was done, then the bytes.
const LIST: i32 = 0;
const DONE: i32 = 8;
const BYTES: u32 = 12;
const HEAD: usize = 12;

/// Links all of WASI, and what goes with it; `context` finds its state in the store's data. Those of wasmtime-wasi are not
/// watched: each is done within a microsecond, and is taken for a part of whoever called it.
///
/// # Errors
/// Only if a name is defined twice.
pub fn add_to_linker<T: Timed>(
    linker: &mut Linker<T>,
    context: fn(&mut T) -> &mut WasiP1Ctx,
    watch: impl Watch<T>,
) -> Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, context)?;
    linker.allow_shadowing(true);
    for (name, direction) in [("fd_write", Direction::Out), ("fd_read", Direction::In)] {
        linker.func_wrap_async(
            WASI,
            name,
            move |caller, (fd, list, len, done): (i32, u32, u32, u32)| {
                let span = watch.begin(&caller, WASI, name);
                let call = Call { fd, list, len, done, offset: None, direction };
                Box::new(transfer(caller, context, call, span))
            },
        )?;
    }
    for (name, direction) in [("fd_pwrite", Direction::Out), ("fd_pread", Direction::In)] {
        linker.func_wrap_async(
            WASI,
            name,
            move |caller, (fd, list, len, offset, done): (i32, u32, u32, i64, u32)| {
                let span = watch.begin(&caller, WASI, name);
                let call = Call { fd, list, len, done, offset: Some(offset), direction };
                Box::new(transfer(caller, context, call, span))
            },
        )?;
    }
    linker.func_wrap_async(WASI, "path_open", move |caller, call: PathOpen| {
        let span = watch.begin(&caller, WASI, "path_open");
        Box::new(path_open(caller, context, call, span))
    })?;
    linker.func_wrap_async(
        WASI,
        "poll_oneoff",
        move |caller, (subs, events, len, done): (i32, i32, i32, i32)| {
            let span = watch.begin(&caller, WASI, "poll_oneoff");
            Box::new(poll_oneoff(caller, context, [subs, events, len, done], span))
        },
    )?;
    linker.allow_shadowing(false);
    // Emscripten's programs for WASI tell their host when their memory has grown; nobody here has to know.
    linker.func_wrap(ENV, "emscripten_notify_memory_growth", |_: i32| {})?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}

/// What a guest passed to one of the four functions that take a list of buffers.
struct Call {
    fd: i32,
    list: u32,
    len: u32,
    done: u32,
    offset: Option<i64>,
    direction: Direction,
}

/// Reads or writes the first buffer that is not empty: wasmtime-wasi looks at no other, and POSIX allows it.
async fn transfer<T: Timed>(
    mut caller: Caller<'_, T>,
    context: fn(&mut T) -> &mut WasiP1Ctx,
    call: Call,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    let Some((at, len)) = first_buffer(memory.data(&caller), call.list, call.len)? else {
        return Ok(ERRNO_INVAL);
    };
    // All of it, before the first byte is done.
    range(memory.data(&caller), at, len)?;
    let mut done = 0;
    loop {
        let most = match call.direction {
            Direction::Out => node::STDIO_PIECE_BYTES,
            Direction::In => u32::try_from(node::HOSTCALL_BYTES).unwrap_or(u32::MAX),
        };
        let piece = (len - done).min(most);
        let mut own = vec![0; HEAD + piece as usize];
        own[..4].copy_from_slice(&BYTES.to_le_bytes());
        own[4..8].copy_from_slice(&piece.to_le_bytes());
        if call.direction == Direction::Out {
            own[HEAD..].copy_from_slice(range(memory.data(&caller), at + done, piece)?);
        }
        let errno = one(context(caller.data_mut()), &call, &mut own).await?;
        if errno != SUCCESS {
            // What went out before is told first; the error comes again at the next call.
            return if done > 0 { finish(&mut caller, memory, call.done, done) } else { Ok(errno) };
        }
        let n = word(&own[8..HEAD]).min(piece);
        if call.direction == Direction::In {
            let read = own.get(HEAD..HEAD + n as usize).unwrap_or_default();
            memory.write(&mut caller, (at + done) as usize, read)?;
        }
        done += n;
        // Whoever reads gets what is there; whoever writes less than a piece is to see that.
        if done == len || n < piece || call.direction == Direction::In {
            return finish(&mut caller, memory, call.done, done);
        }
        pause(&mut caller).await?;
    }
}

/// Calls wasmtime-wasi with a memory that holds one buffer.
async fn one(wasi: &mut WasiP1Ctx, call: &Call, own: &mut [u8]) -> Result<i32> {
    wasi.set_hostcall_fuel(2 * own.len());
    let mut own = GuestMemory::Unshared(own);
    match (call.direction, call.offset) {
        (Direction::Out, None) => wasi::fd_write(wasi, &mut own, call.fd, LIST, 1, DONE).await,
        (Direction::In, None) => wasi::fd_read(wasi, &mut own, call.fd, LIST, 1, DONE).await,
        (Direction::Out, Some(offset)) => {
            wasi::fd_pwrite(wasi, &mut own, call.fd, LIST, 1, offset, DONE).await
        }
        (Direction::In, Some(offset)) => {
            wasi::fd_pread(wasi, &mut own, call.fd, LIST, 1, offset, DONE).await
        }
    }
}

fn finish<T>(caller: &mut Caller<'_, T>, memory: Memory, at: u32, done: u32) -> Result<i32> {
    memory.write(caller, at as usize, &done.to_le_bytes())?;
    Ok(SUCCESS)
}

/// Address and length of the first buffer that is not empty; of an empty one if all are, and none if more than may be
/// looked at are.
fn first_buffer(memory: &[u8], list: u32, len: u32) -> Result<Option<(u32, u32)>> {
    if !list.is_multiple_of(4) {
        wasmtime::bail!("a list of buffers is not aligned");
    }
    // All of the list, however little of it is looked at.
    if u64::from(list) + 8 * u64::from(len) > memory.len() as u64 {
        return Err(Trap::MemoryOutOfBounds.into());
    }
    for i in 0..len.min(node::IOVECS) {
        let at = list.checked_add(i * 8).ok_or(Trap::MemoryOutOfBounds)?;
        let (at, len) = range(memory, at, 8)?.split_at(4);
        if word(len) > 0 {
            return Ok(Some((word(at), word(len))));
        }
    }
    Ok((len <= node::IOVECS).then_some((0, 0)))
}

/// Four bytes as they lie in memory.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

type PathOpen = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

/// No directory is open, so it fails; but the path is read first.
async fn path_open<T: Timed>(
    mut caller: Caller<'_, T>,
    context: fn(&mut T) -> &mut WasiP1Ctx,
    (fd, lookup, path, len, open, base, inheriting, flags, done): PathOpen,
    _span: impl Send,
) -> Result<i32> {
    let memory = memory(&mut caller)?;
    let bytes = range(memory.data(&caller), path.cast_unsigned(), len.cast_unsigned())?;
    if bytes.len() > node::PATH_BYTES {
        return Ok(ERRNO_NAMETOOLONG);
    }
    let (bytes, data) = memory.data_and_store_mut(&mut caller);
    let wasi = context(data);
    wasi.set_hostcall_fuel(2 * node::PATH_BYTES);
    let mut memory = GuestMemory::Unshared(bytes);
    wasi::path_open(wasi, &mut memory, fd, lookup, path, len, open, base, inheriting, flags, done)
        .await
}

/// Each thing that is waited for is a handle in the host, of which a guest has `GUEST_HANDLES`.
async fn poll_oneoff<T: Timed>(
    mut caller: Caller<'_, T>,
    context: fn(&mut T) -> &mut WasiP1Ctx,
    [subs, events, len, done]: [i32; 4],
    _span: impl Send,
) -> Result<i32> {
    if len.cast_unsigned() as usize > node::GUEST_HANDLES {
        wasmtime::bail!(
            "poll_oneoff is asked to wait for more than {} things",
            node::GUEST_HANDLES
        );
    }
    let memory = memory(&mut caller)?;
    let (bytes, data) = memory.data_and_store_mut(&mut caller);
    let wasi = context(data);
    wasi.set_hostcall_fuel(256 * node::GUEST_HANDLES);
    let mut memory = GuestMemory::Unshared(bytes);
    wasi::poll_oneoff(wasi, &mut memory, subs, events, len, done).await
}

fn memory<T>(caller: &mut Caller<'_, T>) -> Result<Memory> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    memory.ok_or_else(|| wasmtime::Error::msg("missing required memory export"))
}

fn range(memory: &[u8], at: u32, len: u32) -> Result<&[u8]> {
    let (at, len) = (at as usize, len as usize);
    let bytes = memory.get(at..).and_then(|rest| rest.get(..len));
    bytes.ok_or_else(|| Trap::MemoryOutOfBounds.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(buffers: &[(u32, u32)]) -> Vec<u8> {
        buffers
            .iter()
            .flat_map(|(at, len)| [at.to_le_bytes(), len.to_le_bytes()].concat())
            .collect()
    }

    #[test]
    fn a_list_is_looked_through_up_to_its_cap() {
        let most = node::IOVECS as usize;
        let mut memory = list(&vec![(7, 0); most + 1]);
        let len = |n: usize| u32::try_from(n).unwrap();
        assert_eq!(first_buffer(&memory, 0, 0).unwrap(), Some((0, 0)));
        assert_eq!(first_buffer(&memory, 0, len(most)).unwrap(), Some((0, 0)));
        assert_eq!(first_buffer(&memory, 0, len(most + 1)).unwrap(), None);
        memory.splice(16..24, list(&[(3, 5)]));
        assert_eq!(first_buffer(&memory, 0, len(most + 1)).unwrap(), Some((3, 5)));
        assert!(first_buffer(&memory, 0, len(most + 2)).is_err());
        assert!(first_buffer(&memory, 0, u32::MAX).is_err());
        assert!(first_buffer(&memory[..16], 0, 3).is_err());
        assert!(first_buffer(&memory, u32::MAX - 3, 2).is_err());
        assert!(first_buffer(&memory, 2, 1).is_err());
    }
}
