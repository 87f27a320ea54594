//! At start: every function that was there before answers at once, from the code on disk. The small ones are loaded
//! before the node is ready, the others when they are asked for or when there is time. What is not there any more, or
//! does not verify, or was made for another engine, is rebuilt in the background; 503 meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::FunctionName;
use mayfly_core::deployment::Deployment;
use mayfly_core::limits::node;
use mayfly_core::record::RevisionRecord;
use mayfly_host::catalog::{Entry, Failed, Loading, Lost, Preparing};
use mayfly_host::revision::Revision;
use mayfly_store::artifact::store::Kind;
use mayfly_store::records::{RecordsError, Written};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::activate::Stale;
use super::error::{PublishError, PublishErrorKind, Stage};
use super::flow::{Upload, assets_at_run_time};
use super::report::Times;
use super::validate::{Plan, validate};
use super::{Publisher, Shared, blocking};

/// What a start found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Functions that answer.
    pub ready: usize,
    /// Functions that answer too, whose code is loaded when they are asked for or when there is time.
    pub loading: usize,
    /// Functions whose code is being rebuilt.
    pub preparing: usize,
}

impl Publisher {
    /// Puts every current revision into the catalog; returns when those whose code is there are routable.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn restore(&self) -> Result<Restored, RecordsError> {
        let shared = self.shared.clone();
        // To the end: what a deploy has written is swept until its row is there, and what it has put into the catalog
        // would be overwritten with what was read before.
        let commit = self.shared.commits.lock().await;
        let runtime = Handle::current();
        let found = tokio::task::spawn_blocking(move || shared.restore_all(&runtime)).await;
        let Found { ready, large, stale } =
            found.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        drop(commit);
        let restored = Restored { ready, loading: large.len(), preparing: stale.len() };
        self.shared.warn_of_lost_routes();
        self.shared.resume();
        for stale in stale {
            let shared = self.shared.clone();
            tokio::spawn(async move { shared.rebuild(stale).await });
        }
        tokio::spawn(async move {
            for loading in large {
                loading.wait().await;
            }
        });
        Ok(restored)
    }
}

/// What a start made of the records.
#[derive(Default)]
struct Found {
    ready: usize,
    /// Not looked at: more than is loaded before the node is ready.
    large: Vec<Arc<Loading>>,
    stale: Vec<Arc<Preparing>>,
}

impl Shared {
    fn restore_all(self: &Arc<Self>, runtime: &Handle) -> Result<Found, RecordsError> {
        let referenced = self.records.references(false)?;
        self.store.sweep(&referenced);
        if let Err(error) = self.records.sweep(&referenced) {
            // Housekeeping, and a disk that is full must not keep a node from serving what it has.
            tracing::warn!(%error, "rows of artifacts that nothing refers to are kept");
        }
        let (deployments, mut records) = self.in_order()?;
        let left_out = records.split_off(self.functions.min(records.len()));
        let large = self.split_large(&mut records);
        let (records, loaded) = (Mutex::new(records), Mutex::new(Vec::new()));
        let work = || {
            loop {
                let Some(record) = records.lock().pop() else { return };
                let entry = self.restore_one(record);
                loaded.lock().push(entry);
            }
        };
        // Verifying is hashing: as many at once as there are cores.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        let mut entries = loaded.into_inner();
        let mut found = Found::default();
        for entry in &entries {
            match entry {
                Entry::Preparing(stale) => found.stale.push(stale.clone()),
                Entry::Ready(_) | Entry::Loading(_) => found.ready += 1,
            }
        }
        found.large = large.into_iter().map(|record| self.later(record, runtime)).collect();
        entries.extend(found.large.iter().cloned().map(Entry::Loading));
        entries.extend(left_out.into_iter().map(|record| self.leave_out(record)));
        let mut by_function = HashMap::<FunctionName, Vec<Entry>>::new();
        for entry in entries {
            by_function.entry(entry.record().function.clone()).or_default().push(entry);
        }
        self.catalog.extend(deployments.iter().cloned().filter_map(|deployment| {
            let entries = by_function.remove(&deployment.function)?;
            Some((deployment, entries))
        }));
        for deployment in &deployments {
            let name = &deployment.function;
            self.metrics.serves(name, deployment.main(), deployment.generation);
            self.watch(name);
        }
        Ok(found)
    }

    /// What is deployed, and the records of all versions that can be reached: those that serve first, because there may be
    /// more than the node has descriptors for.
    fn in_order(&self) -> Result<(Vec<Deployment>, Vec<RevisionRecord>), RecordsError> {
        let (mut deployments, mut mains, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (deployment, records) in self.records.current()? {
            let main = deployment.main();
            let (serving, previews): (Vec<_>, Vec<_>) =
                records.into_iter().partition(|record| record.number == main);
            mains.extend(serving);
            others.extend(previews);
            deployments.push(deployment);
        }
        mains.extend(others);
        Ok((deployments, mains))
    }

    /// Takes out of `records`, and sorts from small to large, those that are not loaded before the node is ready.
    fn split_large(&self, records: &mut Vec<RevisionRecord>) -> Vec<RevisionRecord> {
        let bytes = |record: &RevisionRecord| {
            let image = record.image.map_or(0, |image| self.store.bytes_of(Kind::Image, image));
            record.artifact_bytes + image
        };
        records.sort_by_cached_key(bytes);
        let mut sum = 0;
        let now = records.iter().take_while(|record| {
            sum += bytes(record);
            sum <= self.loaded_at_start
        });
        let now = now.count();
        records.split_off(now)
    }

    /// A function that is loaded when it is asked for; not on the runtime of the worker that asks.
    fn later(self: &Arc<Self>, record: RevisionRecord, runtime: &Handle) -> Arc<Loading> {
        let (shared, runtime) = (Arc::downgrade(self), runtime.clone());
        Loading::new(record, move |loading| match shared.upgrade() {
            Some(shared) => drop(runtime.spawn(shared.load(loading))),
            None => loading.done(),
        })
    }

    async fn load(self: Arc<Self>, loading: Arc<Loading>) {
        // Never closed.
        let turn = self.loads.acquire().await;
        // Nobody makes the file anew while it is judged.
        let key = self.keys.turn(&loading.record.code()).await;
        let (shared, record) = (self.clone(), loading.record.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            shared.reload(&record).map(|module| shared.revision(record.clone(), module))
        });
        let loaded = loaded.await;
        let rejected = matches!(&loaded, Ok(Err(stale)) if self.count_reject(stale));
        if rejected {
            self.store.purge(Kind::Artifact, loading.record.code().0);
        }
        drop((key, turn));
        let name = &loading.record.function;
        let lacks = self.check_secrets(&loading.record.settings).err();
        let why = match loaded {
            Ok(Ok(_)) if lacks.is_some() => lacks.map(|kind| kind.to_string()).unwrap_or_default(),
            Ok(Ok(revision)) => {
                if self.catalog.settle(&loading, Entry::Ready(revision)) {
                    self.watch(name);
                } else {
                    // A removal may have been first, and so are its metrics.
                    self.forget_metrics(name);
                }
                return;
            }
            Ok(Err(stale)) => stale.to_string(),
            Err(panic) => panic.to_string(),
        };
        tracing::warn!(function = %name, reason = %why, "the function is compiled anew");
        let preparing = Arc::new(Preparing { record: loading.record.clone(), failed: None });
        if self.catalog.settle(&loading, Entry::Preparing(preparing.clone())) {
            self.rebuild(preparing).await;
        }
    }

    /// What the configuration gives to others although it was deployed: no deploy could have refused it.
    fn warn_of_lost_routes(&self) {
        let view = self.catalog.load();
        for (name, _) in view.iter() {
            for Lost { route, to } in view.overlaps(name).lost {
                tracing::warn!(function = %name, route, %to, "a route of the function leads to another one");
            }
        }
    }

    /// A function for whose code there is no descriptor: those of connections and deploys are not taken for it.
    fn leave_out(&self, record: RevisionRecord) -> Entry {
        let max = self.functions;
        let why = format!("{max} functions are open, and no more may be: raise `ulimit -n`");
        tracing::error!(function = %record.function, "{why}; it answers 503");
        let failed = Some(Failed { why, again: false });
        Entry::Preparing(Arc::new(Preparing { record, failed }))
    }

    /// What a function's name leads to: its code, or that it has to be rebuilt.
    fn restore_one(&self, record: RevisionRecord) -> Entry {
        if self.check_secrets(&record.settings).is_err() {
            // Which one, and what to do, is said when it is tried to make it ready.
            return Entry::Preparing(Arc::new(Preparing { record, failed: None }));
        }
        let stale = match self.reload(&record) {
            Ok(module) => return Entry::Ready(self.revision(record, module)),
            Err(stale) => stale,
        };
        self.throw_away(&record, &stale);
        Entry::Preparing(Arc::new(Preparing { record, failed: None }))
    }

    /// Says that a version is compiled anew, and removes code that is not what we wrote.
    pub(super) fn throw_away(&self, record: &RevisionRecord, stale: &Stale) {
        tracing::warn!(function = %record.function, version = record.number, reason = %stale, "it is compiled anew");
        if self.count_reject(stale) {
            self.store.purge(Kind::Artifact, record.code().0);
        }
    }

    /// Whether something is wrong with the code itself; the metrics count it then.
    fn count_reject(&self, stale: &Stale) -> bool {
        let rejected = matches!(stale, Stale::Rejected(_) | Stale::Engine(_)) && !stale.ran_out();
        self.metrics.artifact_rejects.inc_by(rejected.into());
        rejected
    }

    /// Makes a function's code anew, and tries again while it is the current revision and the cause may pass.
    pub(super) async fn rebuild(self: Arc<Self>, mut preparing: Arc<Preparing>) {
        let mut pause = node::REBUILD_RETRY;
        while let Some(failed) = self.try_rebuild(&preparing).await {
            if failed.failed.as_ref().is_none_or(|failed| !failed.again) {
                return;
            }
            preparing = failed;
            tokio::time::sleep(pause).await;
            pause = longer(pause);
        }
    }

    /// What is in the catalog if the code could not be made.
    async fn try_rebuild(&self, preparing: &Arc<Preparing>) -> Option<Arc<Preparing>> {
        let name = &preparing.record.function;
        // Then in the order in which deploys take them. Not counted as waiting: a node that comes up with many stale
        // functions must still take a deploy.
        let _rebuild = self.rebuilds.acquire().await.ok()?;
        let _turn = self.names.turn(name).await;
        let _slot = self.slots.acquire().await.ok()?;
        // A deploy or a removal, or both, may have come first; both need the turn.
        let is_still = {
            let view = self.catalog.load();
            let function = view.function(name.as_str());
            function.is_some_and(|function| function.entries().any(|now| is_it(now, preparing)))
        };
        if !is_still {
            return None;
        }
        let error = match self.remake(preparing.record.clone()).await {
            Ok(revision) => {
                self.catalog.replace(name, Entry::Ready(revision));
                self.watch(name);
                tracing::info!(function = %name, "the function answers again");
                return None;
            }
            Err(error) => error,
        };
        let (again, hint) = (error.may_pass(), error.hint().unwrap_or_default());
        if again {
            tracing::error!(function = %name, %error, hint, "rebuild failed; will retry");
        } else {
            tracing::error!(function = %name, %error, hint, "rebuild failed; deploy the function again");
        }
        let failed = Some(Failed { why: error.kind.to_string(), again });
        let failed = Arc::new(Preparing { record: preparing.record.clone(), failed });
        self.catalog.replace(name, Entry::Preparing(failed.clone()));
        Some(failed)
    }

    /// Makes a version's code anew, and an instance of it; its record tells of the new code.
    pub(super) async fn remake(
        &self,
        mut record: RevisionRecord,
    ) -> Result<Arc<Revision>, PublishError> {
        self.check_secrets(&record.settings).map_err(|kind| kind.at(Stage::Validate))?;
        let (store, digest) = (self.store.clone(), record.wasm);
        let limits = record.settings.limits.clone();
        let (module, wasm) = blocking(Stage::Validate, move || {
            let wasm = store
                .read_wasm(digest)
                .map_err(|reject| PublishErrorKind::from(reject).at(Stage::Validate))?;
            let module = validate(&wasm, &limits)
                .map_err(|refusal| PublishErrorKind::from(refusal).at(Stage::Validate))?;
            Ok((module, wasm))
        })
        .await?;
        let key = self.key(digest, &record.settings.limits, module.plan != Plan::NoInit);
        let upload = Upload { wasm, digest, key };
        // A twin of the same module may be first.
        let _key = self.keys.turn(&key).await;
        let _pins = self.pin(&upload);
        let stored = match self.reuse(&upload).await? {
            Some(stored) => stored,
            None => {
                let mut times = Times::new(&|_| {});
                let built = self.build(&module, &record.settings.limits, &mut times).await?;
                self.keep(&upload, built).await?
            }
        };
        record.artifact = key;
        record.artifact_mac = stored.row.mac;
        record.artifact_bytes = stored.code.bytes();
        record.code = stored.row.code;
        record.image = stored.row.image;
        record.snapshot = stored.row.snapshot;
        let assets = assets_at_run_time(&record.snapshot, &module.assets);
        let loaded = self.try_out(&record, stored.code, stored.image, assets).await?;
        let _commit = self.commits.lock().await;
        let written = Written { revision: Some(&record), ..Written::default() };
        self.records
            .commit(&written)
            .map_err(|error| PublishErrorKind::from(error).at(Stage::Store))?;
        Ok(self.revision(record, loaded))
    }
}

fn is_it(now: &Entry, preparing: &Arc<Preparing>) -> bool {
    matches!(now, Entry::Preparing(now) if Arc::ptr_eq(now, preparing))
}

/// The pause after this one.
fn longer(pause: Duration) -> Duration {
    (2 * pause).min(node::REBUILD_RETRY_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let pauses = std::iter::successors(Some(node::REBUILD_RETRY), |pause| Some(longer(*pause)));
        let seconds: Vec<_> = pauses.take(8).map(|pause| pause.as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
