//! A revision's code, ready to be run: mapped by the engine, linked with every import once, and what to call in it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use mayfly_core::Mac;
use mayfly_core::record::Abi;
use mayfly_store::artifact::VerifiedArtifact;
use parking_lot::Mutex;
use wasmtime::{ExternType, InstancePre, Linker, Module, ModuleExport};

use crate::engine::{Engine, EngineError};
use crate::imports;
use crate::sandbox::{Assets, Sandbox};

/// What links code: one per process.
pub struct Programs {
    engine: Engine,
    linker: Linker<Sandbox>,
    /// Code that some revision has, by the proof of its bytes.
    loaded: Mutex<HashMap<Code, Weak<Linked>>>,
}

/// The proof of an artifact's bytes, and how it is entered.
type Code = ([u8; Mac::BYTES], Abi);

/// An artifact's code, linked: one for all revisions that have the very same bytes. All that a request does with it is
/// instantiate.
pub struct Linked {
    /// Linked and type-checked.
    pub pre: InstancePre<Sandbox>,
    /// What to call, in order.
    pub calls: Box<[ModuleExport]>,
    /// The one memory.
    pub memory: ModuleExport,
}

/// A revision's code, and what only this revision has.
#[derive(Clone)]
pub struct LoadedModule {
    linked: Arc<Linked>,
    /// Assets that init reads for each request, if there is no snapshot.
    pub assets: Option<Arc<Assets>>,
    /// Bytes of a request's dirty pages that an idle slot may hold for the next one.
    pub idle_bytes: u64,
}

impl LoadedModule {
    /// Code that nobody else has, and whose slots keep nothing for the next request.
    #[must_use]
    pub fn alone(linked: Linked, assets: Option<Arc<Assets>>) -> Self {
        Self { linked: Arc::new(linked), assets, idle_bytes: 0 }
    }
}

impl std::ops::Deref for LoadedModule {
    type Target = Linked;

    fn deref(&self) -> &Linked {
        &self.linked
    }
}

impl Linked {
    /// Linear memory of a fresh instance, in bytes.
    #[must_use]
    pub fn initial_memory(&self) -> u64 {
        match self.pre.module().get_export("memory") {
            Some(ExternType::Memory(memory)) => memory.minimum().saturating_mul(memory.page_size()),
            _ => 0,
        }
    }
}

impl Programs {
    /// For the modules of this engine.
    ///
    /// # Errors
    /// [`EngineError::Engine`] if two imports clash, which a test rules out.
    pub fn new(engine: Engine) -> Result<Self, EngineError> {
        let linker = imports::linker(engine.wasmtime(), engine.native_kernels())
            .map_err(|e| EngineError::Engine(format!("{e:#}")))?;
        Ok(Self { engine, linker, loaded: Mutex::default() })
    }

    /// Maps an artifact's code and links it, unless a revision has the same already.
    ///
    /// # Errors
    /// [`EngineError::Load`] when it was made for another engine, [`EngineError::Export`] when it lacks an entry.
    pub fn load(
        &self,
        artifact: &VerifiedArtifact,
        abi: Abi,
        assets: Option<Arc<Assets>>,
    ) -> Result<LoadedModule, EngineError> {
        let idle_bytes = self.engine.plan().idle_bytes();
        let key = (*artifact.mac().as_bytes(), abi);
        if let Some(linked) = self.loaded.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(LoadedModule { linked, assets, idle_bytes });
        }
        // Two that load the same at one time have one each.
        let linked = Arc::new(self.link(&self.engine.deserialize(artifact)?, abi)?);
        let mut loaded = self.loaded.lock();
        loaded.retain(|_, linked| linked.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&linked));
        Ok(LoadedModule { linked, assets, idle_bytes })
    }

    fn link(&self, module: &Module, abi: Abi) -> Result<Linked, EngineError> {
        let refused = |error: wasmtime::Error| EngineError::Load(format!("{error:#}"));
        // Made now, so that no request pays for the image's first mapping.
        module.initialize_copy_on_write_image().map_err(refused)?;
        let pre = self.linker.instantiate_pre(module).map_err(refused)?;
        let memory = module.get_export_index("memory").ok_or(EngineError::Export("memory"))?;
        let calls = entry_calls(module, abi)?.into();
        Ok(Linked { pre, calls, memory })
    }
}

/// The exports to call for one request, in order. With a snapshot, init is in the image already.
fn entry_calls(module: &Module, abi: Abi) -> Result<Vec<ModuleExport>, EngineError> {
    let find = |name: &str| module.get_export_index(name);
    let mut calls = Vec::new();
    // The snapshot removes these from the module, so whatever is still there has to run.
    if abi == Abi::Reactor {
        calls.extend(find("_initialize"));
    }
    calls.extend(find(mayfly_abi::EXPORT_INIT).or_else(|| find(mayfly_abi::EXPORT_INIT_WIZER)));
    let entry = match abi {
        Abi::Command => "_start",
        Abi::Reactor => mayfly_abi::EXPORT_HANDLE,
    };
    calls.push(find(entry).ok_or(EngineError::Export(entry))?);
    Ok(calls)
}
