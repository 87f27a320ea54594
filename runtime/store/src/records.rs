//! What the state directory remembers of functions, their versions and their deployments, in one redb file. A change is
//! one transaction, committed after the files that it speaks of are on disk.

mod error;
mod format;
mod rows;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use mayfly_core::deployment::Deployment;
use mayfly_core::record::{RevisionRecord, Snapshot};
use mayfly_core::{ArtifactKey, FunctionName, Mac};
use parking_lot::RwLock;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::artifact::fault::point;
use crate::artifact::store::Kind;
use crate::secrets::Sealed;
pub use error::RecordsError;
use error::database;
pub use format::check_beside;
use format::open;
pub use rows::Written;
use rows::{all, decode, named, one, put_code, put_deployment, put_revision};

/// Function and number to a [`RevisionRecord`] as JSON.
const REVISIONS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("revisions");
/// Function and generation to a [`Deployment`] as JSON.
const DEPLOYMENTS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("deployments");
/// Function to the generation of its current deployment.
const CURRENT: TableDefinition<'_, &str, u64> = TableDefinition::new("current");
/// Function to its rollout under way, as JSON; what is in it is its reader's business.
const ROLLOUTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rollouts");
/// A secret's name to a [`Sealed`] as JSON.
const SECRETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("secrets");
/// Artifact key to an [`ArtifactRow`] as JSON.
const ARTIFACTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("artifacts");
/// `format` to the version of all this.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// What is known of an artifact beside its bytes, to use it for another function of the same module. Code that several
/// modules' snapshots run on has a row of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArtifactRow {
    /// Proof over every byte.
    pub mac: Mac,
    /// What is in it.
    pub snapshot: Snapshot,
    /// What its memories begin with.
    #[serde(default)]
    pub image: Option<mayfly_core::Digest>,
    /// Names its file, if that is shared with other artifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ArtifactKey>,
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

    /// Each function's current deployment and the records of its versions, by name. A row that cannot be read is logged
    /// and left out, so that it costs one function and not the node.
    pub fn current(&self) -> Result<Vec<(Deployment, Vec<RevisionRecord>)>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let current = read.open_table(CURRENT).map_err(database)?;
            let deployments = read.open_table(DEPLOYMENTS).map_err(database)?;
            let revisions = read.open_table(REVISIONS).map_err(database)?;
            let mut found = Vec::new();
            for row in current.iter().map_err(database)? {
                let (name, generation) = row.map_err(database)?;
                let name = name.value();
                let Some(deployment) = one::<Deployment>(&deployments, name, generation.value())?
                else {
                    continue;
                };
                let mut records = Vec::new();
                for number in deployment.versions() {
                    records.extend(one::<RevisionRecord>(&revisions, name, number)?);
                }
                found.push((deployment, records));
            }
            Ok(found)
        })
    }

    /// A function's versions that are remembered, newest first.
    pub fn history(&self, name: &FunctionName) -> Result<Vec<RevisionRecord>> {
        self.with(|db| all(db, REVISIONS, name))
    }

    /// A function's deployments that are remembered, newest first.
    pub fn deployments(&self, name: &FunctionName) -> Result<Vec<Deployment>> {
        self.with(|db| all(db, DEPLOYMENTS, name))
    }

    /// The deployment by which a function is served.
    pub fn deployment(&self, name: &FunctionName) -> Result<Option<Deployment>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let current = read.open_table(CURRENT).map_err(database)?;
            let generation = current.get(name.as_str()).map_err(database)?;
            let Some(generation) = generation.map(|generation| generation.value()) else {
                return Ok(None);
            };
            let deployments = read.open_table(DEPLOYMENTS).map_err(database)?;
            one(&deployments, name.as_str(), generation)
        })
    }

    /// One version of a function.
    pub fn revision(&self, name: &FunctionName, number: u64) -> Result<Option<RevisionRecord>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let revisions = read.open_table(REVISIONS).map_err(database)?;
            one(&revisions, name.as_str(), number)
        })
    }

    /// The number that a function's next version has.
    pub fn next_number(&self, name: &FunctionName) -> Result<u64> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let revisions = read.open_table(REVISIONS).map_err(database)?;
            let mut range = revisions
                .range((name.as_str(), 0)..=(name.as_str(), u64::MAX))
                .map_err(database)?;
            let last = range.next_back().transpose().map_err(database)?;
            Ok(last.map_or(1, |(key, _)| key.value().1 + 1))
        })
    }

    /// All secrets, by name, as they are sealed. A row that cannot be read is logged and left out.
    pub fn secrets(&self) -> Result<Vec<(String, Sealed)>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let secrets = read.open_table(SECRETS).map_err(database)?;
            let mut found = Vec::new();
            for row in secrets.iter().map_err(database)? {
                let (name, bytes) = row.map_err(database)?;
                let sealed = decode::<Sealed>(name.value(), bytes.value());
                found.extend(sealed.map(|sealed| (name.value().to_owned(), sealed)));
            }
            Ok(found)
        })
    }

    /// Writes a secret, or forgets it.
    pub fn put_secret(&self, name: &str, sealed: Option<&Sealed>) -> Result<()> {
        self.with(|db| {
            let write = db.begin_write().map_err(database)?;
            {
                let mut secrets = write.open_table(SECRETS).map_err(database)?;
                match sealed {
                    Some(sealed) => {
                        let json = serde_json::to_vec(sealed)?;
                        secrets.insert(name, json.as_slice()).map_err(database)?;
                    }
                    None => drop(secrets.remove(name).map_err(database)?),
                }
            }
            write.commit().map_err(database)
        })
    }

    /// Every rollout under way, by function, as it was written.
    pub fn rollouts(&self) -> Result<Vec<(String, Vec<u8>)>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let rollouts = read.open_table(ROLLOUTS).map_err(database)?;
            let mut found = Vec::new();
            for row in rollouts.iter().map_err(database)? {
                let (name, bytes) = row.map_err(database)?;
                found.push((name.value().to_owned(), bytes.value().to_vec()));
            }
            Ok(found)
        })
    }

    /// What is known of an artifact, with the proof of its code as that is now: others may have made it anew.
    pub fn artifact(&self, key: ArtifactKey) -> Result<Option<ArtifactRow>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let artifacts = read.open_table(ARTIFACTS).map_err(database)?;
            let row = |key: ArtifactKey| -> Result<Option<ArtifactRow>> {
                let row = artifacts.get(&key.0.as_bytes()[..]).map_err(database)?;
                Ok(row.and_then(|bytes| serde_json::from_slice(bytes.value()).ok()))
            };
            let Some(mut found) = row(key)? else { return Ok(None) };
            if let Some(code) = found.code.map(row).transpose()?.flatten() {
                found.mac = code.mac;
            }
            Ok(Some(found))
        })
    }

    /// Remembers code by itself, so that the next snapshot that runs on it finds it. Forgotten with the last version that
    /// does, or by the next [`Records::sweep`] if none comes.
    pub fn put_code(&self, key: ArtifactKey, mac: Mac) -> Result<()> {
        self.with(|db| {
            let write = db.begin_write().map_err(database)?;
            put_code(&write, key, mac)?;
            write.commit().map_err(database)
        })
    }

    /// Writes a version and the deployment by which its function is served from now on, or one of the two. When this
    /// returns, it survives a crash; until then nothing of it is there.
    pub fn commit(&self, change: &Written<'_>) -> Result<()> {
        self.with(|db| {
            let write = db.begin_write().map_err(database)?;
            if let Some(record) = change.revision {
                put_revision(&write, record)?;
            }
            if let Some(deployment) = change.deployment {
                put_deployment(&write, deployment)?;
            }
            if let Some((name, rollout)) = change.rollout {
                let mut rollouts = write.open_table(ROLLOUTS).map_err(database)?;
                match rollout {
                    Some(rollout) => {
                        drop(rollouts.insert(name.as_str(), rollout).map_err(database)?)
                    }
                    None => drop(rollouts.remove(name.as_str()).map_err(database)?),
                }
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
                let mut rollouts = write.open_table(ROLLOUTS).map_err(database)?;
                rollouts.remove(name.as_str()).map_err(database)?;
                for table in [REVISIONS, DEPLOYMENTS] {
                    let mut rows = write.open_table(table).map_err(database)?;
                    let all = (name.as_str(), 0)..=(name.as_str(), u64::MAX);
                    rows.retain_in(all, |_, _| false).map_err(database)?;
                }
            }
            write.commit().map_err(database)?;
            Ok(found)
        })
    }

    /// Files that versions refer to: those that serve, or may at once, or those of all that are remembered.
    pub fn references(&self, ready_only: bool) -> Result<HashSet<(Kind, mayfly_core::Digest)>> {
        let mut found = HashSet::new();
        let ready = if ready_only { Some(self.ready()?) } else { None };
        for record in self.every()? {
            let key = (record.function.as_str().to_owned(), record.number);
            if ready.as_ref().is_some_and(|ready| !ready.contains(&key)) {
                continue;
            }
            found.insert((Kind::Wasm, record.wasm));
            // The row of the one, and the file of the other.
            found.extend([record.artifact, record.code()].map(|key| (Kind::Artifact, key.0)));
            found.extend(record.image.map(|image| (Kind::Image, image)));
        }
        Ok(found)
    }

    /// Versions of current deployments and of those to which one may go back without compiling.
    fn ready(&self) -> Result<HashSet<(String, u64)>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let current = read.open_table(CURRENT).map_err(database)?;
            let deployments = read.open_table(DEPLOYMENTS).map_err(database)?;
            let mut ready = HashSet::new();
            for row in current.iter().map_err(database)? {
                let (name, generation) = row.map_err(database)?;
                let versions = named(&deployments, name.value(), generation.value())?;
                ready.extend(versions.into_iter().map(|number| (name.value().to_owned(), number)));
            }
            Ok(ready)
        })
    }

    fn every(&self) -> Result<Vec<RevisionRecord>> {
        self.with(|db| {
            let read = db.begin_read().map_err(database)?;
            let revisions = read.open_table(REVISIONS).map_err(database)?;
            let mut records = Vec::new();
            for row in revisions.iter().map_err(database)? {
                let (key, bytes) = row.map_err(database)?;
                records.extend(decode::<RevisionRecord>(key.value().0, bytes.value()));
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

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
