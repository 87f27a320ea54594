//! A URL as a guest or a rule gives it, read strictly: what two readers could take for two hosts is refused, not mended.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rule::Scheme;
use crate::FunctionName;
use crate::limits::node;

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How.
    pub scheme: Scheme,
    /// Lower-cased name, or an address in its one spelling (IPv6 without brackets), or a function's name.
    pub host: String,
    /// The host if it is an address.
    pub address: Option<IpAddr>,
    /// The scheme's own, if none was given.
    pub port: u16,
    /// Path and query, as they were given; begins with `/`.
    pub path_and_query: String,
}

/// Why a text is no URL to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither of the three.
    #[error("it begins with none of https://, http:// and mayfly://")]
    Scheme,
    /// More than [`node::URI_BYTES`].
    #[error("it is longer than 8 KiB")]
    TooLong,
    /// Something that is not visible ASCII, or that a URL has not.
    #[error(
        "it has a blank, a control character, a backslash or a letter outside ASCII: encode them as %XX, hosts as xn--"
    )]
    Character,
    /// `user:password@`.
    #[error("it has a user or password before the host: send an Authorization header instead")]
    UserInfo,
    /// Nothing before the path.
    #[error("it has no host")]
    NoHost,
    /// Not a host's name and no address.
    #[error("its host is neither a name of letters, digits and '-' nor an address")]
    Host,
    /// A number in another spelling than four decimal parts.
    #[error(
        "its host is an IPv4 address that is not written as four decimal numbers, as in 192.0.2.1"
    )]
    Ipv4,
    /// Not in brackets, or with a zone.
    #[error("its host is no IPv6 address without a zone, as in [2001:db8::1]")]
    Ipv6,
    /// `example.com.`
    #[error("its host ends in a dot: leave that out")]
    TrailingDot,
    /// Not 1 to 65535.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// What a server never gets.
    #[error("it has a fragment (#...), which is never sent: leave it out")]
    Fragment,
    /// Not a function's name.
    #[error("mayfly:// is followed by the name of a function, as in mayfly://other/path")]
    Function,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`UrlError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > node::URI_BYTES {
            return Err(UrlError::TooLong);
        }
        if text.bytes().any(|b| !b.is_ascii_graphic() || b == b'\\') {
            return Err(UrlError::Character);
        }
        if text.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (scheme, rest) = Scheme::split(text).ok_or(UrlError::Scheme)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path_and_query =
            if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        // What a URI's parser would take otherwise must not reach one.
        if path_and_query.bytes().any(|b| matches!(b, b'<' | b'>' | b'"' | b'`' | b'^')) {
            return Err(UrlError::Character);
        }
        let (host, address, port) = authority_of(scheme, authority)?;
        Ok(Self { scheme, host, address, port, path_and_query })
    }

    /// As it goes into `Host`, with the port unless it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = match self.address {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(IpAddr::V4(_)) | None => self.host.clone(),
        };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or("/")
    }

    /// Scheme, host and port: as a rule that would allow just these is written.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}{}", self.scheme.prefix(), self.authority())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path_and_query)
    }
}

/// Host, address and port of what stands between `//` and the path.
pub(super) fn authority_of(
    scheme: Scheme,
    authority: &str,
) -> Result<(String, Option<IpAddr>, u16), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    if authority.is_empty() {
        return Err(UrlError::NoHost);
    }
    if scheme == Scheme::Mayfly {
        FunctionName::check(authority).map_err(|_| UrlError::Function)?;
        return Ok((authority.to_owned(), None, 0));
    }
    let (host, port) = split_port(authority)?;
    let port = match port {
        None => scheme.default_port(),
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port)?
        }
        Some(_) => return Err(UrlError::Port),
    };
    if let Some(inside) = host.strip_prefix('[') {
        let inside = inside.strip_suffix(']').ok_or(UrlError::Ipv6)?;
        let address: Ipv6Addr = inside.parse().map_err(|_| UrlError::Ipv6)?;
        return Ok((address.to_string(), Some(address.into()), port));
    }
    let (name, address) = name(host)?;
    Ok((name, address, port))
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    let after = match authority.rfind(']') {
        Some(at) => at + 1,
        None if authority.matches(':').count() > 1 => return Err(UrlError::Ipv6),
        None => 0,
    };
    match authority[after..].find(':') {
        Some(at) => Ok((&authority[..after + at], Some(&authority[after + at + 1..]))),
        None => Ok((authority, None)),
    }
}

/// A host's name, lower-cased, or an IPv4 address in its only spelling.
fn name(host: &str) -> Result<(String, Option<IpAddr>), UrlError> {
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    if host.ends_with('.') {
        return Err(UrlError::TrailingDot);
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    // Resolvers read `0x7f.1`, `017700000001` and `2130706433` as addresses; so whatever ends in a number has to be one
    // as everybody reads it (WHATWG's rule for hosts that end in a number).
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .or(last.strip_prefix("0X"))
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_number {
        let address: Ipv4Addr = host.parse().map_err(|_| UrlError::Ipv4)?;
        return Ok((address.to_string(), Some(address.into())));
    }
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(UrlError::Host);
    }
    Ok((host.to_ascii_lowercase(), None))
}

#[cfg(test)]
mod tests;
