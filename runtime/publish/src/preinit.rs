//! Runs a module's init once, in a child, and takes the snapshot: the memory and the globals as init left them. The child
//! runs untrusted code, so the parent takes nothing from it but bytes and numbers, and checks these.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mayfly_core::Limits;
use mayfly_core::limits::node;
use mayfly_core::units::{format_duration, human_size};
use mayfly_host::engine::codegen::{base_config, load_handed_down};
use mayfly_host::sandbox::Assets;
use mayfly_host::traps;
use serde::{Deserialize, Serialize};
use wasmtime::{Engine, Instance, Module, Store};
use wasmtime_wasi::I32Exit;

use super::init_host::{self, Budget, Forbidden, Guest, Log, OutOfTime, Phase};
use super::probe::{Ask, PROBE_TIME, ProbeError, Restorer, Said};
use super::snapshot::{Left, Odd, Runs, Value, global_name};
use crate::child::{Answer, Caps, ChildError, Children, Verb};

/// What the child is asked for, beside the blobs `[code, asset*]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The export to run, after `_initialize` if there is one.
    pub init: String,
    /// Names of the assets, in the blobs' order.
    pub assets: Vec<String>,
    /// Whether the kernels compute.
    pub native_kernels: bool,
    /// Linear memory that init may grow to; what it grew to is what each instance has.
    pub memory_bytes: u64,
    /// Elements of its table.
    pub table_elements: u64,
    /// How long it may take, in microseconds.
    pub init_us: u64,
    /// What the snapshot is asked.
    pub ask: Ask,
}

/// What the child says, beside the blobs `[places, contents]` of [`Runs`] if init ended well.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// How init ended.
    pub end: End,
    /// What it wrote to stdout and stderr.
    pub log: String,
    /// How long it ran, in microseconds.
    pub init_us: u64,
    /// What it left beside its memory's contents, and what the snapshot said, if init ended well.
    pub left: Option<(Left, Said)>,
}

/// How init ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It returned.
    Done,
    /// It called something that is not there at deploy.
    Forbidden {
        /// `module::function`.
        import: String,
        /// Whether init can do so when it runs within a request: then that is how it is deployed.
        at_request: bool,
    },
    /// It was refused memory and then gave up.
    Memory,
    /// Its time was up.
    Time,
    /// It ended the program.
    Exit(i32),
    /// It ended itself: a panic, an abort.
    Abort(String),
    /// It trapped otherwise, or could not be started.
    Trap(String),
}

/// What init left; untrusted.
#[derive(Debug)]
pub struct Snapshotted {
    /// In globals, and of memory.
    pub left: Left,
    /// What is in memory.
    pub runs: Runs,
    /// What the snapshot says that it keeps of weights, in bytes.
    pub weight_bytes: Option<u64>,
    /// What init wrote.
    pub log: String,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum PreinitError {
    /// The child failed.
    #[error("init {0}")]
    Child(#[from] ChildError),
    /// Init needs a request to run in; the function can be deployed without a snapshot.
    #[error("init calls {import}, which is there only while a request is handled")]
    NeedsRequest {
        /// `module::function`.
        import: String,
        /// What it wrote before.
        log: String,
    },
    /// What it left cannot be used.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The child's answer is not one of ours.
    #[error(transparent)]
    Odd(#[from] Odd),
    /// Init failed.
    #[error("{why}")]
    Failed {
        /// How, with its last log line.
        why: String,
        /// What to do, if more is known of that than it said itself.
        hint: Option<String>,
        /// What it wrote before.
        log: String,
    },
}

/// How init failed, and what it said last.
fn after(why: &str, log: &str) -> String {
    match traps::last_words(log) {
        words if words.is_empty() => why.to_owned(),
        words => format!("{why}; last log line: {words}"),
    }
}

/// Of an init that ended itself: its own words say why, if it has left any.
fn ended_itself(trap: &str, log: &str) -> String {
    // The SDK begins so as well.
    const FAILED: &str = "init failed: ";
    match traps::last_words(log) {
        words if words.is_empty() => format!("{FAILED}{trap}"),
        words => format!("{FAILED}{}", words.strip_prefix(FAILED).unwrap_or(&words)),
    }
}

/// What init lacks, for one that left no words, or such as programs have for what is not there.
fn lacking(log: &str) -> Option<String> {
    const MISSING: [&str; 7] = [
        "os error",
        "No such file",
        "Bad file descriptor",
        "pre-opened",
        "environment variable",
        "not supported on this platform",
        "unction not implemented",
    ];
    let words = traps::last_words(log);
    (words.is_empty() || MISSING.iter().any(|missing| words.contains(missing)))
        .then(|| INIT_HINT.to_owned())
}

/// What a child may say beyond the contents of memory, in bytes: its report, and the places of runs, which are 16 bytes for
/// each two pages at most.
const PREINIT_ROOM: u64 = 16 << 20;

/// Runs init on code that a compile child made of the instrumented module.
///
/// # Errors
/// [`PreinitError`] says how init failed, with its output.
pub async fn preinit(
    children: &Children,
    code: Bytes,
    assets: &Assets,
    init: &str,
    limits: &Limits,
    native_kernels: bool,
    ask: Ask,
) -> Result<Snapshotted, PreinitError> {
    let job = Job {
        init: init.to_owned(),
        assets: assets.iter().map(|(name, _)| name.to_owned()).collect(),
        native_kernels,
        memory_bytes: limits.memory_bytes,
        table_elements: limits.table_elements,
        init_us: limits.init_us,
        ask,
    };
    let blobs = std::iter::once(code).chain(assets.iter().map(|(_, bytes)| bytes.clone()));
    let time = limits.init() + PROBE_TIME + node::CHILD_GRACE;
    let mut caps = Caps::of_node(time.as_secs());
    // A child that was taken over must not make this process read more than a memory.
    let room = limits.memory_bytes.saturating_add(PREINIT_ROOM);
    caps.output_bytes = caps.output_bytes.min(room);
    let run = children.run::<_, Report>(Verb::Preinit, job, blobs.collect(), caps, time);
    let (report, blobs) = run.await?;
    let log = report.log;
    let failed = |why: &str, hint: &str, log: String| {
        let why = after(why, &log);
        Err(PreinitError::Failed { why, hint: Some(hint.into()), log })
    };
    match report.end {
        End::Done => {
            let mut blobs = blobs.into_iter();
            let mut next = || blobs.next().unwrap_or_default();
            let runs = Runs { places: next(), contents: next() };
            let (left, said) = report.left.ok_or(Odd::NOTHING)?;
            let weight_bytes = said.judge(limits.memory_bytes)?;
            Ok(Snapshotted { left, runs, weight_bytes, log })
        }
        End::Forbidden { import, at_request: true } => {
            Err(PreinitError::NeedsRequest { import, log })
        }
        End::Forbidden { import, at_request: false } => {
            let why = format!("init calls {import}, but there is no request yet");
            failed(&why, "read the request in `mayfly_handle`; init only prepares", log)
        }
        End::Memory => {
            let why =
                format!("init reached the memory limit of {}", human_size(limits.memory_bytes));
            failed(&why, "deploy with a higher `--limit memory=...`", log)
        }
        End::Time => {
            let why = format!("init reached its limit of {}", format_duration(limits.init()));
            failed(&why, "deploy with a higher `--limit init=...`, or do less in init", log)
        }
        End::Exit(code) => {
            let why = after(&format!("init ended the program with exit code {code}"), &log);
            Err(PreinitError::Failed { why, hint: lacking(&log), log })
        }
        End::Abort(trap) => {
            let why = ended_itself(&trap, &log);
            Err(PreinitError::Failed { why, hint: lacking(&log), log })
        }
        End::Trap(trap) => {
            let why = after(&format!("init failed: {trap}"), &log);
            Err(PreinitError::Failed { why, hint: lacking(&log), log })
        }
    }
}

const INIT_HINT: &str = "init runs at deploy with no files, no network, an empty environment and a clock that stands \
    still; what it wrote is in the deploy's report";

/// The child's side.
pub(crate) fn child(job: Job, blobs: Vec<Bytes>) -> anyhow::Result<Answer<Report>> {
    let mut blobs = blobs.into_iter();
    let Some(code) = blobs.next() else { anyhow::bail!("no module to run") };
    let mut assets = Assets::default();
    for (name, bytes) in job.assets.iter().zip(blobs) {
        assets.insert(name.clone(), bytes);
    }
    let engine = engine()?;
    let module = load_handed_down(&engine, &code)?;
    drop(code);
    let log = Log::default();
    let budget = Budget {
        memory_bytes: job.memory_bytes,
        table_elements: job.table_elements,
        time: Duration::from_micros(job.init_us),
    };
    let mut store = init_host::store(&engine, assets, budget, &log);
    let linker = init_host::linker(&engine, Phase::Init, job.native_kernels)?;
    let runtime = runtime()?;
    let start = Instant::now();
    let ran = runtime.block_on(run_init(&mut store, &linker, &module, &job.init));
    let init_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let instance = match ran {
        Ok(instance) => instance,
        Err(error) => {
            let guest = store.data();
            let left = guest.memory.map_or(&[][..], |memory| memory.data(&store));
            let end = end_of(&error, guest.limiter.memory_denied(), left);
            return Ok((Report { end, log: log.text(), init_us, left: None }, Vec::new()));
        }
    };
    let (left, runs) = take(&mut store, &instance);
    // Its memory and its assets are as much again.
    drop(store);
    let linker = init_host::linker(&engine, Phase::Restored, job.native_kernels)?;
    let budget = Budget { time: PROBE_TIME, ..budget };
    let restorer = Restorer {
        engine: &engine,
        linker: &linker,
        module: &module,
        left: &left,
        runs: &runs,
        budget,
    };
    let said = runtime.block_on(restorer.ask(job.ask))?;
    let report = Report { end: End::Done, log: log.text(), init_us, left: Some((left, said)) };
    Ok((report, vec![runs.places, runs.contents]))
}

/// What init left in an instance. The names of globals are those that instrumenting added.
fn take(store: &mut Store<Guest>, instance: &Instance) -> (Left, Runs) {
    let mut left = Left::default();
    while let Some(global) = instance.get_global(&mut *store, &global_name(left.globals.len())) {
        let Some(value) = Value::of(&global.get(&mut *store)) else { break };
        left.globals.push(value);
    }
    let Some(memory) = store.data().memory else { return (left, Runs::default()) };
    let memory = memory.data(&*store);
    left.memory_bytes = memory.len() as u64;
    let (places, contents) = Runs::of(memory);
    (left, Runs { places: places.into(), contents: contents.into() })
}

/// An engine that runs but cannot compile, with a ticker that lives as long as the process.
pub(super) fn engine() -> anyhow::Result<Engine> {
    let mut config = base_config();
    config.enable_compiler(false);
    let engine = Engine::new(&config)?;
    let ticker = engine.weak();
    std::thread::Builder::new().name("ticker".into()).spawn(move || {
        while let Some(engine) = ticker.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(node::TICK);
        }
    })?;
    Ok(engine)
}

/// Neither I/O nor timers: nothing that a guest can call here waits.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().build()
}

/// Makes an instance and knows its memory.
pub(super) async fn instantiate(
    store: &mut Store<Guest>,
    linker: &wasmtime::Linker<Guest>,
    module: &Module,
) -> wasmtime::Result<Instance> {
    let instance = linker.instantiate_async(&mut *store, module).await?;
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    Ok(instance)
}

async fn run_init(
    store: &mut Store<Guest>,
    linker: &wasmtime::Linker<Guest>,
    module: &Module,
    init: &str,
) -> wasmtime::Result<Instance> {
    let instance = instantiate(store, linker, module).await?;
    for name in ["_initialize", init] {
        if instance.get_func(&mut *store, name).is_none() {
            continue;
        }
        let function = instance.get_typed_func::<(), ()>(&mut *store, name)?;
        function.call_async(&mut *store, ()).await?;
    }
    Ok(instance)
}

fn end_of(error: &wasmtime::Error, memory_denied: bool, memory: &[u8]) -> End {
    if let Some(Forbidden { module, name }) = error.downcast_ref::<Forbidden>() {
        let at_request = *module == mayfly_host::imports::WASI;
        return End::Forbidden { import: format!("{module}::{name}"), at_request };
    }
    if error.downcast_ref::<OutOfTime>().is_some() {
        return End::Time;
    }
    // Most guests die of a refused allocation by some other name.
    if memory_denied {
        return End::Memory;
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return End::Exit(exit.0);
    }
    let trap = error.downcast_ref::<wasmtime::Trap>();
    let text = match trap {
        Some(_) => traps::words(error, memory),
        None => format!("{:#}", error.root_cause()),
    };
    let text = text.chars().take(500).collect();
    match trap {
        Some(wasmtime::Trap::UnreachableCodeReached) => End::Abort(text),
        _ => End::Trap(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_says_itself_is_said_once() {
        let trap = "it ended itself (wasm trap: wasm `unreachable` instruction executed)";
        let log = "loading\ninit failed: model.onnx: operators that are not supported: a (X)\n";
        let told = ended_itself(trap, log);
        assert_eq!(told, "init failed: model.onnx: operators that are not supported: a (X)");
        assert_eq!(lacking(log), None);
        assert_eq!(ended_itself(trap, ""), format!("init failed: {trap}"));
        assert!(lacking("").is_some());
        assert_eq!(
            after("init reached its limit", "one\ntwo"),
            "init reached its limit; last log line: two"
        );
    }

    #[test]
    fn what_is_missing_in_init_is_told_to_who_missed_it() {
        for words in [
            "init failed: failed to find a pre-opened file descriptor through which \"a\" could be opened",
            "FileNotFoundError: [Errno 44] No such file or directory: 'a'",
            "environment variable not found",
            "failed to lookup address information (os error 58)",
        ] {
            assert!(lacking(words).unwrap().contains("no files, no network"), "{words}");
        }
    }
}
