//! Code by what it was compiled of. All snapshots of one module run on the same code: they differ in their images alone. So
//! the next model, or the next script, compiles nothing.

use std::sync::Arc;

use bytes::Bytes;
use mayfly_core::{ArtifactKey, Mac};
use mayfly_host::program::{Mapped, Programs};
use mayfly_store::artifact::store::{Kind, Pins};
use mayfly_store::artifact::{ArtifactStore, Reject};

use super::activate::Stale;
use super::error::{PublishError, PublishErrorKind, Stage};
use super::{Shared, blocking};

/// Code in the store, mapped, and kept there until it is referred to.
pub(super) struct KeptCode {
    pub(super) key: ArtifactKey,
    pub(super) mapped: Arc<Mapped>,
    pub(super) pins: Pins,
}

/// Code of this file, verified and mapped, unless the very same is mapped already.
pub(super) fn open_code(
    store: &ArtifactStore,
    programs: &Programs,
    key: ArtifactKey,
    mac: &Mac,
) -> Result<Arc<Mapped>, Stale> {
    Ok(programs.map_code(&store.open_artifact(key, mac)?)?)
}

impl Shared {
    /// What was made before; the key's turn is the caller's.
    pub(super) async fn kept_code(
        &self,
        key: ArtifactKey,
    ) -> Result<Option<KeptCode>, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Store);
        // Before it is looked for: a removal may sweep it.
        let pins = self.store.pin(&[(Kind::Artifact, key.0)]);
        let row = self.records.artifact(key).map_err(|error| at(error.into()))?;
        let Some(row) = row else { return Ok(None) };
        let (store, programs) = (self.store.clone(), self.programs.clone());
        let opened =
            blocking(Stage::Store, move || Ok(open_code(&store, &programs, key, &row.mac)));
        match opened.await? {
            Ok(mapped) => Ok(Some(KeptCode { key, mapped, pins })),
            Err(Stale::Rejected(Reject::Missing)) => Ok(None),
            Err(stale) => {
                self.reject_code(key, &stale);
                Ok(None)
            }
        }
    }

    /// Keeps what was made; the key's turn is the caller's.
    pub(super) async fn keep_code(
        &self,
        key: ArtifactKey,
        code: Bytes,
    ) -> Result<KeptCode, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Store);
        let pins = self.store.pin(&[(Kind::Artifact, key.0)]);
        // What is written counts before the next publish asks for room.
        let _commit = self.commits.lock().await;
        let current = self.records.references(true).map_err(|error| at(error.into()))?;
        let (store, programs) = (self.store.clone(), self.programs.clone());
        let mapped = blocking(Stage::Store, move || {
            let at = |kind: PublishErrorKind| kind.at(Stage::Store);
            store.make_room(code.len() as u64, &current).map_err(|error| at(error.into()))?;
            let mac = store.put_artifact(key, &code).map_err(|error| at(error.into()))?;
            // Read back from the disk: what a restart would find is what serves now.
            let artifact = store.open_artifact(key, &mac).map_err(|reject| at(reject.into()))?;
            programs.map_code(&artifact).map_err(|error| at(error.into()))
        })
        .await?;
        let put = self.records.put_code(key, *mapped.mac());
        put.map_err(|error| at(error.into()))?;
        Ok(KeptCode { key, mapped, pins })
    }

    /// Throws away code that is not what we wrote.
    pub(super) fn reject_code(&self, key: ArtifactKey, reject: &Stale) {
        tracing::warn!(artifact = %key.0, %reject, "an artifact is thrown away and rebuilt");
        self.metrics.artifact_rejects.inc();
        self.store.purge(Kind::Artifact, key.0);
    }
}
