//! A revision's code, ready to be run: mapped by the engine, linked with every import once, and what to call in it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use mayfly_core::record::Abi;
use mayfly_core::{Digest, Mac};
use mayfly_store::artifact::{VerifiedArtifact, VerifiedImage};
use parking_lot::Mutex;
use wasmtime::{ExternType, InstancePre, Linker, Module, ModuleExport, Store};

use crate::engine::memory::{Hosted, Image, MEMORY_BYTES, OutOfArenas, Template};
use crate::engine::{Engine, EngineError};
use crate::imports;
use crate::sandbox::{Assets, Sandbox};

/// What links code: one per process.
pub struct Programs {
    engine: Engine,
    linker: Linker<Sandbox>,
    /// Code that some revision has, by the proof of its bytes.
    mapped: Mutex<HashMap<[u8; Mac::BYTES], Weak<Mapped>>>,
    /// The same with its memory.
    loaded: Mutex<HashMap<Code, Weak<Linked>>>,
    /// Images that some code has.
    images: Mutex<HashMap<Digest, Weak<Image>>>,
}

/// The proof of an artifact's bytes, what its memories begin with and how large they are if it does not say so itself, and
/// how it is entered.
type Code = ([u8; Mac::BYTES], Option<Digest>, Option<u64>, Abi);

/// What an instance's memory is like before its first instruction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beginning<'a> {
    /// What it begins with; zeros without one.
    pub image: Option<&'a VerifiedImage>,
    /// Its bytes, if they are more than the code asks for: a snapshot's.
    pub bytes: Option<u64>,
}

/// Code that the engine has mapped, once for all whose bytes are the same: every model of the stock runner.
pub struct Mapped {
    module: Module,
    mac: Mac,
    bytes: u64,
}

impl Mapped {
    /// The proof of its bytes.
    #[must_use]
    pub fn mac(&self) -> &Mac {
        &self.mac
    }

    /// Length of its file, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// An artifact's code, linked: one for all revisions that have the very same bytes and begin alike. All that a request does
/// with it is instantiate.
pub struct Linked {
    /// What it was linked of: kept, so that the next one that begins otherwise finds it. Nothing if nobody else has it.
    pub mapped: Option<Arc<Mapped>>,
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
    pub fn host(&self, mut sandbox: Sandbox) -> Result<Hosted<Sandbox>, OutOfArenas> {
        let lease = self.template.take()?;
        sandbox.begins_with(self.template.bytes());
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
        let (mapped, loaded, images) = Default::default();
        Ok(Self { engine, linker, mapped, loaded, images })
    }

    /// Code of these bytes, if some revision has it: then nobody need read its file.
    #[must_use]
    pub fn mapped(&self, mac: &Mac) -> Option<Arc<Mapped>> {
        self.mapped.lock().get(mac.as_bytes()).and_then(Weak::upgrade)
    }

    /// Maps an artifact's code, unless a revision has the same already.
    ///
    /// # Errors
    /// [`EngineError::Load`] when it was made for another engine.
    pub fn map_code(&self, artifact: &VerifiedArtifact) -> Result<Arc<Mapped>, EngineError> {
        if let Some(mapped) = self.mapped(artifact.mac()) {
            return Ok(mapped);
        }
        // Two that load the same at one time have one each.
        let module = self.engine.deserialize(artifact)?;
        let (mac, bytes) = (*artifact.mac(), artifact.bytes());
        let mapped = Arc::new(Mapped { module, mac, bytes });
        let mut all = self.mapped.lock();
        all.retain(|_, mapped| mapped.strong_count() > 0);
        all.insert(*mac.as_bytes(), Arc::downgrade(&mapped));
        Ok(mapped)
    }

    /// Links code, unless a revision has the same already that begins alike.
    ///
    /// # Errors
    /// [`EngineError::Export`] when it lacks an entry, [`EngineError::Load`] when it cannot begin so.
    pub fn load(
        &self,
        code: &Arc<Mapped>,
        beginning: Beginning<'_>,
        abi: Abi,
        assets: Option<Arc<Assets>>,
    ) -> Result<LoadedModule, EngineError> {
        let image = beginning.image.map(VerifiedImage::digest);
        let key = (*code.mac.as_bytes(), image, beginning.bytes, abi);
        if let Some(linked) = self.loaded.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(LoadedModule { linked, assets });
        }
        let linked = Arc::new(self.link(code, beginning, abi)?);
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
        code: &Arc<Mapped>,
        beginning: Beginning<'_>,
        abi: Abi,
    ) -> Result<Linked, EngineError> {
        let module = &code.module;
        let refused = |error: wasmtime::Error| EngineError::Load(format!("{error:#}"));
        let pre = self.linker.instantiate_pre(module).map_err(refused)?;
        let memory = module.get_export_index("memory").ok_or(EngineError::Export("memory"))?;
        let bytes = memory_bytes(module, beginning)?;
        let image = beginning.image.map(|image| self.map(image)).transpose()?.flatten();
        let template = self.engine.arenas().template(image, bytes);
        let calls = entry_calls(module, abi)?.into();
        Ok(Linked { mapped: Some(code.clone()), pre, calls, memory, template })
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

/// Bytes of a fresh memory. What a record says is held to what the code allows: the engine is told of it by nobody else.
fn memory_bytes(module: &Module, beginning: Beginning<'_>) -> Result<u64, EngineError> {
    let Some(ExternType::Memory(memory)) = module.get_export("memory") else { return Ok(0) };
    let page = memory.page_size();
    let least = memory.minimum().saturating_mul(page);
    let most = memory.maximum().map_or(MEMORY_BYTES as u64, |pages| pages.saturating_mul(page));
    let bytes = beginning.bytes.unwrap_or(least);
    let image = beginning.image.map_or(0, VerifiedImage::bytes);
    let fits = (least.max(image)..=most.min(MEMORY_BYTES as u64)).contains(&bytes);
    if !fits || !bytes.is_multiple_of(page) {
        return Err(EngineError::Load(format!(
            "a memory of {bytes} bytes is not one that it can begin with"
        )));
    }
    Ok(bytes)
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
