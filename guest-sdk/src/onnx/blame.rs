//! Whose fault it is when a model cannot run: what it was given was looked at as far as shapes and types go, and it has
//! run on zeros, so it is what the inputs hold. An operator that finds out by a panic says so to the client as well.

use std::sync::atomic::{AtomicBool, Ordering};

/// A guest has one thread.
static RUNS: AtomicBool = AtomicBool::new(false);

/// Runs a model on a client's inputs: a panic in there is answered as an error would be, with 400.
pub(super) fn client<T>(run: impl FnOnce() -> T) -> T {
    RUNS.store(true, Ordering::Relaxed);
    let result = run();
    RUNS.store(false, Ordering::Relaxed);
    result
}

/// Makes it so; in init, because the snapshot keeps it.
pub(super) fn watch() {
    #[cfg(target_family = "wasm")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            let log = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                log(panic);
                if RUNS.load(Ordering::Relaxed) {
                    answer(panic.payload_as_str().unwrap_or("an operator panicked"));
                }
            }));
        });
    }
}

/// The last thing in an instance: there is no way back from a panic here.
#[cfg(target_family = "wasm")]
fn answer(what: &str) {
    let error = crate::Error::bad_request(format!("the model cannot run on these inputs: {what}"));
    if crate::response::send(crate::response::problem(&error)).is_ok() {
        crate::host::exit(0);
    }
}
