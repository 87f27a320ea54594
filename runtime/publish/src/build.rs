//! From a validated module to native code: with a snapshot if its init allows one.

use bytes::Bytes;
use mayfly_core::record::Snapshot;
use mayfly_core::{ArtifactKey, ArtifactKeyParts, Digest, Limits};

use super::compile::{self, Compiled, Job, compile};
use super::error::{PublishError, PublishErrorKind, Stage};
use super::image::{Layout, touched};
use super::kept_code::KeptCode;
use super::preinit::{PreinitError, Snapshotted, preinit};
use super::probe::Ask;
use super::report::Times;
use super::snapshot::{self, Left};
use super::validate::{Plan, Validated};
use super::{Shared, blocking};

/// Raised whenever the same module would give other code.
pub(super) const PIPELINE: u32 = 5;

/// What a build makes.
pub(super) struct Built {
    /// The code.
    pub code: Code,
    /// Bytes that the image is made of, and how.
    pub data: Bytes,
    pub layout: Layout,
    /// What is in both.
    pub snapshot: Snapshot,
    /// What init wrote.
    pub log: String,
    /// Functions from the cache, and functions compiled.
    pub functions: (u64, u64),
}

/// Code that a build made, or found.
pub(super) enum Code {
    /// Of this module alone.
    Own(Bytes),
    /// On which every snapshot of one module runs.
    Shared(KeptCode),
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
    pub(super) fn cache_key(&self, what: &str, of: Digest) -> ArtifactKey {
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
        let mut work = Work { shared: self, code: &module.code, cache: None, functions: (0, 0) };
        let mut built = match &module.plan {
            Plan::NoInit => work.whole(module, false, Snapshot::NoInit, times).await?,
            Plan::Refused { reason } => {
                let snapshot = Snapshot::Refused { reason: reason.clone() };
                work.whole(module, false, snapshot, times).await?
            }
            Plan::Snapshot { init } => work.snapshot(module, init, limits, times).await?,
        };
        built.functions = work.functions;
        work.keep_cache().await?;
        Ok(built)
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
    code: &'s Bytes,
    /// Read when something is to be compiled.
    cache: Option<Cache>,
    functions: (u64, u64),
}

/// Compiled functions of this body of code, under a key.
struct Cache {
    key: ArtifactKey,
    functions: Bytes,
    changed: bool,
}

impl Work<'_> {
    async fn compile(
        &mut self,
        wasm: &Bytes,
        instrument: bool,
        without_data: bool,
        times: &mut Times<'_>,
    ) -> Result<Bytes, PublishError> {
        let shared = self.shared;
        let mut cache = match self.cache.take() {
            Some(cache) => cache,
            None => {
                let key = shared.cache_key("functions", code_digest(self.code));
                let functions = shared.read_cache(key).await?;
                Cache { key, functions, changed: false }
            }
        };
        shared.metrics.compiles.inc();
        let job = Job { instrument, without_data };
        let run = compile(&shared.children, wasm.clone(), cache.functions.clone(), job);
        let compiled = times.stage(Stage::Compile, run).await;
        let Compiled { code, cache: changed, functions } =
            compiled.map_err(|error: compile::CompileError| {
                PublishErrorKind::from(error).at(Stage::Compile)
            })?;
        if let Some(functions) = changed {
            (cache.functions, cache.changed) = (functions, true);
        }
        self.cache = Some(cache);
        self.functions.0 += functions.0;
        self.functions.1 += functions.1;
        Ok(code)
    }

    /// Keeps what was compiled for the next module of the same code.
    async fn keep_cache(self) -> Result<(), PublishError> {
        match self.cache {
            Some(Cache { key, functions, changed: true }) => {
                self.shared.put_cache(key, functions).await
            }
            _ => Ok(()),
        }
    }

    /// A module without a snapshot: its data are the image.
    async fn whole(
        &mut self,
        module: &Validated,
        instrument: bool,
        snapshot: Snapshot,
        times: &mut Times<'_>,
    ) -> Result<Built, PublishError> {
        let code = Code::Own(self.compile(&module.code, instrument, true, times).await?);
        let data = module.code.clone();
        let layout = Layout::of(&data)
            .map_err(|error| PublishErrorKind::Internal(error.to_string()).at(Stage::Compile))?;
        Ok(Built { code, data, layout, snapshot, log: String::new(), functions: (0, 0) })
    }

    /// The code that init runs on. Two uploads that differ in their assets alone are the same code here.
    async fn instrumented(
        &mut self,
        module: &Validated,
        times: &mut Times<'_>,
    ) -> Result<Bytes, PublishError> {
        let key = self.shared.cache_key("instrumented", module.digest);
        let kept = self.shared.read_cache(key).await?;
        if !kept.is_empty() {
            return Ok(kept);
        }
        let code = self.compile(&module.code, true, false, times).await?;
        self.shared.put_cache(key, code.clone()).await?;
        Ok(code)
    }

    async fn snapshot(
        &mut self,
        module: &Validated,
        init: &str,
        limits: &Limits,
        times: &mut Times<'_>,
    ) -> Result<Built, PublishError> {
        let shared = self.shared;
        let at = |kind: PublishErrorKind| kind.at(Stage::Preinit);
        let kernels = shared.engine.native_kernels();
        let instrumented = self.instrumented(module, times).await?;
        let ask = Ask { seeds: module.seed_probe, weights: module.weight_bytes };
        let run =
            preinit(&shared.children, instrumented, &module.assets, init, limits, kernels, ask);
        let found = match times.stage(Stage::Preinit, run).await {
            Ok(found) => found,
            Err(PreinitError::NeedsRequest { import, log }) => {
                let reason = format!(
                    "`{init}` calls {import}, which is there only while a request is handled"
                );
                let snapshot = Snapshot::Refused { reason };
                let built = self.whole(module, true, snapshot, times).await?;
                return Ok(Built { log, ..built });
            }
            Err(error) => return Err(at(error.into())),
        };
        let Snapshotted { left, runs, weight_bytes, log } = found;
        let bytes = left.memory_bytes;
        let odd = |error: snapshot::Odd| at(PreinitError::from(error).into());
        snapshot::check(&module.code, &left, limits).map_err(odd)?;
        let parts = runs.parts(bytes).map_err(odd)?;
        let lengths = parts.iter().map(|(start, range)| (*start, range.len() as u64));
        let (image_bytes, image) = touched(lengths);
        let snapshot = Snapshot::Taken { memory_bytes: bytes, image_bytes, image, weight_bytes };
        let code = Code::Shared(self.code_of(module, init, &left, times).await?);
        let (data, layout) = (runs.contents, Layout::of_parts(parts));
        Ok(Built { code, data, layout, snapshot, log, functions: (0, 0) })
    }

    /// The code of a snapshot: that of an earlier one of the same module, if there was any.
    async fn code_of(
        &mut self,
        module: &Validated,
        init: &str,
        left: &Left,
        times: &mut Times<'_>,
    ) -> Result<KeptCode, PublishError> {
        let shared = self.shared;
        let (code, init, globals) = (module.code.clone(), init.to_owned(), left.globals.clone());
        let (wasm, digest) = blocking(Stage::Compile, move || {
            let wasm = snapshot::resumed(&code, &init, &globals).map_err(|error| {
                PublishErrorKind::Internal(error.to_string()).at(Stage::Compile)
            })?;
            let digest = Digest::of(&wasm);
            Ok((Bytes::from(wasm), digest))
        })
        .await?;
        let key = shared.cache_key("code", digest);
        // Two that need the same: the second finds what the first has made.
        let _turn = shared.keys.turn(&key).await;
        if let Some(kept) = shared.kept_code(key).await? {
            return Ok(kept);
        }
        // With instruments again: an exported global is compiled in another way than one that is not, so without them a
        // third of all functions would miss the cache.
        let code = self.compile(&wasm, true, true, times).await?;
        shared.keep_code(key, code).await
    }
}
