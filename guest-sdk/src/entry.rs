//! What the exports made by [`export!`](crate::export!) call.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{ClientGone, find};
use crate::{Error, Function, asset, host, request, response, seed};

/// Runs the module's constructors, once even if the host calls `_initialize` twice.
pub fn construct() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        host::construct();
    }
}

/// Builds the function's state. It lives as long as the instance, which is why it may leak.
pub fn init<F: Function>() -> &'static F {
    say_panics();
    match F::init() {
        Ok(function) => {
            IN_INIT.store(false, Ordering::Relaxed);
            Box::leak(Box::new(function))
        }
        Err(error) => give_up(&format_args!("{error:#}")),
    }
}

/// Ends an init that failed. The host shows the last line of what was written, once, as the reason.
pub(crate) fn give_up(why: &dyn std::fmt::Display) -> ! {
    let why = why.to_string();
    let line: Vec<_> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    eprintln!("init failed: {}", line.join(" "));
    std::process::abort();
}

static IN_INIT: AtomicBool = AtomicBool::new(false);

/// Whether this is the deploy, and not a request.
#[cfg(all(feature = "onnx", target_family = "wasm"))]
pub(crate) fn is_init() -> bool {
    IN_INIT.load(Ordering::Relaxed)
}

/// A panic in init is a reason like an error, with its place, and not the advice to run a program with other variables.
/// For models only: tract's are told to people who have written no Rust, and 6 kB are a twentieth of a small function.
fn say_panics() {
    IN_INIT.store(true, Ordering::Relaxed);
    #[cfg(all(target_family = "wasm", feature = "onnx"))]
    {
        let in_request = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IN_INIT.load(Ordering::Relaxed) {
                return in_request(panic);
            }
            let what = panic.payload_as_str().unwrap_or("a panic");
            match panic.location() {
                Some(place) => give_up(&format_args!("{what} (a panic at {place})")),
                None => give_up(&what),
            }
        }));
    }
}

/// The last thing before the snapshot is taken.
pub fn seal() {
    if !seed::locate() && cfg!(target_family = "wasm") {
        eprintln!("mayfly: std's hash seeds were not found: all instances would share them");
    }
    #[cfg(feature = "alloc")]
    crate::alloc::seal();
}

/// The first thing in an instance: undoes what a snapshot froze. One host call, of 16 bytes.
pub fn restore() {
    asset::close();
    seed::renew();
    host::forget_environment();
}

pub fn handle<F: Function>(function: &F) {
    let response = match request::receive().and_then(|request| function.handle(request)) {
        Ok(response) => response,
        Err(error) => match find::<Error>(&error) {
            Some(shown) => {
                if shown.status().is_server_error() {
                    eprintln!("{}: {error:#}", shown.status());
                }
                response::problem(shown)
            }
            None => fail("the function failed", &error),
        },
    };
    if let Err(error) = response::send(response) {
        cut_off(&error);
    }
}

/// A program that exits has said what it had to say, so the host ends its answer. One that traps has not: the client is
/// told that the rest is missing.
fn cut_off(error: &anyhow::Error) -> ! {
    eprintln!("the response was cut off: {error:#}");
    match find::<ClientGone>(error) {
        Some(_) => host::exit(1),
        None => std::process::abort(),
    }
}

/// What differs in two restores if everything that a snapshot froze is drawn anew.
pub fn seed_probe<F: Function>(function: &F) -> i64 {
    restore();
    match function.seed() {
        None => seed::probe().cast_signed(),
        Some(own) if seed::is_located() => own.cast_signed(),
        // The same in both: init's hash maps share their seeds with every request's.
        Some(_) => 0,
    }
}

/// What the snapshot keeps of weights, in bytes; 0 if nothing counts them.
pub fn weight_bytes() -> i64 {
    #[cfg(feature = "alloc")]
    return crate::alloc::weight_bytes().cast_signed();
    #[cfg(not(feature = "alloc"))]
    0
}

/// An exit code that is not 0 makes the host answer 502, without details.
fn fail(what: &str, error: &anyhow::Error) -> ! {
    eprintln!("{what}: {error:#}");
    host::exit(1)
}
