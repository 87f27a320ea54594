//! A revision's code, ready to be run: mapped by the engine, linked with every import once, and what to call in it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use mayfly_core::record::Abi;
use mayfly_core::{Digest, Mac};
use mayfly_store::artifact::{VerifiedArtifact, VerifiedImage};
use parking_lot::Mutex;
use wasmtime::{ExternType, InstancePre, Linker, Module, ModuleExport, Store};

use crate::engine::memory::{Hosted, Image, OutOfArenas, Template};
use crate::engine::{Engine, EngineError};
use crate::imports;
use crate::sandbox::{Assets, Sandbox};

/// What links code: one per process.
pub struct Programs {
    engine: Engine,
    linker: Linker<Sandbox>,
    /// Code that some revision has, by the proof of its bytes.
    loaded: Mutex<HashMap<Code, Weak<Linked>>>,
    /// Images that some code has.
    images: Mutex<HashMap<Digest, Weak<Image>>>,
}

/// The proof of an artifact's bytes, what its memories begin with, and how it is entered.
type Code = ([u8; Mac::BYTES], Option<Digest>, Abi);

/// An artifact's code, linked: one for all revisions that have the very same bytes. All that a request does with it is
/// instantiate.
pub struct Linked {
    /// Linked and type-checked.
    pub pre: InstancePre<Sandbox>,
    /// What to call, in order.
    pub calls: Box<[ModuleExport]>,
    /// The one memory.
    pub memory: ModuleExport,
    /// What it is like at first.
    pub template: Arc<Template>,
}

/// A revision's code, and what only this revision has.
#[derive(Clone)]
pub struct LoadedModule {
    linked: Arc<Linked>,
    /// Assets that init reads for each request, if there is no snapshot.
    pub assets: Option<Arc<Assets>>,
}

impl LoadedModule {
    /// Code that nobody else has.
    #[must_use]
    pub fn alone(linked: Linked, assets: Option<Arc<Assets>>) -> Self {
        Self { linked: Arc::new(linked), assets }
    }
}

impl std::ops::Deref for LoadedModule {
    type Target = Linked;

    fn deref(&self) -> &Linked {
        &self.linked
    }
}

impl Linked {
    /// A store with a memory for an instance of this.
    ///
    /// # Errors
    /// [`OutOfArenas`].
    pub fn host(&self, sandbox: Sandbox) -> Result<Hosted<Sandbox>, OutOfArenas> {
        let lease = self.template.take()?;
        let mut hosted = Hosted::new(Store::new(self.pre.module().engine(), sandbox), lease);
        hosted.limiter(Sandbox::limiter);
        Ok(hosted)
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
        Ok(Self { engine, linker, loaded: Mutex::default(), images: Mutex::default() })
    }

    /// Maps an artifact's code and links it, unless a revision has the same already.
    ///
    /// # Errors
    /// [`EngineError::Load`] when it was made for another engine, [`EngineError::Export`] when it lacks an entry.
    pub fn load(
        &self,
        artifact: &VerifiedArtifact,
        image: Option<&VerifiedImage>,
        abi: Abi,
        assets: Option<Arc<Assets>>,
    ) -> Result<LoadedModule, EngineError> {
        let key = (*artifact.mac().as_bytes(), image.map(VerifiedImage::digest), abi);
        if let Some(linked) = self.loaded.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(LoadedModule { linked, assets });
        }
        // Two that load the same at one time have one each.
        let linked = Arc::new(self.link(&self.engine.deserialize(artifact)?, image, abi)?);
        let mut loaded = self.loaded.lock();
        loaded.retain(|_, linked| linked.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&linked));
        Ok(LoadedModule { linked, assets })
    }

    /// A revision's code once more, linked with imports that tell a profile of their calls. Linked anew each time: a
    /// tenth of a millisecond, and nothing is kept for what is seldom asked for.
    ///
    /// # Errors
    /// [`EngineError::Engine`], which a test rules out.
    pub fn watched(&self, module: &LoadedModule) -> Result<InstancePre<Sandbox>, EngineError> {
        let refused = |e: wasmtime::Error| EngineError::Engine(format!("{e:#}"));
        let linker = imports::watched_linker(self.engine.wasmtime(), self.engine.native_kernels())
            .map_err(refused)?;
        linker.instantiate_pre(module.pre.module()).map_err(refused)
    }

    fn link(
        &self,
        module: &Module,
        image: Option<&VerifiedImage>,
        abi: Abi,
    ) -> Result<Linked, EngineError> {
        let refused = |error: wasmtime::Error| EngineError::Load(format!("{error:#}"));
        let pre = self.linker.instantiate_pre(module).map_err(refused)?;
        let memory = module.get_export_index("memory").ok_or(EngineError::Export("memory"))?;
        let bytes = match module.get_export("memory") {
            Some(ExternType::Memory(memory)) => memory.minimum().saturating_mul(memory.page_size()),
            _ => 0,
        };
        let image = image.map(|image| self.map(image)).transpose()?.flatten();
        let template = self.engine.arenas().template(image, bytes);
        let calls = entry_calls(module, abi)?.into();
        Ok(Linked { pre, calls, memory, template })
    }

    /// An image, mapped once for all that have the same.
    fn map(&self, image: &VerifiedImage) -> Result<Option<Arc<Image>>, EngineError> {
        let mut images = self.images.lock();
        if let Some(image) = images.get(&image.digest()).and_then(Weak::upgrade) {
            return Ok(Some(image));
        }
        images.retain(|_, image| image.strong_count() > 0);
        let mapped = Image::map(image)
            .map_err(|error| EngineError::Load(format!("the image cannot be mapped: {error}")))?;
        if let Some(mapped) = &mapped {
            images.insert(image.digest(), Arc::downgrade(mapped));
        }
        Ok(mapped)
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
