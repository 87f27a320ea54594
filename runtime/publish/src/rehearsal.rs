//! The guest of the self-test: compiled, loaded and run like any other, but never recorded and never routable.

use std::sync::Arc;

use bytes::Bytes;
use mayfly_core::record::{Abi, RevisionRecord, Settings, Snapshot};
use mayfly_core::{ArtifactKey, Digest, FunctionName, Limits};
use mayfly_host::program::Beginning;
use mayfly_host::revision::Revision;

use super::compile::{Job, compile};
use super::error::{PublishError, PublishErrorKind, Stage};
use super::image::Layout;
use super::validate::validate;
use super::{Publisher, Shared, blocking};
use crate::self_test::{self, SelfTestError};

/// Its name in logs while it runs.
const NAME: &str = "mayfly-self-test";

/// What its code is kept as; keys of code caches are hashes without this.
const KEPT_AS: &[u8] = b"self-test";

/// A guest that is ready to test the pool with.
pub struct Rehearsal {
    shared: Arc<Shared>,
    revision: Arc<Revision>,
}

impl Publisher {
    /// Makes the self-test's guest. It is compiled at a node's first start, in a child process (about as long as a
    /// deploy of the smallest module), and kept beside the code caches: a restart compiles nothing.
    ///
    /// # Errors
    /// [`PublishError`]: then no deploy would work either.
    pub async fn rehearsal(&self) -> Result<Rehearsal, PublishError> {
        let shared = self.shared.clone();
        let wasm = Bytes::from_static(self_test::GUEST);
        let module = validate(&wasm, &Limits::default())
            .map_err(|refusal| PublishErrorKind::from(refusal).at(Stage::Validate))?;
        // Nothing that decides how it is compiled may differ from what is kept; the store checks the MAC.
        let digest = Digest::of(&wasm);
        let key = shared.key(digest, &Limits::default(), false);
        let kept = ArtifactKey(Digest::of(&[KEPT_AS, key.0.as_bytes()].concat()));
        let store = shared.store.clone();
        let mut code = blocking(Stage::Compile, move || Ok(store.read_cache(kept))).await?;
        if code.is_empty() {
            let job = Job { instrument: false, without_data: true };
            let compiled = compile(&shared.children, module.code, Bytes::new(), job).await;
            code = compiled.map_err(|error| PublishErrorKind::from(error).at(Stage::Compile))?.code;
            let (store, code) = (shared.store.clone(), code.clone());
            let put = move || {
                // Only the next start's speed depends on it.
                if let Err(error) = store.put_cache(kept, &code) {
                    tracing::warn!(%error, "the self-test's code is not kept for the next start");
                }
                Ok(())
            };
            blocking(Stage::Store, put).await?;
        }
        let revision = shared.rehearse(&wasm, code).await?;
        Ok(Rehearsal { shared, revision })
    }
}

impl Shared {
    /// Through the store, because that is the only way to native code; not through its disk, because a node must start
    /// on one that is full.
    async fn rehearse(
        self: &Arc<Self>,
        wasm: &Bytes,
        code: Bytes,
    ) -> Result<Arc<Revision>, PublishError> {
        let digest = Digest::of(wasm);
        let key = self.key(digest, &Limits::default(), false);
        let (shared, bytes, module) = (self.clone(), code.len() as u64, wasm.clone());
        let (loaded, mac) = blocking(Stage::Activate, move || {
            let at = |kind: PublishErrorKind| kind.at(Stage::Activate);
            let (artifact, mac) =
                shared.store.in_memory(key, &code).map_err(|reject| at(reject.into()))?;
            let layout = Layout::of(&module)
                .map_err(|error| at(PublishErrorKind::Internal(error.to_string())))?;
            let image = (layout.bytes > 0)
                .then(|| shared.store.image_in_memory(layout.bytes, &layout.parts(&module)))
                .transpose()
                .map_err(|reject| at(reject.into()))?;
            let beginning = Beginning { image: image.as_ref(), bytes: None };
            let code = shared.programs.map_code(&artifact).map_err(|error| at(error.into()))?;
            let loaded = shared
                .programs
                .load(&code, beginning, Abi::Reactor, None)
                .map_err(|error| at(error.into()))?;
            Ok((loaded, mac))
        })
        .await?;
        let function = FunctionName::new(NAME)
            .map_err(|why| PublishErrorKind::Internal(why.to_string()).at(Stage::Activate))?;
        let record = RevisionRecord {
            function,
            number: 0,
            wasm: digest,
            wasm_bytes: wasm.len() as u64,
            artifact: key,
            artifact_mac: mac,
            artifact_bytes: bytes,
            code: None,
            image: None,
            abi: Abi::Reactor,
            snapshot: Snapshot::NoInit,
            settings: Settings::default(),
            created_unix_s: RevisionRecord::now_unix_s(),
            stages: Vec::new(),
            learned_from: None,
        };
        Ok(self.revision(record, loaded))
    }
}

impl Rehearsal {
    /// Runs the self-test. Nothing else may use the pool meanwhile.
    ///
    /// # Errors
    /// [`SelfTestError`] names the key to change.
    pub async fn run(self) -> Result<(), SelfTestError> {
        let tested = self_test::run(&self.shared.engine, &self.revision, &self.shared.logs).await;
        // It has no series of its own to leave behind.
        self.shared.forget_metrics(&self.revision.record.function);
        tested
    }
}
