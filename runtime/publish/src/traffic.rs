//! Who gets which version: another deployment of versions that are there already. Nothing is compiled, unless the code of a
//! version was thrown away; and no request is led to a version of which no instance was made before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mayfly_core::FunctionName;
use mayfly_core::deployment::{Deployment, Percent, Remark, Split, Sticky, Tag, Tagged};
use mayfly_core::record::RevisionRecord;
use mayfly_host::catalog::{Entry, View};
use mayfly_host::engine::trim::Thrift;
use mayfly_host::revision::Revision;
use mayfly_store::records::Written;

use super::change::Placement;
use super::error::{PublishError, PublishErrorKind, Stage};
use super::rollout::Rollout;
use super::{Publisher, Shared, blocking, give_back, joined};

/// A change of a function's deployment.
#[derive(Debug, Clone)]
pub struct Switch {
    /// What changes.
    pub step: Step,
    /// The generation of the deployment that it is to follow; any if nothing is said.
    pub expected: Option<u64>,
    /// Who and why.
    pub remark: Remark,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Which versions have which part of the requests.
    Traffic {
        /// All of them.
        splits: Vec<Split>,
        /// By what is chosen; as before if nothing is said.
        sticky: Option<Sticky>,
    },
    /// Back to an earlier deployment: its versions, its routes, and by what is chosen. Tags stay.
    Back {
        /// Its generation; that of the last one that served otherwise if nothing is said.
        to: Option<u64>,
    },
    /// The same without its routes.
    Shares {
        /// Its generation.
        of: u64,
    },
    /// A version gets a second name.
    Tag {
        /// The name, which is taken from another version if one has it.
        tag: Tag,
        /// The version.
        version: u64,
        /// Whether its preview needs no token.
        public: bool,
    },
    /// A second name goes.
    Untag(Tag),
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Switched {
    /// What serves now.
    pub deployment: Deployment,
    /// What served before.
    pub before: Deployment,
    /// From the request to the first one that is served by it.
    pub took: Duration,
}

impl Publisher {
    /// Serves a function by another deployment of versions that it has. A caller that stops waiting does not stop it.
    ///
    /// # Errors
    /// [`PublishError`] says why not; what served before serves on.
    pub async fn switch(
        &self,
        name: &FunctionName,
        switch: Switch,
    ) -> Result<Switched, PublishError> {
        let (shared, name) = (self.shared.clone(), name.clone());
        let thrift = Thrift::begin();
        let work = tokio::spawn(async move {
            let done = shared.switch(&name, switch, None).await;
            give_back(thrift);
            done
        });
        joined(Stage::Switch, work.await)
    }
}

impl Shared {
    /// `rollout` is the one whose step this is; it is written in the same transaction. Any other switch ends one, unless
    /// requests are shared out as before.
    pub(super) async fn switch(
        self: &Arc<Self>,
        name: &FunctionName,
        switch: Switch,
        rollout: Option<&Rollout>,
    ) -> Result<Switched, PublishError> {
        let began = Instant::now();
        let at = |kind: PublishErrorKind| kind.at(Stage::Switch);
        let _turn = self.names.turn(name).await;
        let before = self.deployment(name).map_err(at)?;
        expect(switch.expected, &before).map_err(at)?;
        let mut next = self.next(&before, switch.step, switch.remark).map_err(at)?;
        if rollout.is_none() && next.is_as(&before) {
            // Whoever says the same again and again must not push out what one may go back to.
            return Ok(Switched { deployment: before.clone(), before, took: began.elapsed() });
        }
        let carried = match rollout {
            Some(step) => {
                next.rollout = Some(step.base);
                Some(step.clone())
            }
            None => self.carried(&before, &mut next),
        };
        self.check_routes(name, &next.routes).map_err(|error| at(error.kind))?;
        let fresh = self.ready(&next).await?;
        let _commit = self.commits.lock().await;
        self.check_routes(name, &next.routes).map_err(|error| at(error.kind))?;
        for entry in &fresh {
            self.check_secrets(&entry.record().settings).map_err(at)?;
        }
        let row = carried.as_ref().map(Rollout::row).transpose().map_err(at)?;
        let rollout = Some((name, row.as_deref()));
        let written = Written { revision: None, deployment: Some(&next), rollout };
        self.records.commit(&written).map_err(|error| at(error.into()))?;
        self.serve(next.clone(), fresh);
        self.carry(name, carried);
        Ok(Switched { deployment: next, before, took: began.elapsed() })
    }

    /// By which a function is served.
    pub(super) fn deployment(&self, name: &FunctionName) -> Result<Deployment, PublishErrorKind> {
        self.records.deployment(name)?.ok_or_else(|| PublishErrorKind::NoFunction(name.clone()))
    }

    /// The deployment that comes of a step.
    fn next(
        &self,
        before: &Deployment,
        step: Step,
        remark: Remark,
    ) -> Result<Deployment, PublishErrorKind> {
        let name = &before.function;
        let history = self.records.history(name)?;
        let mut next = following(before, remark);
        match step {
            Step::Traffic { splits, sticky } => {
                next.splits = splits;
                next.sticky = sticky.unwrap_or(next.sticky);
                next.check()?;
                let main = next.main();
                if main != before.main()
                    && let Some(record) = history.iter().find(|record| record.number == main)
                {
                    next.routes = record.settings.routes.clone();
                }
            }
            Step::Back { to } => {
                let back = self.earlier(before, to)?;
                next.back = Some(back.back.unwrap_or(back.generation));
                (next.splits, next.sticky, next.routes) = (back.splits, back.sticky, back.routes);
                let told = format!("back to deployment {}", back.generation);
                next.remark.message = or(next.remark.message, told);
            }
            Step::Shares { of } => {
                let back = self.earlier(before, Some(of))?;
                (next.splits, next.sticky) = (back.splits, back.sticky);
            }
            Step::Tag { tag, version, public } => {
                let told = format!("{tag} is version {version}");
                next.tags.insert(tag, Tagged { version, public });
                next.remark.message = or(next.remark.message, told);
            }
            Step::Untag(tag) => {
                let told = format!("{tag} is gone");
                let taken = next.tags.remove(&tag);
                taken.ok_or(PublishErrorKind::UnknownTag(tag))?;
                next.remark.message = or(next.remark.message, told);
            }
        }
        next.check()?;
        let versions: Vec<_> = history.iter().map(|record| record.number).collect();
        match next.versions().into_iter().find(|version| !versions.contains(version)) {
            Some(version) => Err(PublishErrorKind::UnknownVersion { version, versions }),
            None => Ok(next),
        }
    }

    /// The deployment to go back to.
    fn earlier(&self, now: &Deployment, to: Option<u64>) -> Result<Deployment, PublishErrorKind> {
        let mut kept = self.records.deployments(&now.function)?;
        let at = kept.iter().position(|deployment| match to {
            Some(generation) => deployment.generation == generation,
            None => now.goes_back_to(deployment),
        });
        match (at, to) {
            (Some(at), _) => Ok(kept.swap_remove(at)),
            (None, None) => Err(PublishErrorKind::NothingBefore),
            (None, Some(generation)) => {
                let generations = kept.iter().map(|kept| kept.generation).collect();
                Err(PublishErrorKind::UnknownDeployment { generation, generations })
            }
        }
    }

    /// The deployment that a new version makes. `number` is of no consequence to whether it can be.
    pub(super) fn place(
        &self,
        name: &FunctionName,
        number: u64,
        placement: &Placement,
    ) -> Result<Deployment, PublishErrorKind> {
        let percent = placement.percent.unwrap_or(Percent::ALL);
        let tagged = Tagged { version: number, public: placement.public };
        let tags = placement.tag.iter().map(|tag| (tag.clone(), tagged));
        let Some(before) = self.records.deployment(name)? else {
            if percent != Percent::ALL {
                return Err(PublishErrorKind::FirstHasAll);
            }
            let mut first = Deployment::whole(name.clone(), number, Vec::new());
            first.tags.extend(tags);
            first.at_unix_s = RevisionRecord::now_unix_s();
            first.remark = placement.remark.clone();
            first.check()?;
            return Ok(first);
        };
        expect(placement.expected, &before)?;
        let mut next = following(&before, placement.remark.clone());
        let others: Vec<_> = match percent {
            Percent::ALL => Vec::new(),
            // What only a preview reached makes room.
            _ => before.splits.iter().filter(|s| s.percent != Percent::NONE).copied().collect(),
        };
        let parts: Vec<_> = others.iter().map(|split| split.percent).collect();
        let parts = Percent::scaled(&parts, percent.rest());
        let others = others.iter().zip(parts).map(|(split, percent)| Split { percent, ..*split });
        next.splits = others.chain([Split { version: number, percent }]).collect();
        next.tags.extend(tags);
        next.check()?;
        Ok(next)
    }

    /// Those versions of a deployment that cannot be served yet, as they can. A version that is being made anew, and is not
    /// to have requests, is left to whoever makes it.
    async fn ready(self: &Arc<Self>, next: &Deployment) -> Result<Vec<Entry>, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Switch);
        let mut fresh = Vec::new();
        for number in next.versions() {
            let entry = entry(&self.catalog.load(), &next.function, number);
            let stays = next.percent(number) == Percent::NONE && entry.is_some();
            if stays || matches!(entry, Some(Entry::Ready(_))) {
                continue;
            }
            let record = self.records.revision(&next.function, number);
            let record = record.map_err(|error| at(error.into()))?;
            let record = record.ok_or_else(|| {
                at(PublishErrorKind::UnknownVersion { version: number, versions: Vec::new() })
            })?;
            fresh.push(Entry::Ready(self.revive(record).await?));
        }
        self.check_room(&next.function, next.versions().len()).map_err(|error| at(error.kind))?;
        Ok(fresh)
    }

    /// A version from the disk: its code as it was kept, else made anew. An instance of it was made.
    async fn revive(
        self: &Arc<Self>,
        record: RevisionRecord,
    ) -> Result<Arc<Revision>, PublishError> {
        self.check_secrets(&record.settings).map_err(|kind| kind.at(Stage::Switch))?;
        let loaded = {
            // Nobody makes the file anew while it is judged.
            let _key = self.keys.turn(&record.code()).await;
            let (shared, record) = (self.clone(), record.clone());
            blocking(Stage::Switch, move || Ok(shared.reload(&record))).await?
        };
        match loaded {
            Ok(module) => {
                self.trial(&record, &module).await?;
                Ok(self.revision(record, module))
            }
            Err(stale) => {
                self.throw_away(&record, &stale);
                let slot = self.slots.acquire().await;
                let _slot = slot.map_err(|error| {
                    PublishErrorKind::Internal(error.to_string()).at(Stage::Switch)
                })?;
                self.remake(record).await
            }
        }
    }

    /// Leads requests by a deployment from now on, and has counted what is to be compared.
    pub(super) fn serve(&self, deployment: Deployment, fresh: Vec<Entry>) {
        let name = deployment.function.clone();
        let (main, generation) = (deployment.main(), deployment.generation);
        let before = self.counted(&name);
        for entry in &fresh {
            // They were made before: a secret may have been set anew since.
            if let Entry::Ready(revision) = entry {
                self.give_secrets(revision);
            }
        }
        self.catalog.deploy(deployment, fresh);
        self.metrics.serves(&name, main, generation);
        self.watch(&name);
        let now = self.counted(&name);
        for gone in before.into_iter().filter(|version| !now.contains(version)) {
            self.metrics.forget_version(&name, gone);
        }
    }

    /// Counts each version of a function that shares its requests with another.
    pub(super) fn watch(&self, name: &FunctionName) {
        let view = self.catalog.load();
        let Some(function) = view.function(name.as_str()).filter(|function| function.is_split())
        else {
            return;
        };
        for entry in function.entries() {
            if let Entry::Ready(revision) = entry {
                let number = revision.record.number;
                revision.watch(|| self.metrics.version(name, number));
            }
        }
    }

    /// Versions of a function that are counted.
    fn counted(&self, name: &FunctionName) -> Vec<u64> {
        let view = self.catalog.load();
        let entries = view.function(name.as_str()).into_iter().flat_map(|f| f.entries());
        let counted = entries.filter_map(|entry| match entry {
            Entry::Ready(revision) => revision.vitals.get().map(|_| revision.record.number),
            Entry::Loading(_) | Entry::Preparing(_) => None,
        });
        counted.collect()
    }

    /// A removed function's versions are counted no more.
    pub(super) fn forget_versions(&self, name: &FunctionName) {
        for version in self.counted(name) {
            self.metrics.forget_version(name, version);
        }
    }
}

fn entry(view: &View, name: &FunctionName, number: u64) -> Option<Entry> {
    view.function(name.as_str())?.entry(number).cloned()
}

/// What was said, else this.
fn or(said: String, told: String) -> String {
    if said.is_empty() { told } else { said }
}

/// The next deployment, as the one before.
fn following(before: &Deployment, remark: Remark) -> Deployment {
    let at_unix_s = RevisionRecord::now_unix_s();
    let (generation, rollout, back) = (before.generation + 1, None, None);
    Deployment { generation, rollout, back, at_unix_s, remark, ..before.clone() }
}

/// Whether it is what whoever changes it has seen.
fn expect(expected: Option<u64>, now: &Deployment) -> Result<(), PublishErrorKind> {
    match expected.filter(|expected| *expected != now.generation) {
        Some(expected) => Err(PublishErrorKind::Stale { expected, now: Box::new(now.clone()) }),
        None => Ok(()),
    }
}
