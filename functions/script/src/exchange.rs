//! One request: the script's handler, its promises and timers, and what becomes of its answer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use mayfly::anyhow::anyhow;
use mayfly::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use mayfly::{Body, BodyWriter, Request, Response, Result};
use rquickjs::prelude::Func;
use rquickjs::{Ctx, Exception, Object, TypedArray, Value};

use crate::engine::Engine;
use crate::fetches;
use crate::natives::{self, given, taken};
use crate::report;

/// Bytes of a request's body that are read at once.
const PIECE: usize = 64 << 10;

/// What the script said so far of its answer.
#[derive(Default)]
struct Exchange {
    headers: Vec<(String, String)>,
    body: Body,
    answer: Option<Answer>,
    /// Pieces of the answer's body that are not written yet.
    pieces: VecDeque<Vec<u8>>,
    /// Whether the whole of the answer's body was said.
    ended: bool,
    failed: Option<String>,
    /// Promises of `ctx.waitUntil` that are not settled.
    waited_for: i32,
}

struct Answer {
    status: u16,
    headers: Vec<String>,
}

thread_local! {
    static EXCHANGE: RefCell<Exchange> = RefCell::default();
}

fn with<T>(f: impl FnOnce(&mut Exchange) -> T) -> T {
    EXCHANGE.with_borrow_mut(f)
}

/// What the prelude tells of an answer, and asks of a request.
pub(crate) fn install(native: &Object<'_>) -> rquickjs::Result<()> {
    native.set("requestHeaders", Func::from(request_headers))?;
    native.set("bodyRead", Func::from(body_read))?;
    native.set("bodyAll", Func::from(body_all))?;
    native.set("respond", Func::from(respond))?;
    native.set("write", Func::from(write))?;
    native.set("end", Func::from(|| with(|exchange| exchange.ended = true)))?;
    native.set("fail", Func::from(fail))?;
    native.set("waitFor", Func::from(|more: i32| with(|exchange| exchange.waited_for += more)))
}

/// Names and values in turn, a character for each byte.
fn request_headers() -> Vec<String> {
    with(|exchange| std::mem::take(&mut exchange.headers))
        .into_iter()
        .flat_map(|(name, value)| [name, value])
        .collect()
}

fn broken(ctx: &Ctx<'_>) -> rquickjs::Error {
    Exception::throw_type(ctx, "the request's body broke off")
}

/// The next piece; nothing at the end.
fn body_read<'js>(ctx: Ctx<'js>) -> rquickjs::Result<Option<TypedArray<'js, u8>>> {
    let mut piece = vec![0; PIECE];
    let read = with(|exchange| exchange.body.read(&mut piece)).map_err(|_| broken(&ctx))?;
    piece.truncate(read);
    (read > 0).then(|| given(&ctx, piece)).transpose()
}

fn body_all<'js>(ctx: Ctx<'js>) -> rquickjs::Result<TypedArray<'js, u8>> {
    let mut body = Vec::new();
    with(|exchange| exchange.body.read_to_end(&mut body)).map_err(|_| broken(&ctx))?;
    given(&ctx, body)
}

fn respond(
    ctx: Ctx<'_>,
    status: u16,
    headers: Vec<String>,
    body: Option<TypedArray<'_, u8>>,
) -> rquickjs::Result<()> {
    let body = body.map(|body| taken(&ctx, &body)).transpose()?;
    with(|exchange| {
        exchange.answer = Some(Answer { status, headers });
        exchange.ended = body.is_some();
        exchange.pieces.extend(body.filter(|body| !body.is_empty()));
    });
    Ok(())
}

fn write(ctx: Ctx<'_>, piece: TypedArray<'_, u8>) -> rquickjs::Result<()> {
    let piece = taken(&ctx, &piece)?;
    with(|exchange| exchange.pieces.push_back(piece));
    Ok(())
}

fn fail<'js>(ctx: Ctx<'js>, thrown: Value<'js>) {
    let words = report::describe(&ctx, thrown);
    with(|exchange| {
        exchange.failed.get_or_insert(words);
    });
}

/// Whether something may still happen without a new event from outside.
enum Turn {
    Ran,
    Idle,
}

/// Runs one promise's reaction; without one, waits for a call's answer or for the next timer, whichever is first.
fn turn(engine: &Engine, ctx: &Ctx<'_>) -> Result<Turn> {
    if ctx.execute_pending_job() {
        return Ok(Turn::Ran);
    }
    let due: f64 = engine.call(ctx, &engine.calls.next_timer, ())?;
    if fetches::are_waiting() {
        let timeout = (due >= 0.0).then(|| Duration::from_secs_f64(due / 1e3));
        let Some(call) = fetches::wait(timeout)? else {
            engine.call::<(), _>(ctx, &engine.calls.run_timers, ())?;
            return Ok(Turn::Ran);
        };
        engine.call::<(), _>(ctx, &engine.calls.settle_fetch, (call,))?;
        return Ok(Turn::Ran);
    }
    if due < 0.0 {
        return Ok(Turn::Idle);
    }
    if due > 0.0 {
        std::thread::sleep(Duration::from_secs_f64(due / 1e3));
    }
    engine.call::<(), _>(ctx, &engine.calls.run_timers, ())?;
    Ok(Turn::Ran)
}

/// Runs until `done`, or until nothing is left to run; says which.
fn run_until(engine: &Engine, done: impl Fn(&mut Exchange) -> bool) -> Result<bool> {
    engine.context.with(|ctx| {
        loop {
            if let Some(why) = with(|exchange| exchange.failed.take()) {
                return Err(crate::engine::failure(&why));
            }
            if with(&done) {
                return Ok(true);
            }
            if let Turn::Idle = turn(engine, &ctx)? {
                return Ok(false);
            }
        }
    })
}

/// Calls the script's handler.
fn dispatch(engine: &Engine, method: &str, url: &str, has_body: bool) -> Result<()> {
    engine
        .context
        .with(|ctx| engine.call::<(), _>(&ctx, &engine.calls.dispatch, (method, url, has_body)))?;
    match run_until(engine, |exchange| exchange.answer.is_some())? {
        true => Ok(()),
        false => Err(anyhow!(
            "the handler never answered: its promise is not settled, and no timer or promise is left that could settle it"
        )),
    }
}

/// Answers a request in its instance.
pub(crate) fn answer(engine: &'static Engine, request: Request) -> Result<Response> {
    natives::begin_request();
    engine.begin();
    let (parts, body) = request.into_parts();
    let context = mayfly::context();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = if context.authority.is_empty() { "localhost" } else { context.authority };
    let url = format!("{}://{authority}{target}", context.scheme);
    let has_body = !matches!(parts.method, Method::GET | Method::HEAD);
    let latin =
        |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    let headers =
        parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), latin(value)));
    let headers = headers.collect();
    with(|exchange| *exchange = Exchange { headers, body, ..Exchange::default() });
    dispatch(engine, parts.method.as_str(), &url, has_body)?;
    respond_to_host(engine)
}

/// The answer as the SDK takes it: whole if nothing is left to do behind it, else as a stream that goes on running.
fn respond_to_host(engine: &'static Engine) -> Result<Response> {
    let Some(answer) = with(|exchange| exchange.answer.take()) else {
        return Err(anyhow!("no answer"));
    };
    let (ended, waited_for) = with(|exchange| (exchange.ended, exchange.waited_for));
    let whole: Option<Vec<u8>> = ended.then(|| {
        with(|exchange| std::mem::take(&mut exchange.pieces)).into_iter().flatten().collect()
    });
    let mut response = match whole {
        Some(body) if waited_for == 0 => {
            engine.say_unhandled();
            Response::new(body.into())
        }
        Some(body) => {
            let length = HeaderValue::from(body.len());
            let mut response = Response::new(Body::stream(move |out| {
                out.write_all(&body)?;
                behind(engine)
            }));
            // The client has all of it then, and need not wait for what is done behind it.
            response.headers_mut().insert(header::CONTENT_LENGTH, length);
            response
        }
        None => Response::new(Body::stream(move |out| stream(engine, out))),
    };
    head(&mut response, answer)?;
    Ok(response)
}

fn head(response: &mut Response, answer: Answer) -> Result<()> {
    *response.status_mut() = StatusCode::from_u16(answer.status)?;
    let headers = response.headers_mut();
    for pair in answer.headers.chunks_exact(2) {
        let value: Option<Vec<u8>> =
            pair[1].chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let value = value.and_then(|value| HeaderValue::from_bytes(&value).ok());
        let value = value
            .ok_or_else(|| anyhow!("the value of the answer's header {:?} is none", pair[0]))?;
        headers.append(HeaderName::from_bytes(pair[0].as_bytes())?, value);
    }
    Ok(())
}

/// Writes pieces as the script gives them, then does what it asked to be done behind its answer.
fn stream(engine: &Engine, out: &mut BodyWriter<'_>) -> Result<()> {
    loop {
        let going_on = run_until(engine, |exchange| !exchange.pieces.is_empty() || exchange.ended)?;
        for piece in with(|exchange| std::mem::take(&mut exchange.pieces)) {
            out.write_all(&piece)?;
        }
        if with(|exchange| exchange.ended && exchange.pieces.is_empty()) {
            return behind(engine);
        }
        if !going_on {
            return Err(anyhow!(
                "the answer's stream never ends: nothing is left that could write to it"
            ));
        }
    }
}

/// What `ctx.waitUntil` was given.
fn behind(engine: &Engine) -> Result<()> {
    let done = run_until(engine, |exchange| exchange.waited_for == 0)?;
    if !done {
        eprintln!(
            "a promise of ctx.waitUntil is never settled: nothing is left that could settle it"
        );
    }
    engine.say_unhandled();
    Ok(())
}

/// Answers a request that nobody sent, in init; the answer is read and thrown away.
pub(crate) fn rehearse(engine: &Engine, call: impl FnOnce(&Ctx<'_>) -> Result<()>) -> Result<()> {
    with(|exchange| *exchange = Exchange::default());
    engine.context.with(|ctx| call(&ctx))?;
    run_until(engine, |exchange| {
        exchange.pieces.clear();
        exchange.answer.is_some() && exchange.ended && exchange.waited_for == 0
    })?;
    with(|exchange| *exchange = Exchange::default());
    Ok(())
}
