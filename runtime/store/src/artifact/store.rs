//! The state directory's files: uploads, compiled code, caches, and the secret that vouches for them.
//!
//! A file is written whole under another name, flushed, renamed, and its directory flushed; only then may a database
//! row refer to it. Files are never changed in place: compiled code is mapped from them.

mod error;
mod evict;
mod images;
mod pins;
pub(crate) mod secret;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use mayfly_core::auth::PreviewKey;
use mayfly_core::limits::node;
use mayfly_core::{ArtifactKey, Digest, Mac, MacKey};
use rustix::fs::{MemfdFlags, memfd_create};

use super::fault::point;
use super::mapped::{self, Scratch};
use super::{Reject, VerifiedArtifact};

pub use error::StoreError;
pub use images::Part;
pub(super) use images::digest as digest_of_image;
pub use pins::Pins;

/// Files under this prefix are unfinished.
const TEMPORARY: &str = "tmp-";

/// What a file in the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Compiled functions, to be used again by the next publish of the same code. The first to go.
    Cache,
    /// Compiled code of a revision.
    Artifact,
    /// The first bytes of a revision's memories.
    Image,
    /// A module as it was uploaded. The last to go.
    Wasm,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Cache, Self::Artifact, Self::Image, Self::Wasm];

    fn dir(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Artifact => "artifacts",
            Self::Image => "images",
            Self::Wasm => "wasm",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Artifact => "cwasm",
            Self::Image => "image",
            Self::Wasm => "wasm",
        }
    }
}

/// The files of a state directory.
#[derive(Debug)]
pub struct ArtifactStore {
    dir: PathBuf,
    secret: MacKey,
    budget: u64,
    pinned: pins::Pinned,
}

impl ArtifactStore {
    /// Opens a state directory, making what is missing of it, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// [`StoreError::Unsafe`] when others could write to it.
    pub fn open(dir: &Path, budget: u64) -> Result<Self, StoreError> {
        own_dir(dir)?;
        for kind in Kind::ALL {
            own_dir(&dir.join(kind.dir()))?;
        }
        let secret = secret::load_or_make(dir)?;
        let store = Self { dir: dir.to_owned(), secret, budget, pinned: pins::Pinned::default() };
        for kind in Kind::ALL {
            let dir = store.dir.join(kind.dir());
            for entry in
                fs::read_dir(&dir).map_err(|e| StoreError::io("listing", &dir, e))?.flatten()
            {
                if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        Ok(store)
    }

    /// By which previews of functions are reached: as long as the node's secret stays.
    #[must_use]
    pub fn preview_key(&self) -> PreviewKey {
        PreviewKey::new(self.secret.derive("mayfly previews"))
    }

    /// A file for an upload of so many bytes while it arrives.
    ///
    /// # Errors
    /// [`StoreError::Full`], or what the file system says.
    pub fn scratch(&self, bytes: u64) -> Result<Scratch, StoreError> {
        let scratch = Scratch::new_in(&self.dir.join(Kind::Wasm.dir()))?;
        scratch.check_room(bytes)?;
        Ok(scratch)
    }

    /// Keeps an upload.
    ///
    /// # Errors
    /// [`StoreError::Full`], or what the file system says.
    pub fn put_wasm(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        // A copy that is there but damaged is replaced.
        if self.read_wasm(digest).is_ok() {
            return Ok(());
        }
        self.put(Kind::Wasm, digest, &[bytes], true)
    }

    /// An upload, if it is still what its name says.
    ///
    /// # Errors
    /// [`Reject`].
    pub fn read_wasm(&self, digest: Digest) -> Result<Bytes, Reject> {
        let bytes = mapped::stored(self.open_file(Kind::Wasm, digest)?, node::PACKAGE_BYTES)?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(Reject::Changed) }
    }

    /// Keeps compiled code. The proof is good once a row that holds it is committed.
    ///
    /// # Errors
    /// [`StoreError::Full`], or what the file system says.
    pub fn put_artifact(&self, key: ArtifactKey, code: &[u8]) -> Result<Mac, StoreError> {
        self.put(Kind::Artifact, key.0, &[code], true)?;
        Ok(self.secret.sign(&key, code))
    }

    /// Opens compiled code and verifies it.
    ///
    /// # Errors
    /// [`Reject`]; the caller makes it anew then.
    pub fn open_artifact(&self, key: ArtifactKey, mac: &Mac) -> Result<VerifiedArtifact, Reject> {
        let file = self.open_file(Kind::Artifact, key.0)?;
        // For the order of eviction only.
        let _ = file.set_modified(SystemTime::now());
        VerifiedArtifact::verify(file, &self.secret, &key, mac)
    }

    /// Compiled code that needs no file, for as long as it is mapped.
    ///
    /// # Errors
    /// [`Reject::Io`] when the system gives no memory for it.
    pub fn in_memory(
        &self,
        key: ArtifactKey,
        code: &[u8],
    ) -> Result<(VerifiedArtifact, Mac), Reject> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("artifact", flags).map_err(io::Error::from)?);
        file.write_all(code)?;
        file.set_permissions(Permissions::from_mode(0o400))?;
        mapped::seal(&file)?;
        file.rewind()?;
        let mac = self.secret.sign(&key, code);
        Ok((VerifiedArtifact::verify(file, &self.secret, &key, &mac)?, mac))
    }

    /// Compiled functions for a body of code; empty if there are none that we wrote.
    #[must_use]
    pub fn read_cache(&self, key: ArtifactKey) -> Bytes {
        let read = || -> Result<Bytes, Reject> {
            let file = self.open_file(Kind::Cache, key.0)?;
            // For the order of eviction only.
            let _ = file.set_modified(SystemTime::now());
            let mut bytes = mapped::stored(file, (node::CODE_CACHE_BYTES + Mac::BYTES) as u64)?;
            if bytes.len() < Mac::BYTES {
                return Err(Reject::Changed);
            }
            let code = bytes.split_off(Mac::BYTES);
            let mac = bytes.as_ref().try_into().map_err(|_| Reject::Changed)?;
            if !self.secret.verify(&key, &code, &Mac::from_bytes(mac)) {
                return Err(Reject::Changed);
            }
            Ok(code)
        };
        match read() {
            Ok(code) => code,
            Err(Reject::Missing) => Bytes::new(),
            Err(reject) => {
                tracing::warn!(cache = %key.0, %reject, "a code cache is thrown away");
                self.purge(Kind::Cache, key.0);
                Bytes::new()
            }
        }
    }

    /// Keeps compiled functions, at the cost of older ones at most. May be lost in a crash; only speed depends on it.
    ///
    /// # Errors
    /// [`StoreError::Full`], or what the file system says.
    pub fn put_cache(&self, key: ArtifactKey, cache: &[u8]) -> Result<(), StoreError> {
        if cache.len() > node::CODE_CACHE_BYTES {
            // It would not be read back.
            return Ok(());
        }
        self.make_room_for_cache((Mac::BYTES + cache.len()) as u64)?;
        let mac = self.secret.sign(&key, cache);
        self.put(Kind::Cache, key.0, &[mac.as_bytes(), cache], false)
    }

    /// Removes a file that must not be used again.
    pub fn purge(&self, kind: Kind, digest: Digest) {
        let path = self.path(kind, digest);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a file could not be removed");
        }
    }

    /// Bytes that a file takes on disk, without its holes; none if there is no such file.
    #[must_use]
    pub fn bytes_of(&self, kind: Kind, digest: Digest) -> u64 {
        std::fs::metadata(self.path(kind, digest)).map_or(0, |file| file.blocks() * 512)
    }

    fn path(&self, kind: Kind, digest: Digest) -> PathBuf {
        self.dir.join(kind.dir()).join(format!("{digest}.{}", kind.extension()))
    }

    fn open_file(&self, kind: Kind, digest: Digest) -> Result<File, Reject> {
        let path = self.path(kind, digest);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Reject::Missing),
            // What O_NOFOLLOW says of a link.
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Err(Reject::NotOurs),
            Err(error) => Err(error.into()),
        }
    }

    fn put(
        &self,
        kind: Kind,
        digest: Digest,
        parts: &[&[u8]],
        durable: bool,
    ) -> Result<(), StoreError> {
        let path = self.path(kind, digest);
        let needs: usize = parts.iter().map(|part| part.len()).sum();
        self.write_and_rename(kind, &path, parts, durable).map_err(|source| {
            // Not its number: that is hidden where a temporary file's path was put round the error.
            StoreError::written(needs as u64, &self.dir, &path, source)
        })
    }

    fn write_and_rename(
        &self,
        kind: Kind,
        path: &Path,
        parts: &[&[u8]],
        durable: bool,
    ) -> io::Result<()> {
        let dir = self.dir.join(kind.dir());
        let step = |at: &str| point(&format!("{}-{at}", kind.extension()));
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&dir)?;
        for part in parts {
            let (start, end) = part.split_at(part.len() / 2);
            file.write_all(start)?;
            step("half-written")?;
            file.write_all(end)?;
        }
        file.as_file().set_permissions(Permissions::from_mode(0o400))?;
        step("written")?;
        if durable {
            file.as_file().sync_all()?;
        }
        step("flushed")?;
        file.persist(path).map_err(|error| error.error)?;
        step("renamed")?;
        if durable {
            File::open(&dir)?.sync_all()?;
        }
        step("done")
    }
}

/// Makes a directory that is ours alone, or checks that it is.
fn own_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| StoreError::io("making", path, e))?;
    let metadata = fs::symlink_metadata(path).map_err(|e| StoreError::io("looking at", path, e))?;
    let refuse = |why| Err(StoreError::Unsafe { path: path.to_owned(), why });
    // The state directory itself may be a link of the operator's, to a volume for example.
    let metadata = if metadata.is_symlink() {
        fs::metadata(path).map_err(|e| StoreError::io("looking at", path, e))?
    } else {
        metadata
    };
    if !metadata.is_dir() {
        return refuse("it is not a directory");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refuse("it belongs to another user");
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse("others may write to it");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
