//! Which versions serve, and who gets which.

use std::collections::BTreeMap;

use mayfly_core::deployment::{Deployment, Percent, Sticky, Tag};
use mayfly_core::record::RevisionRecord;
use mayfly_observe::clock::date;
use mayfly_publish::Rollout;
use serde::Serialize;

use super::{RevisionView, state, url};
use crate::control::Function;

/// A deployment.
#[derive(Serialize)]
pub(crate) struct DeploymentView<'a> {
    generation: u64,
    splits: Vec<SplitView>,
    tags: BTreeMap<&'a str, TagView>,
    sticky: &'a Sticky,
    routes: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    by: &'a str,
    at: String,
    /// By which previews are reached, in the header `Mayfly-Preview`.
    #[serde(skip_serializing_if = "Option::is_none")]
    preview_token: Option<String>,
}

#[derive(Serialize)]
struct SplitView {
    version: u64,
    percent: f64,
}

#[derive(Serialize)]
struct TagView {
    version: u64,
    public: bool,
    url: String,
}

/// One version of a function, as it stands.
#[derive(Serialize)]
pub(crate) struct VersionView<'a> {
    #[serde(flatten)]
    revision: RevisionView<'a>,
    percent: f64,
    tags: Vec<&'a Tag>,
    /// Whether it answers, if a request may reach it; `kept` if none may.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// A rollout under way.
#[derive(Serialize)]
pub(crate) struct RolloutView {
    version: u64,
    from: u64,
    steps: Vec<f64>,
    /// Which of the steps serves, from 0.
    at: usize,
    every_s: u64,
    due: String,
    guard: String,
    deployment: u64,
    base: u64,
}

impl<'a> DeploymentView<'a> {
    pub(crate) fn of(deployment: &'a Deployment, gateway: &str) -> Self {
        let name = deployment.function.as_str();
        let splits = deployment
            .splits
            .iter()
            .map(|split| SplitView { version: split.version, percent: number(split.percent) });
        let tags = deployment.tags.iter().map(|(tag, tagged)| {
            let url = format!("{}@{tag}", url(gateway, name));
            (tag.as_str(), TagView { version: tagged.version, public: tagged.public, url })
        });
        Self {
            generation: deployment.generation,
            splits: splits.collect(),
            tags: tags.collect(),
            sticky: &deployment.sticky,
            routes: &deployment.routes,
            message: &deployment.remark.message,
            by: &deployment.remark.by,
            at: date(deployment.at_unix_s).to_string(),
            preview_token: None,
        }
    }

    pub(crate) fn with_token(self, token: String) -> Self {
        Self { preview_token: Some(token), ..self }
    }
}

impl<'a> VersionView<'a> {
    pub(crate) fn of(record: &'a RevisionRecord, function: &'a Function) -> Self {
        let (deployment, number_of) = (&function.deployment, record.number);
        let tags = deployment.tags.iter().filter(|(_, tagged)| tagged.version == number_of);
        let reached = function.versions.iter().find(|(version, _)| *version == number_of);
        let (state, reason) = reached.map_or(("kept", None), |(_, of)| state(of));
        Self {
            revision: RevisionView::of(record),
            percent: number(deployment.percent(number_of)),
            tags: tags.map(|(tag, _)| tag).collect(),
            state,
            reason,
        }
    }
}

impl RolloutView {
    pub(crate) fn of(rollout: &Rollout) -> Self {
        let plan = &rollout.plan;
        Self {
            version: plan.to,
            from: rollout.from,
            steps: plan.steps.iter().copied().map(number).collect(),
            at: rollout.at,
            every_s: plan.every_s,
            due: date(rollout.due_unix_s).to_string(),
            guard: plan.guard.to_string(),
            deployment: rollout.generation,
            base: rollout.base,
        }
    }
}

fn number(percent: Percent) -> f64 {
    f64::from(percent.points()) / 100.0
}
