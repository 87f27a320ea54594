//! Calls to others that are under way: begun by the prelude's `fetch`, and waited for where timers are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read as _;
use std::time::Duration;

use mayfly::fetch::{self, Answer, Pending};
use rquickjs::prelude::Func;
use rquickjs::{Ctx, Exception, Object, Result, TypedArray};

use crate::natives::{given, taken};

/// Bytes of an answer that are read at once.
const PIECE: usize = 16 << 10;

#[derive(Default)]
struct Calls {
    last: u32,
    /// Names of those that wait for a head, in the order of `pending`.
    waiting: Vec<u32>,
    pending: Vec<Pending>,
    /// Heads that the script has not asked for.
    heads: HashMap<u32, std::result::Result<Answer, String>>,
    bodies: HashMap<u32, Answer>,
}

thread_local! {
    static CALLS: RefCell<Calls> = RefCell::default();
}

fn with<T>(f: impl FnOnce(&mut Calls) -> T) -> T {
    CALLS.with_borrow_mut(f)
}

/// What `fetch` is made of.
pub(crate) fn install(native: &Object<'_>) -> Result<()> {
    native.set("fetchStart", Func::from(start))?;
    native.set("fetchHead", Func::from(head))?;
    native.set("fetchRead", Func::from(read))?;
    native.set("fetchDrop", Func::from(drop_call))
}

/// Begins a call: headers are names and values in turn, a character for each byte.
fn start(
    ctx: Ctx<'_>,
    method: String,
    url: String,
    headers: Vec<String>,
    body: Option<TypedArray<'_, u8>>,
) -> Result<u32> {
    let refused =
        |why: mayfly::anyhow::Error| Exception::throw_type(&ctx, &format!("fetch: {why}"));
    let mut call = fetch::call(&method, url.as_str()).map_err(refused)?;
    for pair in headers.chunks_exact(2) {
        let value: Vec<u8> =
            pair[1].chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect();
        call = call.header(pair[0].as_str(), value);
    }
    if let Some(body) = body {
        call = call.body(taken(&ctx, &body)?);
    }
    let pending = call.start().map_err(refused)?;
    Ok(with(|calls| {
        calls.last += 1;
        calls.waiting.push(calls.last);
        calls.pending.push(pending);
        calls.last
    }))
}

/// Whether a call waits for its answer.
pub(crate) fn are_waiting() -> bool {
    with(|calls| !calls.waiting.is_empty())
}

/// Waits for the first head, or the first failure; nothing if there is none in time.
pub(crate) fn wait(timeout: Option<Duration>) -> mayfly::Result<Option<u32>> {
    with(|calls| {
        let Some(at) = fetch::first_of(&calls.pending, timeout)? else { return Ok(None) };
        let (id, pending) = (calls.waiting.remove(at), calls.pending.remove(at));
        calls.heads.insert(id, pending.answer().map_err(|why| why.to_string()));
        Ok(Some(id))
    })
}

/// A head that is there: its status, then names and values in turn.
fn head(ctx: Ctx<'_>, id: u32) -> Result<Vec<String>> {
    let answer = match with(|calls| calls.heads.remove(&id)) {
        Some(Ok(answer)) => answer,
        Some(Err(why)) => return Err(Exception::throw_type(&ctx, &format!("fetch: {why}"))),
        None => return Err(Exception::throw_type(&ctx, "fetch: there is no such call")),
    };
    let mut words = vec![answer.status().as_str().to_owned()];
    for (name, value) in answer.headers() {
        words.push(name.as_str().to_owned());
        words.push(value.as_bytes().iter().map(|byte| char::from(*byte)).collect());
    }
    with(|calls| drop(calls.bodies.insert(id, answer)));
    Ok(words)
}

/// The next piece of an answer; nothing at its end.
fn read<'js>(ctx: Ctx<'js>, id: u32) -> Result<Option<TypedArray<'js, u8>>> {
    let mut piece = vec![0; PIECE];
    let read = with(|calls| {
        let Some(answer) = calls.bodies.get_mut(&id) else { return Ok(0) };
        let read = answer.read(&mut piece);
        if !matches!(read, Ok(1..)) {
            calls.bodies.remove(&id);
        }
        read
    });
    let read = read.map_err(|why| {
        Exception::throw_type(&ctx, &format!("fetch: the answer broke off: {why}"))
    })?;
    piece.truncate(read);
    (read > 0).then(|| given(&ctx, piece)).transpose()
}

/// Nobody wants it any more.
fn drop_call(id: u32) {
    with(|calls| {
        if let Some(at) = calls.waiting.iter().position(|waiting| *waiting == id) {
            calls.waiting.remove(at);
            drop(calls.pending.remove(at));
        }
        drop((calls.heads.remove(&id), calls.bodies.remove(&id)));
    });
}
