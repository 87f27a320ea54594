//! What the API shows of a function. Values of variables stay inside: they may be secrets.

mod deployment;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mayfly_core::outbound::EdgeHeader;
use mayfly_core::record::{Abi, RevisionRecord, Snapshot, StageTime};
use mayfly_host::catalog::{Lost, Takes};
use mayfly_host::engine::pages::Measured;
use mayfly_observe::clock::date;
use mayfly_observe::metrics::Summary;
use serde::Serialize;

use super::control::{Function, Published, State};
pub(super) use deployment::{DeploymentView, RolloutView, VersionView};

#[derive(Serialize)]
pub(super) struct RevisionView<'a> {
    number: u64,
    created: String,
    wasm: String,
    wasm_bytes: u64,
    artifact_bytes: u64,
    abi: Abi,
    snapshot: &'a Snapshot,
    limits: BTreeMap<&'static str, String>,
    env_names: Vec<&'a str>,
    secrets: &'a [String],
    args: &'a [String],
    routes: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    outbound: &'a [String],
    /// As they were given: secrets by their names.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    outbound_headers: &'a [EdgeHeader],
    stream_body: bool,
    pass_authorization: bool,
    stages: &'a [StageTime],
}

#[derive(Serialize)]
pub(super) struct FunctionView<'a> {
    name: &'a str,
    state: &'static str,
    /// Why its code could not be rebuilt, so far or at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    url: String,
    /// Whether it is called by the inference protocol, on `/v2/models/`, as well.
    model: bool,
    /// What its routes take from other functions.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    takes: &'a [Takes],
    /// Its routes that lead to other functions.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    lost: &'a [Lost],
    in_flight: usize,
    deployment: DeploymentView<'a>,
    /// Of requests that were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Measured>,
    revision: RevisionView<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Summary>,
    /// The newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<RevisionView<'a>>>,
}

#[derive(Serialize)]
pub(super) struct PublishedView<'a> {
    name: &'a str,
    url: String,
    replaced: Option<u64>,
    deployment: DeploymentView<'a>,
    /// What was not named and is as in the revision before.
    kept: &'a [String],
    notes: &'a [String],
    init_log: &'a str,
    revision: RevisionView<'a>,
}

impl<'a> RevisionView<'a> {
    pub(super) fn of(record: &'a RevisionRecord) -> Self {
        Self {
            number: record.number,
            created: date(record.created_unix_s).to_string(),
            wasm: record.wasm.to_string(),
            wasm_bytes: record.wasm_bytes,
            artifact_bytes: record.artifact_bytes,
            abi: record.abi,
            snapshot: &record.snapshot,
            limits: record.settings.limits.entries().collect(),
            env_names: record.settings.env.keys().map(String::as_str).collect(),
            secrets: &record.settings.secrets,
            args: &record.settings.args,
            routes: &record.settings.routes,
            outbound: &record.settings.outbound,
            outbound_headers: &record.settings.outbound_headers,
            stream_body: record.settings.stream_body,
            pass_authorization: record.settings.pass_authorization,
            stages: &record.stages,
        }
    }
}

/// A state in a word, and why it is that.
fn state(state: &State) -> (&'static str, Option<&str>) {
    match state {
        State::Ready => ("ready", None),
        State::Preparing { failed } => ("preparing", failed.as_deref()),
        State::Failed { why } => ("failed", Some(why.as_str())),
    }
}

impl<'a> FunctionView<'a> {
    pub(super) fn of(function: &'a Function, gateway: &str) -> Self {
        let (state, reason) = state(&function.state);
        Self {
            name: function.record.function.as_str(),
            state,
            reason,
            url: url(gateway, function.record.function.as_str()),
            model: function.is_model,
            takes: &function.overlaps.takes,
            lost: &function.overlaps.lost,
            in_flight: function.in_flight,
            deployment: DeploymentView::of(&function.deployment, gateway),
            memory: function.footprint,
            revision: RevisionView::of(&function.record),
            metrics: None,
            history: None,
        }
    }

    pub(super) fn with_details(
        self,
        metrics: Option<Summary>,
        history: &'a [RevisionRecord],
    ) -> Self {
        let history = Some(history.iter().map(RevisionView::of).collect());
        Self { metrics, history, ..self }
    }
}

impl<'a> PublishedView<'a> {
    pub(super) fn of(published: &'a Published, gateway: &str, token: String) -> Self {
        let deployment = DeploymentView::of(&published.deployment, gateway).with_token(token);
        let name = published.record.function.as_str();
        Self {
            name,
            url: url(gateway, name),
            replaced: published.replaced,
            deployment,
            kept: &published.kept,
            notes: &published.notes,
            init_log: &published.init_log,
            revision: RevisionView::of(&published.record),
        }
    }
}

/// The URL of a listener for callers on this machine: an unspecified address is reached on loopback.
#[must_use]
pub fn base_url(mut listener: SocketAddr, over_tls: bool) -> String {
    if listener.ip().is_unspecified() {
        let loopback: std::net::IpAddr = if listener.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        listener.set_ip(loopback);
    }
    format!("{}://{listener}", if over_tls { "https" } else { "http" })
}

fn url(gateway: &str, name: &str) -> String {
    format!("{gateway}/{name}")
}
