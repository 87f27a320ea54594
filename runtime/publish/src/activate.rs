//! The last stage: open, verify, load, make one instance. The guest's entry is not called; what it does is its own
//! business, and a request may cost somebody money.

use std::sync::Arc;

use bytes::Bytes;
use mayfly_core::FunctionName;
use mayfly_core::outbound::Rules;
use mayfly_core::record::{RevisionRecord, Settings, SettingsError, Snapshot};
use mayfly_host::descriptors;
use mayfly_host::engine::EngineError;
use mayfly_host::program::{Beginning, LoadedModule, Mapped};
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Assets;
use mayfly_outbound::Access;
use mayfly_store::artifact::{Reject, VerifiedImage};

use super::error::{PublishError, PublishErrorKind, Stage};
use super::kept_code::open_code;
use super::validate::validate;
use super::{Shared, blocking};

impl Shared {
    /// Loads code that was just made, and tries it. Not under the lock of commits: nobody knows what a start function
    /// does, and others' deploys and removals go on meanwhile.
    pub(super) async fn try_out(
        &self,
        record: &RevisionRecord,
        code: Arc<Mapped>,
        image: Option<VerifiedImage>,
        assets: Option<Arc<Assets>>,
    ) -> Result<LoadedModule, PublishError> {
        let (programs, abi) = (self.programs.clone(), record.abi);
        let bytes = record.snapshot.memory_bytes();
        let loaded = blocking(Stage::Activate, move || {
            programs
                .load(&code, Beginning { image: image.as_ref(), bytes }, abi, assets)
                .map_err(|error| PublishErrorKind::from(error).at(Stage::Activate))
        })
        .await?;
        self.trial(record, &loaded).await?;
        Ok(loaded)
    }

    /// Makes one instance.
    pub(super) async fn trial(
        &self,
        record: &RevisionRecord,
        loaded: &LoadedModule,
    ) -> Result<(), PublishError> {
        let revision = self.revision(record.clone(), loaded.clone());
        if let Err(error) = self.trials.run(&revision, &self.logs).await {
            self.forget_metrics(&record.function);
            return Err(PublishErrorKind::from(error).at(Stage::Activate));
        }
        Ok(())
    }

    /// Forgets the metrics and the log of a function that is not there after all.
    pub(super) fn forget_metrics(&self, name: &FunctionName) {
        if self.catalog.load().function(name.as_str()).is_none() {
            self.metrics.remove(name);
            self.logs.forget(name);
        }
    }

    /// A revision from its record and its code, as it goes into the catalog.
    pub(super) fn revision(&self, record: RevisionRecord, module: LoadedModule) -> Arc<Revision> {
        let metrics = self.metrics.function(&record.function);
        let log = self.logs.source(&record.function, &metrics);
        let outbound = self.access(&record);
        let revision = Revision::new(record, module, metrics, log, outbound);
        self.give_secrets(&revision);
        revision
    }

    /// Whether every address that its rules name could be called.
    pub(super) fn check_outbound(&self, settings: &Settings) -> Result<(), PublishErrorKind> {
        let rules = Rules::parse(&settings.outbound).map_err(SettingsError::from)?;
        let private = |(rule, why)| SettingsError::OutboundPrivate { rule, why };
        Ok(self.outbound.check_rules(&rules).map_err(private)?)
    }

    /// What a version may call, if anything.
    fn access(&self, record: &RevisionRecord) -> Option<Arc<Access>> {
        let settings = &record.settings;
        if settings.outbound.is_empty() {
            return None;
        }
        // It was checked when it was deployed.
        let rules = Rules::parse(&settings.outbound).ok()?;
        let client = self.outbound.clone();
        Some(Access::new(client, &record.function, rules, &settings.outbound_headers))
    }

    /// At start: the code of a current revision, if it is still what we wrote and made for this very engine.
    pub(super) fn reload(&self, record: &RevisionRecord) -> Result<LoadedModule, Stale> {
        let has_init = record.snapshot != Snapshot::NoInit;
        if self.key(record.wasm, &record.settings.limits, has_init) != record.artifact {
            return Err(Stale::OtherEngine);
        }
        // Another function of the same module may have made the files anew since, with a proof of its own.
        let row = self.records.artifact(record.artifact).ok().flatten();
        let (mac, code, snapshot, row_image) = match row {
            Some(row) => (row.mac, row.code, row.snapshot, row.image),
            None => (record.artifact_mac, record.code, record.snapshot.clone(), record.image),
        };
        let file = code.unwrap_or(record.artifact);
        // What is mapped was verified then: to do it again takes 20 ms for a model's 25 MiB, and a step back waits for it. A
        // file that was damaged since is found by the next deploy, or start.
        let code = match self.programs.mapped(&mac) {
            Some(mapped) => mapped,
            None => open_code(&self.store, &self.programs, file, &mac)?,
        };
        let image = row_image.map(|image| self.store.open_image(image)).transpose()?;
        let assets = match record.snapshot {
            Snapshot::Refused { .. } => {
                let wasm = self.store.read_wasm(record.wasm)?;
                run_time_assets(&wasm, record)
            }
            Snapshot::NoInit | Snapshot::Taken { .. } => None,
        };
        let beginning = Beginning { image: image.as_ref(), bytes: snapshot.memory_bytes() };
        Ok(self.programs.load(&code, beginning, record.abi, assets)?)
    }
}

/// Why a revision's code is rebuilt.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stale {
    /// Engine, CPU, kernels or pipeline differ.
    #[error("it was made for another engine or CPU")]
    OtherEngine,
    /// It is not what we wrote.
    #[error(transparent)]
    Rejected(#[from] Reject),
    /// The engine does not take it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Stale {
    /// Whether nothing is wrong with it but that we have no descriptor for it.
    pub(super) fn ran_out(&self) -> bool {
        matches!(self, Self::Rejected(Reject::Io(error)) if descriptors::ran_out(error))
    }
}

/// Assets for a revision whose init runs with each request.
fn run_time_assets(wasm: &Bytes, record: &RevisionRecord) -> Option<Arc<Assets>> {
    let module = validate(wasm, &record.settings.limits).ok()?;
    keep_assets(&module.assets)
}

/// Assets in memory of their own, if there are any.
pub(super) fn keep_assets(assets: &Assets) -> Option<Arc<Assets>> {
    (!assets.is_empty()).then(|| Arc::new(assets.detached()))
}
