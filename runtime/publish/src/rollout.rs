//! A new version gets more requests step by step, as long as it does no worse than the one before; else it gets none.
//!
//! What a rollout is and how far it has come is a row, written with each of its deployments in one transaction: it goes on
//! after a restart. Any other change of the function's deployment ends it.

mod guard;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::FunctionName;
use mayfly_core::deployment::{Deployment, Percent, Remark, Split, Sticky};
use mayfly_core::limits::node;
use mayfly_core::record::RevisionRecord;
use mayfly_host::catalog::Entry;
use mayfly_host::revision::Counted;
use mayfly_store::records::Written;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::error::{PublishError, PublishErrorKind, Stage};
use super::traffic::{Step, Switch};
use super::{Publisher, Shared, joined};
pub use guard::Guard;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The new version.
    pub to: u64,
    /// Its parts, one after the other; each more than the one before, the last one all.
    pub steps: Vec<Percent>,
    /// Seconds between two steps, and from the last step to the end.
    pub every_s: u64,
    /// What the new version may not do; nothing is looked at if it is empty.
    pub guard: Guard,
    /// By what requests are shared out; as before if nothing is said.
    pub sticky: Option<Sticky>,
    /// Who and why.
    pub remark: Remark,
}

/// A rollout under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Drawn when it begins: a function may be removed and be there again, with the same generations.
    pub id: u64,
    /// What was asked for.
    pub plan: Plan,
    /// The version that it takes over from.
    pub from: u64,
    /// The deployment to go back to.
    pub base: u64,
    /// Which of the steps serves, from 0.
    pub at: usize,
    /// The generation of that step's deployment.
    pub generation: u64,
    /// Seconds since 1970 at which the next step is due, by the node's clock.
    pub due_unix_s: u64,
}

/// Rollouts of this node, by function.
#[derive(Debug, Default)]
pub struct Rollouts(Mutex<HashMap<FunctionName, Rollout>>);

/// What becomes of one at a look.
enum Look {
    Waits,
    Ends,
    Done,
    Next,
    Back(String),
}

impl Publisher {
    /// Begins a rollout: its first step serves when this returns.
    ///
    /// # Errors
    /// [`PublishError`] says why not; what served before serves on.
    pub async fn roll_out(
        &self,
        name: &FunctionName,
        plan: Plan,
        expected: Option<u64>,
    ) -> Result<Rollout, PublishError> {
        let (shared, name) = (self.shared.clone(), name.clone());
        let work = tokio::spawn(async move { shared.begin(&name, plan, expected).await });
        joined(Stage::Switch, work.await)
    }

    /// A function's rollout under way.
    #[must_use]
    pub fn rollout(&self, name: &FunctionName) -> Option<Rollout> {
        let rollout = self.shared.rollouts.0.lock().get(name).cloned()?;
        let view = self.shared.catalog.load();
        // What ends one is seen here before its own task sees it.
        let serves = view.function(name.as_str())?.deployment.generation == rollout.generation;
        serves.then_some(rollout)
    }

    /// Ends a function's rollout where it is; false if there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn halt(&self, name: &FunctionName) -> Result<bool, PublishError> {
        let _turn = self.shared.names.turn(name).await;
        if self.shared.rollouts.0.lock().remove(name).is_none() {
            return Ok(false);
        }
        self.shared.forget_rollout(name)?;
        Ok(true)
    }
}

impl Rollout {
    /// As it is kept.
    pub(super) fn row(&self) -> Result<Vec<u8>, PublishErrorKind> {
        serde_json::to_vec(self).map_err(|error| PublishErrorKind::Internal(error.to_string()))
    }
}

impl Plan {
    fn check(&self, before: &Deployment) -> Result<(), PublishErrorKind> {
        let refuse = |why| Err(PublishErrorKind::Rollout(why));
        let grows = self.steps.windows(2).all(|pair| pair[0] < pair[1]);
        if self.steps.is_empty() || !grows || self.steps[0] == Percent::NONE {
            return refuse("the steps have to grow from more than 0 %");
        }
        if self.steps.last() != Some(&Percent::ALL) {
            return refuse("the last step has to be 100 %");
        }
        if self.steps.len() > node::ROLLOUT_STEPS {
            return refuse("a rollout has at most 20 steps");
        }
        let every = Duration::from_secs(self.every_s);
        if every < node::ROLLOUT_PAUSE_LEAST || every > node::ROLLOUT_PAUSE_MOST {
            return refuse("between two steps are 1 second to 7 days");
        }
        if before.main() == self.to || before.percent(self.to) == Percent::ALL {
            return refuse("that version has the most requests already");
        }
        Ok(())
    }
}

impl Shared {
    async fn begin(
        self: &Arc<Self>,
        name: &FunctionName,
        plan: Plan,
        expected: Option<u64>,
    ) -> Result<Rollout, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Switch);
        let before = self.deployment(name).map_err(at)?;
        plan.check(&before).map_err(at)?;
        let expected = expected.or(Some(before.generation));
        let (from, base) = (before.main(), before.generation);
        let rollout =
            Rollout { id: rand::random(), plan, from, base, at: 0, generation: 0, due_unix_s: 0 };
        let rollout = self.step(name, rollout, expected, "").await?;
        self.follow(name, rollout.clone(), true);
        Ok(rollout)
    }

    /// Has a rollout's present step serve.
    async fn step(
        self: &Arc<Self>,
        name: &FunctionName,
        mut rollout: Rollout,
        expected: Option<u64>,
        judged: &str,
    ) -> Result<Rollout, PublishError> {
        let Plan { to, steps, every_s, sticky, remark, .. } = &rollout.plan;
        let percent = steps[rollout.at];
        let rest = Split { version: rollout.from, percent: percent.rest() };
        let splits = [Split { version: *to, percent }, rest];
        let splits = splits.into_iter().filter(|split| split.percent != Percent::NONE);
        let step = format!("rollout of {to}, step {} of {}{judged}", rollout.at + 1, steps.len());
        let message = match remark.message.as_str() {
            "" => step,
            message => format!("{message} ({step})"),
        };
        let switch = Switch {
            step: Step::Traffic { splits: splits.collect(), sticky: sticky.clone() },
            expected,
            remark: Remark { message, by: remark.by.clone() },
        };
        let switch = cut(switch);
        rollout.due_unix_s = RevisionRecord::now_unix_s() + every_s;
        // A step follows the deployment that was expected, so its generation is known before it is written.
        rollout.generation = expected.unwrap_or(rollout.generation).saturating_add(1);
        let switched = self.switch(name, switch, Some(&rollout)).await?;
        tracing::info!(
            function = %name, deployment = switched.deployment.generation, "rollout: {}", switched.deployment.written()
        );
        Ok(rollout)
    }

    /// The rollout that goes on although another deployment is made: requests are shared out as before, as when a version
    /// is deployed for previews or gets a tag.
    pub(super) fn carried(&self, before: &Deployment, next: &mut Deployment) -> Option<Rollout> {
        let rollout = self.rollouts.0.lock().get(&before.function).cloned()?;
        let goes_on = rollout.generation == before.generation && next.serves_like(before);
        goes_on.then(|| {
            next.rollout = before.rollout;
            Rollout { generation: next.generation, ..rollout }
        })
    }

    /// What was written of a function's rollout is what holds now.
    pub(super) fn carry(&self, name: &FunctionName, carried: Option<Rollout>) {
        let mut rollouts = self.rollouts.0.lock();
        match carried {
            None => drop(rollouts.remove(name)),
            Some(carried) => {
                // The first step of one is not followed yet.
                if let Some(now) = rollouts.get_mut(name).filter(|now| now.id == carried.id) {
                    *now = carried;
                }
            }
        }
    }

    /// Looks after a rollout until its end, on a task of its own.
    pub(super) fn follow(self: &Arc<Self>, name: &FunctionName, rollout: Rollout, fresh: bool) {
        self.rollouts.0.lock().insert(name.clone(), rollout.clone());
        let (shared, name, id) = (Arc::downgrade(self), name.clone(), rollout.id);
        if !fresh {
            tracing::info!(function = %name, version = rollout.plan.to, "its rollout goes on");
        }
        tokio::spawn(async move {
            let mut compared = None;
            loop {
                tokio::time::sleep(node::ROLLOUT_LOOK).await;
                let Some(shared) = shared.upgrade() else { return };
                if shared.look_after(&name, id, &mut compared).await {
                    return;
                }
            }
        });
    }

    /// One look at a rollout; true if it is over. What cannot be done now is tried at the next look.
    async fn look_after(
        self: &Arc<Self>,
        name: &FunctionName,
        id: u64,
        compared: &mut Compared,
    ) -> bool {
        // Another one that has begun since has a task of its own.
        let rollout = self.rollouts.0.lock().get(name).filter(|now| now.id == id).cloned();
        let Some(rollout) = rollout else { return true };
        let look = self.look(name, &rollout, compared);
        let done = match look {
            Look::Waits => return false,
            Look::Ends => {
                tracing::info!(function = %name, "its rollout ends: something else was deployed");
                self.end(name, id);
                return true;
            }
            Look::Done => self.finish(name).await,
            Look::Next => {
                let next = Rollout { at: rollout.at + 1, ..rollout.clone() };
                let judged = self.judged(name, &rollout, compared);
                *compared = None;
                let stepped = self.step(name, next, Some(rollout.generation), &judged).await;
                stepped.map(|_| false)
            }
            Look::Back(why) => self.go_back(name, &rollout, why).await,
        };
        done.unwrap_or_else(|error| {
            tracing::error!(function = %name, %error, "rollout: will try again");
            false
        })
    }

    fn end(&self, name: &FunctionName, id: u64) {
        let mut rollouts = self.rollouts.0.lock();
        if rollouts.get(name).is_some_and(|now| now.id == id) {
            rollouts.remove(name);
        }
    }

    fn look(&self, name: &FunctionName, rollout: &Rollout, compared: &mut Compared) -> Look {
        let view = self.catalog.load();
        let Some(function) = view.function(name.as_str()) else { return Look::Ends };
        if function.deployment.generation != rollout.generation {
            return Look::Ends;
        }
        let counted = |version| match function.entry(version) {
            Some(Entry::Ready(revision)) => revision.vitals.get().map(|vitals| vitals.counted()),
            _ => None,
        };
        if let Some((new, old)) = counted(rollout.plan.to).zip(counted(rollout.from)) {
            let (first_new, first_old) = compared.get_or_insert_with(|| (new.clone(), old.clone()));
            let (new, old) = (new.since(first_new), old.since(first_old));
            if let Some(why) = rollout.plan.guard.objects(&new, &old) {
                return Look::Back(why);
            }
        }
        match RevisionRecord::now_unix_s() < rollout.due_unix_s {
            true => Look::Waits,
            false if rollout.at + 1 < rollout.plan.steps.len() => Look::Next,
            false => Look::Done,
        }
    }

    /// What is to be said of a step that is over if too few requests came for its guard to judge it.
    fn judged(&self, name: &FunctionName, rollout: &Rollout, compared: &Compared) -> String {
        let view = self.catalog.load();
        let entry = view.function(name.as_str()).and_then(|f| f.entry(rollout.plan.to));
        let now = match entry {
            Some(Entry::Ready(revision)) => revision.vitals.get().map(|vitals| vitals.counted()),
            _ => None,
        };
        let seen =
            now.zip(compared.as_ref()).map_or(0, |(now, (first, _))| now.since(first).requests);
        if rollout.plan.guard == Guard::default() || seen >= node::GUARD_REQUESTS_ERRORS {
            return String::new();
        }
        tracing::warn!(function = %name, requests = seen, "rollout: a step goes on that nothing has judged");
        format!(
            "; the step before was not judged: {seen} requests of the {} it takes",
            node::GUARD_REQUESTS_ERRORS
        )
    }

    async fn finish(self: &Arc<Self>, name: &FunctionName) -> Result<bool, PublishError> {
        let _turn = self.names.turn(name).await;
        self.forget_rollout(name)?;
        self.rollouts.0.lock().remove(name);
        tracing::info!(function = %name, "its rollout is done");
        Ok(true)
    }

    async fn go_back(
        self: &Arc<Self>,
        name: &FunctionName,
        rollout: &Rollout,
        why: String,
    ) -> Result<bool, PublishError> {
        tracing::warn!(function = %name, version = rollout.plan.to, "rollout: {why}; going back");
        let message = format!("rollout of {} went back: {why}", rollout.plan.to);
        let back = |step| {
            let remark = Remark { message: message.clone(), by: "guard".into() };
            cut(Switch { step, expected: Some(rollout.generation), remark })
        };
        let whole = self.switch(name, back(Step::Back { to: Some(rollout.base) }), None).await;
        match whole {
            // Somebody has taken a route meanwhile: the bad version must go all the same.
            Err(error) if error.kind.is_of_routes() => {
                tracing::warn!(function = %name, %error, "going back without the routes of before");
                self.switch(name, back(Step::Shares { of: rollout.base }), None).await?;
            }
            other => drop(other?),
        }
        Ok(true)
    }

    fn forget_rollout(&self, name: &FunctionName) -> Result<(), PublishError> {
        let written = Written { rollout: Some((name, None)), ..Written::default() };
        self.records
            .commit(&written)
            .map_err(|error| PublishErrorKind::from(error).at(Stage::Switch))
    }

    /// Goes on with the rollouts that were under way when the node ended.
    pub(super) fn resume(self: &Arc<Self>) {
        let rows = self.records.rollouts().unwrap_or_else(|error| {
            tracing::error!(%error, "rollouts that were under way cannot be read");
            Vec::new()
        });
        for (name, row) in rows {
            match (FunctionName::new(&name), serde_json::from_slice(&row)) {
                (Ok(name), Ok(rollout)) => self.follow(&name, rollout, false),
                (_, Err(error)) => {
                    tracing::error!(function = name, %error, "its rollout cannot be read, and ends");
                }
                (Err(error), _) => {
                    tracing::error!(function = name, %error, "no function's rollout")
                }
            }
        }
    }
}

/// With words that fit.
fn cut(mut switch: Switch) -> Switch {
    let end = switch.remark.message.floor_char_boundary(node::MESSAGE_BYTES);
    switch.remark.message.truncate(end);
    switch
}

/// What both versions had counted when the present step began.
type Compared = Option<(Counted, Counted)>;
