//! Why a file cannot be kept or had.

use std::io;
use std::path::{Path, PathBuf};

use mayfly_core::limits::node;
use mayfly_core::units::human_size;

use super::secret;

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk, or none left of what the store may use.
    #[error("no room for {} in {}: {why}", human_size(*.needs), .dir.display())]
    Full {
        /// Bytes asked for.
        needs: u64,
        /// The state directory.
        dir: PathBuf,
        /// Which bound was met.
        why: String,
    },
    /// The directory is not one that only we can write to.
    #[error("{} must belong to this user and have mode 0700: {why}", .path.display())]
    Unsafe {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A file of secret bytes is not only ours.
    #[error("{path} belongs to another user, or others may read or write it: `chmod 600 {path}`", path = .path.display())]
    Readable {
        /// The file.
        path: PathBuf,
    },
    /// The key of secrets is not whole.
    #[error(
        "{} is damaged: it has {bytes} bytes, and the key that seals secrets has {expected}. Restore it from a backup; or \
         remove it, and set each secret again: `mayfly secret set NAME`",
        .path.display(), expected = secret::BYTES
    )]
    SecretsKey {
        /// The file.
        path: PathBuf,
        /// How many it has.
        bytes: usize,
    },
    /// The node's secret is not whole.
    #[error(
        "{} is damaged: it has {bytes} bytes, and the key that vouches for compiled code has {expected}. Restore it from \
         a backup, or remove it: the node makes a new one at its start, and compiles each function anew",
        .path.display(), expected = secret::BYTES
    )]
    Secret {
        /// The file.
        path: PathBuf,
        /// What it has of it.
        bytes: usize,
    },
    /// Anything else that a file system says.
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    pub(in crate::artifact) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }

    /// What went wrong in writing `needs` bytes.
    pub(in crate::artifact) fn written(
        needs: u64,
        dir: &Path,
        path: &Path,
        source: io::Error,
    ) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::Full { needs, dir: dir.to_owned(), why: source.to_string() };
        }
        Self::io("writing", path, source)
    }

    /// The disk has too little room left.
    pub(in crate::artifact) fn disk(needs: u64, dir: &Path, free: u64) -> Self {
        let why = format!(
            "the disk has {} free, of which {} are kept for the database",
            human_size(free),
            human_size(node::STORE_RESERVE_BYTES)
        );
        Self::Full { needs, dir: dir.to_owned(), why }
    }
}
