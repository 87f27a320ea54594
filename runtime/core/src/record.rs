//! What a deploy says and what is recorded of it: settings, and a revision as the state directory keeps it.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::limits::{Limits, node, outbound};
pub use crate::name::check_secret_name;
use crate::outbound::{EdgeHeader, HeaderError, RuleError, Rules};
use crate::router::Route;
use crate::{ArtifactKey, Digest, FunctionName, Mac};

/// What a deploy says beside the module's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Caps of one invocation.
    pub limits: Limits,
    /// The guest's whole environment (a command module gets CGI's variables besides).
    pub env: BTreeMap<String, String>,
    /// Names of secrets that it gets as variables, at each request and never in init.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// A command module's arguments, after its name.
    pub args: Vec<String>,
    /// Routes of its own, beside `/{name}/...`; as [`Route`] parses them.
    pub routes: Vec<String>,
    /// What it may call; as [`crate::outbound::Rule`] parses them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<String>,
    /// Headers that the host adds to its calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outbound_headers: Vec<EdgeHeader>,
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
    Limit(#[from] crate::limits::LimitError),
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
    Route(#[from] crate::router::RouteError),
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
    /// A secret that cannot be given to a guest.
    #[error("secret '{name}': {why}")]
    Secret {
        /// Its name, cut to 64 characters.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A rule of what it may call that is none.
    #[error(transparent)]
    Outbound(#[from] RuleError),
    /// A rule that names an address of a private network.
    #[error("outbound '{rule}': {why}")]
    OutboundPrivate {
        /// The rule.
        rule: String,
        /// What that address is.
        why: String,
    },
    /// A header for its calls that is none.
    #[error(transparent)]
    OutboundHeader(#[from] HeaderError),
    /// More of either than a function has.
    #[error("{count} {what}: a function has at most {max}")]
    OutboundMany {
        /// How many were asked for.
        count: usize,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
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
            Self::OutboundPrivate { .. } => {
                "name a public host; or let the operator add the network to `outbound.private` in mayfly.toml".into()
            }
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
        self.check_outbound()?;
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
        let refuse = |name: &str, why| {
            Err(SettingsError::Secret { name: name.chars().take(64).collect(), why })
        };
        if self.secrets.len() > node::ENV_VARS {
            return refuse("", "a function has at most 64 secrets");
        }
        for (at, name) in self.secrets.iter().enumerate() {
            if let Err(why) = check_secret_name(name) {
                return refuse(name, why);
            }
            if self.secrets[..at].contains(name) {
                return refuse(name, "it is named twice");
            }
            if self.env.contains_key(name) {
                return refuse(name, "it is a variable as well: take one of them out");
            }
        }
        Ok(())
    }
}

impl Settings {
    fn check_outbound(&self) -> Result<(), SettingsError> {
        for (count, what, max) in [
            (self.outbound.len(), "rules of outbound", outbound::OUTBOUND_RULES),
            (self.outbound_headers.len(), "headers of outbound", outbound::OUTBOUND_HEADERS),
        ] {
            if count > max {
                return Err(SettingsError::OutboundMany { count, what, max });
            }
        }
        Rules::parse(&self.outbound)?;
        self.outbound_headers.iter().try_for_each(EdgeHeader::check)?;
        Ok(())
    }

    /// Names of all secrets that it needs: those that its guests get, and those in headers of their calls.
    pub fn needed_secrets(&self) -> impl Iterator<Item = &str> {
        let in_headers = self.outbound_headers.iter().flat_map(EdgeHeader::secrets);
        self.secrets.iter().map(String::as_str).chain(in_headers)
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
    /// Names the artifact's file, if other modules' snapshots run on the same code; without it `artifact` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ArtifactKey>,
    /// What every memory of it begins with; zeros if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
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

impl Snapshot {
    /// Linear memory that every instance begins with, in bytes; nothing if the code itself says it.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        match self {
            Self::Taken { memory_bytes, .. } => Some(*memory_bytes),
            Self::NoInit | Self::Refused { .. } => None,
        }
    }
}

impl RevisionRecord {
    /// What names the artifact's file.
    #[must_use]
    pub fn code(&self) -> ArtifactKey {
        self.code.unwrap_or(self.artifact)
    }

    /// Seconds since 1970, or 0 if the clock is before that.
    #[must_use]
    pub fn now_unix_s() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}
