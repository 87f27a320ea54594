//! Rows: written together, read one by one, and forgotten when they are too old.

use std::collections::BTreeSet;

use mayfly_core::deployment::Deployment;
use mayfly_core::limits::node;
use mayfly_core::record::{RevisionRecord, Snapshot};
use mayfly_core::{ArtifactKey, FunctionName, Mac};
use redb::{Database, ReadableDatabase as _, ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;

use super::error::database;
use super::{ARTIFACTS, ArtifactRow, CURRENT, DEPLOYMENTS, REVISIONS, Result};

/// What is written in one transaction.
#[derive(Debug, Default, Clone, Copy)]
pub struct Written<'a> {
    /// A version, new or in place of itself.
    pub revision: Option<&'a RevisionRecord>,
    /// The deployment by which its function is served from now on.
    pub deployment: Option<&'a Deployment>,
    /// A function's rollout, or that it has none any more.
    pub rollout: Option<(&'a FunctionName, Option<&'a [u8]>)>,
}

pub(super) fn put_revision(write: &WriteTransaction, record: &RevisionRecord) -> Result<()> {
    let name = record.function.as_str();
    let mut revisions = write.open_table(REVISIONS).map_err(database)?;
    let json = serde_json::to_vec(record)?;
    revisions.insert((name, record.number), json.as_slice()).map_err(database)?;
    let (mac, snapshot, image) = (record.artifact_mac, record.snapshot.clone(), record.image);
    let row = ArtifactRow { mac, snapshot, image, code: record.code };
    put_artifact(write, record.artifact, &row)?;
    // Once more: a removal may have swept it since it was made.
    record.code.map_or(Ok(()), |code| put_code(write, code, mac))
}

pub(super) fn put_code(write: &WriteTransaction, key: ArtifactKey, mac: Mac) -> Result<()> {
    put_artifact(
        write,
        key,
        &ArtifactRow { mac, snapshot: Snapshot::NoInit, image: None, code: None },
    )
}

fn put_artifact(write: &WriteTransaction, key: ArtifactKey, row: &ArtifactRow) -> Result<()> {
    let mut artifacts = write.open_table(ARTIFACTS).map_err(database)?;
    let json = serde_json::to_vec(row)?;
    artifacts.insert(&key.0.as_bytes()[..], json.as_slice()).map_err(database)?;
    Ok(())
}

/// Writes a deployment and forgets what is too old: deployments beyond [`node::DEPLOYMENTS`], and versions beyond
/// [`node::HISTORY`] that no recent deployment names.
pub(super) fn put_deployment(write: &WriteTransaction, deployment: &Deployment) -> Result<()> {
    let (name, generation) = (deployment.function.as_str(), deployment.generation);
    let mut deployments = write.open_table(DEPLOYMENTS).map_err(database)?;
    let json = serde_json::to_vec(deployment)?;
    deployments.insert((name, generation), json.as_slice()).map_err(database)?;
    let oldest = generation.saturating_sub(node::DEPLOYMENTS as u64);
    deployments.retain_in((name, 0)..=(name, oldest), |_, _| false).map_err(database)?;
    write.open_table(CURRENT).map_err(database)?.insert(name, generation).map_err(database)?;
    let named = named(&deployments, name, generation)?;
    let mut revisions = write.open_table(REVISIONS).map_err(database)?;
    let all = (name, 0)..=(name, u64::MAX);
    let mut numbers = Vec::new();
    for row in revisions.range(all).map_err(database)? {
        numbers.push(row.map_err(database)?.0.value().1);
    }
    let beyond = numbers.len().saturating_sub(node::HISTORY);
    let Some(newest) = beyond.checked_sub(1).map(|at| numbers[at]) else { return Ok(()) };
    let old = (name, 0)..=(name, newest);
    revisions.retain_in(old, |(_, number), _| named.contains(&number)).map_err(database)
}

/// The versions of a function's last deployments up to a generation.
pub(super) fn named(
    deployments: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    name: &str,
    generation: u64,
) -> Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    let rows = deployments.range((name, 0)..=(name, generation)).map_err(database)?;
    for row in rows.rev().take(node::DEPLOYMENTS_KEPT_READY) {
        let (_, bytes) = row.map_err(database)?;
        found.extend(
            decode::<Deployment>(name, bytes.value()).into_iter().flat_map(|d| d.versions()),
        );
    }
    Ok(found)
}

/// One row of a function.
pub(super) fn one<T: DeserializeOwned>(
    table: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    name: &str,
    number: u64,
) -> Result<Option<T>> {
    let found = table.get((name, number)).map_err(database)?;
    Ok(found.and_then(|bytes| decode(name, bytes.value())))
}

/// All rows of a function, newest first.
pub(super) fn all<T: DeserializeOwned>(
    db: &Database,
    table: TableDefinition<'_, (&'static str, u64), &'static [u8]>,
    name: &FunctionName,
) -> Result<Vec<T>> {
    let read = db.begin_read().map_err(database)?;
    let rows = read.open_table(table).map_err(database)?;
    let range = rows.range((name.as_str(), 0)..=(name.as_str(), u64::MAX)).map_err(database)?;
    let mut found = Vec::new();
    for row in range.rev() {
        let (_, bytes) = row.map_err(database)?;
        found.extend(decode(name.as_str(), bytes.value()));
    }
    Ok(found)
}

pub(super) fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Option<T> {
    match serde_json::from_slice(bytes) {
        Ok(row) => Some(row),
        Err(error) => {
            tracing::error!(function = name, %error, "a row of its records cannot be read; deploy the function again");
            None
        }
    }
}
