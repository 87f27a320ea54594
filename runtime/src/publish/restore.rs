//! At start: every function that was there before answers at once, from the code on disk. What is not there any more,
//! or does not verify, or was made for another engine, is made anew in the background; 503 meanwhile.

use std::sync::Arc;

use parking_lot::Mutex;

use super::activate::Stale;
use super::error::{PublishError, PublishErrorKind, Stage};
use super::flow::{Upload, assets_at_run_time};
use super::report::Times;
use super::validate::{Plan, validate};
use super::{Publisher, Shared, blocking};
use crate::artifact::store::Kind;
use crate::catalog::Entry;
use crate::records::RecordsError;
use crate::revision::RevisionRecord;

/// What a start found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Functions that answer.
    pub ready: usize,
    /// Functions whose code is being made anew.
    pub preparing: usize,
}

impl Publisher {
    /// Puts every current revision into the catalog; returns when those whose code is good are routable.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn restore(&self) -> Result<Restored, RecordsError> {
        let shared = self.shared.clone();
        let found = tokio::task::spawn_blocking(move || shared.restore_all()).await;
        let (ready, stale) =
            found.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let restored = Restored { ready, preparing: stale.len() };
        for record in stale {
            let shared = self.shared.clone();
            tokio::spawn(async move { shared.rebuild(record).await });
        }
        Ok(restored)
    }
}

impl Shared {
    fn restore_all(&self) -> Result<(usize, Vec<RevisionRecord>), RecordsError> {
        let referenced = self.records.references(false)?;
        self.store.sweep(&referenced);
        if let Err(error) = self.records.sweep(&referenced) {
            // Housekeeping, and a disk that is full must not keep a node from serving what it has.
            tracing::warn!(%error, "rows of artifacts that nothing refers to are kept");
        }
        let records = Mutex::new(self.records.current()?);
        let stale = Mutex::new(Vec::new());
        let ready = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            loop {
                let Some(record) = records.lock().pop() else { return };
                if let Some(record) = self.restore_one(record) {
                    stale.lock().push(record);
                } else {
                    ready.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        };
        // Verifying is hashing: as many at once as there are cores.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        Ok((ready.into_inner(), stale.into_inner()))
    }

    /// The record again if its code has to be made anew.
    fn restore_one(&self, record: RevisionRecord) -> Option<RevisionRecord> {
        let name = record.function.clone();
        match self.reload(&record) {
            Ok(module) => {
                self.catalog.insert(name, Entry::Ready(self.revision(record, module)));
                None
            }
            Err(stale) => {
                tracing::warn!(function = %name, reason = %stale, "the function is compiled anew");
                if let Stale::Rejected(_) | Stale::Engine(_) = stale {
                    self.metrics.artifact_rejects.inc();
                    self.store.purge(Kind::Artifact, record.artifact.0);
                }
                self.catalog.insert(name, Entry::Preparing);
                Some(record)
            }
        }
    }

    async fn rebuild(self: Arc<Self>, record: RevisionRecord) {
        let name = record.function.clone();
        let _turn = self.name_turn(&name).lock_owned().await;
        // A deploy or a removal may have come first.
        match self.records.current_number(&name) {
            Ok(Some(number)) if number == record.number => {}
            _ => return,
        }
        // Not counted as waiting: a node that comes up with many stale functions must still take a deploy.
        let Ok(_slot) = self.slots.acquire().await else { return };
        match self.rebuild_now(record).await {
            Ok(()) => tracing::info!(function = %name, "the function answers again"),
            Err(error) => {
                let hint = error.hint();
                tracing::error!(function = %name, %error, hint, "the function cannot be made anew; deploy it again");
            }
        }
    }

    async fn rebuild_now(&self, mut record: RevisionRecord) -> Result<(), PublishError> {
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
        let mut commit = self.commits.lock().await;
        // A twin of the same module may have been first.
        let stored = match self.reuse(&upload).await? {
            Some(stored) => stored,
            None => {
                drop(commit);
                let mut times = Times::new(&|_| {});
                let built = self.build(&module, &record.settings.limits, &mut times).await?;
                commit = self.commits.lock().await;
                self.keep(&upload, built).await?
            }
        };
        record.artifact = key;
        record.artifact_mac = stored.row.mac;
        record.artifact_bytes = stored.artifact.bytes();
        record.snapshot = stored.row.snapshot;
        let assets = assets_at_run_time(&record.snapshot, &module.assets);
        let loaded = self.try_out(&record, stored.artifact, assets).await?;
        self.records
            .commit(&record)
            .map_err(|error| PublishErrorKind::from(error).at(Stage::Store))?;
        self.catalog.insert(record.function.clone(), Entry::Ready(self.revision(record, loaded)));
        drop(commit);
        Ok(())
    }
}
