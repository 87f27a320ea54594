//! What a profile needs of the publisher: code linked to be watched, and the upload's names.

use std::collections::BTreeSet;
use std::sync::Arc;

use mayfly_core::record::{Abi, RevisionRecord};
use mayfly_host::engine::EngineError;
use mayfly_host::revision::{Busy, Recording, Revision};
use mayfly_store::artifact::Reject;

use super::Publisher;
use super::symbols::Symbols;

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is one already.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// Code cannot be linked; a defect of ours.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Publisher {
    /// Begins to profile a revision.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn record(&self, revision: &Arc<Revision>) -> Result<Recording, ProfileError> {
        let quick = self.shared.engine.quicken();
        let pre = self.shared.programs.watched(&revision.module)?;
        Ok(Recording::begin(revision, quick, pre)?)
    }

    /// Names for these compiled functions of a revision, from its upload. Reads the upload: blocks.
    ///
    /// # Errors
    /// When it is not there, or not what it was.
    pub fn symbols(
        &self,
        record: &RevisionRecord,
        compiled: &BTreeSet<u32>,
    ) -> Result<Symbols, Reject> {
        let upload = self.shared.store.read_wasm(record.wasm)?;
        let entry = match record.abi {
            Abi::Command => "_start",
            Abi::Reactor => mayfly_abi::EXPORT_HANDLE,
        };
        Ok(Symbols::of(&upload, compiled, entry))
    }
}
