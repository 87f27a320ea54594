//! What the exports made by [`export!`](crate::export!) call.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::find;
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
    match F::init() {
        Ok(function) => Box::leak(Box::new(function)),
        Err(error) => {
            eprintln!("init failed: {error:#}");
            std::process::abort();
        }
    }
}

/// The last thing before the snapshot is taken.
pub fn seal() {
    if !seed::locate() && cfg!(target_family = "wasm") {
        eprintln!(
            "mayfly: std's hash seeds were not found, so they cannot be drawn anew for each request"
        );
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
        fail("the response was cut off", &error);
    }
}

pub fn seed_probe() -> i64 {
    restore();
    seed::probe().cast_signed()
}

/// What the snapshot keeps of weights, in bytes; 0 if nothing counts them.
pub fn weight_bytes() -> i64 {
    #[cfg(feature = "alloc")]
    return crate::alloc::weight_bytes().cast_signed();
    #[cfg(not(feature = "alloc"))]
    0
}

/// An exit code that is not 0 makes the host answer 502, without details, or cut off a response that has begun.
fn fail(what: &str, error: &anyhow::Error) -> ! {
    eprintln!("{what}: {error:#}");
    host::exit(1)
}
