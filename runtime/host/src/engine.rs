//! The one wasmtime engine of the process: its instances' memory, its ticker, and the door through which native code is
//! loaded.

pub mod cgroup;
pub mod codegen;
pub mod memory;
pub mod pages;
pub mod pool;
pub mod scan;
pub mod ticker;
pub mod trim;

use std::sync::Arc;

use mayfly_core::limits::node;
use mayfly_core::units::format_duration;
use mayfly_store::artifact::VerifiedArtifact;
use wasmtime::Module;

use memory::Arenas;
use ticker::{Beats, Quick, Ticker};

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
    /// Whether a thread raises the epoch each `TICK`; tests that own time say no.
    pub ticker: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { slots: None, memory_budget: None, native_kernels: true, ticker: true }
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
    plan: PoolPlan,
    arenas: Arenas,
    native_kernels: bool,
    ticker: Option<Arc<Ticker>>,
    beats: Arc<Beats>,
}

impl Engine {
    /// Makes the engine and reserves address space for its instances.
    ///
    /// # Errors
    /// [`EngineError::Pool`] says what does not fit and which key to change.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let plan = PoolPlan::new(config)?;
        let mut wasmtime_config = codegen::base_config();
        let arenas = plan.reserve()?;
        memory::into_config(&arenas, &mut wasmtime_config);
        wasmtime_config.enable_compiler(false);
        let engine = wasmtime::Engine::new(&wasmtime_config)
            .map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        let beats = Arc::<Beats>::default();
        let ticker = config.ticker.then(|| Ticker::start(&engine, beats.clone())).transpose();
        let ticker = ticker.map_err(|e| EngineError::Engine(format!("no ticker thread: {e}")))?;
        let (ticker, native_kernels) = (ticker.map(Arc::new), config.native_kernels);
        Ok(Self(Arc::new(Inner { engine, plan, arenas, native_kernels, ticker, beats })))
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

    /// Where instances' memories lie.
    #[must_use]
    pub fn arenas(&self) -> &Arenas {
        &self.0.arenas
    }

    /// Whether guests may call native kernels.
    #[must_use]
    pub fn native_kernels(&self) -> bool {
        self.0.native_kernels
    }

    /// Lets the ticker go at a profile's pace; nothing if the node has as many profiles as it may.
    #[must_use]
    pub fn quicken(&self) -> Option<Quick> {
        Quick::begin(&self.0.beats, self.0.ticker.as_ref())
    }

    /// Wasmtime's hash of everything that decides whether compiled code fits this engine.
    #[must_use]
    pub fn compatibility_hash(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        self.0.engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    /// Maps an artifact's code.
    ///
    /// # Errors
    /// [`EngineError::Load`] when it was made for another engine.
    #[expect(
        unsafe_code,
        reason = "one of two places: native code is loaded from proven bytes only"
    )]
    pub(crate) fn deserialize(&self, artifact: &VerifiedArtifact) -> Result<Module, EngineError> {
        let file = artifact.open_file().map_err(|e| EngineError::Load(e.to_string()))?;
        // SAFETY: `VerifiedArtifact` proves that this very open file holds, byte for byte, what our own compile child
        // wrote (a keyed MAC over all of it was checked through the same descriptor). It lies in a directory only we can
        // write to, and artifact files are never changed in place: they are written once and renamed; or it is memory
        // that was sealed against writing.
        unsafe { Module::deserialize_open_file(&self.0.engine, file) }
            .map_err(|e| EngineError::Load(format!("{e:#}")))
    }
}
