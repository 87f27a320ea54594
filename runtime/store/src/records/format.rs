//! The file itself: made, opened, and brought from an older format to this one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use mayfly_core::deployment::Deployment;
use mayfly_core::record::RevisionRecord;
use redb::{Database, ReadableDatabase as _, ReadableTable as _};

use super::error::{database, opening};
use super::rows::one;
use super::{
    ARTIFACTS, CURRENT, DEPLOYMENTS, META, REVISIONS, ROLLOUTS, RecordsError, Result, SECRETS,
};
use crate::artifact::fault::point;

/// 1 had no deployments: a function had one version that served.
pub(super) const FORMAT: u64 = 2;

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
pub(super) fn open(path: &Path) -> Result<Database> {
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
        Some(FORMAT) => return Ok(db),
        Some(_) => {
            migrate(&db)?;
            return Ok(db);
        }
        None => {}
    }
    let write = db.begin_write().map_err(database)?;
    {
        write.open_table(REVISIONS).map_err(database)?;
        write.open_table(DEPLOYMENTS).map_err(database)?;
        write.open_table(CURRENT).map_err(database)?;
        write.open_table(ROLLOUTS).map_err(database)?;
        write.open_table(SECRETS).map_err(database)?;
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

/// Makes a file of format 1 one of format 2, in one transaction: where a function had a current version, it has a
/// deployment that gives it all requests, with that version's routes and its number as the generation.
fn migrate(db: &Database) -> Result<()> {
    let write = db.begin_write().map_err(database)?;
    let mut count = 0;
    {
        let revisions = write.open_table(REVISIONS).map_err(database)?;
        let current = write.open_table(CURRENT).map_err(database)?;
        let mut deployments = write.open_table(DEPLOYMENTS).map_err(database)?;
        write.open_table(ROLLOUTS).map_err(database)?;
        write.open_table(SECRETS).map_err(database)?;
        for row in current.iter().map_err(database)? {
            let (name, number) = row.map_err(database)?;
            let (name, number) = (name.value(), number.value());
            // One that cannot be read was left out before, and is now.
            let Some(record) = one::<RevisionRecord>(&revisions, name, number)? else { continue };
            let (function, routes) = (record.function.clone(), record.settings.routes);
            let mut deployment = Deployment::whole(function, number, routes);
            (deployment.generation, deployment.at_unix_s) = (number, record.created_unix_s);
            let json = serde_json::to_vec(&deployment)?;
            deployments.insert((name, number), json.as_slice()).map_err(database)?;
            count += 1;
        }
        let mut meta = write.open_table(META).map_err(database)?;
        meta.insert("format", FORMAT).map_err(database)?;
    }
    point("migrated").map_err(|error| database(redb::Error::Io(error)))?;
    write.commit().map_err(database)?;
    tracing::info!(
        functions = count,
        format = FORMAT,
        "the state directory has this version's format now"
    );
    Ok(())
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
