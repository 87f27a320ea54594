//! Configuration: what is given (file, `MAYFLY_*` variables, flags) becomes a [`Config`] in which every value is typed.
//!
//! One table, [`KEYS`], says what there is. Every key is a key of `mayfly.toml`, a variable and a flag at once, so
//! that none of the three can lack one. Later layers win: default, file, variable, flag.

mod keys;
mod layers;
mod outbound;
mod print;
mod tls;
mod variables;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use mayfly_core::FunctionName;
use mayfly_core::limits::{LIMIT_KEYS, Limits, node};
use mayfly_core::router::Route;
use mayfly_observe::logs::{Format, Requests};

pub use keys::{KEYS, Key, Kind};
pub use layers::{ConfigArgs, Origin};
pub use outbound::OutboundKeys;
pub use tls::{ClientAuth, GatewayTlsKeys, PairKeys, SniKeys};
pub use variables::misspelt;

/// Everything that a node can be told, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Functions, artifacts, tokens.
    pub state_dir: PathBuf,
    /// Whether responses carry `Server-Timing`.
    pub server_timing: bool,
    /// The listener that clients call.
    pub gateway: GatewayKeys,
    /// The listener that operators call.
    pub admin: AdminKeys,
    /// Pool and threads.
    pub engine: EngineKeys,
    /// Where secrets come from.
    pub secrets: SecretKeys,
    /// What functions may call.
    pub outbound: OutboundKeys,
    /// What is logged.
    pub log: LogKeys,
    /// Limits of a function whose deploy names none.
    pub limits: Limits,
    /// What no deploy may exceed.
    pub limits_max: Limits,
    /// Path pattern to function.
    pub routes: BTreeMap<String, FunctionName>,
    /// Modules that are deployed at start.
    pub deploy: BTreeMap<FunctionName, PathBuf>,
}

/// Where a node is found: all that the verbs which talk to one need of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its admin API.
    pub admin: SocketAddr,
    /// The certificate that it shows, if it speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Where its token is.
    pub state_dir: PathBuf,
}

impl NodeAddress {
    /// What file and variables say of it. The file's other keys are not looked at. One that is no TOML and that nobody
    /// named is not used, and the second value says why.
    ///
    /// # Errors
    /// [`ConfigError`] when one of these keys is wrong, or a file that was named cannot be read.
    pub fn resolve(
        environment: &dyn Environment,
    ) -> Result<(Self, Option<ConfigError>), ConfigError> {
        let mut config = Config::default();
        let (given, broken) =
            layers::collect_only(&["admin.listen", "admin.tls.cert", "state-dir"], environment)?;
        given.iter().try_for_each(|given| given.apply(&mut config))?;
        let (admin, certificate) = (config.admin.listen, config.admin.tls.cert);
        Ok((Self { admin, certificate, state_dir: config.state_dir }, broken))
    }
}

/// Keys under `gateway`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayKeys {
    /// Address.
    pub listen: SocketAddr,
    /// TLS.
    pub tls: GatewayTlsKeys,
    /// Proxies whose `Forwarded` and `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether anybody may ask which models there are.
    pub list_models: bool,
    /// Whether `GET /` has an answer while no function has that path.
    pub front_page: bool,
    /// I/O threads; `None` is one per core.
    pub workers: Option<usize>,
    /// Connections at once.
    pub connections: usize,
    /// Until a request's head is whole.
    pub header_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_idle_timeout: Duration,
    /// Between two pieces of a response that the client takes.
    pub write_idle_timeout: Duration,
    /// Of a connection without a request.
    pub keep_alive_timeout: Duration,
    /// Waiting for a slot.
    pub queue_timeout: Duration,
    /// From the signal to the end; `None` is the longest wall limit and [`node::DRAIN_GRACE`].
    pub drain_timeout: Option<Duration>,
}

/// Keys under `admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminKeys {
    /// Address.
    pub listen: SocketAddr,
    /// Names in `Host` that are accepted beside `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// TLS, if its certificate is set.
    pub tls: PairKeys,
}

/// Keys under `engine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineKeys {
    /// Instances at once; `None` is as many as memory and address space allow.
    pub slots: Option<usize>,
    /// Bytes for guests; `None` is four fifths of what the machine or its cgroup has.
    pub memory_budget: Option<u64>,
    /// Threads for guests that overrun their first tick; `None` is two more than twice the cores.
    pub guest_threads: Option<usize>,
    /// Whether guests get native arithmetic kernels.
    pub native_kernels: bool,
}

/// Keys under `secrets`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretKeys {
    /// The key that seals them; `None` is `secrets.key` of the state directory.
    pub key_file: Option<PathBuf>,
    /// A directory with a file for each.
    pub dir: Option<PathBuf>,
}

/// Keys under `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKeys {
    /// How lines are written.
    pub format: Format,
    /// What Mayfly itself logs: a level, or a filter as tracing's `EnvFilter` takes it.
    pub level: String,
    /// Which invocations get a line.
    pub requests: Requests,
}

impl Default for Config {
    fn default() -> Self {
        let listen = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut limits_max = Limits::default();
        for key in LIMIT_KEYS {
            // A maximum is within its own bounds (a test of the limits says so).
            let _ = limits_max.set(&format!("{}={}", key.name, key.format(key.max)));
        }
        Self {
            state_dir: "state".into(),
            server_timing: false,
            gateway: GatewayKeys {
                listen: listen(3000),
                tls: GatewayTlsKeys::default(),
                trusted_proxies: Vec::new(),
                list_models: true,
                front_page: true,
                workers: None,
                connections: node::CONNECTIONS,
                header_timeout: node::HEADER_TIMEOUT,
                body_idle_timeout: node::BODY_IDLE_TIMEOUT,
                write_idle_timeout: node::WRITE_IDLE_TIMEOUT,
                keep_alive_timeout: node::KEEP_ALIVE_TIMEOUT,
                queue_timeout: node::QUEUE_TIMEOUT,
                drain_timeout: None,
            },
            admin: AdminKeys { listen: listen(3001), hosts: Vec::new(), tls: PairKeys::default() },
            engine: EngineKeys {
                slots: None,
                memory_budget: None,
                guest_threads: None,
                native_kernels: true,
            },
            secrets: SecretKeys::default(),
            outbound: OutboundKeys::default(),
            log: LogKeys {
                format: Format::Human,
                level: "info".into(),
                requests: Requests::Errors,
            },
            limits: Limits::default(),
            limits_max,
            routes: BTreeMap::new(),
            deploy: BTreeMap::new(),
        }
    }
}

/// Why there is no configuration. Each names the key and where it came from.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        why: toml::de::Error,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no key '{key}'{suggestion}")]
    Unknown {
        /// As it was written.
        key: String,
        /// Where.
        origin: Origin,
        /// What was meant, perhaps; or nothing.
        suggestion: String,
    },
    /// A value that its key does not take.
    #[error("{key} (from {origin}): {why}")]
    Value {
        /// The key.
        key: String,
        /// Where the value came from.
        origin: Origin,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Values that are good each, but not together.
    #[error("{0}")]
    Conflict(String),
}

/// What a node reads from its surroundings; passed in, so that tests need not touch the process.
pub trait Environment {
    /// The value of a variable.
    fn var(&self, name: &str) -> Option<String>;
    /// The text of a file.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &Path) -> std::io::Result<String>;
}

/// The process's own.
#[derive(Debug, Clone, Copy)]
pub struct Process;

impl Environment for Process {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

impl Config {
    /// Puts the layers together.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn resolve(args: &ConfigArgs, environment: &dyn Environment) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for given in layers::collect(args, environment)? {
            given.apply(&mut config)?;
        }
        config.check()?;
        Ok(config)
    }

    /// From the signal to the end at most.
    #[must_use]
    pub fn drain_timeout(&self, longest_wall: Duration) -> Duration {
        self.gateway.drain_timeout.unwrap_or(longest_wall + node::DRAIN_GRACE)
    }

    /// The node's routes, parsed; [`Config::resolve`] has checked them.
    #[must_use]
    pub fn parsed_routes(&self) -> Vec<(Route, FunctionName)> {
        let parse =
            |(route, name): (&String, &FunctionName)| Some((Route::new(route).ok()?, name.clone()));
        self.routes.iter().filter_map(parse).collect()
    }

    /// The whole configuration as a `mayfly.toml` that gives it again.
    #[must_use]
    pub fn to_toml(&self) -> String {
        print::to_toml(self)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for key in LIMIT_KEYS {
            let (value, max) = (key.get(&self.limits), key.get(&self.limits_max));
            if value > max {
                return Err(ConfigError::Conflict(format!(
                    "limits.{name} is {value}, over limits-max.{name} of {max}: lower the one or raise the other",
                    name = key.name,
                    value = key.format(value),
                    max = key.format(max),
                )));
            }
        }
        if self.gateway.trusted_proxies.len() > node::TRUSTED_PROXIES {
            return Err(ConfigError::Conflict(format!(
                "gateway.trusted-proxies has more than {} entries: write networks in place of addresses",
                node::TRUSTED_PROXIES
            )));
        }
        self.outbound.check()?;
        let (gateway, admin) = (self.gateway.listen, self.admin.listen);
        if gateway == admin && gateway.port() != 0 {
            return Err(ConfigError::Conflict(format!(
                "gateway.listen and admin.listen are both {gateway}: give the admin API an address of its own"
            )));
        }
        tls::check(self)?;
        let routes = self.parsed_routes();
        let taken = self.deploy.keys().find_map(|name| {
            let by_name = Route::of_name(name);
            let (_, to) = routes.iter().find(|(route, to)| *route == by_name && to != name)?;
            Some((name, to))
        });
        if let Some((name, to)) = taken {
            return Err(ConfigError::Conflict(format!(
                "routes gives /{name}/... to '{to}', and deploy has a function '{name}', whose paths those are: rename the \
                 one or take the other out"
            )));
        }
        if self.routes.len() > node::ROUTES {
            return Err(ConfigError::Conflict(format!(
                "routes has {} entries; a node takes {}",
                self.routes.len(),
                node::ROUTES
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
