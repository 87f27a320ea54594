//! What the state directory remembers of functions and their revisions, in one redb file. A change is one transaction,
//! committed after the files that it speaks of are on disk.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mayfly_core::limits::node;
use mayfly_core::record::{RevisionRecord, Snapshot};
use mayfly_core::{ArtifactKey, FunctionName, Mac};
use parking_lot::RwLock;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::artifact::fault::point;
use crate::artifact::store::Kind;

/// Function and number to a [`RevisionRecord`] as JSON.
const REVISIONS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("revisions");
/// Function to the number of its current revision.
const CURRENT: TableDefinition<'_, &str, u64> = TableDefinition::new("current");
/// Artifact key to an [`ArtifactRow`] as JSON.
const ARTIFACTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("artifacts");
/// `format` to the version of all this.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const FORMAT: u64 = 1;

/// What is known of an artifact beside its bytes, to use it for another function of the same module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArtifactRow {
    /// Proof over every byte.
    pub mac: Mac,
    /// What is in it.
    pub snapshot: Snapshot,
    /// What its memories begin with.
    #[serde(default)]
    pub image: Option<mayfly_core::Digest>,
}

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
    fn is_shut(&self) -> bool {
        matches!(self, Self::Database(error) if matches!(**error, redb::Error::PreviousIo))
    }
}

fn database(error: impl Into<redb::Error>) -> RecordsError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => RecordsError::InUse,
        error => RecordsError::Database(Box::new(error)),
    }
}

/// What an error means of a file that is being opened.
fn opening(path: &Path, error: RecordsError) -> RecordsError {
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

type Result<T> = std::result::Result<T, RecordsError>;

/// The database. After a failure of the disk redb works no more until it is reopened, which happens here when it is
/// needed next: a disk that was full for a moment must not cost a restart.
pub struct Records {
    path: PathBuf,
    held: RwLock<Held>,
}

struct Held {
    /// Nothing while the last try to open it anew has failed.
    db: Option<Database>,
    /// How often it was reopened, so that of two threads that find it shut one does it.
    opened: u64,
}

impl Records {
    /// Opens the database, or makes it. Repairs what a crash left.
    ///
    /// # Errors
    /// [`RecordsError::InUse`] and [`RecordsError::Newer`] are for the operator.
    pub fn open(path: &Path) -> Result<Self> {
        let held = RwLock::new(Held { db: Some(open(path)?), opened: 0 });
        Ok(Self { path: path.to_owned(), held })
    }

    /// Does something with the database, which is reopened first if it is shut.
    fn with<T>(&self, work: impl Fn(&Database) -> Result<T>) -> Result<T> {
        let seen = {
            let held = self.held.read();
            match held.db.as_ref().map(&work) {
                Some(Err(error)) if error.is_shut() => {}
                Some(done) => return done,
                None => {}
            }
            held.opened
        };
        let mut held = self.held.write();
        if held.opened == seen {
            // Closed first: the file is locked.
            held.db = None;
            held.db = Some(open(&self.path)?);
            held.opened += 1;
            tracing::warn!("the database was reopened after a disk error");
        }
        held.db.as_ref().map_or_else(|| Err(database(redb::Error::PreviousIo)), work)
    }

    /// Each function's current revision, by name. A row that cannot be read is logged and left out, so that it costs
    /// one function and not the node.
    pub fn current(&self) -> Result<Vec<RevisionRecord>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let current = read.open_table(CURRENT).map_err(database)?;
            let revisions = read.open_table(REVISIONS).map_err(database)?;
            let mut records = Vec::new();
            for row in current.iter().map_err(database)? {
                let (name, number) = row.map_err(database)?;
                let found = revisions.get((name.value(), number.value())).map_err(database)?;
                records.extend(found.and_then(|bytes| decode(name.value(), bytes.value())));
            }
            Ok(records)
        })
    }

    /// A function's revisions that are remembered, newest first.
    pub fn history(&self, name: &FunctionName) -> Result<Vec<RevisionRecord>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let revisions = read.open_table(REVISIONS).map_err(database)?;
            let range = revisions.range((name.as_str(), 0)..=(name.as_str(), u64::MAX));
            let mut records = Vec::new();
            for row in range.map_err(database)?.rev() {
                let (_, bytes) = row.map_err(database)?;
                records.extend(decode(name.as_str(), bytes.value()));
            }
            Ok(records)
        })
    }

    /// The number of a function's current revision.
    pub fn current_number(&self, name: &FunctionName) -> Result<Option<u64>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let current = read.open_table(CURRENT).map_err(database)?;
            Ok(current.get(name.as_str()).map_err(database)?.map(|number| number.value()))
        })
    }

    /// What is known of an artifact.
    pub fn artifact(&self, key: ArtifactKey) -> Result<Option<ArtifactRow>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let artifacts = read.open_table(ARTIFACTS).map_err(database)?;
            let row = artifacts.get(&key.0.as_bytes()[..]).map_err(database)?;
            Ok(row.and_then(|bytes| serde_json::from_slice(bytes.value()).ok()))
        })
    }

    /// Makes a revision its function's current one. When this returns, it survives a crash.
    pub fn commit(&self, record: &RevisionRecord) -> Result<()> {
        self.with(|db| {
            let write = db.begin_write().map_err(database)?;
            {
                let name = record.function.as_str();
                let mut revisions = write.open_table(REVISIONS).map_err(database)?;
                let json = serde_json::to_vec(record)?;
                revisions.insert((name, record.number), json.as_slice()).map_err(database)?;
                let oldest = record.number.saturating_sub(node::HISTORY as u64);
                revisions.retain_in((name, 0)..=(name, oldest), |_, _| false).map_err(database)?;
                let mut current = write.open_table(CURRENT).map_err(database)?;
                current.insert(name, record.number).map_err(database)?;
                let mut artifacts = write.open_table(ARTIFACTS).map_err(database)?;
                let row = ArtifactRow {
                    mac: record.artifact_mac,
                    snapshot: record.snapshot.clone(),
                    image: record.image,
                };
                let json = serde_json::to_vec(&row)?;
                artifacts
                    .insert(&record.artifact.0.as_bytes()[..], json.as_slice())
                    .map_err(database)?;
            }
            point("row-written").map_err(|error| database(redb::Error::Io(error)))?;
            write.commit().map_err(database)?;
            point("row-committed").map_err(|error| database(redb::Error::Io(error)))
        })
    }

    /// Forgets a function; false if there was none.
    pub fn remove(&self, name: &FunctionName) -> Result<bool> {
        self.with(|db| {
            let write = db.begin_write().map_err(database)?;
            let found;
            {
                let mut current = write.open_table(CURRENT).map_err(database)?;
                found = current.remove(name.as_str()).map_err(database)?.is_some();
                let mut revisions = write.open_table(REVISIONS).map_err(database)?;
                let all = (name.as_str(), 0)..=(name.as_str(), u64::MAX);
                revisions.retain_in(all, |_, _| false).map_err(database)?;
            }
            write.commit().map_err(database)?;
            Ok(found)
        })
    }

    /// Files that revisions refer to: those of current ones, or of all.
    pub fn references(&self, current_only: bool) -> Result<HashSet<(Kind, mayfly_core::Digest)>> {
        let mut found = HashSet::new();
        let mut add = |record: &RevisionRecord| {
            found.insert((Kind::Wasm, record.wasm));
            found.insert((Kind::Artifact, record.artifact.0));
            found.extend(record.image.map(|image| (Kind::Image, image)));
        };
        self.current()?.iter().for_each(&mut add);
        if !current_only {
            self.every()?.iter().for_each(&mut add);
        }
        Ok(found)
    }

    fn every(&self) -> Result<Vec<RevisionRecord>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let revisions = read.open_table(REVISIONS).map_err(database)?;
            let mut records = Vec::new();
            for row in revisions.iter().map_err(database)? {
                let (key, bytes) = row.map_err(database)?;
                records.extend(decode(key.value().0, bytes.value()));
            }
            Ok(records)
        })
    }

    /// Forgets artifacts that no revision refers to.
    pub fn sweep(&self, referenced: &HashSet<(Kind, mayfly_core::Digest)>) -> Result<()> {
        self.with(|db| {
            let write = db.begin_write().map_err(database)?;
            {
                let mut artifacts = write.open_table(ARTIFACTS).map_err(database)?;
                let known = |key: &[u8]| {
                    let bytes = <[u8; 32]>::try_from(key).ok();
                    bytes.is_some_and(|b| {
                        referenced.contains(&(Kind::Artifact, mayfly_core::Digest::from_bytes(b)))
                    })
                };
                artifacts.retain(|key, _| known(key)).map_err(database)?;
            }
            write.commit().map_err(database)
        })
    }
}

/// Refuses a database that is to be rebuilt beside modules of one that was there: they would all be deleted.
///
/// # Errors
/// [`RecordsError::Lost`].
pub fn check_beside(path: &Path, wasm: &Path) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Ok(());
    }
    let modules = std::fs::read_dir(wasm).map_or(0, Iterator::count);
    match modules {
        0 => Ok(()),
        modules => Err(RecordsError::Lost { path: path.into(), wasm: wasm.into(), modules }),
    }
}

/// Opens or makes the file, and says it of one that is damaged.
fn open(path: &Path) -> Result<Database> {
    open_whole(path).map_err(|error| opening(path, error))
}

/// Opens or makes the file. Writes only what is missing, so that a start needs no room on a disk that is full.
fn open_whole(path: &Path) -> Result<Database> {
    // Functions' variables are in it, and some of those are secrets.
    let private = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    drop(private.map_err(redb::Error::Io).map_err(database)?);
    let db = Database::create(path).map_err(database)?;
    match format(&db)? {
        Some(newer) if newer > FORMAT => return Err(RecordsError::Newer(newer)),
        Some(_) => return Ok(db),
        None => {}
    }
    let write = db.begin_write().map_err(database)?;
    {
        write.open_table(REVISIONS).map_err(database)?;
        write.open_table(CURRENT).map_err(database)?;
        write.open_table(ARTIFACTS).map_err(database)?;
        let mut meta = write.open_table(META).map_err(database)?;
        meta.insert("format", FORMAT).map_err(database)?;
    }
    write.commit().map_err(database)?;
    // A new file is only there after a crash if its directory says so.
    let dir = path.parent().unwrap_or(Path::new("."));
    point("database-made")
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(redb::Error::Io)
        .map_err(database)?;
    Ok(db)
}

/// What a file says of itself; nothing if it is new. All tables are made in one transaction with it.
fn format(db: &Database) -> Result<Option<u64>> {
    let read = db.begin_read().map_err(database)?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(database(error)),
    };
    Ok(meta.get("format").map_err(database)?.map(|value| value.value()))
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

fn decode(name: &str, bytes: &[u8]) -> Option<RevisionRecord> {
    match serde_json::from_slice(bytes) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::error!(function = name, %error, "a revision's record cannot be read; deploy the function again");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_was_shut_is_opened_anew_by_whoever_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(&dir.path().join("db")).unwrap();
        let name = FunctionName::new("f").unwrap();
        for opened in 0..3 {
            assert_eq!(records.held.read().opened, opened);
            assert_eq!(records.current_number(&name).unwrap(), None);
            records.held.write().db = None;
            std::thread::scope(|scope| {
                let looks = [(); 4].map(|()| scope.spawn(|| records.current().unwrap().len()));
                looks.into_iter().for_each(|look| assert_eq!(look.join().unwrap(), 0));
            });
        }
    }

    #[test]
    fn what_cannot_be_opened_is_tried_again_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let records = Records::open(&path).unwrap();
        records.held.write().db = None;
        std::fs::rename(&path, dir.path().join("aside")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(records.current().is_err());
        assert!(records.current().is_err());
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(dir.path().join("aside"), &path).unwrap();
        assert_eq!(records.current().unwrap().len(), 0);
    }

    #[test]
    fn modules_without_their_database_are_not_taken_for_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let (path, wasm) = (dir.path().join("mayfly.redb"), dir.path().join("wasm"));
        check_beside(&path, &wasm).unwrap();
        std::fs::create_dir(&wasm).unwrap();
        check_beside(&path, &wasm).unwrap();
        std::fs::write(wasm.join("1.wasm"), "x").unwrap();
        for empty in [false, true] {
            if empty {
                std::fs::write(&path, "").unwrap();
            }
            let error = check_beside(&path, &wasm).unwrap_err().to_string();
            assert!(error.contains("1 modules are in") && error.contains("move that"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        drop(Records::open(&path).unwrap());
        check_beside(&path, &wasm).unwrap();
    }

    #[test]
    fn a_file_that_is_damaged_is_named_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mayfly.redb");
        drop(Records::open(&path).unwrap());
        let whole = std::fs::read(&path).unwrap();
        let mut mixed = whole.clone();
        mixed[64..1024].fill(0xa5);
        for (what, bytes) in [
            ("text", b"garbage".repeat(1000)),
            ("zeros", vec![0; 10_000]),
            ("cut", whole[..whole.len() / 2].to_vec()),
            ("mixed", mixed),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = Records::open(&path).map(drop).unwrap_err().to_string();
            let named = format!("{} is damaged", path.display());
            assert!(
                error.starts_with(&named) && error.contains("move this file away"),
                "{what}: {error}"
            );
        }
    }

    #[test]
    fn a_file_of_a_newer_mayfly_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(Records::open(&path).unwrap());
        let db = Database::create(&path).unwrap();
        let write = db.begin_write().unwrap();
        write.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
        write.commit().unwrap();
        drop(db);
        assert!(matches!(Records::open(&path), Err(RecordsError::Newer(2))));
    }
}
