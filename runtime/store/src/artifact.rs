//! Compiled code on disk, and the proof without which none of it is loaded.

pub mod fault;
pub mod mapped;
pub mod store;

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::MetadataExt as _;

use mayfly_core::{ArtifactKey, Digest, Mac, MacKey};

pub use store::{ArtifactStore, StoreError};

/// An open file of which every byte was checked against the node's MAC. There is no other way to make one, and the
/// engine loads nothing else.
#[derive(Debug)]
pub struct VerifiedArtifact {
    file: File,
    bytes: u64,
    mac: Mac,
}

/// Why a file is not what we wrote.
#[derive(Debug, thiserror::Error)]
pub enum Reject {
    /// There is none.
    #[error("it is not there")]
    Missing,
    /// A link, a directory, another owner, or others may write to it.
    #[error("it is not a plain file of our own that only we can write to")]
    NotOurs,
    /// Its bytes are not those that were written.
    #[error("its contents were changed")]
    Changed,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl VerifiedArtifact {
    /// Checks a file that was opened without following links. The descriptor that is verified is the one that is
    /// loaded, so nothing can be swapped in between.
    ///
    /// # Errors
    /// [`Reject`] says what is wrong with it.
    pub(crate) fn verify(
        mut file: File,
        secret: &MacKey,
        key: &ArtifactKey,
        mac: &Mac,
    ) -> Result<Self, Reject> {
        let bytes = own_plain_file(&file)?;
        if !secret.verify_reader(key, bytes, &mut file, mac)? {
            return Err(Reject::Changed);
        }
        file.rewind()?;
        Ok(Self { file, bytes, mac: *mac })
    }

    /// The same open file, for the engine to map.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn open_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The proof of its bytes: two files that have the same one are the same.
    #[must_use]
    pub fn mac(&self) -> &Mac {
        &self.mac
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// An open file that holds the first bytes of a memory, and of which every byte was checked against its name.
#[derive(Debug)]
pub struct VerifiedImage {
    file: File,
    bytes: u64,
    digest: Digest,
}

impl VerifiedImage {
    /// Checks a file that was opened without following links, as [`VerifiedArtifact`] is.
    ///
    /// # Errors
    /// [`Reject`] says what is wrong with it.
    pub(crate) fn verify(file: File, digest: Digest) -> Result<Self, Reject> {
        let bytes = own_plain_file(&file)?;
        if store::digest_of_image(&file)? != digest {
            return Err(Reject::Changed);
        }
        Ok(Self { file, bytes, digest })
    }

    /// The same open file, to be mapped.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn open_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Its length in bytes: whole pages of wasm.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of its bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// The length of a regular file that belongs to us and that nobody else can write to.
fn own_plain_file(file: &File) -> Result<u64, Reject> {
    let metadata = file.metadata()?;
    let ours = metadata.is_file()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o022 == 0;
    if ours { Ok(metadata.len()) } else { Err(Reject::NotOurs) }
}
