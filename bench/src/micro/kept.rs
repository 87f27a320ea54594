//! A module on disk as publish keeps it: its code, and its data as an image.

use mayfly_core::{ArtifactKey, Digest, Mac};
use mayfly_host::engine::codegen;
use mayfly_publish::image::{self, Layout};
use mayfly_store::artifact::{ArtifactStore, VerifiedArtifact, VerifiedImage};

/// See the module.
#[derive(Debug)]
pub struct Kept {
    key: ArtifactKey,
    mac: Mac,
    image: Option<Digest>,
}

impl Kept {
    /// Compiles and writes.
    ///
    /// # Errors
    /// When the compiler refuses, or they cannot be written.
    pub fn make(store: &ArtifactStore, module: &[u8]) -> anyhow::Result<Self> {
        let compiling = wasmtime::Engine::new(&codegen::base_config())?;
        let native = compiling.precompile_module(&image::without_data(module)?)?;
        let key = ArtifactKey(Digest::of(&native));
        let mac = store.put_artifact(key, &native)?;
        let layout = Layout::of(module)?;
        let put = || store.put_image(layout.bytes, &layout.parts(module), |_| ());
        let image = (layout.bytes > 0).then(put).transpose()?.map(|(digest, ())| digest);
        Ok(Self { key, mac, image })
    }

    /// Opens and verifies both.
    ///
    /// # Errors
    /// When they are not what was written.
    pub fn open(
        &self,
        store: &ArtifactStore,
    ) -> anyhow::Result<(VerifiedArtifact, Option<VerifiedImage>)> {
        let artifact = store.open_artifact(self.key, &self.mac)?;
        let image = self.image.map(|image| store.open_image(image)).transpose()?;
        Ok((artifact, image))
    }
}
