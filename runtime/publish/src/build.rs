//! From a validated module to native code: with a snapshot if its init allows one.

use bytes::Bytes;
use mayfly_core::record::Snapshot;
use mayfly_core::{ArtifactKey, ArtifactKeyParts, Digest, Limits};

use super::compile::{self, Compiled, Job, compile};
use super::error::{PublishError, PublishErrorKind, Stage};
use super::preinit::{PreinitError, preinit};
use super::probe::{Ask, probe};
use super::report::Times;
use super::validate::{Plan, Validated, validate_snapshot};
use super::{Shared, blocking};

/// Raised whenever the same module would give other code.
pub(super) const PIPELINE: u32 = 4;

/// What a build makes.
#[derive(Debug)]
pub(super) struct Built {
    /// The code.
    pub code: Bytes,
    /// The module that it was made of, whose data are the image.
    pub module: Bytes,
    /// What is in both.
    pub snapshot: Snapshot,
    /// What init wrote.
    pub log: String,
    /// Functions from the cache, and functions compiled.
    pub functions: (u64, u64),
}

impl Shared {
    /// Names what a build depends on. Init sees the memory limit: a growth that fails may change what it does.
    pub(super) fn key(&self, wasm: Digest, limits: &Limits, has_init: bool) -> ArtifactKey {
        let mut init_settings = Vec::new();
        if has_init {
            init_settings.extend_from_slice(&limits.memory_bytes.to_le_bytes());
            init_settings.extend_from_slice(&limits.table_elements.to_le_bytes());
        }
        ArtifactKey::new(&ArtifactKeyParts {
            wasm,
            init_settings: &init_settings,
            ..self.key_parts()
        })
    }

    /// Names something that is kept to publish faster: what it is, and what it was made of.
    fn cache_key(&self, what: &str, of: Digest) -> ArtifactKey {
        ArtifactKey::new(&ArtifactKeyParts {
            wasm: of,
            init_settings: what.as_bytes(),
            ..self.key_parts()
        })
    }

    async fn read_cache(&self, key: ArtifactKey) -> Result<Bytes, PublishError> {
        let store = self.store.clone();
        blocking(Stage::Compile, move || Ok(store.read_cache(key))).await
    }

    async fn put_cache(&self, key: ArtifactKey, bytes: Bytes) -> Result<(), PublishError> {
        let store = self.store.clone();
        blocking(Stage::Compile, move || {
            // Only speed depends on it.
            if let Err(error) = store.put_cache(key, &bytes) {
                tracing::warn!(%error, "compiled functions are not kept for the next deploy");
            }
            Ok(())
        })
        .await
    }

    fn key_parts(&self) -> ArtifactKeyParts<'_> {
        ArtifactKeyParts {
            wasm: Digest::from_bytes([0; 32]),
            engine_compatibility: self.engine.compatibility_hash(),
            cpu_features: &self.cpu_features,
            native_kernels: self.engine.native_kernels(),
            pipeline: PIPELINE,
            init_settings: b"",
        }
    }

    /// Makes the code.
    pub(super) async fn build(
        &self,
        module: &Validated,
        limits: &Limits,
        times: &mut Times<'_>,
    ) -> Result<Built, PublishError> {
        // The compiler checks the rest, function by function.
        let cache_key = self.cache_key("functions", code_digest(&module.code));
        let cache = self.read_cache(cache_key).await?;
        let mut work = Work { shared: self, cache, changed: false, functions: (0, 0) };
        let made = match &module.plan {
            Plan::NoInit => {
                let code = work.compile(&module.code, None, true, times).await?;
                (code, module.code.clone(), Snapshot::NoInit, String::new())
            }
            Plan::Refused { reason } => {
                let code = work.compile(&module.code, None, true, times).await?;
                let snapshot = Snapshot::Refused { reason: reason.clone() };
                (code, module.code.clone(), snapshot, String::new())
            }
            Plan::Snapshot { init } => work.snapshot(module, init, limits, times).await?,
        };
        let (code, module, snapshot, log) = made;
        if work.changed {
            self.put_cache(cache_key, work.cache).await?;
        }
        Ok(Built { code, module, snapshot, log, functions: work.functions })
    }
}

/// Type, function and code sections: what the compiler's work depends on. Data and globals are what a model changes.
fn code_digest(module: &[u8]) -> Digest {
    use wasmparser::Payload::{CodeSectionStart, FunctionSection, TypeSection};
    let mut code = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(module).flatten() {
        let range = match payload {
            TypeSection(section) => section.range(),
            FunctionSection(section) => section.range(),
            CodeSectionStart { range, .. } => range,
            _ => continue,
        };
        code.extend_from_slice(Digest::of(&module[range]).as_bytes());
    }
    Digest::of(&code)
}

struct Work<'s> {
    shared: &'s Shared,
    cache: Bytes,
    changed: bool,
    functions: (u64, u64),
}

impl Work<'_> {
    async fn compile(
        &mut self,
        wasm: &Bytes,
        instrument: Option<&str>,
        without_data: bool,
        times: &mut Times<'_>,
    ) -> Result<Bytes, PublishError> {
        let shared = self.shared;
        shared.metrics.compiles.inc();
        let job = Job { instrument: instrument.map(str::to_owned), without_data };
        let Compiled { code, cache, functions } = times
            .stage(Stage::Compile, compile(&shared.children, wasm.clone(), self.cache.clone(), job))
            .await
            .map_err(|error: compile::CompileError| {
                PublishErrorKind::from(error).at(Stage::Compile)
            })?;
        if let Some(cache) = cache {
            self.cache = cache;
            self.changed = true;
        }
        self.functions.0 += functions.0;
        self.functions.1 += functions.1;
        Ok(code)
    }

    /// The code that init runs on. Two uploads that differ in their assets alone are the same code here.
    async fn instrumented(
        &mut self,
        module: &Validated,
        init: &str,
        times: &mut Times<'_>,
    ) -> Result<Bytes, PublishError> {
        let key = self.shared.cache_key("instrumented", Digest::of(&module.code));
        let kept = self.shared.read_cache(key).await?;
        if !kept.is_empty() {
            return Ok(kept);
        }
        let code = self.compile(&module.code, Some(init), false, times).await?;
        self.shared.put_cache(key, code.clone()).await?;
        Ok(code)
    }

    async fn snapshot(
        &mut self,
        module: &Validated,
        init: &str,
        limits: &Limits,
        times: &mut Times<'_>,
    ) -> Result<(Bytes, Bytes, Snapshot, String), PublishError> {
        let shared = self.shared;
        let kernels = shared.engine.native_kernels();
        let instrumented = self.instrumented(module, init, times).await?;
        let run = preinit(
            &shared.children,
            module.code.clone(),
            instrumented,
            &module.assets,
            init,
            limits,
            kernels,
        );
        let snapshotted = match times.stage(Stage::Preinit, run).await {
            Ok(snapshotted) => snapshotted,
            Err(PreinitError::NeedsRequest { import, log }) => {
                let code = self.compile(&module.code, Some(init), true, times).await?;
                let reason = format!(
                    "`{init}` calls {import}, which is there only while a request is handled"
                );
                return Ok((code, module.code.clone(), Snapshot::Refused { reason }, log));
            }
            Err(error) => return Err(PublishErrorKind::from(error).at(Stage::Preinit)),
        };
        let (wasm, limits_owned) = (snapshotted.wasm.clone(), limits.clone());
        let found = blocking(Stage::Preinit, move || {
            validate_snapshot(&wasm, &limits_owned)
                .map_err(|refusal| PublishErrorKind::Snapshot(refusal).at(Stage::Preinit))
        })
        .await?;
        // With instruments again: an exported global is compiled in another way than one that is not, so without them a
        // third of all functions would miss the cache.
        let code = self.compile(&snapshotted.wasm, Some(init), true, times).await?;
        let ask = Ask { seeds: module.seed_probe, weights: module.weight_bytes };
        let mut weight_bytes = None;
        if ask.seeds || ask.weights {
            let image = snapshotted.wasm.clone();
            let run = probe(&shared.children, code.clone(), image, limits, kernels, ask);
            weight_bytes = times
                .stage(Stage::Preinit, run)
                .await
                .map_err(|error| PublishErrorKind::from(error).at(Stage::Preinit))?;
        }
        let snapshot = Snapshot::Taken {
            memory_bytes: found.memory_bytes,
            image_bytes: found.image_bytes,
            image: found.image,
            weight_bytes,
        };
        Ok((code, snapshotted.wasm, snapshot, snapshotted.log))
    }
}
