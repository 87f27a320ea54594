//! Runs a module's init once, in a child, and takes the snapshot: wasm again, with the memory and the globals as init
//! left them. The child runs untrusted code, so the parent takes nothing from it but wasm, and validates that anew.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mayfly_core::Limits;
use mayfly_core::limits::node;
use mayfly_core::units::{format_duration, human_size};
use mayfly_host::engine::codegen::{base_config, load_handed_down};
use mayfly_host::sandbox::Assets;
use mayfly_host::traps;
use serde::{Deserialize, Serialize};
use wasmparser::ValType;
use wasmtime::{Engine, Instance, Module, Store, Val};
use wasmtime_wasi::I32Exit;
use wasmtime_wizer::{InstanceState, SnapshotVal, Wizer};

use super::init_host::{self, Budget, Forbidden, Guest, Log, OutOfTime, Phase};
use crate::child::{Answer, Caps, ChildError, Children, Verb};

/// What the child is asked for, beside the blobs `[wasm, code, asset*]`.
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
}

/// What the child says, beside the blob `[wasm]` if init ended well.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// How init ended.
    pub end: End,
    /// What it wrote to stdout and stderr.
    pub log: String,
    /// How long it ran, in microseconds.
    pub init_us: u64,
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

/// A module after init.
#[derive(Debug)]
pub struct Snapshotted {
    /// The module; untrusted.
    pub wasm: Bytes,
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

/// What a snapshot may have beyond its memory and its module, in bytes: the heads of its segments, and the child's report.
const PREINIT_ROOM: u64 = 16 << 20;

/// Runs init on code that a compile child made of the instrumented `wasm`.
///
/// # Errors
/// [`PreinitError`] says how init failed, with its output.
pub async fn preinit(
    children: &Children,
    wasm: Bytes,
    code: Bytes,
    assets: &Assets,
    init: &str,
    limits: &Limits,
    native_kernels: bool,
) -> Result<Snapshotted, PreinitError> {
    let job = Job {
        init: init.to_owned(),
        assets: assets.iter().map(|(name, _)| name.to_owned()).collect(),
        native_kernels,
        memory_bytes: limits.memory_bytes,
        table_elements: limits.table_elements,
        init_us: limits.init_us,
    };
    let module_bytes = wasm.len() as u64;
    let blobs = [wasm, code].into_iter().chain(assets.iter().map(|(_, bytes)| bytes.clone()));
    let time = limits.init() + node::CHILD_GRACE;
    let mut caps = Caps::of_node(time.as_secs());
    // A snapshot is the module with its memory in it: a child that was taken over must not make this process read more.
    let room = limits.memory_bytes.saturating_add(module_bytes + PREINIT_ROOM);
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
            let wasm = blobs.into_iter().next().unwrap_or_default();
            Ok(Snapshotted { wasm, log })
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
    let (Some(wasm), Some(code)) = (blobs.next(), blobs.next()) else {
        anyhow::bail!("no module to run");
    };
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
    let mut wizer = Wizer::new();
    wizer.init_func(&job.init);
    let (context, _) = wizer.instrument(&wasm)?;
    let runtime = runtime()?;
    let start = Instant::now();
    let ran = runtime.block_on(run_init(&mut store, &linker, &module, &job.init));
    let init_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let report = |end| Report { end, log: log.text(), init_us };
    match ran {
        Ok(instance) => {
            let mut state = Restored { store: &mut store, instance };
            let wasm = runtime.block_on(wizer.snapshot(&context, &mut state))?;
            Ok((report(End::Done), vec![wasm.into()]))
        }
        Err(error) => {
            let guest = store.data();
            let left = guest.memory.map_or(&[][..], |memory| memory.data(&store));
            Ok((report(end_of(&error, guest.limiter.memory_denied(), left)), Vec::new()))
        }
    }
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

/// An instance after init, as wizer wants to see it. The names are those that instrumenting added.
struct Restored<'s> {
    store: &'s mut Store<Guest>,
    instance: Instance,
}

impl InstanceState for Restored<'_> {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut *self.store, name);
        match global.map(|global| global.get(&mut *self.store)) {
            Some(Val::I32(value)) => SnapshotVal::I32(value),
            Some(Val::I64(value)) => SnapshotVal::I64(value),
            Some(Val::F32(bits)) => SnapshotVal::F32(bits),
            Some(Val::F64(bits)) => SnapshotVal::F64(bits),
            Some(Val::V128(value)) => SnapshotVal::V128(value.as_u128()),
            _ => unreachable!("instrumenting exported {name} as a mutable number"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut *self.store, name);
        let Some(memory) = memory else { unreachable!("instrumenting exported {name}") };
        contents(memory.data(&*self.store));
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
