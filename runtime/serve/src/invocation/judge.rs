//! What a guest's end means: from wasmtime's errors to an [`Outcome`].

use mayfly_core::{Outcome, units};
use mayfly_host::exchange::BodyError;
use mayfly_host::sandbox::{Sandbox, Stop};
use mayfly_host::traps;
use rustix::io::Errno;
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

/// How a call that returned, exited or failed ended, and left this memory.
pub fn call(result: wasmtime::Result<()>, sandbox: &Sandbox, memory: &[u8]) -> Outcome {
    ended(result.err().as_ref(), sandbox, memory)
}

fn ended(error: Option<&wasmtime::Error>, sandbox: &Sandbox, memory: &[u8]) -> Outcome {
    let failed = error.and_then(|error| match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(0)) => None,
        Some(I32Exit(code)) => Some(Outcome::ExitCode(*code)),
        None => Some(failure(error, sandbox, memory)),
    });
    if let Some(outcome) = failed {
        return blame(outcome, sandbox);
    }
    if let Some((declared, produced)) = sandbox.exchange.wrong_length() {
        let what = format!("it declared a body of {declared} bytes and produced {produced}");
        return blame(Outcome::BadResponse(what), sandbox);
    }
    if sandbox.exchange.started() {
        return Outcome::Answered;
    }
    let unfinished = |printed| {
        Outcome::BadResponse(format!(
            "it ended without a head: a command first prints header lines, such as \"Content-Type: text/plain\", and a \
             blank line; {printed}"
        ))
    };
    let outcome = sandbox.cgi_unfinished().map_or(Outcome::NoResponse, unfinished);
    blame(outcome, sandbox)
}

/// Why there is no instance.
pub fn instantiation(error: &wasmtime::Error, sandbox: &Sandbox) -> Outcome {
    // What the system refuses is ours to answer for. All else is the end of a start function, which is guest code: in
    // a trap, or in the error of whatever host function it called.
    if error.chain().any(|cause| cause.is::<std::io::Error>() || cause.is::<Errno>()) {
        return Outcome::Internal(format!("no instance: {error:#}"));
    }
    ended(Some(error), sandbox, &[])
}

fn failure(error: &wasmtime::Error, sandbox: &Sandbox, memory: &[u8]) -> Outcome {
    if let Some(Stop(outcome)) = error.downcast_ref::<Stop>() {
        return outcome.clone();
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Outcome::StackOverflow,
        // Most allocators abort when they are denied memory: the denial is the reason, the trap its consequence.
        _ if sandbox.memory_denied() => memory_limit(sandbox),
        _ => Outcome::Trap(traps::words(error, memory)),
    }
}

fn memory_limit(sandbox: &Sandbox) -> Outcome {
    Outcome::MemoryLimit { limit: units::format_size(sandbox.terms.limits().memory_bytes) }
}

/// A guest that failed because its client did is not to blame.
fn blame(outcome: Outcome, sandbox: &Sandbox) -> Outcome {
    let guests_own = matches!(
        outcome,
        Outcome::Trap(_) | Outcome::ExitCode(_) | Outcome::NoResponse | Outcome::BadResponse(_)
    );
    match sandbox.exchange.request_failed() {
        Some(BodyError::Idle) if guests_own => Outcome::BodyTimeout,
        Some(BodyError::Broken) if guests_own => Outcome::ClientGone,
        Some(BodyError::Malformed) if guests_own => {
            Outcome::BadRequest("the request's body is malformed")
        }
        Some(BodyError::TooLarge) if guests_own => {
            Outcome::RequestTooLarge { limit_bytes: sandbox.exchange.caps().request_body }
        }
        _ => outcome,
    }
}
