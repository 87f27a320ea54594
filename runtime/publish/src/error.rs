//! How a publish fails: at which stage, why, and what to do.

mod hint;

use std::fmt;

use mayfly_core::FunctionName;
use mayfly_core::deployment::{Deployment, DeploymentError, Tag};
use mayfly_core::limits::node;
use mayfly_core::record::SettingsError;
use mayfly_host::engine::EngineError;
use mayfly_store::artifact::{Reject, StoreError};
use mayfly_store::records::RecordsError;
use serde::Serialize;

use super::compile::CompileError;
use super::preinit::PreinitError;
use super::validate::Refusal;
use crate::child::ChildError;

/// The stages of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Waiting for its turn.
    Queue,
    /// Is it a module that we can run?
    Validate,
    /// Init, and the snapshot.
    Preinit,
    /// Wasm to native code.
    Compile,
    /// Files on disk.
    Store,
    /// Loaded, tried, recorded, routable.
    Activate,
    /// Another deployment of versions that are there already; no stage of a publish.
    Switch,
}

impl Stage {
    /// As in reports and in the label of the metric.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Validate => "validate",
            Self::Preinit => "preinit",
            Self::Compile => "compile",
            Self::Store => "store",
            Self::Activate => "activate",
            Self::Switch => "switch",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A publish that failed. The function's current revision serves on.
#[derive(Debug, thiserror::Error)]
#[error("deploy failed at {stage}: {kind}")]
pub struct PublishError {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub kind: PublishErrorKind,
}

/// Why a publish failed.
#[derive(Debug, thiserror::Error)]
pub enum PublishErrorKind {
    /// Too many publishes wait already.
    #[error("{max} deploys are waiting already", max = node::PUBLISH_QUEUE)]
    QueueFull,
    /// What was to be made better is not what serves any more.
    #[error("another revision was deployed meanwhile")]
    Superseded,
    /// The node has as many functions as it may.
    #[error("this node has {max} functions already")]
    TooManyFunctions {
        /// How many it may have.
        max: usize,
    },
    /// Another function has the route.
    #[error("the route '{route}' belongs to the function '{function}'")]
    RouteTaken {
        /// The route.
        route: String,
        /// Whose it is.
        function: String,
    },
    /// The node's configuration has the route.
    #[error(
        "the route '{route}' is given to the function '{function}' by the node's configuration"
    )]
    RouteConfigured {
        /// The route.
        route: String,
        /// Whose it is.
        function: String,
    },
    /// What the function would have by its name is another's.
    #[error(
        "the paths below '/{name}' belong to the function '{function}', which has the route '/{name}/...'"
    )]
    NameTaken {
        /// The name that was asked for.
        name: String,
        /// Whose the paths are.
        function: String,
    },
    /// The same, by the node's configuration.
    #[error(
        "the paths below '/{name}' are given to the function '{function}' by the node's configuration"
    )]
    NameConfigured {
        /// The name that was asked for.
        name: String,
        /// Whose the paths are.
        function: String,
    },
    /// The node has as many routes as it may.
    #[error("this node has {taken} routes of at most {max} already", max = node::ROUTES)]
    TooManyRoutes {
        /// Without those of this deploy.
        taken: usize,
    },
    /// There is no such function.
    #[error("'{0}' is not deployed")]
    NoFunction(FunctionName),
    /// Somebody else was first.
    #[error("deployment {} serves, and not {expected}: {}", now.generation, made(now))]
    Stale {
        /// The generation that was expected.
        expected: u64,
        /// What serves.
        now: Box<Deployment>,
    },
    /// A version that is not kept.
    #[error("there is no version {version}; there {}", kept(versions))]
    UnknownVersion {
        /// The version.
        version: u64,
        /// Those that are kept, newest first.
        versions: Vec<u64>,
    },
    /// A deployment that is not kept.
    #[error("there is no deployment {generation}; there {}", kept(generations))]
    UnknownDeployment {
        /// The deployment.
        generation: u64,
        /// Those that are kept, newest first.
        generations: Vec<u64>,
    },
    /// There is nothing to go back to.
    #[error("no earlier deployment that is kept serves otherwise than this one")]
    NothingBefore,
    /// A tag that is not there.
    #[error("there is no tag '{0}'")]
    UnknownTag(Tag),
    /// A first version that is to have less than all.
    #[error(
        "it is the function's first version: there is no other to have the rest of the requests"
    )]
    FirstHasAll,
    /// Requests cannot be shared out so.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// A secret that is named and was not set.
    #[error("the secret '{0}' is not set")]
    SecretMissing(String),
    /// A secret whose value is not to be had.
    #[error("the secret '{name}': {why}")]
    SecretFault {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// A secret that a function names.
    #[error("the secret '{name}' is named by {}", users.join(", "))]
    SecretInUse {
        /// Its name.
        name: String,
        /// The functions.
        users: Vec<String>,
    },
    /// A secret that is in the directory of secrets.
    #[error("the secret '{0}' is a file of secrets.dir")]
    SecretIsFile(String),
    /// A secret that cannot be.
    #[error("the secret cannot be set: {0}")]
    Secret(&'static str),
    /// A rollout cannot be so.
    #[error("{0}")]
    Rollout(&'static str),
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The module is not one that Mayfly runs.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Init failed.
    #[error(transparent)]
    Preinit(#[from] PreinitError),
    /// No code.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// No room, or no access.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database failed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// An upload that was kept, or code that was just written, does not verify.
    #[error("a file of the state directory cannot be read back: {0}")]
    Reject(#[from] Reject),
    /// The code does not load, or makes no instance.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A defect of ours.
    #[error("Mayfly failed: {0}")]
    Internal(String),
}

/// Who made a deployment, and when.
fn made(deployment: &Deployment) -> String {
    let by = match deployment.remark.by.as_str() {
        "" => String::new(),
        by => format!(" by {}", mayfly_observe::logs::escape(by.as_bytes())),
    };
    format!("made{by} at {}", mayfly_observe::clock::date(deployment.at_unix_s))
}

/// Numbers of what there is, the first few.
fn kept(numbers: &[u64]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<_> = numbers.iter().take(SHOWN).map(u64::to_string).collect();
    let more = if numbers.len() > SHOWN { ", ..." } else { "" };
    match numbers.len() {
        0 => "is none".into(),
        1 => format!("is {}", shown[0]),
        _ => format!("are {}{more}", shown.join(", ")),
    }
}

impl PublishErrorKind {
    /// Whether it is that routes or names are another function's.
    #[must_use]
    pub fn is_of_routes(&self) -> bool {
        matches!(
            self,
            Self::RouteTaken { .. }
                | Self::RouteConfigured { .. }
                | Self::NameTaken { .. }
                | Self::NameConfigured { .. }
                | Self::TooManyRoutes { .. }
        )
    }

    /// This error at a stage.
    #[must_use]
    pub fn at(self, stage: Stage) -> PublishError {
        PublishError { stage, kind: self }
    }
}

impl PublishError {
    /// The status of the admin API's answer: 4xx when the upload has to change, 503 and 507 when the node has no
    /// room, 500 when the fault is ours.
    #[must_use]
    pub fn status(&self) -> u16 {
        match &self.kind {
            PublishErrorKind::QueueFull | PublishErrorKind::Engine(EngineError::PoolFull) => 503,
            PublishErrorKind::Superseded
            | PublishErrorKind::RouteTaken { .. }
            | PublishErrorKind::RouteConfigured { .. }
            | PublishErrorKind::NameTaken { .. }
            | PublishErrorKind::NameConfigured { .. }
            | PublishErrorKind::SecretInUse { .. }
            | PublishErrorKind::SecretIsFile(_)
            | PublishErrorKind::NothingBefore => 409,
            PublishErrorKind::NoFunction(_) | PublishErrorKind::UnknownTag(_) => 404,
            PublishErrorKind::Stale { .. } => 412,
            PublishErrorKind::Refused(Refusal::TooLarge(_)) => 413,
            PublishErrorKind::Settings(_)
            | PublishErrorKind::UnknownVersion { .. }
            | PublishErrorKind::UnknownDeployment { .. }
            | PublishErrorKind::FirstHasAll
            | PublishErrorKind::SecretMissing(_)
            | PublishErrorKind::SecretFault { .. }
            | PublishErrorKind::Secret(_)
            | PublishErrorKind::Deployment(_)
            | PublishErrorKind::Rollout(_)
            | PublishErrorKind::Refused(_)
            | PublishErrorKind::Compile(CompileError::Refused(_))
            | PublishErrorKind::Preinit(
                PreinitError::Failed { .. }
                | PreinitError::NeedsRequest { .. }
                | PreinitError::Probe(_),
            )
            | PublishErrorKind::Engine(EngineError::Instantiate(_) | EngineError::StartTimeout) => {
                422
            }
            PublishErrorKind::Compile(CompileError::Unguarded(_)) => 500,
            PublishErrorKind::Compile(CompileError::Child(error))
            | PublishErrorKind::Preinit(PreinitError::Child(error)) => {
                if error.is_limit() {
                    422
                } else {
                    500
                }
            }
            PublishErrorKind::TooManyFunctions { .. }
            | PublishErrorKind::TooManyRoutes { .. }
            | PublishErrorKind::Store(StoreError::Full { .. }) => 507,
            PublishErrorKind::Records(error) if error.is_full() => 507,
            PublishErrorKind::Preinit(PreinitError::Odd(_))
            | PublishErrorKind::Store(_)
            | PublishErrorKind::Records(_)
            | PublishErrorKind::Reject(_)
            | PublishErrorKind::Engine(_)
            | PublishErrorKind::Internal(_) => 500,
        }
    }

    /// Whether the same work may succeed later although nothing about the module changes: a disk that was full, a
    /// machine that was busy or short of something.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match &self.kind {
            // What is wrong with these stays wrong.
            PublishErrorKind::Preinit(PreinitError::Odd(_)) => false,
            PublishErrorKind::Reject(reject) => matches!(reject, Reject::Io(_)),
            PublishErrorKind::Engine(error) => matches!(error, EngineError::PoolFull),
            PublishErrorKind::Compile(CompileError::Child(error))
            | PublishErrorKind::Preinit(PreinitError::Child(error)) => {
                !error.is_limit() || matches!(error, ChildError::Wall(_) | ChildError::Killed)
            }
            _ => self.status() >= 500,
        }
    }

    /// After so many seconds the admin API may be asked again, whatever it had no room for.
    pub const RETRY_AFTER_S: u64 = 5;

    /// Seconds after which the same deploy may succeed, if waiting helps.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        (self.status() == 503).then_some(Self::RETRY_AFTER_S)
    }

    /// What init wrote before it failed.
    #[must_use]
    pub fn log(&self) -> Option<&str> {
        match &self.kind {
            PublishErrorKind::Preinit(
                PreinitError::Failed { log, .. } | PreinitError::NeedsRequest { log, .. },
            ) if !log.is_empty() => Some(log),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_may_pass_is_the_machines_doing() {
        let child = |error| PublishErrorKind::Compile(CompileError::Child(error));
        let io = || io::Error::from_raw_os_error(libc::EMFILE);
        let full = StoreError::Full { needs: 1, dir: "/".into(), why: "no".into() };
        for kind in [
            PublishErrorKind::Store(full),
            PublishErrorKind::Reject(Reject::Io(io())),
            PublishErrorKind::Engine(EngineError::PoolFull),
            PublishErrorKind::Internal("a panic".into()),
            child(ChildError::Run { verb: "compile", source: io() }),
            child(ChildError::Wall(Duration::from_secs(600))),
            child(ChildError::Killed),
        ] {
            assert!(kind.at(Stage::Compile).may_pass());
        }
        for kind in [
            PublishErrorKind::Reject(Reject::Missing),
            PublishErrorKind::Reject(Reject::Changed),
            PublishErrorKind::Engine(EngineError::Instantiate("a trap".into())),
            PublishErrorKind::Engine(EngineError::StartTimeout),
            PublishErrorKind::Compile(CompileError::Refused("too large".into())),
            PublishErrorKind::Settings(SettingsError::RouteTwice("/a".into())),
            child(ChildError::Memory(1)),
            child(ChildError::Cpu(Duration::from_secs(120))),
        ] {
            assert!(!kind.at(Stage::Compile).may_pass());
        }
    }

    #[test]
    fn who_is_to_blame_is_in_the_status() {
        for (kind, status, retry) in [
            (PublishErrorKind::Engine(EngineError::PoolFull), 503, Some(5)),
            (PublishErrorKind::Engine(EngineError::StartTimeout), 422, None),
            (PublishErrorKind::Preinit(PreinitError::Child(ChildError::Killed)), 422, None),
            (PublishErrorKind::TooManyRoutes { taken: 1000 }, 507, None),
        ] {
            let error = kind.at(Stage::Activate);
            assert_eq!((error.status(), error.retry_after_s()), (status, retry), "{error}");
            assert!(!error.hint().unwrap().contains("bug in Mayfly"), "{error}");
        }
    }
}
