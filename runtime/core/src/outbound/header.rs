//! Headers that the host adds to a function's calls of one origin: `Authorization: Bearer ${API_KEY}`. The guest never
//! holds what is in them.

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::rule::Scheme;
use super::url::Target;
use crate::name::check_secret_name;

/// One such header, as a deploy says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeHeader {
    /// `https://api.example.com`.
    pub origin: String,
    /// `Authorization`.
    pub name: String,
    /// `Bearer ${API_KEY}`.
    pub value: String,
}

/// A header that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "outbound-header '{header}': {why}; write it as in --outbound-header 'https://api.example.com' 'Authorization: Bearer ${{API_KEY}}'"
)]
pub struct HeaderError {
    /// Its name, cut to 64 characters.
    pub header: String,
    /// Which rule it breaks.
    pub why: String,
}

impl EdgeHeader {
    /// From an origin and a line `Name: value`.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn new(origin: &str, line: &str) -> Result<Self, HeaderError> {
        let refuse = |why: &str| HeaderError { header: cut(line), why: why.to_owned() };
        let (name, value) = line.split_once(':').ok_or_else(|| refuse("it has no ':'"))?;
        let header = Self {
            origin: origin.trim().to_owned(),
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
        };
        header.check().map(|()| header)
    }

    /// Whether it can be added.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn check(&self) -> Result<(), HeaderError> {
        let refuse = |why: String| HeaderError { header: cut(&self.name), why };
        let target = self.target().map_err(&refuse)?;
        if target.scheme == Scheme::Http && self.secrets().next().is_some() {
            return Err(refuse("a secret goes over https only".to_owned()));
        }
        let name = HeaderName::from_bytes(self.name.as_bytes())
            .map_err(|_| refuse("that is not a header's name".to_owned()))?;
        if is_hosts_own(&name) {
            return Err(refuse("the host owns this header".to_owned()));
        }
        if self.value.len() > 4096 || HeaderValue::from_str(&self.value).is_err() {
            let why = "its value has a control character or more than 4096 bytes".to_owned();
            return Err(refuse(why));
        }
        if self.value.matches("${").count() != self.secrets().count() {
            return Err(refuse("a secret is named as ${NAME}".to_owned()));
        }
        self.secrets()
            .try_for_each(|name| check_secret_name(name).map_err(|why| refuse(why.to_owned())))
    }

    /// Where it is added.
    ///
    /// # Errors
    /// What is wrong with its origin, in words.
    pub fn target(&self) -> Result<Target, String> {
        let target = Target::parse(&self.origin).map_err(|why| why.to_string())?;
        match target.path_and_query.as_str() {
            "/" if !self.origin.contains('?') => Ok(target),
            _ => Err("an origin has no path: it is scheme, host and port".to_owned()),
        }
    }

    /// Names of the secrets in its value.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.value.split("${").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
    }

    /// Its value with these secrets in it; nothing if one is missing, or makes it no header.
    pub fn resolve(&self, secret: impl Fn(&str) -> Option<String>) -> Option<HeaderValue> {
        let mut parts = self.value.split("${");
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}')?;
            text += &secret(name)?;
            text += rest;
        }
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Headers of a call that neither guests nor deploys set: framing, the connection, the host, and whom a proxy speaks for.
#[must_use]
pub fn is_hosts_own(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "content-length"
            | "transfer-encoding"
            | "connection"
            | "keep-alive"
            | "upgrade"
            | "te"
            | "trailer"
            | "proxy-connection"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "http2-settings"
            | "expect"
    )
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_put_in_where_it_is_named() {
        let header =
            EdgeHeader::new("https://api.example.com", "Authorization: Bearer ${KEY}!").unwrap();
        assert_eq!(header.secrets().collect::<Vec<_>>(), ["KEY"]);
        let value = header.resolve(|name| (name == "KEY").then(|| "s3".to_owned())).unwrap();
        assert!(value.is_sensitive());
        assert_eq!(value, "Bearer s3!");
        assert_eq!(header.resolve(|_| None), None);
        // A secret with a line break is no second header.
        assert_eq!(header.resolve(|_| Some("a\r\nb: c".to_owned())), None);
    }

    #[test]
    fn what_cannot_be_added_is_refused_with_words() {
        for (origin, line, expect) in [
            ("https://a.example", "no colon", "no ':'"),
            ("a.example", "A: b", "begins with none of"),
            ("https://a.example/path", "A: b", "no path"),
            ("http://a.example", "A: ${KEY}", "https only"),
            ("https://a.example", "Host: b", "owns"),
            ("https://a.example", "Transfer-Encoding: b", "owns"),
            ("https://a.example", "A b: c", "not a header's name"),
            ("https://a.example", "A: ${KEY", "${NAME}"),
            ("https://a.example", "A: ${1}", "begins with no digit"),
        ] {
            let why = EdgeHeader::new(origin, line).unwrap_err().to_string();
            assert!(why.contains(expect), "{origin} {line}: {why}");
        }
        EdgeHeader::new("mayfly://other", "X-Token: ${KEY}").unwrap();
    }
}
