//! One run of a command module without a node: `mayfly run`.
//!
//! The module meets what it would meet as a function (the same checks, compiler, limits and set of WASI, and no
//! directory), but its stdin, stdout and stderr are the caller's, and its exit code is told. So a program can be tried
//! before it speaks CGI, and WASI's conformance tests can be run as other runtimes run them.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mayfly_core::limits::Limits;
use mayfly_core::record::Abi;
use mayfly_core::{Outcome, units};
use mayfly_host::engine::codegen::{base_config, load_handed_down};
use mayfly_host::engine::ticker::{TICK_EPOCHS, Ticker};
use mayfly_host::imports::host::Host;
use mayfly_host::imports::pieces::Timed;
use mayfly_host::imports::wasi;
use mayfly_host::meter::{Meter, Tick};
use mayfly_host::profile::Unwatched;
use mayfly_host::sandbox::{self, Assets, Limiter, Stop};
use mayfly_host::traps;
use mayfly_publish::child::Children;
use mayfly_publish::compile::{CompileError, Job, compile};
use mayfly_publish::validate::{Plan, Refusal, validate};
use wasmparser::{Parser, Payload};
use wasmtime::{Linker, Memory, Module, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p1::WasiP1Ctx;

/// How to run a module.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// What it may use; only those of memory, table and time apply.
    pub limits: Limits,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It returned (0) or called `proc_exit`: 0 to 125.
    Exit(i32),
    /// It was stopped, and this says by what.
    Stopped(Outcome),
}

/// Why a module was not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be deployed either.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It has no `_start`.
    #[error("it is a reactor, which answers requests and has no `_start` to run")]
    Reactor,
    /// There is no code of it.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// No engine, no instance.
    #[error("the module cannot be started: {0}")]
    Start(String),
}

impl RunError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.hint(),
            Self::Reactor => "deploy it, and call it with `mayfly invoke`".to_owned(),
            Self::Compile(_) => "`mayfly check` says what the module is".to_owned(),
            Self::Start(_) => {
                "raise its limits with --limit memory=... or --limit table=..., if they are why"
                    .to_owned()
            }
        }
    }
}

/// The store's data.
struct Process {
    wasi: WasiP1Ctx,
    limiter: Limiter,
    memory: Option<Memory>,
    meter: Arc<Meter>,
}

impl Timed for Process {
    fn look(&mut self) -> wasmtime::Result<bool> {
        match self.meter.tick() {
            // Nobody else waits for this thread.
            Tick::GoOn | Tick::Yield => Ok(false),
            Tick::Over(outcome) => Err(Stop(outcome).into()),
        }
    }
}

impl Host for Process {
    fn memory(&self) -> Option<Memory> {
        self.memory
    }

    fn assets(&self) -> Option<&Assets> {
        None
    }
}

/// Runs a module to its end.
///
/// # Errors
/// [`RunError`] when it did not begin.
pub async fn run(file: &Bytes, program: &Program, children: &Children) -> Result<End, RunError> {
    let validated = validate(file, &program.limits)?;
    // Tests of a function with the SDK are a command that has a reactor's exports as well.
    if validated.abi != Abi::Command && !has_start(file) {
        return Err(RunError::Reactor);
    }
    let job = Job { instrument: false, without_data: false };
    let compiled = compile(children, validated.code, Bytes::new(), job).await?;
    let start = |error: wasmtime::Error| RunError::Start(format!("{error:#}"));
    let mut config = base_config();
    config.enable_compiler(false);
    let engine = wasmtime::Engine::new(&config).map_err(start)?;
    let ticker = Ticker::start(&engine, Arc::default())
        .map_err(|error| RunError::Start(error.to_string()))?;
    let module = load_handed_down(&engine, &compiled.code).map_err(start)?;
    drop(compiled);
    // With a snapshot its work would be in the image; here it runs first.
    let init = match validated.plan {
        Plan::Snapshot { init } if validated.abi == Abi::Command => Some(init),
        Plan::Snapshot { .. } | Plan::NoInit | Plan::Refused { .. } => None,
    };
    let calls: Vec<&str> = init.into_iter().chain(["_start"]).collect();
    let end = execute(&engine, &module, program, &calls).await;
    drop(ticker);
    end
}

fn has_start(file: &[u8]) -> bool {
    Parser::new(0).parse_all(file).map_while(Result::ok).any(|payload| match payload {
        Payload::ExportSection(exports) => {
            exports.into_iter().map_while(Result::ok).any(|export| export.name == "_start")
        }
        _ => false,
    })
}

async fn execute(
    engine: &wasmtime::Engine,
    module: &Module,
    program: &Program,
    calls: &[&str],
) -> Result<End, RunError> {
    let start = |error: wasmtime::Error| RunError::Start(format!("{error:#}"));
    let linker = linker(engine, module).map_err(start)?;
    let meter = Arc::new(Meter::new(Instant::now(), &program.limits));
    // The thread is this program's alone, so its clock is what the program used.
    meter.move_off_worker();
    let mut store = store(engine, program, meter.clone());
    let deadline = tokio::time::Instant::from_std(meter.deadline());
    let mut guest = Box::pin(call(&mut store, &linker, module, calls));
    let timed = poll_fn(|cx| {
        meter.begin();
        let polled = guest.as_mut().poll(cx);
        meter.end();
        polled
    });
    let Ok(result) = tokio::time::timeout_at(deadline, timed).await else {
        return Ok(End::Stopped(meter.wall_over()));
    };
    drop(guest);
    let left = store.data().memory.map_or(&[][..], |memory| memory.data(&store));
    Ok(judge(result, store.data(), left, &program.limits))
}

/// As for a function: WASI, and what else a command may import, which traps if it is called.
fn linker(engine: &wasmtime::Engine, module: &Module) -> wasmtime::Result<Linker<Process>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker, |process: &mut Process| &mut process.wasi, Unwatched)?;
    mayfly_host::kernels::add_to_linker(&mut linker, true, Process::look, Unwatched)?;
    linker.define_unknown_imports_as_traps(module)?;
    Ok(linker)
}

fn store(engine: &wasmtime::Engine, program: &Program, meter: Arc<Meter>) -> Store<Process> {
    let mut builder = sandbox::wasi_builder();
    builder.inherit_stdio().args(&program.args);
    for (name, value) in &program.env {
        builder.env(name, value);
    }
    let process = Process {
        wasi: sandbox::build_wasi(builder),
        limiter: Limiter::new(&program.limits),
        memory: None,
        meter,
    };
    let mut store = Store::new(engine, process);
    store.limiter(|process| &mut process.limiter);
    store.set_epoch_deadline(TICK_EPOCHS);
    store.epoch_deadline_callback(|mut context| {
        context.data_mut().look()?;
        Ok(UpdateDeadline::Continue(TICK_EPOCHS))
    });
    store
}

async fn call(
    store: &mut Store<Process>,
    linker: &Linker<Process>,
    module: &Module,
    calls: &[&str],
) -> wasmtime::Result<()> {
    let instance = linker.instantiate_async(&mut *store, module).await?;
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    for name in calls {
        let func = instance.get_typed_func::<(), ()>(&mut *store, name)?;
        func.call_async(&mut *store, ()).await?;
    }
    Ok(())
}

fn judge(result: wasmtime::Result<()>, process: &Process, memory: &[u8], limits: &Limits) -> End {
    let Err(error) = result else { return End::Exit(0) };
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return End::Exit(*code);
    }
    if let Some(Stop(outcome)) = error.downcast_ref::<Stop>() {
        return End::Stopped(outcome.clone());
    }
    End::Stopped(match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Outcome::StackOverflow,
        // Most allocators abort when they are denied memory: the denial is the reason, the trap its consequence.
        _ if process.limiter.memory_denied() => {
            Outcome::MemoryLimit { limit: units::format_size(limits.memory_bytes) }
        }
        _ => Outcome::Trap(traps::words(&error, memory)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(body: &str, limit: &str) -> Result<End, RunError> {
        let wat = format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (import "mayfly_http_v1" "mark" (func $mark (param i32)))
                (memory (export "memory") 1) (func (export "_start") {body}))"#
        );
        let wasm = Bytes::from(wat::parse_str(wat).unwrap());
        let mut limits = Limits::default();
        limits.set(limit).unwrap();
        let engine = wasmtime::Engine::new(&base_config()).unwrap();
        let _ticker = Ticker::start(&engine, Arc::default()).unwrap();
        let module = Module::new(&engine, &wasm).unwrap();
        let program = Program { limits, ..Program::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(execute(&engine, &module, &program, &["_start"]))
    }

    #[test]
    fn every_end_is_told_apart() {
        let label = |body: &str, limit: &str| match outcome(body, limit).unwrap() {
            End::Exit(code) => code.to_string(),
            End::Stopped(outcome) => outcome.label().to_owned(),
        };
        let wall = "wall=10s";
        assert_eq!(label("", wall), "0");
        assert_eq!(label("(call $exit (i32.const 125))", wall), "125");
        assert_eq!(label("(call $exit (i32.const 126))", wall), "trap");
        assert_eq!(label("unreachable", wall), "trap");
        assert_eq!(label("(call $mark (i32.const 0))", wall), "trap");
        assert_eq!(label("(loop (br 0))", "cpu=50ms"), "cpu-limit");
        assert_eq!(label("(loop (br 0))", "wall=50ms"), "wall-limit");
        let grow =
            "(if (i32.lt_s (memory.grow (i32.const 1000)) (i32.const 0)) (then unreachable))";
        assert_eq!(label(grow, "memory=1MiB"), "memory-limit");
    }

    #[test]
    fn what_has_no_start_is_not_run() {
        let names =
            ["mayfly_abi_1", "mayfly_handle"].map(|name| format!("(func (export \"{name}\"))"));
        let wat = format!("(module (memory (export \"memory\") 1) {})", names.concat());
        let file = Bytes::from(wat::parse_str(wat).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let run = |file: &Bytes| {
            runtime.block_on(run(file, &Program::default(), &Children::default())).unwrap_err()
        };
        assert!(matches!(run(&file), RunError::Reactor));
        assert!(matches!(run(&Bytes::from_static(b"PK")), RunError::Refused(_)));
    }
}
