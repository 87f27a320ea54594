//! The one wasmtime engine of the process: its pool, its ticker, and the door through which native code is loaded.

pub(crate) mod cgroup;
pub mod codegen;
pub mod pages;
pub mod pool;
pub mod scan;
pub mod ticker;
pub mod trial;
pub mod trim;
pub mod warm;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use mayfly_core::Mac;
use mayfly_core::limits::node;
use mayfly_core::units::format_duration;
use parking_lot::Mutex;
use wasmtime::{ExternType, InstancePre, Linker, Module, ModuleExport};

use crate::artifact::VerifiedArtifact;
use crate::publish::assets::Assets;
use crate::revision::Abi;
use crate::sandbox::Sandbox;
pub use pool::{PoolError, PoolPlan};

/// What the operator decides about the engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Instances at once; derived from the memory budget if not given.
    pub slots: Option<usize>,
    /// Memory that the node may use, in bytes; what the machine or its control group has, if not given.
    pub memory_budget: Option<u64>,
    /// Whether guests may call native kernels.
    pub native_kernels: bool,
    /// Whether the kernel is asked which pages a guest dirtied; no if not given, for it misses pages that are being moved.
    pub pagemap_scan: Option<bool>,
    /// Whether a thread raises the epoch each `TICK`; tests that own time say no.
    pub ticker: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            slots: None,
            memory_budget: None,
            native_kernels: true,
            pagemap_scan: None,
            ticker: true,
        }
    }
}

/// What can go wrong between an artifact and an instance.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The pool does not fit the machine.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Wasmtime refuses the configuration; a defect of ours.
    #[error("the engine cannot be made: {0}")]
    Engine(String),
    /// The artifact is not one that this engine can run.
    #[error("the compiled code cannot be loaded: {0}")]
    Load(String),
    /// The module lacks an export that its ABI needs, which validation should have found.
    #[error("the module has no export '{0}'")]
    Export(&'static str),
    /// An instance could not be made.
    #[error("the module cannot be instantiated: {0}")]
    Instantiate(String),
    /// A start function waits for something, or has no end.
    #[error(
        "the module's start function did not end within {}",
        format_duration(node::START_TIMEOUT)
    )]
    StartTimeout,
    /// Every slot for trials is in use.
    #[error("other modules' start functions have not ended: there is no slot to try the module in")]
    PoolFull,
}

/// Handle to the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    engine: wasmtime::Engine,
    linker: Linker<Sandbox>,
    plan: PoolPlan,
    native_kernels: bool,
    /// Code that some revision has, by the proof of its bytes.
    loaded: Mutex<HashMap<Code, Weak<Linked>>>,
    _ticker: Option<ticker::Ticker>,
}

/// The proof of an artifact's bytes, and how it is entered.
type Code = ([u8; Mac::BYTES], Abi);

/// An artifact's code, linked: one for all revisions that have the very same bytes. All that a request does with it is
/// instantiate.
pub struct Linked {
    /// Linked and type-checked.
    pub pre: InstancePre<Sandbox>,
    /// What to call, in order.
    pub calls: Box<[ModuleExport]>,
    /// The one memory.
    pub memory: ModuleExport,
}

/// A revision's code, and what only this revision has.
#[derive(Clone)]
pub struct LoadedModule {
    linked: Arc<Linked>,
    /// Assets that init reads for each request, if there is no snapshot.
    pub assets: Option<Arc<Assets>>,
    /// Bytes of a request's dirty pages that an idle slot may hold for the next one.
    pub idle_bytes: u64,
}

impl LoadedModule {
    /// Code that nobody else has, and whose slots keep nothing for the next request.
    #[must_use]
    pub fn alone(linked: Linked, assets: Option<Arc<Assets>>) -> Self {
        Self { linked: Arc::new(linked), assets, idle_bytes: 0 }
    }
}

impl std::ops::Deref for LoadedModule {
    type Target = Linked;

    fn deref(&self) -> &Linked {
        &self.linked
    }
}

impl Linked {
    /// Linear memory of a fresh instance, in bytes.
    #[must_use]
    pub fn initial_memory(&self) -> u64 {
        match self.pre.module().get_export("memory") {
            Some(ExternType::Memory(memory)) => memory.minimum().saturating_mul(memory.page_size()),
            _ => 0,
        }
    }
}

impl Engine {
    /// Makes the engine and reserves its pool.
    ///
    /// # Errors
    /// [`EngineError::Pool`] says what does not fit and which key to change.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let plan = PoolPlan::new(config)?;
        let mut wasmtime_config = codegen::base_config();
        plan.apply(&mut wasmtime_config);
        wasmtime_config.enable_compiler(false);
        let engine = wasmtime::Engine::new(&wasmtime_config).map_err(|e| plan.explain(&e))?;
        let linker = crate::abi::linker(&engine, config.native_kernels)
            .map_err(|e| EngineError::Engine(format!("{e:#}")))?;
        let ticker = config.ticker.then(|| ticker::Ticker::start(&engine)).transpose();
        let ticker = ticker.map_err(|e| EngineError::Engine(format!("no ticker thread: {e}")))?;
        let native_kernels = config.native_kernels;
        let loaded = Mutex::default();
        Ok(Self(Arc::new(Inner { engine, linker, plan, native_kernels, loaded, _ticker: ticker })))
    }

    /// The wasmtime engine, to make stores with.
    #[must_use]
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.engine
    }

    /// How the pool was sized.
    #[must_use]
    pub fn plan(&self) -> &PoolPlan {
        &self.0.plan
    }

    /// Whether guests may call native kernels.
    #[must_use]
    pub fn native_kernels(&self) -> bool {
        self.0.native_kernels
    }

    /// Wasmtime's hash of everything that decides whether compiled code fits this engine.
    #[must_use]
    pub fn compatibility_hash(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        self.0.engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    /// Maps an artifact's code and links it, unless a revision has the same already.
    ///
    /// # Errors
    /// [`EngineError::Load`] when it was made for another engine, [`EngineError::Export`] when it lacks an entry.
    pub fn load(
        &self,
        artifact: &VerifiedArtifact,
        abi: Abi,
        assets: Option<Arc<Assets>>,
    ) -> Result<LoadedModule, EngineError> {
        let idle_bytes = self.0.plan.idle_bytes();
        let key = (*artifact.mac().as_bytes(), abi);
        if let Some(linked) = self.0.loaded.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(LoadedModule { linked, assets, idle_bytes });
        }
        // Two that load the same at one time have one each.
        let linked = Arc::new(self.link(&self.deserialize(artifact)?, abi)?);
        let mut loaded = self.0.loaded.lock();
        loaded.retain(|_, linked| linked.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&linked));
        Ok(LoadedModule { linked, assets, idle_bytes })
    }

    fn link(&self, module: &Module, abi: Abi) -> Result<Linked, EngineError> {
        let refused = |error: wasmtime::Error| EngineError::Load(format!("{error:#}"));
        // Made now, so that no request pays for the image's first mapping.
        module.initialize_copy_on_write_image().map_err(refused)?;
        let pre = self.0.linker.instantiate_pre(module).map_err(refused)?;
        let memory = module.get_export_index("memory").ok_or(EngineError::Export("memory"))?;
        let calls = entry_calls(module, abi)?.into();
        Ok(Linked { pre, calls, memory })
    }

    #[expect(
        unsafe_code,
        reason = "one of two places: native code is loaded from proven bytes only"
    )]
    fn deserialize(&self, artifact: &VerifiedArtifact) -> Result<Module, EngineError> {
        let file = artifact.open_file().map_err(|e| EngineError::Load(e.to_string()))?;
        // SAFETY: `VerifiedArtifact` proves that this very open file holds, byte for byte, what our own compile child
        // wrote (a keyed MAC over all of it was checked through the same descriptor). It lies in a directory only we can
        // write to, and artifact files are never changed in place: they are written once and renamed; or it is memory
        // that was sealed against writing.
        unsafe { Module::deserialize_open_file(&self.0.engine, file) }
            .map_err(|e| EngineError::Load(format!("{e:#}")))
    }
}

/// The exports to call for one request, in order. With a snapshot, init is in the image already.
fn entry_calls(module: &Module, abi: Abi) -> Result<Vec<ModuleExport>, EngineError> {
    let find = |name: &str| module.get_export_index(name);
    let mut calls = Vec::new();
    // The snapshot removes these from the module, so whatever is still there has to run.
    if abi == Abi::Reactor {
        calls.extend(find("_initialize"));
    }
    calls.extend(find(mayfly_abi::EXPORT_INIT).or_else(|| find(mayfly_abi::EXPORT_INIT_WIZER)));
    let entry = match abi {
        Abi::Command => "_start",
        Abi::Reactor => mayfly_abi::EXPORT_HANDLE,
    };
    calls.push(find(entry).ok_or(EngineError::Export(entry))?);
    Ok(calls)
}
