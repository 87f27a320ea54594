//! What to do about a publish that failed.

use mayfly_core::deployment::DeploymentError;
use mayfly_core::limits::node;
use mayfly_host::engine::EngineError;
use mayfly_store::artifact::StoreError;

use super::{PublishError, PublishErrorKind};
use crate::child::ChildError;
use crate::compile::CompileError;
use crate::preinit::PreinitError;

impl PublishError {
    /// What to do about it; nothing where the function's init said that itself.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        const OURS: &str =
            "this is a bug in Mayfly or a fault of its machine: the node's log has more";
        if let Some(hint) = self.hint_in_short() {
            return Some(hint.into());
        }
        Some(match &self.kind {
            PublishErrorKind::TooManyFunctions { max: node::FUNCTIONS.. } => {
                "remove functions that are not used".into()
            }
            PublishErrorKind::TooManyFunctions { .. } => {
                "each is two open files: raise `ulimit -n` (LimitNOFILE), or remove functions".into()
            }
            PublishErrorKind::RouteConfigured { .. } => {
                "choose another route, or let the operator take it out of `routes` in mayfly.toml".into()
            }
            PublishErrorKind::RouteTaken { function, .. } => {
                format!("choose another route, or `mayfly remove {function}` first")
            }
            PublishErrorKind::NameConfigured { .. } => {
                "choose another name, or let the operator take that route out of `routes` in mayfly.toml".into()
            }
            PublishErrorKind::NameTaken { function, .. } => {
                format!("choose another name, or deploy '{function}' without that route first")
            }
            PublishErrorKind::Settings(error) => error.hint(),
            PublishErrorKind::Refused(refusal) => refusal.hint(),
            PublishErrorKind::Preinit(PreinitError::Failed { hint, .. }) => return hint.clone(),
            PublishErrorKind::Preinit(PreinitError::NeedsRequest { .. }) => {
                "move that call from init into the handler".into()
            }
            PublishErrorKind::Compile(CompileError::Refused(_)) => {
                "the module is valid, but over a limit of the compiler; split its largest functions".into()
            }
            PublishErrorKind::Compile(CompileError::Child(ChildError::Killed))
            | PublishErrorKind::Preinit(PreinitError::Child(ChildError::Killed)) => {
                "try again when more of the machine's memory is free, or let it take less to compile and to prepare"
                    .into()
            }
            PublishErrorKind::Compile(CompileError::Child(error)) if error.is_limit() => {
                "the module takes too much to compile: strip what it does not need, or build it with less inlining"
                    .into()
            }
            PublishErrorKind::Preinit(PreinitError::Child(error)) if error.is_limit() => {
                "init takes too much: do less in it, or use a smaller model".into()
            }
            PublishErrorKind::Preinit(PreinitError::Probe(_)) => {
                "draw fresh seeds when an instance is restored, as the crate `mayfly` does; see docs/abi.md".into()
            }
            PublishErrorKind::Store(StoreError::Full { .. }) => {
                "remove functions or free space on the disk".into()
            }
            PublishErrorKind::Records(error) if error.is_full() => "free space on the disk".into(),
            PublishErrorKind::Engine(EngineError::Instantiate(_)) => {
                "the module's start function failed; it runs in every new instance".into()
            }
            PublishErrorKind::Engine(EngineError::StartTimeout) => {
                "it runs in every new instance, before any request: do not wait or compute in it".into()
            }
            PublishErrorKind::Engine(EngineError::PoolFull) => {
                "try again in a moment".into()
            }
            _ => OURS.into(),
        })
    }

    /// The same of what a deploy and a switch have in common.
    fn hint_in_short(&self) -> Option<&'static str> {
        Some(match &self.kind {
            PublishErrorKind::QueueFull => "try again in a moment",
            PublishErrorKind::Superseded => "nothing: the newer one serves",
            PublishErrorKind::NoFunction(_) => "`mayfly list` shows what is",
            PublishErrorKind::Stale { .. } => {
                "look at what serves now, and decide again: `mayfly deployments NAME`"
            }
            PublishErrorKind::UnknownVersion { .. } => "`mayfly versions NAME` shows all of them",
            PublishErrorKind::UnknownDeployment { .. } | PublishErrorKind::NothingBefore => {
                "`mayfly deployments NAME` shows all of them"
            }
            PublishErrorKind::TooManyRoutes { .. } => {
                "deploy with fewer routes, or remove functions that have some"
            }
            PublishErrorKind::UnknownTag(_) => "`mayfly versions NAME` shows the tags",
            PublishErrorKind::FirstHasAll => "deploy it without --traffic",
            PublishErrorKind::SecretMissing(_) | PublishErrorKind::SecretFault { .. } => {
                "`mayfly secret set NAME` reads it from stdin; `mayfly secret list` shows what is set"
            }
            PublishErrorKind::SecretInUse { .. } => {
                "deploy them without it first: `mayfly deploy --reset=secrets`"
            }
            PublishErrorKind::SecretIsFile(_) => {
                "change the file: the node looks at it again and again"
            }
            PublishErrorKind::Secret(_) => "give it to `mayfly secret set NAME` on stdin",
            PublishErrorKind::Deployment(DeploymentError::Sum { .. }) => {
                "name each version that is to have requests with its part, as in `mayfly traffic NAME 7=90 8=10`"
            }
            PublishErrorKind::Deployment(DeploymentError::Splits { .. }) => {
                "name at most 4: a version that is not named has none"
            }
            PublishErrorKind::Deployment(DeploymentError::Tags { .. }) => {
                "take one away first: `mayfly tag NAME TAG --delete`"
            }
            PublishErrorKind::Deployment(_) => "correct it and try again",
            PublishErrorKind::Rollout(_) => {
                "as in `mayfly rollout NAME VERSION --steps 1,10,50,100 --every 2m --guard errors=1%,p99=2x`"
            }
            _ => return None,
        })
    }

    /// All of it in one line, for a log.
    #[must_use]
    pub fn with_hint(&self) -> String {
        self.hint().map_or_else(|| self.to_string(), |hint| format!("{self}; {hint}"))
    }
}
