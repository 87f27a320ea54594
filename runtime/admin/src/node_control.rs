//! [`Control`] over the node's own publisher and catalog.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::FunctionName;
use mayfly_core::record::{Abi, RevisionRecord, Snapshot};
use mayfly_host::catalog::{Catalog, Entry, Failed, Leaves, Loading, Overlaps, Takes, View};
use mayfly_host::sandbox::cgi;
use mayfly_publish::{
    Change, PublishError, PublishErrorKind, PublishReport, PublishRequest, Publisher, Stage,
};
use mayfly_store::artifact::StoreError;
use mayfly_store::artifact::mapped::Scratch;
use mayfly_store::records::RecordsError;
use tokio::runtime::Handle;

use super::control::{Control, Function, Progress, Published, Refused, Removed, State};

/// The node that serves.
pub struct NodeControl {
    /// Changes what is deployed.
    pub publisher: Publisher,
    /// Says what answers now.
    pub catalog: Arc<Catalog>,
    /// Functions that the node's configuration has deployed at each start.
    pub at_start: BTreeSet<FunctionName>,
    /// Runs publishes; neither a gateway worker nor the admin thread, because they load code.
    pub runtime: Handle,
}

impl Control for NodeControl {
    fn scratch(&self, bytes: u64) -> Result<Scratch, Refused> {
        Ok(self.publisher.scratch(bytes)?)
    }

    fn publish(
        &self,
        name: &FunctionName,
        wasm: Bytes,
        change: Change,
        progress: Progress,
    ) -> Result<Published, Refused> {
        let request = PublishRequest { name: name.clone(), wasm, change };
        let report = self.runtime.block_on(self.publisher.publish(request, progress))?;
        Ok(report.into())
    }

    fn remove(&self, name: &FunctionName) -> Result<Option<Removed>, Refused> {
        let before = self.catalog.load().get(name.as_str()).cloned();
        if !self.runtime.block_on(self.publisher.remove(name))? {
            return Ok(None);
        }
        let under_way = match &before {
            Some(Entry::Ready(revision)) => revision.tenant.unanswered.load(Ordering::Relaxed),
            Some(Entry::Loading(_) | Entry::Preparing(_)) | None => 0,
        };
        let settings = before.as_ref().map(|entry| &entry.record().settings);
        let wall = settings.map_or_else(Duration::default, |settings| settings.limits.wall());
        let configured = self.catalog.configured().iter().filter(|(_, to)| to == name);
        Ok(Some(Removed {
            under_way,
            wall,
            routes: settings.map_or_else(Vec::new, |settings| settings.routes.clone()),
            configured_routes: configured.map(|(route, _)| route.to_string()).collect(),
            returns: self.at_start.contains(name),
        }))
    }

    fn list(&self) -> Result<Vec<Function>, Refused> {
        let loading: Vec<_> = self.catalog.load().loading().cloned().collect();
        self.wait_for(loading);
        let view = self.catalog.load();
        let mut entries: Vec<_> = view.iter().collect();
        entries.sort_by_key(|(name, _)| *name);
        Ok(entries.into_iter().map(|(_, entry)| function(&view, entry)).collect())
    }

    fn inspect(
        &self,
        name: &FunctionName,
    ) -> Result<Option<(Function, Vec<RevisionRecord>)>, Refused> {
        if let Some(Entry::Loading(loading)) = self.catalog.load().get(name.as_str()) {
            self.wait_for([loading.clone()]);
        }
        let view = self.catalog.load();
        let Some(entry) = view.get(name.as_str()) else { return Ok(None) };
        Ok(Some((function(&view, entry), self.publisher.history(name)?)))
    }
}

impl NodeControl {
    /// Until it is known whether their code is good, and whether they are models.
    fn wait_for(&self, loading: impl IntoIterator<Item = Arc<Loading>>) {
        for loading in loading {
            self.runtime.block_on(loading.wait());
        }
    }
}

fn function(view: &View, entry: &Entry) -> Function {
    let record = entry.record().clone();
    let overlaps = view.overlaps(&record.function);
    match entry {
        Entry::Ready(revision) => Function {
            record,
            is_model: mayfly_serve::inference::is_model(revision),
            overlaps,
            state: State::Ready,
            in_flight: revision.tenant.in_flight.load(Ordering::Relaxed),
            footprint: revision.tenant.footprint.seen(),
        },
        Entry::Loading(_) => idle(record, overlaps, State::Ready),
        Entry::Preparing(preparing) => {
            let state = match &preparing.failed {
                None => State::Preparing { failed: None },
                Some(Failed { why, again: true }) => State::Preparing { failed: Some(why.clone()) },
                Some(Failed { why, again: false }) => State::Failed { why: why.clone() },
            };
            idle(record, overlaps, state)
        }
    }
}

/// A function without code in memory.
fn idle(record: RevisionRecord, overlaps: Overlaps, state: State) -> Function {
    Function { record, is_model: false, overlaps, state, in_flight: 0, footprint: None }
}

fn takes(Takes { route, from, within }: &Takes) -> String {
    format!("{route} takes its paths from the function '{from}', which has {within}")
}

fn leaves(Leaves { route, to }: &Leaves) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<_> = to.iter().take(SHOWN).map(|name| format!("'{name}'")).collect();
    let more = match to.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{route} leaves others the paths for which they have longer routes: {}{more}",
        shown.join(", ")
    )
}

impl From<PublishReport> for Published {
    fn from(report: PublishReport) -> Self {
        let mut notes = Vec::new();
        if report.reused {
            notes.push("the same module was compiled before; its code was used again".to_owned());
        } else if report.functions_cached > 0 {
            notes.push(format!(
                "{} of its functions came from the compilation cache, {} were compiled",
                report.functions_cached, report.functions_compiled
            ));
        }
        if let Snapshot::Refused { reason } = &report.record.snapshot {
            notes.push(format!("no snapshot, so init runs for each request: {reason}"));
        }
        if report.record.abi == Abi::Reactor && !report.record.settings.args.is_empty() {
            notes.push(
                "it is a reactor, which has no arguments: those given (--arg) are never seen"
                    .to_owned(),
            );
        }
        let settings = &report.record.settings;
        if report.record.abi == Abi::Command {
            let shadowed = settings.env.keys().filter(|name| cgi::is_of_request(name));
            notes.extend(shadowed.map(|name| {
                format!("the variable {name} is left out: each request has its own of that name")
            }));
        }
        if report.record.abi == Abi::Reactor
            && (settings.stream_body || settings.pass_authorization)
        {
            let what = "--stream-body and --pass-authorization are for commands: a reactor has both always";
            notes.push(what.to_owned());
        }
        notes.extend(report.takes.iter().map(takes));
        notes.extend(report.leaves.iter().map(leaves));
        let PublishReport { record, replaced, init_log, kept, .. } = report;
        Self { record, replaced, init_log, kept, notes }
    }
}

impl From<PublishError> for Refused {
    fn from(error: PublishError) -> Self {
        Self {
            status: error.status(),
            stage: Some(error.stage.name().to_owned()),
            hint: error.hint(),
            init_log: error.log().map(str::to_owned),
            why: error.kind.to_string(),
        }
    }
}

/// Of an upload that has not begun its deploy.
impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        PublishErrorKind::from(error).at(Stage::Store).into()
    }
}

impl From<RecordsError> for Refused {
    fn from(error: RecordsError) -> Self {
        Self {
            status: 500,
            stage: None,
            why: error.to_string(),
            hint: Some("look at the disk of the state directory, and at the node's log".into()),
            init_log: None,
        }
    }
}
