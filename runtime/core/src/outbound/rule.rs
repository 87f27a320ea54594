//! What a function may call: `[METHODS ]scheme://host[:port][/path[/...]]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::url::{Target, UrlError, authority_of};
use crate::limits::{node, outbound};

/// How something is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// TLS.
    Https,
    /// In the clear.
    Http,
    /// Another function of this node, without a socket.
    Mayfly,
}

impl Scheme {
    const ALL: [Self; 3] = [Self::Https, Self::Http, Self::Mayfly];

    /// With what stands behind it.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Https => "https://",
            Self::Http => "http://",
            Self::Mayfly => "mayfly://",
        }
    }

    /// The port that a URL need not name; 0 where there is none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
            Self::Mayfly => 0,
        }
    }

    /// A text's scheme, whatever its case, and the rest.
    #[must_use]
    pub fn split(text: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|scheme| {
            let (head, rest) = text.split_at_checked(scheme.prefix().len())?;
            head.eq_ignore_ascii_case(scheme.prefix()).then_some((scheme, rest))
        })
    }
}

/// The hosts of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// All of them.
    Any,
    /// One name, function or address.
    One(String),
    /// Every name below this one, which begins with a dot.
    Below(String),
}

/// One entry of an allow-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Upper-cased; all if there are none.
    pub methods: Vec<String>,
    /// How.
    pub scheme: Scheme,
    /// Where to.
    pub hosts: Hosts,
    /// On which port.
    pub port: u16,
    /// Where below.
    path: Path,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Path {
    Any,
    Exact(String),
    /// Ends in `/`; the path without it is meant as well.
    Below(String),
}

/// A text that is no rule. Each says how it is written right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("outbound '{rule}': {why}; write it as in '{example}'")]
pub struct RuleError {
    /// What was given, cut to 200 characters.
    pub rule: String,
    /// Which rule it breaks.
    pub why: String,
    /// How it could be meant.
    pub example: String,
}

impl Rule {
    /// Whether it allows a call.
    #[must_use]
    pub fn allows(&self, method: &str, target: &Target) -> bool {
        let host = match &self.hosts {
            Hosts::Any => true,
            Hosts::One(host) => *host == target.host,
            Hosts::Below(suffix) => {
                target.address.is_none()
                    && target.host.len() > suffix.len()
                    && target.host.ends_with(suffix)
            }
        };
        self.scheme == target.scheme
            && self.port == target.port
            && host
            && (self.methods.is_empty() || self.methods.iter().any(|own| own == method))
            && self.path.allows(target.path())
    }

    /// The address that it names, if it names one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match &self.hosts {
            Hosts::One(host) => host.parse().ok(),
            Hosts::Any | Hosts::Below(_) => None,
        }
    }
}

impl Path {
    fn parse(path: &str) -> Self {
        match path.strip_suffix("...") {
            _ if path.is_empty() => Self::Any,
            Some(below) if below.ends_with('/') => Self::Below(below.to_owned()),
            Some(_) | None => Self::Exact(path.to_owned()),
        }
    }

    /// Dots and encoded slashes are ways out of a path: a rule with a path does not allow them at all.
    fn allows(&self, path: &str) -> bool {
        let fits = match self {
            Self::Any => return true,
            Self::Exact(own) => path == own,
            Self::Below(own) => {
                path.starts_with(own.as_str()) || own.strip_suffix('/') == Some(path)
            }
        };
        fits && !is_evasive(path)
    }
}

fn is_evasive(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let dots = |segment: &str| matches!(segment.replace("%2e", ".").as_str(), "." | "..");
    ["%2f", "%5c", "%00", "%25"].iter().any(|bad| lower.contains(bad))
        || lower.split('/').any(|segment| dots(segment.split(';').next().unwrap_or(segment)))
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let refuse = |why: &str, example: &str| RuleError {
            rule: text.chars().take(200).collect(),
            why: why.to_owned(),
            example: example.to_owned(),
        };
        let text = text.trim();
        if text.len() > outbound::OUTBOUND_RULE_BYTES {
            return Err(refuse("it is longer than 1 KiB", "https://api.example.com/v1/..."));
        }
        let (methods, rest) = match text.rsplit_once([' ', '\t']) {
            Some((methods, rest)) => (methods.trim(), rest),
            None => ("", text),
        };
        let methods = methods_of(methods).ok_or_else(|| {
            refuse(
                "its methods are not words with commas between",
                "GET,POST https://api.example.com",
            )
        })?;
        let Some((scheme, after)) = Scheme::split(rest) else {
            let host = rest.split(['/', ':']).next().unwrap_or_default();
            let good = !host.is_empty() && host != "*" && !rest.contains("://");
            let example = if good { format!("https://{rest}") } else { "https://*".to_owned() };
            return Err(refuse("it has no scheme (https, http or mayfly)", &example));
        };
        let end = after.find('/').unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        let example = format!("{}api.example.com{path}", scheme.prefix());
        if path.contains(['?', '#']) || authority.contains(['?', '#']) {
            return Err(refuse(
                "a rule has no query and no fragment",
                "https://api.example.com/v1/...",
            ));
        }
        let graphic = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        if !graphic || path.contains('*') || is_evasive(path.strip_suffix("...").unwrap_or(path)) {
            let example = "https://api.example.com/v1/...";
            return Err(refuse("its path is plain ASCII; what is below one is /path/...", example));
        }
        let (hosts, port) = hosts_of(scheme, authority).map_err(|why| refuse(&why, &example))?;
        let prefix = path.strip_prefix('/').unwrap_or_default();
        let address = matches!(&hosts, Hosts::One(host) if host.parse::<IpAddr>().is_ok());
        if address && prefix.parse::<u8>().is_ok() {
            let why = "a network is no host: the operator allows private ones by outbound.private";
            return Err(refuse(why, &format!("{}{authority}", scheme.prefix())));
        }
        let path = Path::parse(path);
        Ok(Self { methods, scheme, hosts, port, path })
    }
}

fn methods_of(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let word = |word: &str| {
        let plain = (1..=node::METHOD_BYTES).contains(&word.len())
            && word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
        plain.then(|| word.to_ascii_uppercase())
    };
    text.split(',').map(|part| word(part.trim())).collect()
}

fn hosts_of(scheme: Scheme, authority: &str) -> Result<(Hosts, u16), String> {
    let wild = authority.strip_prefix("*.").map(|rest| (rest, true));
    let any = authority == "*" || authority.starts_with("*:");
    if any {
        if scheme == Scheme::Mayfly {
            return Err("each function that may be called is named".to_owned());
        }
        let named = format!("x{}", &authority[1..]);
        let (_, _, port) = authority_of(scheme, &named).map_err(words)?;
        return Ok((Hosts::Any, port));
    }
    let (rest, below) = wild.unwrap_or((authority, false));
    if rest.contains('*') {
        return Err("'*' stands for all hosts, or '*.' before a domain for all below it".to_owned());
    }
    let (host, address, port) = authority_of(scheme, rest).map_err(words)?;
    if !below {
        return Ok((Hosts::One(host), port));
    }
    if address.is_some() || scheme == Scheme::Mayfly {
        return Err("'*.' stands before a domain, not before an address or a function".to_owned());
    }
    if !host.contains('.') {
        return Err(format!("'*.{host}' is everybody's below a top-level domain: name the domain"));
    }
    Ok((Hosts::Below(format!(".{host}")), port))
}

fn words(why: UrlError) -> String {
    why.to_string()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            write!(f, "{} ", self.methods.join(","))?;
        }
        f.write_str(self.scheme.prefix())?;
        match &self.hosts {
            Hosts::Any => f.write_str("*")?,
            Hosts::One(host) if host.contains(':') => write!(f, "[{host}]")?,
            Hosts::One(host) => f.write_str(host)?,
            Hosts::Below(suffix) => write!(f, "*{suffix}")?,
        }
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        match &self.path {
            Path::Any => Ok(()),
            Path::Exact(path) => f.write_str(path),
            Path::Below(path) => write!(f, "{path}..."),
        }
    }
}

/// A list of rules: any that fits allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// Reads a list.
    ///
    /// # Errors
    /// [`RuleError`] for the first that is none.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, RuleError> {
        texts.iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them allows a call.
    #[must_use]
    pub fn allow(&self, method: &str, target: &Target) -> bool {
        self.0.iter().any(|rule| rule.allows(method, target))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
