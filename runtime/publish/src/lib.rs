//! Publishing: from uploaded bytes to a revision that answers, once per deploy.
//!
//! `validate` -> `preinit` and `compile` (child processes) -> `store` -> `activate`. Each stage takes what the one
//! before it made; an error names its stage and leaves the function's current revision serving.
#![deny(unsafe_code)]

pub mod child;
pub mod compile;
pub mod error;
pub mod guard;
pub mod image;
pub mod preinit;
pub mod probe;
pub mod rehearsal;
pub mod report;
pub mod restore;
pub mod self_test;
pub mod snapshot;
pub mod symbols;
pub mod validate;

mod activate;
mod build;
mod change;
mod commit;
mod flow;
mod init_host;
mod kept_code;
mod learn;
mod profile;
mod rollout;
mod secrets;
mod traffic;
mod trial;
mod turns;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use mayfly_core::auth::PreviewKey;
use mayfly_core::deployment::Deployment;
use mayfly_core::limits::node;
use mayfly_core::record::{RevisionRecord, StageTime};
use mayfly_core::{ArtifactKey, FunctionName};
use mayfly_host::catalog::Catalog;
use mayfly_host::engine::trim::Thrift;
use mayfly_host::engine::{Engine, EngineError, codegen};
use mayfly_host::program::Programs;
use mayfly_observe::logs::LogSink;
use mayfly_observe::metrics::Metrics;
use mayfly_outbound::{Client, OutboundConfig};
use mayfly_store::artifact::mapped::Scratch;
use mayfly_store::artifact::{ArtifactStore, StoreError};
use mayfly_store::records::{self, Records, RecordsError};
use tokio::sync::{Mutex as Turn, Semaphore};

use crate::child::{Children, Verb};
pub use change::{Change, Kind, Placement};
pub use error::{PublishError, PublishErrorKind, Stage};
pub use profile::ProfileError;
pub use report::PublishReport;
pub use restore::Restored;
use rollout::Rollouts;
pub use rollout::{Guard, Plan as RolloutPlan, Rollout};
use secrets::Secrets;
pub use secrets::{Secret, SecretsConfig};
pub use traffic::{Step, Switch, Switched};
use trial::Trials;
use turns::Turns;

/// What `main` calls when its first argument is a [`Verb`]: does the job and ends the process.
pub fn child_main(verb: Verb) -> ! {
    child::run(verb, |io| match verb {
        Verb::Compile => io.answer(compile::child),
        Verb::Preinit => io.answer(preinit::child),
    })
}

/// What a deploy asks for.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// The function.
    pub name: FunctionName,
    /// The module.
    pub wasm: Bytes,
    /// Limits, environment, arguments, routes.
    pub change: Change,
}

/// What the operator decides about publishing.
#[derive(Debug, Clone)]
pub struct PublisherConfig {
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// Bytes that uploads, code and caches may take there.
    pub store_bytes: u64,
    /// Functions at most.
    pub functions: usize,
    /// Bytes of code and images that are loaded before a start ends.
    pub loaded_at_start: u64,
    /// How child processes are started.
    pub children: Children,
    /// Where secrets come from.
    pub secrets: SecretsConfig,
    /// What functions may call.
    pub outbound: OutboundConfig,
}

impl PublisherConfig {
    /// Defaults, in this directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let store_bytes = node::STORE_BYTES;
        let (state_dir, functions) = (state_dir.to_owned(), node::FUNCTIONS);
        let loaded_at_start = node::LOADED_AT_START;
        let (children, secrets) = (Children::default(), SecretsConfig::default());
        let outbound = OutboundConfig::default();
        Self { state_dir, store_bytes, functions, loaded_at_start, children, secrets, outbound }
    }
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its database.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// What links code.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The one who may change the catalog. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    programs: Arc<Programs>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    logs: LogSink,
    store: Arc<ArtifactStore>,
    records: Records,
    children: Children,
    functions: usize,
    loaded_at_start: u64,
    cpu_features: String,
    slots: Semaphore,
    /// One rebuild at a time, so that a deploy finds a slot and its name's turn behind one of them at most, however
    /// many functions a start found without code.
    rebuilds: Semaphore,
    /// As many functions are loaded at once as there are cores: loading is hashing.
    loads: Semaphore,
    waiting: AtomicUsize,
    rollouts: Rollouts,
    secrets: Secrets,
    /// Code that was valid before.
    known: Arc<validate::Known>,
    outbound: Arc<Client>,
    trials: Trials,
    names: Turns<FunctionName>,
    /// Whose file an artifact's key names is decided by one publish at a time, from its first look to its row.
    keys: Turns<ArtifactKey>,
    /// Held while files are written or removed that no row refers to, and from the last check of the routes to the
    /// catalog; a start reads and sweeps under it. Not while a module is tried: its files are pinned meanwhile.
    commits: Turn<()>,
}

impl Publisher {
    /// Opens the state directory. [`Publisher::restore`] then fills the catalog.
    ///
    /// # Errors
    /// [`OpenError`] is for the operator: no access, in use, or of a newer Mayfly.
    pub fn open(
        config: &PublisherConfig,
        engine: Engine,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        logs: LogSink,
    ) -> Result<Self, OpenError> {
        let store = Arc::new(ArtifactStore::open(&config.state_dir, config.store_bytes)?);
        let database = config.state_dir.join("mayfly.redb");
        records::check_beside(&database, &config.state_dir.join("wasm"))?;
        let records = Records::open(&database)?;
        let secrets = Secrets::open(&config.secrets, &config.state_dir, &records)?;
        let slots = engine.plan().slots;
        let outbound = Client::new(OutboundConfig { slots, ..config.outbound.clone() });
        let shared = Shared {
            programs: Arc::new(Programs::new(engine.clone())?),
            engine,
            catalog,
            metrics,
            logs,
            store,
            records,
            functions: config.functions,
            loaded_at_start: config.loaded_at_start,
            children: config.children.clone(),
            cpu_features: codegen::cpu_features(),
            slots: Semaphore::new(node::PUBLISHES),
            rebuilds: Semaphore::new(1),
            loads: Semaphore::new(std::thread::available_parallelism().map_or(1, |n| n.get())),
            waiting: AtomicUsize::new(0),
            rollouts: Rollouts::default(),
            secrets,
            outbound,
            trials: Trials::default(),
            known: Arc::default(),
            names: Turns::default(),
            keys: Turns::default(),
            commits: Turn::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// By what functions call others.
    #[must_use]
    pub fn outbound(&self) -> &Arc<Client> {
        &self.shared.outbound
    }

    /// A file for an upload of so many bytes while it arrives.
    ///
    /// # Errors
    /// [`StoreError::Full`], or what the file system says.
    pub fn scratch(&self, bytes: u64) -> Result<Scratch, StoreError> {
        self.shared.store.scratch(bytes)
    }

    /// Publishes one revision. A caller that stops waiting does not stop it: it ends as if the caller were there.
    ///
    /// # Errors
    /// [`PublishError`] says at which stage, why, and what to do; the current revision serves on.
    pub async fn publish(
        &self,
        request: PublishRequest,
        progress: impl Fn(&StageTime) + Send + Sync + 'static,
    ) -> Result<PublishReport, PublishError> {
        let shared = self.shared.clone();
        let thrift = Thrift::begin();
        let work = tokio::spawn(async move {
            let result = shared.publish(flow::Wanted::Deploy(Box::new(request)), &progress).await;
            let label = result.as_ref().map_or_else(|error| error.stage.name(), |_| "ok");
            shared.metrics.publishes.with_label_values(&[label]).inc();
            give_back(thrift);
            result
        });
        joined(Stage::Activate, work.await)
    }

    /// Makes a name lead nowhere and forgets its revisions; false if there was no such function. Requests under way
    /// end on the revision that they started with.
    ///
    /// # Errors
    /// When the database fails; the function is then still there.
    pub async fn remove(&self, name: &FunctionName) -> Result<bool, PublishError> {
        let (shared, name) = (self.shared.clone(), name.clone());
        let thrift = Thrift::begin();
        let work = tokio::spawn(async move {
            let result = shared.remove(&name).await;
            give_back(thrift);
            result
        });
        joined(Stage::Store, work.await)
    }

    /// By which previews are reached.
    #[must_use]
    pub fn preview_key(&self) -> PreviewKey {
        self.shared.store.preview_key()
    }

    /// A function's deployments that are remembered, newest first; empty if there is no such function.
    ///
    /// # Errors
    /// When the database fails.
    pub fn deployments(&self, name: &FunctionName) -> Result<Vec<Deployment>, RecordsError> {
        self.shared.records.deployments(name)
    }

    /// A function's versions that are remembered, newest first; empty if there is no such function.
    ///
    /// # Errors
    /// When the database fails.
    pub fn history(&self, name: &FunctionName) -> Result<Vec<RevisionRecord>, RecordsError> {
        self.shared.records.history(name)
    }
}

/// Gives memory back to the system that the allocator keeps of modules and code: ten models of 86 MiB left 290 MiB.
fn give_back(thrift: Thrift) {
    tokio::task::spawn_blocking(move || drop(thrift));
}

/// What blocks on disk or CPU, off the threads that serve.
async fn blocking<T: Send + 'static>(
    stage: Stage,
    work: impl FnOnce() -> Result<T, PublishError> + Send + 'static,
) -> Result<T, PublishError> {
    joined(stage, tokio::task::spawn_blocking(work).await)
}

fn joined<T>(
    stage: Stage,
    result: Result<Result<T, PublishError>, tokio::task::JoinError>,
) -> Result<T, PublishError> {
    // A panic of ours, or a runtime that shuts down.
    result.unwrap_or_else(|error| Err(PublishErrorKind::Internal(error.to_string()).at(stage)))
}

impl Shared {
    async fn remove(&self, name: &FunctionName) -> Result<bool, PublishError> {
        let _turn = self.names.turn(name).await;
        let _commit = self.commits.lock().await;
        let at = |kind: PublishErrorKind| kind.at(Stage::Store);
        let found = self.records.remove(name).map_err(|error| at(error.into()))?;
        self.forget_versions(name);
        self.carry(name, None);
        self.catalog.remove(name);
        self.metrics.remove(name);
        // With the name's turn: a function of that name that comes later has a log of its own.
        self.logs.forget(name);
        if found {
            let referenced = self.records.references(false).map_err(|error| at(error.into()))?;
            self.records.sweep(&referenced).map_err(|error| at(error.into()))?;
            let store = self.store.clone();
            blocking(Stage::Store, move || {
                store.sweep(&referenced);
                Ok(())
            })
            .await?;
        }
        Ok(found)
    }
}
