//! What the admin API needs of the rest of the node. A trait, so that its handlers are tested without an engine.

use bytes::Bytes;
use mayfly_core::FunctionName;
use mayfly_core::record::{RevisionRecord, StageTime};
use mayfly_host::catalog::Overlaps;
use mayfly_host::engine::pages::Measured;
use mayfly_publish::Change;
use mayfly_store::artifact::mapped::Scratch;

/// Told of each stage of a publish as it ends.
pub type Progress = Box<dyn Fn(&StageTime) + Send + Sync>;

/// What a publish made.
#[derive(Debug, Clone)]
pub struct Published {
    /// The new revision.
    pub record: RevisionRecord,
    /// The number of the one it replaced.
    pub replaced: Option<u64>,
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
    /// Its current revision.
    pub record: RevisionRecord,
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
    /// The stage of a publish that failed.
    pub stage: Option<String>,
    /// What happened.
    pub why: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What the function's init wrote before it failed; not escaped.
    pub init_log: Option<String>,
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
}
