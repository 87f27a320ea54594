//! The in-process level: the host code that a request runs, without sockets, so that microseconds can be told apart.
//!
//! It is made of the runtime's own public parts, and calls what the gateway calls.

mod kept;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use http::Request;
use http_body_util::BodyExt as _;
use mayfly_core::limits::node::BODY_IDLE_TIMEOUT;
use mayfly_core::record::{Abi, RevisionRecord, Settings, Snapshot};
use mayfly_core::{ArtifactKey, Digest, FunctionName, Mac, RequestId};
use mayfly_host::catalog::Entry;
use mayfly_host::engine::memory::Hosted;
use mayfly_host::engine::ticker::TICK_EPOCHS;
use mayfly_host::engine::{Engine, EngineConfig, codegen};
use mayfly_host::exchange::{Caps, Exchange};
use mayfly_host::meter::Meter;
use mayfly_host::program::{Beginning, Linked, LoadedModule, Programs};
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::{Inbound, Sandbox};
use mayfly_observe::logs::Requests;
use mayfly_publish::child::Children;
use mayfly_publish::validate::{Validated, validate};
use mayfly_publish::{PublishReport, PublishRequest, Publisher};
use mayfly_runtime::assemble::{Parts, assemble};
use mayfly_serve::invocation;
use mayfly_serve::node::Node;
use mayfly_store::artifact::ArtifactStore;
use wasmtime::{Linker, Module, Store};

use crate::guests::Guest;

/// Slots of the pool: one request at a time needs few, and each reserves 4 GiB of address space.
const SLOTS: usize = 8;
/// Bytes that artifacts may take.
const STORE_BYTES: u64 = 4 << 30;

pub use kept::Kept;

/// A node without a gateway.
pub struct Micro {
    node: Arc<Node>,
    publisher: Publisher,
    programs: Programs,
    /// For code that no publish makes: modules whose init runs in each request.
    store: ArtifactStore,
    /// Allocates for each instance, and can compile.
    on_demand: wasmtime::Engine,
    linker: Linker<Sandbox>,
    runtime: tokio::runtime::Runtime,
    _dirs: [tempfile::TempDir; 2],
}

/// A module at one stage of preparation.
pub struct Prepared {
    name: FunctionName,
    validated: Validated,
    settings: Settings,
}

/// How long the parts of one sandbox's life took, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Life {
    /// Host-side state and instance.
    pub instantiate: f64,
    /// The guest.
    pub call: f64,
    /// Everything dropped, the slot reset.
    pub reset: f64,
    /// Pages of the guest's memory that are private to the instance before it is dropped, and how many runs they make.
    pub private: (u64, u64),
}

impl Life {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.instantiate + self.call + self.reset
    }
}

impl Micro {
    /// Makes the node. Child processes of publish are those of `mayfly`, or of this very program.
    ///
    /// # Errors
    /// When the machine cannot hold a pool, or there is no place for temporary files.
    pub fn start(mayfly: Option<&Path>) -> anyhow::Result<Self> {
        let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
        // Without a ticker no guest is interrupted, so a long one is timed in one piece.
        let config = EngineConfig { slots: Some(SLOTS), ticker: false, ..EngineConfig::default() };
        let engine = Engine::new(&config)?;
        let mut parts = Parts::quiet(engine, dirs[0].path(), Requests::Errors)?;
        if let Some(program) = mayfly {
            parts.publishing.children = Children::of(program);
        }
        parts.serving.server_timing = false;
        let (node, publisher) = assemble(parts)?;
        // With the engine's own images: what somebody has who embeds it as it comes.
        let on_demand = wasmtime::Engine::new(codegen::base_config().memory_init_cow(true))?;
        let linker = mayfly_host::imports::linker(&on_demand, true)?;
        let programs = Programs::new(node.engine.clone())?;
        let store = ArtifactStore::open(dirs[1].path(), STORE_BYTES)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { node, publisher, programs, store, on_demand, linker, runtime, _dirs: dirs })
    }

    /// Deploys as the admin API does.
    ///
    /// # Errors
    /// What publish says.
    pub fn publish(&self, guest: &Guest) -> anyhow::Result<PublishReport> {
        let request = PublishRequest {
            name: FunctionName::new(&guest.name)?,
            wasm: guest.wasm.clone(),
            change: settings().into(),
        };
        Ok(self.runtime.block_on(self.publisher.publish(request, |_| {}))?)
    }

    /// Takes a module apart, without running or compiling any of it.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn prepare(&self, guest: &Guest) -> anyhow::Result<Prepared> {
        let settings = settings();
        let validated = validate(&guest.wasm, &settings.limits).map_err(anyhow::Error::new)?;
        // Beside the published one of the same guest.
        let name = FunctionName::new(&format!("{}-plain", guest.name))?;
        Ok(Prepared { name, validated, settings })
    }

    /// Compiles, here and now.
    ///
    /// # Errors
    /// When the compiler refuses.
    pub fn compile(&self, prepared: &Prepared) -> anyhow::Result<Module> {
        Module::new(&self.on_demand, &prepared.validated.code).map_err(anyhow::Error::from)
    }

    /// Routes the prepared function's name to a module that allocates on demand.
    ///
    /// # Errors
    /// When it does not link.
    pub fn route_on_demand(&self, prepared: &Prepared, module: &Module) -> anyhow::Result<()> {
        let pre = self.linker.instantiate_pre(module)?;
        let export = |name: &str| module.get_export_index(name);
        let memory = export("memory").context("no memory")?;
        // As the engine's own: whatever of init is still in the module runs first.
        let names: &[&str] = match prepared.validated.abi {
            Abi::Command => &["wizer-initialize", "_start"],
            Abi::Reactor => &["_initialize", "mayfly_init", "wizer-initialize", "mayfly_handle"],
        };
        let calls = names.iter().filter_map(|name| export(name)).collect();
        let assets = Some(Arc::new(prepared.validated.assets.clone()));
        // Its memory comes from the other engine; this one stays empty.
        let template = self.node.engine.arenas().template(None, 0);
        let linked = Linked { mapped: None, pre, calls, memory, template };
        self.route(prepared, LoadedModule::alone(linked, assets));
        Ok(())
    }

    /// Keeps a module's compiled code and its image as publish does.
    ///
    /// # Errors
    /// When the compiler refuses, or they cannot be written.
    pub fn keep(&self, prepared: &Prepared) -> anyhow::Result<Kept> {
        Kept::make(&self.store, &prepared.validated.code)
    }

    /// Opens an artifact, verifies, maps and links it, and routes the prepared function's name to it, in the pool.
    ///
    /// # Errors
    /// When it does not verify or load.
    pub fn route_artifact(&self, prepared: &Prepared, kept: &Kept) -> anyhow::Result<()> {
        let (verified, image) = kept.open(&self.store)?;
        let (assets, abi) = (prepared.validated.assets.clone(), prepared.validated.abi);
        let assets = Some(Arc::new(assets));
        let beginning = Beginning { image: image.as_ref(), bytes: None };
        let code = self.programs.map_code(&verified)?;
        self.route(prepared, self.programs.load(&code, beginning, abi, assets)?);
        Ok(())
    }

    fn route(&self, prepared: &Prepared, module: LoadedModule) {
        let name = prepared.name.clone();
        let nothing = Digest::of(b"");
        let record = RevisionRecord {
            function: name.clone(),
            number: 1,
            wasm: nothing,
            wasm_bytes: prepared.validated.code.len() as u64,
            artifact: ArtifactKey(nothing),
            artifact_mac: Mac::from_bytes([0; Mac::BYTES]),
            artifact_bytes: 0,
            code: None,
            image: None,
            abi: prepared.validated.abi,
            snapshot: Snapshot::Refused {
                reason: "init runs in each request, to be measured".into(),
            },
            settings: prepared.settings.clone(),
            created_unix_s: 0,
            stages: Vec::new(),
            learned_from: None,
        };
        let metrics = self.node.metrics.function(&name);
        let log = self.node.logs.source(&name, &metrics);
        let revision = Revision::new(record, module, metrics, log, None);
        self.node.catalog.insert(name, Entry::Ready(revision));
    }

    /// One request through everything but the socket: found, admitted, instantiated, called, answered; reset too, unless
    /// its image is so large that this comes after the response.
    ///
    /// # Errors
    /// When the answer is not of the status that the guest's own code gives.
    pub fn answer(&self, name: &str, guest: &Guest) -> anyhow::Result<f64> {
        self.runtime.block_on(async {
            let free = self.node.free_slots();
            let us = self.answer_async(name, guest).await?;
            // The reset comes after the response and has a figure of its own: the next request is not to wait for it.
            while self.node.free_slots() < free {
                tokio::task::yield_now().await;
            }
            Ok(us)
        })
    }

    async fn answer_async(&self, name: &str, guest: &Guest) -> anyhow::Result<f64> {
        let inbound = inbound(name, guest)?;
        let began = Instant::now();
        let response = invocation::handle(&self.node, inbound, None).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| anyhow::anyhow!("the response broke off"))?;
        let us = began.elapsed().as_secs_f64() * 1e6;
        let (status, want) = (head.status.as_u16(), guest.cheap.status);
        anyhow::ensure!(
            status == want,
            "{name} answered {status}, not {want}: {}",
            String::from_utf8_lossy(&body.to_bytes())
        );
        Ok(us)
    }

    /// The prepared function's name.
    #[must_use]
    pub fn plain_name(prepared: &Prepared) -> &str {
        prepared.name.as_str()
    }

    fn revision(&self, name: &str) -> anyhow::Result<Arc<Revision>> {
        match self.node.catalog.load().get(name) {
            Some(Entry::Ready(revision)) => Ok(revision.clone()),
            _ => anyhow::bail!("{name} is not published"),
        }
    }

    /// Sandbox, instance, call and reset alone, as an invocation does them.
    ///
    /// # Errors
    /// When the guest traps.
    pub fn life(&self, name: &str, guest: &Guest, count_pages: bool) -> anyhow::Result<Life> {
        let revision = self.revision(name)?;
        let inbound = inbound(name, guest)?;
        self.runtime.block_on(async {
            let began = Instant::now();
            let mut store = self.new_store(&revision, inbound)?;
            let instance = store.instantiate(&revision.module.pre).await?;
            let memory = instance.get_module_export(&mut *store, &revision.module.memory);
            let memory = memory.and_then(wasmtime::Extern::into_memory);
            store.data_mut().memory = memory;
            let ready = Instant::now();
            call(&mut store, &instance, &revision).await?;
            let ended = Instant::now();
            let private = memory.filter(|_| count_pages).map_or((0, 0), |m| {
                private_pages(m.data_ptr(&*store).addr(), m.data_size(&*store))
            });
            let before_drop = Instant::now();
            drop(store);
            let us = |d: std::time::Duration| d.as_secs_f64() * 1e6;
            Ok(Life {
                instantiate: us(ready - began),
                call: us(ended - ready),
                reset: us(before_drop.elapsed()),
                private,
            })
        })
    }

    /// Calls one instance over and over, which Mayfly never does; microseconds of each call. Not in it, and in
    /// [`Micro::answer`]: finding and admitting the function, and taking the answer.
    ///
    /// # Errors
    /// When the guest traps.
    pub fn reused(&self, name: &str, guest: &Guest, times: usize) -> anyhow::Result<Vec<f64>> {
        let revision = self.revision(name)?;
        self.runtime.block_on(async {
            let mut store = self.new_store(&revision, inbound(name, guest)?)?;
            let instance = store.instantiate(&revision.module.pre).await?;
            let memory = instance.get_module_export(&mut *store, &revision.module.memory);
            let memory = memory.and_then(wasmtime::Extern::into_memory);
            let mut samples = Vec::with_capacity(times);
            for _ in 0..times {
                let inbound = inbound(name, guest)?;
                let began = Instant::now();
                *store.data_mut() = self.new_sandbox(&revision, inbound);
                store.data_mut().memory = memory;
                call(&mut store, &instance, &revision).await?;
                samples.push(began.elapsed().as_secs_f64() * 1e6);
            }
            Ok(samples)
        })
    }

    fn new_sandbox(&self, revision: &Arc<Revision>, inbound: Box<Inbound>) -> Sandbox {
        let limits = revision.limits();
        let caps = Caps {
            request_body: limits.request_body_bytes,
            response_body: limits.response_body_bytes,
            body_idle: BODY_IDLE_TIMEOUT,
        };
        let meter = Arc::new(Meter::new(inbound.arrived, limits));
        let (terms, logs) = (revision.terms.clone(), self.node.logs.clone());
        Sandbox::new(inbound, Exchange::new(None, caps), meter, terms, logs)
    }

    fn new_store(
        &self,
        revision: &Arc<Revision>,
        inbound: Box<Inbound>,
    ) -> anyhow::Result<Hosted<Sandbox>> {
        let mut store = revision.module.host(self.new_sandbox(revision, inbound))?;
        store.set_epoch_deadline(TICK_EPOCHS);
        Ok(store)
    }
}

/// Its limits leave room for every image of the scaling scenario, and for the init of the largest model.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.limits.memory_bytes = 1 << 30;
    settings
}

async fn call(
    store: &mut Store<Sandbox>,
    instance: &wasmtime::Instance,
    revision: &Revision,
) -> anyhow::Result<()> {
    for export in revision.module.calls.iter() {
        let func =
            instance.get_module_export(&mut *store, export).and_then(wasmtime::Extern::into_func);
        let func = func.context("an entry that is no function")?;
        let called = func.typed::<(), ()>(&*store)?.call_async(&mut *store, ()).await;
        // A command ends by exit code 0.
        if let Err(error) = called {
            let exit = error.downcast_ref::<wasmtime_wasi::I32Exit>().map(|exit| exit.0);
            anyhow::ensure!(exit == Some(0), "the guest failed: {error:#}");
        }
    }
    Ok(())
}

fn inbound(name: &str, guest: &Guest) -> anyhow::Result<Box<Inbound>> {
    let path = format!("/{name}{}", guest.cheap.path);
    let parts = Request::builder().uri(path).header("host", "127.0.0.1").body(())?.into_parts().0;
    let client = SocketAddr::from(([127, 0, 0, 1], 4000));
    let own = SocketAddr::from(([127, 0, 0, 1], 80));
    let mut inbound = Inbound::new(parts, client, own, RequestId::from_random(rand::random()));
    inbound.base_len = name.len() + 1;
    Ok(inbound)
}

/// Pages of a range that are mapped and are no file's (a page that was written to is none any more), and their runs.
fn private_pages(start: usize, length: usize) -> (u64, u64) {
    use std::os::unix::fs::FileExt as _;
    const PAGE: usize = 4096;
    const ENTRY: usize = 8;
    let mut entries = vec![0; length / PAGE * ENTRY];
    let Ok(map) = std::fs::File::open("/proc/self/pagemap") else { return (0, 0) };
    if map.read_exact_at(&mut entries, (start / PAGE * ENTRY) as u64).is_err() {
        return (0, 0);
    }
    let (mut pages, mut runs, mut before) = (0, 0, false);
    for entry in entries.chunks_exact(ENTRY) {
        // Bit 63: present. Bit 61: of a file, or shared.
        let top = entry[ENTRY - 1];
        let private = top & 0x80 != 0 && top & 0x20 == 0;
        pages += u64::from(private);
        runs += u64::from(private && !before);
        before = private;
    }
    (pages, runs)
}
