//! [`Control`] over the node's own publisher and catalog.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use mayfly_core::FunctionName;
use mayfly_core::deployment::Deployment;
use mayfly_core::record::{Abi, RevisionRecord, Snapshot};
use mayfly_host::catalog::{
    Catalog, Entry, Failed, Function as Catalogued, Leaves, Loading, Takes, View,
};
use mayfly_host::sandbox::cgi;
use mayfly_publish::{
    Change, PublishError, PublishErrorKind, PublishReport, PublishRequest, Publisher, Rollout,
    RolloutPlan, Secret, Stage, Switch, Switched,
};
use mayfly_store::artifact::StoreError;
use mayfly_store::artifact::mapped::Scratch;
use mayfly_store::records::RecordsError;
use tokio::runtime::Handle;

use super::control::{Control, Function, Profiling, Progress, Published, Refused, Removed, State};
use super::profile::{self, Running};

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
        let before = self.catalog.load().function(name.as_str()).cloned();
        if !self.runtime.block_on(self.publisher.remove(name))? {
            return Ok(None);
        }
        let entries = || before.iter().flat_map(Catalogued::entries);
        let under_way = entries().map(|entry| match entry {
            Entry::Ready(revision) => revision.tenant.unanswered.load(Ordering::Relaxed),
            Entry::Loading(_) | Entry::Preparing(_) => 0,
        });
        let walls = entries().map(|entry| entry.record().settings.limits.wall());
        let routes = before.as_ref().map(|function| function.deployment.routes.clone());
        let configured = self.catalog.configured().iter().filter(|(_, to)| to == name);
        Ok(Some(Removed {
            under_way: under_way.sum(),
            wall: walls.max().unwrap_or_default(),
            routes: routes.unwrap_or_default(),
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
        let found = self.catalog.load().function(name.as_str()).cloned();
        let loading = found.iter().flat_map(Catalogued::entries).filter_map(|entry| match entry {
            Entry::Loading(loading) => Some(loading.clone()),
            Entry::Ready(_) | Entry::Preparing(_) => None,
        });
        self.wait_for(loading);
        let view = self.catalog.load();
        let Some(entry) = view.function(name.as_str()) else { return Ok(None) };
        Ok(Some((function(&view, entry), self.publisher.history(name)?)))
    }

    fn switch(&self, name: &FunctionName, switch: Switch) -> Result<Switched, Refused> {
        Ok(self.runtime.block_on(self.publisher.switch(name, switch))?)
    }

    fn deployments(&self, name: &FunctionName) -> Result<Vec<Deployment>, Refused> {
        Ok(self.publisher.deployments(name)?)
    }

    fn roll_out(
        &self,
        name: &FunctionName,
        plan: RolloutPlan,
        expected: Option<u64>,
    ) -> Result<Rollout, Refused> {
        Ok(self.runtime.block_on(self.publisher.roll_out(name, plan, expected))?)
    }

    fn rollout(&self, name: &FunctionName) -> Option<Rollout> {
        self.publisher.rollout(name)
    }

    fn halt(&self, name: &FunctionName) -> Result<bool, Refused> {
        Ok(self.runtime.block_on(self.publisher.halt(name))?)
    }

    fn secrets(&self) -> Vec<Secret> {
        self.publisher.secrets()
    }

    fn set_secret(&self, name: &str, value: &str) -> Result<(), Refused> {
        Ok(self.runtime.block_on(self.publisher.set_secret(name, value))?)
    }

    fn remove_secret(&self, name: &str) -> Result<bool, Refused> {
        Ok(self.runtime.block_on(self.publisher.remove_secret(name))?)
    }

    fn preview_token(&self, name: &FunctionName) -> String {
        self.publisher.preview_key().token(name)
    }

    fn profile(&self, name: &FunctionName) -> Result<Option<Box<dyn Profiling>>, Refused> {
        if let Some(Entry::Loading(loading)) = self.catalog.load().get(name.as_str()) {
            self.wait_for([loading.clone()]);
        }
        let view = self.catalog.load();
        let Some(entry) = view.get(name.as_str()) else { return Ok(None) };
        let Entry::Ready(revision) = entry else { return Err(profile::unready(name)) };
        let recording = self.publisher.record(revision)?;
        let (publisher, catalog) = (self.publisher.clone(), self.catalog.clone());
        Ok(Some(Box::new(Running { recording, publisher, catalog })))
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

fn function(view: &View, function: &Catalogued) -> Function {
    let main = function.main();
    let record = main.record().clone();
    let (is_model, footprint) = match main {
        Entry::Ready(revision) => {
            (mayfly_serve::inference::is_model(revision), revision.tenant.footprint.seen())
        }
        Entry::Loading(_) | Entry::Preparing(_) => (false, None),
    };
    let in_flight = function.entries().map(|entry| match entry {
        Entry::Ready(revision) => revision.tenant.in_flight.load(Ordering::Relaxed),
        Entry::Loading(_) | Entry::Preparing(_) => 0,
    });
    Function {
        is_model,
        overlaps: view.overlaps(&record.function),
        state: state(main),
        in_flight: in_flight.sum(),
        footprint,
        deployment: (*function.deployment).clone(),
        versions: function.entries().map(|entry| (entry.record().number, state(entry))).collect(),
        record,
    }
}

fn state(entry: &Entry) -> State {
    let Entry::Preparing(preparing) = entry else { return State::Ready };
    match &preparing.failed {
        None => State::Preparing { failed: None },
        Some(Failed { why, again: true }) => State::Preparing { failed: Some(why.clone()) },
        Some(Failed { why, again: false }) => State::Failed { why: why.clone() },
    }
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
        let PublishReport { record, replaced, deployment, init_log, kept, .. } = report;
        Self { record, replaced, deployment, init_log, kept, notes }
    }
}

impl From<PublishError> for Refused {
    fn from(error: PublishError) -> Self {
        Self {
            status: error.status(),
            kind: matches!(error.kind, PublishErrorKind::Stale { .. })
                .then_some("stale-deployment"),
            stage: (error.stage != Stage::Switch).then(|| error.stage.name().to_owned()),
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
            kind: None,
            stage: None,
            why: error.to_string(),
            hint: Some("look at the disk of the state directory, and at the node's log".into()),
            init_log: None,
        }
    }
}
