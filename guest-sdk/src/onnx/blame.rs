//! Whose fault it is when a model cannot run: what it was given was looked at as far as shapes and types go, and it has
//! run on zeros, so it is what the inputs hold. An operator that finds out by a panic says so to the client as well, and
//! one that panics while the model is loaded says it as every other reason why a model is refused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// What `mayfly deploy` looks for in what init wrote, to try once more without it.
#[cfg(target_family = "wasm")]
const PANICKED: &str = "mayfly: a panic while trying: ";

/// What is being loaded, how far that is, and what to do if it ends there.
static LOADS: Mutex<Option<Load>> = Mutex::new(None);

struct Load {
    name: String,
    stage: &'static str,
    next_step: String,
}

/// Notes that the model `name` is being loaded.
pub(super) fn load(name: &str, next_step: String) {
    set(Some(Load { name: name.to_owned(), stage: "reading the graph", next_step }));
}

/// A stage of loading: errors and panics say that they were in it.
pub(super) fn stage<T>(what: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    if let Ok(mut loads) = LOADS.lock()
        && let Some(load) = &mut *loads
    {
        load.stage = what;
    }
    step().context(what)
}

/// Notes that it is loaded, or refused.
pub(super) fn loaded() {
    set(None);
}

fn set(load: Option<Load>) {
    if let Ok(mut loads) = LOADS.lock() {
        *loads = load;
    }
}

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
    let before = replace(what.to_owned());
    let result = run();
    replace(before);
    result
}

/// Notes what is tried; gives what was.
fn replace(what: String) -> String {
    TRIAL.lock().map(|mut trial| std::mem::replace(&mut *trial, what)).unwrap_or_default()
}

/// Makes it so; in init, because the snapshot keeps it.
pub(super) fn watch() {
    #[cfg(target_family = "wasm")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            let log = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                let what = panic.payload_as_str().unwrap_or("an operator panicked");
                // The trap that comes next is told by the host, which knows the limit and how to raise it.
                if is_memory(what) {
                    return log(panic);
                }
                if let Ok(trial) = TRIAL.try_lock()
                    && !trial.is_empty()
                {
                    eprintln!("{PANICKED}{trial}");
                }
                let load = LOADS.try_lock().ok().and_then(|mut loads| loads.take());
                if let Some(load) = load {
                    refuse(load.words(what, panic.location()));
                }
                log(panic);
                if RUNS.load(Ordering::Relaxed) {
                    answer(&crate::Error::bad_request(format!(
                        "the model cannot run on these inputs: {what}"
                    )));
                }
            }));
        });
    }
}

/// Whether something ended because the memory did: tract's words for it.
pub(super) fn is_memory(what: &str) -> bool {
    what.starts_with("failed to allocate")
}

impl Load {
    /// Why it ended, by a panic: a model as it should be meets none in tract, and one that is wrong may.
    #[cfg_attr(
        not(target_family = "wasm"),
        allow(dead_code, reason = "only a guest's panics end all of it")
    )]
    fn words(&self, what: &str, place: Option<&std::panic::Location<'_>>) -> String {
        let Self { name, stage, next_step } = self;
        let place = place.map_or_else(String::new, |place| {
            format!(" at {}:{}", in_crate(place.file()), place.line())
        });
        format!("{name}: {stage}: {what} (a panic{place}); {next_step}")
    }
}

/// A source's path from its crate on: where the crate lay when it was built is nobody's business.
fn in_crate(file: &str) -> &str {
    let registry = file.rsplit_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/'));
    registry.map_or(file, |(_, path)| path)
}

#[cfg(target_family = "wasm")]
fn refuse(why: String) {
    if crate::__entry::is_init() {
        crate::__entry::give_up(&why);
    }
    answer(&crate::Error::unprocessable(why));
}

/// The last thing in an instance: there is no way back from a panic here.
#[cfg(target_family = "wasm")]
fn answer(error: &crate::Error) {
    if crate::response::send(crate::response::problem(error)).is_ok() {
        crate::host::exit(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_loading_is_told_like_an_error() {
        let (name, next_step) = ("m.onnx".to_owned(), "give them with --dim N=1".to_owned());
        let load = Load { name, stage: "optimising", next_step };
        let words = load.words("no rank", Some(std::panic::Location::caller()));
        assert!(words.starts_with("m.onnx: optimising: no rank (a panic at "), "{words}");
        assert!(
            words.contains("blame.rs:") && words.ends_with("); give them with --dim N=1"),
            "{words}"
        );
    }
}
