//! What the admin API needs of the rest of the node. A trait, so that its handlers are tested without an engine.

use bytes::Bytes;
use mayfly_core::FunctionName;
use mayfly_core::deployment::Deployment;
use mayfly_core::record::{RevisionRecord, StageTime};
use mayfly_host::catalog::Overlaps;
use mayfly_host::engine::pages::Measured;
use mayfly_publish::{Change, Rollout, RolloutPlan, Secret, Switch, Switched};
use mayfly_store::artifact::mapped::Scratch;

use super::profile::Profile;

/// Told of each stage of a publish as it ends.
pub type Progress = Box<dyn Fn(&StageTime) + Send + Sync>;

/// What a publish made.
#[derive(Debug, Clone)]
pub struct Published {
    /// The new revision.
    pub record: RevisionRecord,
    /// The number of the version that had the most requests before.
    pub replaced: Option<u64>,
    /// By which its function is served now.
    pub deployment: Deployment,
    /// What init wrote; not escaped.
    pub init_log: String,
    /// What was not named and is as in the revision before, where that is not what it would be by default.
    pub kept: Vec<String>,
    /// What the deployer should know, such as why there is no snapshot.
    pub notes: Vec<String>,
}

/// Whether a function answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does.
    Ready,
    /// Its artifact is being rebuilt.
    Preparing {
        /// Why the last try failed, if there was one.
        failed: Option<String>,
    },
    /// Its artifact cannot be rebuilt.
    Failed {
        /// Why.
        why: String,
    },
}

/// A function as it stands.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its main version: the one with the most requests.
    pub record: RevisionRecord,
    /// By which it is served.
    pub deployment: Deployment,
    /// All versions that a request may reach, and whether each answers.
    pub versions: Vec<(u64, State)>,
    /// Whether the inference protocol serves it.
    pub is_model: bool,
    /// How its routes and those of others lie.
    pub overlaps: Overlaps,
    /// Whether it answers.
    pub state: State,
    /// Invocations under way.
    pub in_flight: usize,
    /// What measured requests left of their instances' memory.
    pub footprint: Option<Measured>,
}

/// What a removed function leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Requests that are not answered yet: they run to their end, on the revision that they began with.
    pub under_way: usize,
    /// Its limit `wall`: none of them takes longer.
    pub wall: std::time::Duration,
    /// Its own routes, which are gone with it.
    pub routes: Vec<String>,
    /// Routes of the node's configuration that lead to it: nowhere, until it is deployed again.
    pub configured_routes: Vec<String>,
    /// Whether the node's configuration has it deployed at each start.
    pub returns: bool,
}

/// Why something was not done.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The HTTP status that says so.
    pub status: u16,
    /// A name for it that is stable, if programs are to tell it from others of its status.
    pub kind: Option<&'static str>,
    /// The stage of a publish that failed.
    pub stage: Option<String>,
    /// What happened.
    pub why: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What the function's init wrote before it failed; not escaped.
    pub init_log: Option<String>,
}

/// A profile under way; dropped, it ends and nothing comes of it.
pub trait Profiling: Send + 'static {
    /// Ends it, and names what was counted. Reads the upload: blocks.
    ///
    /// # Errors
    /// [`Refused`], when Mayfly failed.
    fn finish(self: Box<Self>) -> Result<Profile, Refused>;
}

/// Changes and shows what is deployed. Every method may block on disk, and `publish` on child processes.
pub trait Control: Send + Sync + 'static {
    /// A file for a module of so many bytes, as far as is known, while it arrives.
    ///
    /// # Errors
    /// [`Refused`] when the state directory cannot be written, or has no room for them.
    fn scratch(&self, bytes: u64) -> Result<Scratch, Refused>;

    /// Makes `wasm` the function's current revision.
    ///
    /// # Errors
    /// [`Refused`] with the stage that failed; what was deployed before is untouched.
    fn publish(
        &self,
        name: &FunctionName,
        wasm: Bytes,
        change: Change,
        progress: Progress,
    ) -> Result<Published, Refused>;

    /// Removes a function with its history, at once; nothing if it was not there.
    ///
    /// # Errors
    /// [`Refused`] when the state directory cannot be written.
    fn remove(&self, name: &FunctionName) -> Result<Option<Removed>, Refused>;

    /// All functions, by name.
    ///
    /// # Errors
    /// [`Refused`] when the state directory cannot be read.
    fn list(&self) -> Result<Vec<Function>, Refused>;

    /// One function and its history, the newest revision first.
    ///
    /// # Errors
    /// [`Refused`] when the state directory cannot be read.
    fn inspect(
        &self,
        name: &FunctionName,
    ) -> Result<Option<(Function, Vec<RevisionRecord>)>, Refused>;

    /// Serves a function by another deployment of versions that it has.
    ///
    /// # Errors
    /// [`Refused`]; what served before serves on.
    fn switch(&self, name: &FunctionName, switch: Switch) -> Result<Switched, Refused>;

    /// A function's deployments that are remembered, newest first; none if there is no such function.
    ///
    /// # Errors
    /// [`Refused`] when the state directory cannot be read.
    fn deployments(&self, name: &FunctionName) -> Result<Vec<Deployment>, Refused>;

    /// Gives a version more and more requests.
    ///
    /// # Errors
    /// [`Refused`]; what served before serves on.
    fn roll_out(
        &self,
        name: &FunctionName,
        plan: RolloutPlan,
        expected: Option<u64>,
    ) -> Result<Rollout, Refused>;

    /// A function's rollout under way.
    fn rollout(&self, name: &FunctionName) -> Option<Rollout>;

    /// Ends a function's rollout where it is; false if there is none.
    ///
    /// # Errors
    /// [`Refused`] when the state directory cannot be written.
    fn halt(&self, name: &FunctionName) -> Result<bool, Refused>;

    /// All secrets by name, without their values.
    fn secrets(&self) -> Vec<Secret>;

    /// Sets a secret, or sets it anew.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    fn set_secret(&self, name: &str, value: &str) -> Result<(), Refused>;

    /// Forgets a secret; false if there is none.
    ///
    /// # Errors
    /// [`Refused`] names the functions that need it.
    fn remove_secret(&self, name: &str) -> Result<bool, Refused>;

    /// By which a function's previews are reached.
    fn preview_token(&self, name: &FunctionName) -> String;

    /// Begins to profile a function's current revision; nothing if it was not there.
    ///
    /// # Errors
    /// [`Refused`] when it has no code now, or is profiled already.
    fn profile(&self, name: &FunctionName) -> Result<Option<Box<dyn Profiling>>, Refused>;
}
