//! Publishing: from uploaded bytes to a revision that answers, once per deploy.
//!
//! `validate` -> `preinit` and `compile` (child processes) -> `store` -> `activate`. Each stage takes what the one
//! before it made; an error names its stage and leaves the function's current revision serving.

pub mod assets;
pub mod compile;
pub mod error;
pub mod imports;
pub mod preinit;
pub mod probe;
pub mod rehearsal;
pub mod report;
pub mod restore;
pub mod validate;

mod activate;
mod build;
mod init_host;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use mayfly_core::limits::node;
use mayfly_core::{Digest, FunctionName};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, RwLock, Semaphore};

use crate::artifact::store::Kind;
use crate::artifact::{ArtifactStore, StoreError, VerifiedArtifact};
use crate::catalog::{Catalog, Entry};
use crate::child::Children;
use crate::engine::{Engine, codegen};
use crate::logs::LogSink;
use crate::metrics::Metrics;
use crate::records::{ArtifactRow, Records, RecordsError};
use crate::revision::{RevisionRecord, Settings, Snapshot, StageTime};
use activate::keep_assets;
pub use error::{PublishError, PublishErrorKind, Stage};
pub use report::PublishReport;
use report::Times;
pub use restore::Restored;
use validate::{Plan, Validated, validate};

/// What a deploy asks for.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// The function.
    pub name: FunctionName,
    /// The module.
    pub wasm: Bytes,
    /// Limits, environment, routes.
    pub settings: Settings,
}

/// What the operator decides about publishing.
#[derive(Debug, Clone)]
pub struct PublisherConfig {
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// Bytes that uploads, code and caches may take there.
    pub store_bytes: u64,
    /// How child processes are started.
    pub children: Children,
}

impl PublisherConfig {
    /// Defaults, in this directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let store_bytes = node::STORE_BYTES;
        Self { state_dir: state_dir.to_owned(), store_bytes, children: Children::default() }
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
}

/// The one who may change the catalog. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    logs: LogSink,
    store: Arc<ArtifactStore>,
    records: Records,
    children: Children,
    cpu_features: String,
    slots: Semaphore,
    waiting: AtomicUsize,
    names: Mutex<HashMap<FunctionName, Arc<Turn<()>>>>,
    /// Read from writing files to committing the row that refers to them; written to remove what none refers to.
    files: RwLock<()>,
    /// Held while routes are checked and taken.
    routes: Turn<()>,
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
        let records = Records::open(&config.state_dir.join("mayfly.redb"))?;
        let shared = Shared {
            engine,
            catalog,
            metrics,
            logs,
            store,
            records,
            children: config.children.clone(),
            cpu_features: codegen::cpu_features(),
            slots: Semaphore::new(node::PUBLISHES),
            waiting: AtomicUsize::new(0),
            names: Mutex::default(),
            files: RwLock::new(()),
            routes: Turn::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
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
        let work = tokio::spawn(async move {
            let result = shared.publish(request, &progress).await;
            let label = result.as_ref().map_or_else(|error| error.stage.name(), |_| "ok");
            shared.metrics.publishes.with_label_values(&[label]).inc();
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
        joined(Stage::Store, tokio::spawn(async move { shared.remove(&name).await }).await)
    }

    /// A function's revisions that are remembered, newest first; empty if there is no such function.
    ///
    /// # Errors
    /// When the database fails.
    pub fn history(&self, name: &FunctionName) -> Result<Vec<RevisionRecord>, RecordsError> {
        self.shared.records.history(name)
    }
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

/// One deploy among those that wait or run.
struct Waiting<'s>(&'s AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Code on disk that was verified, and what is known of it.
struct Stored {
    artifact: VerifiedArtifact,
    row: ArtifactRow,
    log: String,
    functions: (u64, u64),
    reused: bool,
}

impl Shared {
    fn name_turn(&self, name: &FunctionName) -> Arc<Turn<()>> {
        let mut names = self.names.lock();
        // Whoever waits holds a count; the rest is history.
        names.retain(|_, turn| Arc::strong_count(turn) > 1);
        names.entry(name.clone()).or_default().clone()
    }

    async fn publish(
        &self,
        request: PublishRequest,
        progress: &(dyn Fn(&StageTime) + Send + Sync),
    ) -> Result<PublishReport, PublishError> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waiting >= node::PUBLISH_QUEUE + node::PUBLISHES {
            return Err(PublishErrorKind::QueueFull.at(Stage::Queue));
        }
        // One name at a time, and in the order of arrival.
        let _turn = self.name_turn(&request.name).lock_owned().await;
        let _slot =
            self.slots.acquire().await.map_err(|error| internal(&error).at(Stage::Queue))?;
        let mut times = Times::new(progress);
        let module = self.validate(&request, &mut times).await?;
        let wasm = times_digest(&request.wasm).await?;
        let key = self.key(wasm, &request.settings.limits, module.plan != Plan::NoInit);
        let has_room = self.catalog.load().iter().count() < node::FUNCTIONS
            || self.catalog.load().get(request.name.as_str()).is_some();
        if !has_room {
            return Err(PublishErrorKind::TooManyFunctions.at(Stage::Validate));
        }
        let mut files = self.files.read().await;
        let stored = match self.reuse(key, wasm, &request.wasm).await? {
            Some(stored) => stored,
            None => {
                drop(files);
                let built = self.build(&module, &request.settings.limits, &mut times).await?;
                let start = Instant::now();
                self.make_room((built.code.len() + request.wasm.len()) as u64).await?;
                files = self.files.read().await;
                let stored = self.put(key, wasm, &request.wasm, built).await?;
                times.finish(Stage::Store, start);
                stored
            }
        };
        let report = self.activate(request, module, (wasm, key), stored, times).await;
        drop(files);
        report
    }

    async fn validate(
        &self,
        request: &PublishRequest,
        times: &mut Times<'_>,
    ) -> Result<Validated, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Validate);
        request.settings.check().map_err(|error| at(error.into()))?;
        let (wasm, limits) = (request.wasm.clone(), request.settings.limits.clone());
        let work = blocking(Stage::Validate, move || {
            validate(&wasm, &limits)
                .map_err(|refusal| PublishErrorKind::from(refusal).at(Stage::Validate))
        });
        times.stage(Stage::Validate, work).await
    }

    /// The same module under the same engine was built before.
    async fn reuse(
        self: &Shared,
        key: mayfly_core::ArtifactKey,
        digest: Digest,
        wasm: &Bytes,
    ) -> Result<Option<Stored>, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Store);
        let Some(row) = self.records.artifact(key).map_err(|error| at(error.into()))? else {
            return Ok(None);
        };
        let (store, wasm) = (self.store.clone(), wasm.clone());
        let opened = blocking(Stage::Store, move || {
            let artifact = match store.open_artifact(key, &row.mac) {
                Ok(artifact) => artifact,
                Err(reject) => return Ok(Err(reject)),
            };
            store
                .put_wasm(digest, &wasm)
                .map_err(|error| PublishErrorKind::from(error).at(Stage::Store))?;
            Ok(Ok((artifact, row)))
        });
        match opened.await? {
            Ok((artifact, row)) => {
                let (log, functions) = (String::new(), (0, 0));
                Ok(Some(Stored { artifact, row, log, functions, reused: true }))
            }
            Err(crate::artifact::Reject::Missing) => Ok(None),
            Err(reject) => {
                tracing::warn!(artifact = %key.0, %reject, "an artifact is thrown away and made anew");
                self.metrics.artifact_rejects.inc();
                self.store.purge(Kind::Artifact, key.0);
                Ok(None)
            }
        }
    }

    async fn make_room(&self, needs: u64) -> Result<(), PublishError> {
        let _alone = self.files.write().await;
        let at = |kind: PublishErrorKind| kind.at(Stage::Store);
        let current = self.records.references(true).map_err(|error| at(error.into()))?;
        let store = self.store.clone();
        blocking(Stage::Store, move || {
            store
                .make_room(needs, &current)
                .map_err(|error| PublishErrorKind::from(error).at(Stage::Store))
        })
        .await
    }

    async fn put(
        &self,
        key: mayfly_core::ArtifactKey,
        digest: Digest,
        wasm: &Bytes,
        built: build::Built,
    ) -> Result<Stored, PublishError> {
        let (store, wasm) = (self.store.clone(), wasm.clone());
        blocking(Stage::Store, move || {
            let at = |kind: PublishErrorKind| kind.at(Stage::Store);
            store.put_wasm(digest, &wasm).map_err(|error| at(error.into()))?;
            let mac = store.put_artifact(key, &built.code).map_err(|error| at(error.into()))?;
            // Read back from the disk: what a restart would find is what serves now.
            let artifact = store.open_artifact(key, &mac).map_err(|reject| at(reject.into()))?;
            let row = ArtifactRow { mac, snapshot: built.snapshot };
            Ok(Stored { artifact, row, log: built.log, functions: built.functions, reused: false })
        })
        .await
    }

    async fn activate(
        &self,
        request: PublishRequest,
        module: Validated,
        (wasm, artifact): (Digest, mayfly_core::ArtifactKey),
        stored: Stored,
        mut times: Times<'_>,
    ) -> Result<PublishReport, PublishError> {
        let start = Instant::now();
        let at = |kind: PublishErrorKind| kind.at(Stage::Activate);
        let name = request.name;
        let replaced = self.records.current_number(&name).map_err(|error| at(error.into()))?;
        let mut record = RevisionRecord {
            function: name.clone(),
            number: replaced.unwrap_or(0) + 1,
            wasm,
            wasm_bytes: request.wasm.len() as u64,
            artifact,
            artifact_mac: stored.row.mac,
            artifact_bytes: stored.artifact.bytes(),
            abi: module.abi,
            snapshot: stored.row.snapshot,
            settings: request.settings,
            created_unix_s: RevisionRecord::now_unix_s(),
            stages: Vec::new(),
        };
        let assets = match record.snapshot {
            Snapshot::Refused { .. } => keep_assets(&module.assets),
            Snapshot::NoInit | Snapshot::Taken { .. } => None,
        };
        let loaded = self.try_out(&record, stored.artifact, assets).await?;
        let _routes = self.routes.lock().await;
        self.check_routes(&record)?;
        // The commit is the last step that can fail, so its own time is not in the record.
        times.finish(Stage::Activate, start);
        record.stages = times.so_far();
        self.records.commit(&record).map_err(|error| at(error.into()))?;
        let revision = self.revision(record.clone(), loaded);
        self.catalog.insert(name, Entry::Ready(revision));
        Ok(PublishReport {
            record,
            replaced,
            reused: stored.reused,
            functions_cached: stored.functions.0,
            functions_compiled: stored.functions.1,
            init_log: stored.log,
        })
    }

    fn check_routes(&self, record: &RevisionRecord) -> Result<(), PublishError> {
        let view = self.catalog.load();
        for (function, entry) in view.iter().filter(|(function, _)| **function != record.function) {
            let Entry::Ready(revision) = entry else { continue };
            let theirs = &revision.record.settings.routes;
            if let Some(route) = record.settings.routes.iter().find(|route| theirs.contains(route))
            {
                let (route, function) = (route.clone(), function.to_string());
                return Err(PublishErrorKind::RouteTaken { route, function }.at(Stage::Activate));
            }
        }
        Ok(())
    }

    async fn remove(&self, name: &FunctionName) -> Result<bool, PublishError> {
        let _turn = self.name_turn(name).lock_owned().await;
        let _alone = self.files.write().await;
        let at = |kind: PublishErrorKind| kind.at(Stage::Store);
        let found = self.records.remove(name).map_err(|error| at(error.into()))?;
        self.catalog.remove(name);
        self.metrics.remove(name);
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

fn internal(error: &impl std::fmt::Display) -> PublishErrorKind {
    PublishErrorKind::Internal(error.to_string())
}

async fn times_digest(wasm: &Bytes) -> Result<Digest, PublishError> {
    let wasm = wasm.clone();
    blocking(Stage::Validate, move || Ok(Digest::of(&wasm))).await
}
