//! What proxies in front of the node say of a request: who sent it, and how it was addressed.
//!
//! `Forwarded` (RFC 7239) and `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `-Prefix` are believed when they come over
//! a connection from an address that the operator trusts, and are mere data from anybody else. The client is the last
//! address, from the right, that is not a trusted proxy's: what stands left of it, the client may have written itself.
//! What is said in a way that two readers could read differently is refused, and not passed over: whoever can make a
//! header unreadable must not thereby be taken for the proxy.

mod element;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{FORWARDED, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use mayfly_core::router::check_host;
use mayfly_host::sandbox::{Forwarded, default_port};

use element::{Hop, Node};

static X_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static X_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Elements of a header at most.
const MOST: usize = mayfly_core::limits::node::FORWARDED_HOPS;

/// The proxies whose word is taken. A clone is a counter.
#[derive(Debug, Clone, Default)]
pub struct Trusted(Arc<[IpNet]>);

impl Trusted {
    /// These networks.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether an address is in one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // Of a listener that takes both families, one of IPv4 is written as one of IPv6.
        !self.0.is_empty() && self.0.iter().any(|net| net.contains(&address.to_canonical()))
    }
}

/// A request's client, and how it addressed the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The client; its port is 0 if nobody said it.
    pub client: SocketAddr,
    /// The rest, if there is any.
    pub forwarded: Option<Box<Forwarded>>,
}

/// Reads what a trusted peer says; `None` if it says nothing.
///
/// # Errors
/// What is wrong with it, for a 400.
pub fn read(
    parts: &Parts,
    peer: SocketAddr,
    trusted: &Trusted,
) -> Result<Option<Seen>, &'static str> {
    let headers = &parts.headers;
    let standard = Said::by_forwarded(headers, trusted)?;
    let common = Said::by_x_forwarded(headers, trusted)?;
    let said = match (standard, common) {
        (None, None) => return Ok(None),
        (Some(said), None) | (None, Some(said)) => said,
        // One of them is what the proxy says, and the other may be what its client wrote and it passed on.
        (Some(standard), Some(common)) => standard.with(common)?,
    };
    let own = parts.uri.authority().map(http::uri::Authority::as_str);
    let own = own.or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()));
    let authority = said.authority(own.unwrap_or_default());
    let forwarded = Forwarded { secure: said.secure, authority, prefix: said.prefix };
    let forwarded = (forwarded != Forwarded::default()).then(|| Box::new(forwarded));
    Ok(Some(Seen { client: said.client.unwrap_or(peer), forwarded }))
}

/// What one family of headers says.
#[derive(Debug, Default)]
struct Said {
    client: Option<SocketAddr>,
    secure: Option<bool>,
    host: Option<String>,
    port: Option<u16>,
    prefix: String,
}

impl Said {
    fn by_forwarded(headers: &HeaderMap, trusted: &Trusted) -> Result<Option<Self>, &'static str> {
        let mut hops = Vec::new();
        for value in headers.get_all(FORWARDED) {
            element::parse(value.to_str().map_err(|_| element::WRONG)?, &mut hops)?;
        }
        if hops.is_empty() {
            return Ok(None);
        }
        let (client, at) = walk(hops.iter().rev().map(|hop| Ok(hop.node)), trusted)?;
        let Hop { secure, host, .. } = hops.swap_remove(hops.len() - 1 - at);
        let host = host.map(|host| host_of(&host)).transpose()?;
        Ok(Some(Self { client, secure, host, ..Self::default() }))
    }

    fn by_x_forwarded(
        headers: &HeaderMap,
        trusted: &Trusted,
    ) -> Result<Option<Self>, &'static str> {
        let lists = [&X_FOR, &X_PROTO, &X_HOST, &X_PORT, &X_PREFIX];
        if !lists.iter().any(|name| headers.contains_key(*name)) {
            return Ok(None);
        }
        let nodes = list(headers, &X_FOR)?;
        let nodes = nodes.iter().rev().map(|text| Node::of(text).map(Some).ok_or(WRONG_FOR));
        let (client, at) = walk(nodes, trusted)?;
        // Proxies that set a header anew leave one value, those that add to it one each: then the client's hop has its
        // own, as many from the right as its address.
        let of_hop = |name| -> Result<Option<String>, &'static str> {
            let all = list(headers, name)?;
            let at = all.len().saturating_sub(1 + at);
            Ok(all.get(at).map(|text| (*text).to_owned()))
        };
        let secure = of_hop(&X_PROTO)?.map(|proto| element::is_secure(&proto).ok_or(WRONG_PROTO));
        let host = of_hop(&X_HOST)?.map(|host| host_of(&host)).transpose()?;
        let port = of_hop(&X_PORT)?.map(|port| port_of(&port).ok_or(WRONG_PORT)).transpose()?;
        let prefixes = list(headers, &X_PREFIX)?;
        let of_client = &prefixes[prefixes.len().saturating_sub(1 + at)..];
        // Each took its own off; the outermost is the first.
        let prefix = of_client.iter().map(|prefix| prefix_of(prefix)).collect::<Result<_, _>>()?;
        Ok(Some(Self { client, secure: secure.transpose()?, host, port, prefix }))
    }

    /// What both say, if they say the same.
    fn with(self, other: Self) -> Result<Self, &'static str> {
        const DIFFER: &str = "Forwarded and X-Forwarded-* say different things of one request: a proxy sets one and lets the \
                              other pass";
        fn both<T>(
            a: Option<T>,
            b: Option<T>,
            same: impl Fn(&T, &T) -> bool,
        ) -> Result<Option<T>, &'static str> {
            match (a, b) {
                (Some(a), Some(b)) if !same(&a, &b) => Err(DIFFER),
                (a, b) => Ok(a.or(b)),
            }
        }
        Ok(Self {
            client: both(self.client, other.client, |a, b| a.ip() == b.ip())?,
            secure: both(self.secure, other.secure, |a, b| a == b)?,
            host: both(self.host, other.host, |a, b| a.eq_ignore_ascii_case(b))?,
            port: other.port,
            prefix: other.prefix,
        })
    }

    /// The authority that the client used, if that is not known to be the request's own.
    fn authority(&self, own: &str) -> Option<String> {
        let host = self.host.as_deref().unwrap_or(own);
        let Some(port) = self.port else { return self.host.clone() };
        let name = split_port(host).0;
        let usual = port == default_port(self.secure.unwrap_or(false));
        Some(if usual { name.to_owned() } else { format!("{name}:{port}") })
    }
}

const WRONG_FOR: &str = "X-Forwarded-For has something that is no address";
const WRONG_PROTO: &str = "X-Forwarded-Proto is neither http nor https";
const WRONG_HOST: &str = "X-Forwarded-Host, or host in Forwarded, is not a host";
const WRONG_PORT: &str = "X-Forwarded-Port is not a port";
const WRONG_PREFIX: &str = "X-Forwarded-Prefix is not the beginning of a path";
const WRONG_LENGTH: &str = "more proxies than can be are named in X-Forwarded-*";
const WRONG_TEXT: &str = "one of the X-Forwarded-* is not text";

/// The client, and how many from the right its element stands. `nodes` come from the right; `None` if there are none, or
/// if the nearest proxy does not know whom it had before it.
fn walk(
    nodes: impl Iterator<Item = Result<Option<Node>, &'static str>>,
    trusted: &Trusted,
) -> Result<(Option<SocketAddr>, usize), &'static str> {
    let (mut client, mut at) = (None, 0);
    for (i, node) in nodes.enumerate() {
        // A proxy may hide whom it had before it: then the last one that is known stands for it.
        let Some(Node::Address(address, port)) = node? else { break };
        client = Some(SocketAddr::new(address.to_canonical(), port.unwrap_or(0)));
        at = i;
        if !trusted.contains(address) {
            break;
        }
    }
    Ok((client, at))
}

/// The elements of a list that may be on several lines; empty ones count for nothing.
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Vec<&'h str>, &'static str> {
    let mut all = Vec::new();
    for value in headers.get_all(name) {
        let value = value.to_str().map_err(|_| WRONG_TEXT)?;
        all.extend(value.split(',').map(str::trim).filter(|part| !part.is_empty()).take(MOST + 1));
        if all.len() > MOST {
            return Err(WRONG_LENGTH);
        }
    }
    Ok(all)
}

fn host_of(host: &str) -> Result<String, &'static str> {
    let wrong = |_| WRONG_HOST;
    check_host(host.as_bytes()).map_err(wrong)?;
    if split_port(host).0.is_empty() { Err(WRONG_HOST) } else { Ok(host.to_owned()) }
}

fn port_of(port: &str) -> Option<u16> {
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    port.parse().ok().filter(|port| digits && *port > 0)
}

/// A prefix without its last `/`; nothing of `/`.
fn prefix_of(prefix: &str) -> Result<&str, &'static str> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() {
        return Ok(prefix);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:@%/".contains(&b);
    // `//host` would lead a browser elsewhere.
    let path = prefix.bytes().all(plain) && !prefix.contains("//");
    match mayfly_core::router::check_path(prefix) {
        Ok(()) if path => Ok(prefix),
        _ => Err(WRONG_PREFIX),
    }
}

/// A host and its port, if it has one.
#[must_use]
pub fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests;
