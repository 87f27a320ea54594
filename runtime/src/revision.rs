//! What a deploy makes: an immutable revision of a function, as it is recorded and as it is served.

mod met;
mod tally;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, SystemTime};

use mayfly_core::limits::node::LARGE_MEMORY_BYTES;
use mayfly_core::limits::{Limits, node};
use mayfly_core::router::Route;
use mayfly_core::{ArtifactKey, Digest, FunctionName, Mac};
use mayfly_oip::Model;
use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, Semaphore};

use crate::abi::cgi;
use crate::engine::LoadedModule;
use crate::engine::pages::{Footprint, Run};
use crate::engine::warm::Warm;
use crate::logs::Source;
use crate::metrics::RevisionMetrics;
use crate::node::{Holding, Usage};
use crate::shares::Share;
pub use met::{Due, Met};
pub use tally::Tally;

/// What a deploy says beside the module's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Caps of one invocation.
    pub limits: Limits,
    /// The guest's whole environment (a command module gets CGI's variables besides).
    pub env: BTreeMap<String, String>,
    /// A command module's arguments, after its name.
    pub args: Vec<String>,
    /// Routes of its own, beside `/{name}/...`; as [`Route`] parses them.
    pub routes: Vec<String>,
    /// Whether a command module gets a body without a length as it comes, and is told none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stream_body: bool,
    /// Whether a command module gets the header `Authorization`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pass_authorization: bool,
}

/// Settings that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A limit out of bounds.
    #[error(transparent)]
    Limit(#[from] mayfly_core::limits::LimitError),
    /// A limit over what the operator allows.
    #[error("limit {key} is {value}; this node allows {most} at most")]
    Over {
        /// The limit.
        key: &'static str,
        /// Its value, as written.
        value: String,
        /// The node's largest, as written.
        most: String,
    },
    /// A route that does not parse.
    #[error(transparent)]
    Route(#[from] mayfly_core::router::RouteError),
    /// More routes than a node has.
    #[error("{count} routes: a node has at most {max}", max = node::ROUTES)]
    Routes {
        /// How many were asked for.
        count: usize,
    },
    /// A route that is given twice.
    #[error("the route '{0}' is there twice")]
    RouteTwice(String),
    /// An environment variable that cannot be given to a guest.
    #[error("environment variable '{name}': {why}")]
    Env {
        /// Its name, cut to 64 characters.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Arguments that cannot be given to a guest.
    #[error("arguments: {0}")]
    Args(&'static str),
}

impl SettingsError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Over { key, .. } => format!(
                "name a lower one with `--limit {key}=...`; the operator can raise it in `limits-max`, and what was set for the \
                 function before is forgotten with `--reset=limits`"
            ),
            _ => "correct the setting and deploy again".into(),
        }
    }
}

impl Settings {
    /// Checks every limit, route, variable and argument.
    ///
    /// # Errors
    /// [`SettingsError`] names the first that is wrong and how to mend it.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.limits.check()?;
        if self.routes.len() > node::ROUTES {
            return Err(SettingsError::Routes { count: self.routes.len() });
        }
        let mut seen = HashSet::new();
        for route in &self.routes {
            Route::new(route)?;
            if !seen.insert(route) {
                return Err(SettingsError::RouteTwice(route.clone()));
            }
        }
        if self.args.len() > node::ARGS
            || self.args.iter().map(String::len).sum::<usize>() > node::ARGS_BYTES
        {
            return Err(SettingsError::Args("a function has at most 64, of 32 KiB together"));
        }
        if self.args.iter().any(|arg| arg.contains('\0')) {
            return Err(SettingsError::Args("they must not contain NUL"));
        }
        let refuse = |name: &str, why| {
            Err(SettingsError::Env { name: name.chars().take(64).collect(), why })
        };
        if self.env.len() > node::ENV_VARS {
            return refuse("", "a function has at most 64 variables");
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return refuse(name, "a name is not empty and has no '='; neither part has a NUL");
            }
            if name.len() + value.len() > node::ENV_VAR_BYTES {
                return refuse(name, "name and value have at most 4096 bytes together");
            }
        }
        Ok(())
    }
}

/// How a request reaches the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Abi {
    /// `_start`, CGI/1.1 over stdin and stdout.
    Command,
    /// `mayfly_handle` and our imports.
    Reactor,
}

/// Whether init's work is in the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Snapshot {
    /// The module has no init export.
    NoInit,
    /// Memory and globals after init are the artifact's.
    Taken {
        /// Linear memory of a fresh instance, in bytes.
        memory_bytes: u64,
        /// Bytes of it that differ from zero, rounded to pages of 4 KiB: the copy-on-write image.
        image_bytes: u64,
        /// Where its runs of pages begin and end in memory; holes below 256 KiB are left in.
        #[serde(default)]
        image: Vec<[u64; 2]>,
        /// What the guest says it keeps of weights, in bytes; nothing if it does not say.
        #[serde(default)]
        weight_bytes: Option<u64>,
    },
    /// The module has an init export that runs for each request, because of this.
    Refused {
        /// What stands in the way, named.
        reason: String,
    },
}

/// How long one stage of a publish took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    /// `validate`, `compile`, `preinit`, `store`, `activate`.
    pub stage: String,
    /// Wall time in microseconds.
    pub us: u64,
}

/// What the state directory keeps of a revision; enough to serve it, or to make its artifact anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// The function.
    pub function: FunctionName,
    /// 1 for the function's first, then counting up.
    pub number: u64,
    /// The module as it was uploaded, assets included.
    pub wasm: Digest,
    /// Its length in bytes.
    pub wasm_bytes: u64,
    /// What the artifact was made from.
    pub artifact: ArtifactKey,
    /// Proof that the artifact is ours.
    pub artifact_mac: Mac,
    /// The artifact's length in bytes.
    pub artifact_bytes: u64,
    /// How a request reaches it.
    pub abi: Abi,
    /// Whether init's work is in the artifact.
    pub snapshot: Snapshot,
    /// What the deploy said.
    pub settings: Settings,
    /// Seconds since 1970 at which it was activated, by the node's clock; for people only.
    pub created_unix_s: u64,
    /// How long each stage took.
    pub stages: Vec<StageTime>,
    /// The module as it was deployed, if shapes that requests had were added to it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_from: Option<Digest>,
}

impl RevisionRecord {
    /// Seconds since 1970, or 0 if the clock is before that.
    #[must_use]
    pub fn now_unix_s() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}

/// What a revision has of [`Rooms`](crate::node::Rooms), by kind.
#[derive(Debug)]
pub struct Shares {
    /// Requests that are being received.
    pub receiving: Arc<Share>,
    /// Bytes of inference requests and answers.
    pub buffers: Arc<Share>,
    /// Bytes of bodies that came without a length.
    pub bodies: Arc<Share>,
    /// Its long pieces of JSON that may be read or written at once.
    pub clerks: Semaphore,
}

impl Default for Shares {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            receiving: Arc::default(),
            buffers: Arc::default(),
            bodies: Arc::default(),
            // Half of those there are: another function's are not behind all of this one's.
            clerks: Semaphore::new((cores / 2).max(1)),
        }
    }
}

/// A revision as it is served. Immutable but for counters; shared by every worker.
pub struct Revision {
    /// What it is.
    pub record: RevisionRecord,
    /// Its code, linked once: all that a request does is instantiate it.
    pub module: LoadedModule,
    /// Metric handles, resolved at publish.
    pub metrics: RevisionMetrics,
    /// Its function's part of the log.
    pub log: Arc<Source>,
    /// `KEY=VALUE` pairs for the guest.
    pub env: Vec<(String, String)>,
    /// What its model takes and gives, if it is one and was asked.
    pub model: OnceCell<Arc<Model>>,
    /// What its inferences took, if it is a model.
    pub tally: Tally,
    /// Shapes that they had and nothing is ready for.
    pub met: Met,
    /// What requests leave of their instances' memory.
    pub footprint: Footprint,
    /// What its instances take of the node's memory.
    pub usage: Arc<Usage>,
    /// Instances that are there, those that are being reset included.
    pub in_flight: AtomicUsize,
    /// Slots that they have, and who waits for one.
    pub holding: Holding,
    /// Invocations that are not answered yet: what the limit `concurrency` counts.
    pub unanswered: AtomicUsize,
    /// What it has of the node's rooms.
    pub shares: Shares,
    /// Whether the last invocation ran beyond its first tick: the next one starts off the I/O workers.
    pub slow: AtomicBool,
}

impl Revision {
    /// Puts a loaded module and its record together.
    #[must_use]
    pub fn new(
        record: RevisionRecord,
        module: LoadedModule,
        metrics: RevisionMetrics,
        log: Arc<Source>,
    ) -> Arc<Self> {
        // A command's request has the last word on what a request is.
        let own = |name: &String| record.abi != Abi::Command || !cgi::is_of_request(name);
        let own = record.settings.env.iter().filter(|(name, _)| own(name));
        let env = own.map(|(k, v)| (k.clone(), v.clone())).collect();
        let usage = Arc::new(Usage::new(record.function.clone(), module.initial_memory()));
        Arc::new(Self {
            usage,
            record,
            module,
            metrics,
            log,
            env,
            model: OnceCell::new(),
            tally: Tally::default(),
            met: Met::default(),
            footprint: Footprint::default(),
            in_flight: AtomicUsize::new(0),
            holding: Holding::default(),
            unanswered: AtomicUsize::new(0),
            shares: Shares::default(),
            slow: AtomicBool::new(false),
        })
    }

    /// What is to be put back into the slot of an instance with this memory, whose call took so much CPU time.
    #[must_use]
    pub fn warm(&self, memory: &[u8], call: Duration) -> Option<Warm<'_>> {
        let dirty = self.footprint.expected();
        Warm::new(memory, self.image(), dirty, self.module.idle_bytes, call)
    }

    /// Whether an instance may have so many of its image's pages mapped that a worker must not take them away, however
    /// short its call was: the one before it in the slot may have wanted them.
    #[must_use]
    pub fn has_large_image(&self) -> bool {
        self.image().iter().map(|[start, end]| end - start).sum::<u64>() >= LARGE_MEMORY_BYTES
    }

    fn image(&self) -> &[Run] {
        match &self.record.snapshot {
            Snapshot::Taken { image, .. } => image,
            Snapshot::NoInit | Snapshot::Refused { .. } => &[],
        }
    }

    /// Caps of one invocation.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.record.settings.limits
    }
}

impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Revision({}#{})", self.record.function, self.record.number)
    }
}
