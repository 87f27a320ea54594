//! The grammar of RFC 7239, section 4.

use std::net::{IpAddr, SocketAddr};

/// What is said of a header that is not one.
pub(super) const WRONG: &str = "the Forwarded header is malformed";

/// Parameters of one element at most: there are four, and some of a proxy's own.
const PARAMETERS: usize = 16;

/// Who sent something to a proxy, as that one says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// An address, and a port if one was said.
    Address(IpAddr, Option<u16>),
    /// `unknown`, or a name that means something to the proxy only.
    Hidden,
}

/// One element: what one proxy says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) node: Option<Node>,
    pub(super) secure: Option<bool>,
    pub(super) host: Option<String>,
}

impl Node {
    /// Reads an address with or without a port, or what stands for one.
    pub(super) fn of(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address, None));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self::Address(address.ip(), Some(address.port())));
        }
        let (name, port) = match text.strip_prefix('[') {
            Some(v6) => v6.split_once(']')?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let hides = |text: &str| {
            text.len() > 1
                && text.starts_with('_')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let number =
            |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
        let port =
            port.strip_prefix(':').map_or(port.is_empty(), |port| number(port) || hides(port));
        // A port that is hidden is none.
        match (port, name.parse()) {
            (false, _) => None,
            (true, Ok(address)) => Some(Self::Address(address, None)),
            (true, Err(_)) => {
                (name.eq_ignore_ascii_case("unknown") || hides(name)).then_some(Self::Hidden)
            }
        }
    }
}

/// Whether a scheme is https; `None` if it is neither of the two.
pub(super) fn is_secure(scheme: &str) -> Option<bool> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => Some(true),
        _ if scheme.eq_ignore_ascii_case("http") => Some(false),
        _ => None,
    }
}

/// Appends the elements of one header line.
pub(super) fn parse(mut text: &str, hops: &mut Vec<Hop>) -> Result<(), &'static str> {
    loop {
        text = skip_blanks(text);
        if text.starts_with(|c| c != ',') {
            let (hop, rest) = element(text)?;
            if hops.len() == super::MOST {
                return Err(WRONG);
            }
            hops.push(hop);
            text = skip_blanks(rest);
        }
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if text.is_empty() => return Ok(()),
            None => return Err(WRONG),
        }
    }
}

fn element(mut text: &str) -> Result<(Hop, &str), &'static str> {
    let mut hop = Hop::default();
    let mut seen = Vec::new();
    loop {
        if !text.starts_with([';', ',']) && !text.is_empty() {
            let (name, rest) = token(text)?;
            let (value, rest) = value(rest.strip_prefix('=').ok_or(WRONG)?)?;
            let name = name.to_ascii_lowercase();
            // Two that differ would be read differently.
            if seen.contains(&name) || seen.len() == PARAMETERS {
                return Err(WRONG);
            }
            match name.as_str() {
                "for" => hop.node = Some(Node::of(&value).ok_or(WRONG)?),
                "by" => drop(Node::of(&value).ok_or(WRONG)?),
                "proto" => hop.secure = Some(is_secure(&value).ok_or(WRONG)?),
                "host" => hop.host = Some(value),
                _ => {}
            }
            seen.push(name);
            text = rest;
        }
        // Blanks round a semicolon are not in the grammar, and are in headers.
        let rest = skip_blanks(text);
        match rest.strip_prefix(';') {
            Some(rest) => text = skip_blanks(rest),
            None => return Ok((hop, rest)),
        }
    }
}

fn token(text: &str) -> Result<(&str, &str), &'static str> {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let end = text.bytes().position(|b| !tchar(b)).unwrap_or(text.len());
    if end == 0 { Err(WRONG) } else { Ok(text.split_at(end)) }
}

/// A token or a quoted string. Addresses with a colon are quoted by rule; who forgets it is understood all the same.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t', '"']).unwrap_or(text.len());
        let (plain, rest) = text.split_at(end);
        let known = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&b);
        let good = end > 0 && plain.bytes().all(known);
        return if good { Ok((plain.to_owned(), rest)) } else { Err(WRONG) };
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    loop {
        match chars.next().ok_or(WRONG)? {
            (at, '"') => return Ok((value, &quoted[at + 1..])),
            (_, '\\') => value.push(chars.next().ok_or(WRONG)?.1),
            (_, other) => value.push(other),
        }
    }
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}
