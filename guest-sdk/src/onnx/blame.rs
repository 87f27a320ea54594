//! Whose fault it is when a model cannot run: what it was given was looked at as far as shapes and types go, and it has
//! run on zeros, so it is what the inputs hold. An operator that finds out by a panic says so to the client as well.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `mayfly deploy` looks for in what init wrote, to try once more without it.
#[cfg(target_family = "wasm")]
const PANICKED: &str = "mayfly: a panic while trying: ";

/// A guest has one thread.
static RUNS: AtomicBool = AtomicBool::new(false);

/// Runs a model on a client's inputs: a panic in there is answered as an error would be, with 400.
pub(super) fn client<T>(run: impl FnOnce() -> T) -> T {
    RUNS.store(true, Ordering::Relaxed);
    let result = run();
    RUNS.store(false, Ordering::Relaxed);
    result
}

/// What is tried in init and may fail: the plan for all sizes, or one for sizes that nobody asked for.
static TRIAL: Mutex<String> = Mutex::new(String::new());

/// Runs a trial. A panic in it ends init, because there is no way back from one; what is written then says what to leave
/// out the next time, as [`Options::leave_out`](super::Options::leave_out) takes it.
pub(super) fn trial<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let set = |what: &str| {
        if let Ok(mut trial) = TRIAL.lock() {
            what.clone_into(&mut trial);
        }
    };
    set(what);
    let result = run();
    set("");
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
                if let Ok(trial) = TRIAL.try_lock()
                    && !trial.is_empty()
                {
                    eprintln!("{PANICKED}{trial}");
                }
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
