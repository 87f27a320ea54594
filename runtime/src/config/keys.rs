//! The table of all keys.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use ipnet::IpNet;
use mayfly_core::limits::Limits;
use mayfly_core::outbound::{Rule, RuleError};
use mayfly_core::router::Route;
use mayfly_core::{FunctionName, units};
use mayfly_observe::logs::{Format, Requests};

use super::Config;
use super::tls::{self, ClientAuth, SniKeys};

/// How a key is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    One,
    /// `true` or `false`; the flag alone means `true`.
    Switch,
    /// An array; a flag may be repeated, a variable has commas. A later layer replaces an earlier one.
    List,
    /// A table; flag and variable have `key=value`. A later layer adds to an earlier one.
    Pairs,
    /// An array of tables, whose fields [`Key::value`] names; a flag has one's fields with blanks between them and may be
    /// repeated, a variable has commas. A later layer replaces an earlier one.
    Tables,
}

/// A value as it is printed.
pub(super) enum Printed {
    /// Quoted.
    Text(String),
    /// A number, `true`, `false`.
    Bare(String),
    List(Vec<String>),
    Pairs(Vec<(String, String)>),
    Tables(Vec<Vec<(&'static str, String)>>),
}

/// One key.
pub struct Key {
    /// In `mayfly.toml`, dots between tables.
    pub name: &'static str,
    /// How it is given.
    pub kind: Kind,
    /// What its value looks like.
    pub value: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(super) get: fn(&Config) -> Printed,
}

/// What a key is called elsewhere, made once.
pub(super) struct Names {
    pub(super) flag: String,
    pub(super) env: String,
    pub(super) help: String,
}

/// [`Names`] in the order of [`KEYS`]; clap wants them to live for ever.
pub(super) static NAMES: LazyLock<Vec<Names>> = LazyLock::new(|| {
    let names = |key: &Key| Names {
        flag: key.flag(),
        env: key.env(),
        help: format!("{} [env: {}] [default: {}]", key.help, key.env(), key.default()),
    };
    KEYS.iter().map(names).collect()
});

impl Key {
    /// As a flag, without the dashes in front.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('.', "-")
    }

    /// As a variable.
    #[must_use]
    pub fn env(&self) -> String {
        format!("MAYFLY_{}", self.flag().replace('-', "_").to_ascii_uppercase())
    }

    /// Its default as it is written; `none` for an empty list or table.
    #[must_use]
    pub fn default(&self) -> String {
        match (self.get)(&Config::default()) {
            Printed::Text(text) if text.is_empty() => "none".into(),
            Printed::Text(text) | Printed::Bare(text) => text,
            Printed::List(items) if items.is_empty() => "none".into(),
            Printed::Pairs(pairs) if pairs.is_empty() => "none".into(),
            Printed::Tables(tables) if tables.is_empty() => "none".into(),
            Printed::List(_) | Printed::Pairs(_) | Printed::Tables(_) => {
                "see docs/limits.md".into()
            }
        }
    }
}

fn number(text: &str, min: usize, max: usize) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(format!("'{text}' is not a whole number from {min} to {max}")),
    }
}

fn auto<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.trim() == "auto" {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|why| format!("{why}, or 'auto'"))
}

fn switch(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

/// A timeout: not zero, which would close every connection, and at most a day.
fn timeout(text: &str) -> Result<Duration, String> {
    let duration = units::parse_duration(text).map_err(|e| e.to_string())?;
    let bounds = Duration::from_millis(1)..=Duration::from_secs(86_400);
    if bounds.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("'{text}' is not from 1ms to 24h"))
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| {
        format!("'{text}' is not an address: write IP:PORT, as in 127.0.0.1:3000 or [::]:3000")
    })
}

/// An address or a network; bits beyond its prefix are as good as none.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let one = |address: IpAddr| IpNet::from(address.to_canonical());
    text.parse().map(one).or_else(|_| text.parse::<IpNet>().map(|net| net.trunc())).map_err(|_| {
        format!("'{text}' is neither an address nor a network: write 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32")
    })
}

fn rule(text: &str) -> Result<Rule, String> {
    text.parse().map_err(|why: RuleError| why.to_string())
}

fn rules(rules: &[Rule]) -> Printed {
    Printed::List(rules.iter().map(Rule::to_string).collect())
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim(), value.trim()))
        .ok_or_else(|| format!("'{text}' is not key=value"))
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("the path is empty".into()) } else { Ok(text.into()) }
}

/// Nothing is none: a later layer may take an earlier one's back.
fn or_none<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn file(value: Option<&PathBuf>) -> Printed {
    Printed::Text(value.map_or_else(String::new, |path| path.display().to_string()))
}

fn choice<T: Copy>(text: &str, of: &[(&str, T)]) -> Result<T, String> {
    of.iter().find(|(name, _)| *name == text.trim()).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = of.iter().map(|(name, _)| *name).collect();
        format!("'{text}' is not one of {}", names.join(", "))
    })
}

fn chosen<T: Copy + PartialEq>(value: T, of: &[(&str, T)]) -> Printed {
    let name = of.iter().find(|(_, candidate)| *candidate == value).map_or("", |(name, _)| name);
    Printed::Text(name.into())
}

const FORMATS: [(&str, Format); 2] = [("human", Format::Human), ("json", Format::Json)];
const CLIENT_AUTH: [(&str, ClientAuth); 2] =
    [("required", ClientAuth::Required), ("optional", ClientAuth::Optional)];
const REQUESTS: [(&str, Requests); 3] =
    [("errors", Requests::Errors), ("all", Requests::All), ("none", Requests::Off)];

fn shown(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

fn or_auto(value: Option<String>) -> Printed {
    Printed::Text(value.unwrap_or_else(|| "auto".into()))
}

fn count_or_auto(value: Option<usize>) -> Printed {
    value.map_or_else(|| Printed::Text("auto".into()), |n| Printed::Bare(n.to_string()))
}

fn time(value: Duration) -> Printed {
    Printed::Text(units::format_duration(value))
}

fn limit_pairs(limits: &Limits) -> Printed {
    Printed::Pairs(limits.entries().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A host's name, lower-cased: letters, digits, dots and dashes.
pub(super) fn host(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    if text.is_empty() || text.len() > 253 || !text.bytes().all(good) {
        return Err(format!("'{text}' is not a host's name (without port or scheme)"));
    }
    Ok(text.to_ascii_lowercase())
}

/// The most threads or workers that make sense; a typo must not start a million.
const THREADS: usize = 1_024;

macro_rules! key {
    ($name:literal, $kind:ident, $value:literal, $help:literal, |$c:ident, $v:ident| $set:expr, $get:expr) => {
        Key {
            name: $name,
            kind: Kind::$kind,
            value: $value,
            help: $help,
            set: |$c, $v| {
                $set;
                Ok(())
            },
            get: |$c| $get,
        }
    };
}

/// All keys, in the order they are documented and printed: those without a table first, as TOML wants it.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key!("state-dir", One, "DIR", "where functions, artifacts and tokens are kept",
        |c, v| c.state_dir = path(v)?, Printed::Text(c.state_dir.display().to_string())),
    key!("server-timing", Switch, "BOOL", "whether responses carry Server-Timing",
        |c, v| c.server_timing = switch(v)?, Printed::Bare(c.server_timing.to_string())),
    key!("gateway.listen", One, "IP:PORT", "address that clients call",
        |c, v| c.gateway.listen = address(v)?, Printed::Text(c.gateway.listen.to_string())),
    key!("gateway.tls.cert", One, "FILE", "certificate and those above it, as PEM; with it the gateway speaks TLS",
        |c, v| c.gateway.tls.pair.cert = or_none(v, path)?, file(c.gateway.tls.pair.cert.as_ref())),
    key!("gateway.tls.key", One, "FILE", "its private key, as PEM, which others must not be able to read",
        |c, v| c.gateway.tls.pair.key = or_none(v, path)?, file(c.gateway.tls.pair.key.as_ref())),
    key!("gateway.tls.listen", One, "IP:PORT", "address for TLS beside the plain one; none: gateway.listen speaks TLS",
        |c, v| c.gateway.tls.listen = or_none(v, address)?,
        Printed::Text(c.gateway.tls.listen.map_or_else(String::new, |listen| listen.to_string()))),
    key!("gateway.tls.sni", Tables, "host=NAME cert=FILE key=FILE", "certificates for clients that name a certain host, as in *.example",
        |c, v| c.gateway.tls.sni.push(tls::sni(v)?),
        Printed::Tables(c.gateway.tls.sni.iter().map(entry).collect())),
    key!("gateway.tls.client-ca", One, "FILE", "authorities whose clients' certificates functions are told of, as PEM",
        |c, v| c.gateway.tls.client_ca = or_none(v, path)?, file(c.gateway.tls.client_ca.as_ref())),
    key!("gateway.tls.client-auth", One, "auto|required|optional", "whether clients must have such a certificate; auto is required, where there is client-ca",
        |c, v| c.gateway.tls.client_auth = auto(v, |t| choice(t, &CLIENT_AUTH))?,
        c.gateway.tls.client_auth.map_or_else(|| or_auto(None), |auth| chosen(auth, &CLIENT_AUTH))),
    key!("gateway.trusted-proxies", List, "IP|CIDR", "proxies whose Forwarded and X-Forwarded-* are believed, as in 10.0.0.0/8",
        |c, v| c.gateway.trusted_proxies.push(network(v)?),
        Printed::List(c.gateway.trusted_proxies.iter().map(IpNet::to_string).collect())),
    key!("gateway.list-models", Switch, "BOOL", "whether anybody may ask which models there are and how often they were used",
        |c, v| c.gateway.list_models = switch(v)?, Printed::Bare(c.gateway.list_models.to_string())),
    key!("gateway.front-page", Switch, "BOOL", "whether GET / says what this is and how to go on, while no function has that path",
        |c, v| c.gateway.front_page = switch(v)?, Printed::Bare(c.gateway.front_page.to_string())),
    key!("gateway.workers", One, "N", "I/O threads; auto is one per core",
        |c, v| c.gateway.workers = auto(v, |t| number(t, 1, THREADS))?, count_or_auto(c.gateway.workers)),
    key!("gateway.connections", One, "N", "connections at once; further ones are closed as they come",
        |c, v| c.gateway.connections = number(v, 1, 1_000_000)?, Printed::Bare(c.gateway.connections.to_string())),
    key!("gateway.header-timeout", One, "TIME", "until a request's head is whole, then 408 or the end of the connection",
        |c, v| c.gateway.header_timeout = timeout(v)?, time(c.gateway.header_timeout)),
    key!("gateway.body-idle-timeout", One, "TIME", "between two pieces of a request's body, then 408",
        |c, v| c.gateway.body_idle_timeout = timeout(v)?, time(c.gateway.body_idle_timeout)),
    key!("gateway.write-idle-timeout", One, "TIME", "for a client that takes nothing of its response",
        |c, v| c.gateway.write_idle_timeout = timeout(v)?, time(c.gateway.write_idle_timeout)),
    key!("gateway.keep-alive-timeout", One, "TIME", "of a connection without a request; longer than that of a proxy in front",
        |c, v| c.gateway.keep_alive_timeout = timeout(v)?, time(c.gateway.keep_alive_timeout)),
    key!("gateway.queue-timeout", One, "TIME", "waiting for a free slot, then 503",
        |c, v| c.gateway.queue_timeout = timeout(v)?, time(c.gateway.queue_timeout)),
    key!("gateway.drain-timeout", One, "TIME", "from SIGTERM to the end; auto is the longest wall limit in use and 5s",
        |c, v| c.gateway.drain_timeout = auto(v, timeout)?, or_auto(c.gateway.drain_timeout.map(units::format_duration))),
    key!("admin.listen", One, "IP:PORT", "address of the admin API; keep it off the internet",
        |c, v| c.admin.listen = address(v)?, Printed::Text(c.admin.listen.to_string())),
    key!("admin.hosts", List, "NAME", "names accepted in Host, beside localhost and IP addresses",
        |c, v| c.admin.hosts.push(host(v)?), Printed::List(c.admin.hosts.clone())),
    key!("admin.tls.cert", One, "FILE", "certificate and those above it, as PEM; with it the admin API speaks TLS",
        |c, v| c.admin.tls.cert = or_none(v, path)?, file(c.admin.tls.cert.as_ref())),
    key!("admin.tls.key", One, "FILE", "its private key, as PEM, which others must not be able to read",
        |c, v| c.admin.tls.key = or_none(v, path)?, file(c.admin.tls.key.as_ref())),
    key!("engine.slots", One, "N", "instances at once; auto is what memory and address space allow",
        |c, v| c.engine.slots = auto(v, |t| number(t, 1, 100_000))?, count_or_auto(c.engine.slots)),
    key!("engine.memory-budget", One, "SIZE", "memory for the whole process; near it the greediest function is ended; auto is 4/5 of the machine's or the cgroup's",
        |c, v| c.engine.memory_budget = auto(v, |t| units::parse_size(t).map_err(|e| e.to_string()))?,
        or_auto(c.engine.memory_budget.map(units::format_size))),
    key!("engine.guest-threads", One, "N", "threads for guests that run long; auto is two per core and two more",
        |c, v| c.engine.guest_threads = auto(v, |t| number(t, 1, THREADS))?, count_or_auto(c.engine.guest_threads)),
    key!("engine.native-kernels", Switch, "BOOL", "whether guests get the host's arithmetic kernels",
        |c, v| c.engine.native_kernels = switch(v)?, Printed::Bare(c.engine.native_kernels.to_string())),
    key!("secrets.key-file", One, "FILE", "the key that seals secrets, 32 bytes, mode 0600; auto is secrets.key in the state directory",
        |c, v| c.secrets.key_file = auto(v, path)?, or_auto(shown(c.secrets.key_file.as_deref()))),
    key!("secrets.dir", One, "DIR", "a directory with a file for each secret, as Kubernetes and Vault's agent write them; auto is none",
        |c, v| c.secrets.dir = auto(v, path)?, or_auto(shown(c.secrets.dir.as_deref()))),
    key!("outbound.allow", List, "RULE", "what no function's --outbound goes beyond, as in https://*; none: that is theirs to say",
        |c, v| c.outbound.allow.push(rule(v)?), rules(&c.outbound.allow)),
    key!("outbound.deny", List, "RULE", "what no function calls, whatever it is allowed",
        |c, v| c.outbound.deny.push(rule(v)?), rules(&c.outbound.deny)),
    key!("outbound.private", List, "IP|CIDR", "networks that are not the public internet and may be called, as in 10.1.0.0/16",
        |c, v| c.outbound.private.push(network(v)?),
        Printed::List(c.outbound.private.iter().map(IpNet::to_string).collect())),
    key!("outbound.ca", One, "FILE", "authorities that are believed beside the system's, as PEM",
        |c, v| c.outbound.ca = or_none(v, path)?, file(c.outbound.ca.as_ref())),
    key!("log.format", One, "human|json", "how lines are written",
        |c, v| c.log.format = choice(v, &FORMATS)?, chosen(c.log.format, &FORMATS)),
    key!("log.level", One, "LEVEL", "what Mayfly itself logs: error, warn, info, debug, trace, or a tracing filter",
        |c, v| c.log.level = mayfly_observe::telemetry::check_filter(v)?, Printed::Text(c.log.level.clone())),
    key!("log.requests", One, "errors|all|none", "which invocations get a line; all costs throughput",
        |c, v| c.log.requests = choice(v, &REQUESTS)?, chosen(c.log.requests, &REQUESTS)),
    key!("limits", Pairs, "KEY=VALUE", "limits of functions whose deploy names none",
        |c, v| c.limits.set(v).map_err(|e| e.to_string())?, limit_pairs(&c.limits)),
    key!("limits-max", Pairs, "KEY=VALUE", "what no deploy may exceed",
        |c, v| c.limits_max.set(v).map_err(|e| e.to_string())?, limit_pairs(&c.limits_max)),
    key!("routes", Pairs, "PATTERN=NAME", "paths that lead to a function beside /NAME/..., as in /api/...",
        |c, v| {
            let (route, name) = pair(v)?;
            let route = Route::new(route).map_err(|e| e.to_string())?.to_string();
            c.routes.insert(route, function(name)?);
        },
        Printed::Pairs(c.routes.iter().map(|(route, name)| (route.clone(), name.to_string())).collect())),
    key!("deploy", Pairs, "NAME=PATH", "modules to deploy at start, unless the same module is deployed already",
        |c, v| {
            let (name, file) = pair(v)?;
            c.deploy.insert(function(name)?, path(file)?);
        },
        Printed::Pairs(c.deploy.iter().map(|(name, file)| (name.to_string(), file.display().to_string())).collect())),
];

fn entry(of: &SniKeys) -> Vec<(&'static str, String)> {
    let (cert, key) = (of.cert.display().to_string(), of.key.display().to_string());
    vec![("host", of.host.clone()), ("cert", cert), ("key", key)]
}

fn function(name: &str) -> Result<FunctionName, String> {
    FunctionName::new(name).map_err(|why| format!("'{name}': {why}"))
}
