//! Why what is remembered cannot be had.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::format::FORMAT;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// Another process has it.
    #[error("another mayfly serves from this state directory: stop it, or use another directory")]
    InUse,
    /// A newer Mayfly wrote it.
    #[error(
        "the state directory was written by a newer Mayfly (format {0}, this one knows {FORMAT}): update Mayfly"
    )]
    Newer(u64),
    /// It is no database, or not a whole one.
    #[error(
        "{} is damaged, or no database of Mayfly's ({why}). Restore the state directory from a backup, or move this file \
         away, and the directory wasm beside it: the node starts without functions then, and each has to be deployed again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What redb says.
        why: Box<redb::Error>,
    },
    /// It is not there, and what it speaks of is.
    #[error(
        "{} is missing or empty, and {modules} modules are in {}. Restore it from a backup; or, to start without any \
         function, move that directory away too: what no function refers to is deleted there",
        path.display(), wasm.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// The directory of modules.
        wasm: PathBuf,
        /// How many there are.
        modules: usize,
    },
    /// The database failed.
    #[error("the database of the state directory failed: {0}")]
    Database(Box<redb::Error>),
    /// A record that does not serialise.
    #[error("a record could not be written: {0}")]
    Record(#[from] serde_json::Error),
}

impl RecordsError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Self::Database(error) = self else { return false };
        matches!(&**error, redb::Error::Io(io) if matches!(io.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)))
    }

    /// Whether the database refuses to work because something failed before: nothing was done this time.
    pub(super) fn is_shut(&self) -> bool {
        matches!(self, Self::Database(error) if matches!(**error, redb::Error::PreviousIo))
    }
}

pub(super) fn database(error: impl Into<redb::Error>) -> RecordsError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => RecordsError::InUse,
        error => RecordsError::Database(Box::new(error)),
    }
}

/// What an error means of a file that is being opened.
pub(super) fn opening(path: &Path, error: RecordsError) -> RecordsError {
    match error {
        RecordsError::Database(why) if is_damage(&why) => {
            RecordsError::Damaged { path: path.to_owned(), why }
        }
        error => error,
    }
}

fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(io) => {
            matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        }
        redb::Error::Corrupted(_)
        | redb::Error::RepairAborted
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableDoesNotExist(_) => true,
        _ => false,
    }
}
