//! By what it is decided which version a request gets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::node;

/// The cookie that the gateway sets: the client's bucket, and no version, so that it outlives deployments.
pub const COOKIE: &str = "mayfly-split";

/// By what it is decided which version a request gets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sticky {
    /// By chance, each time anew.
    #[default]
    None,
    /// By the cookie [`COOKIE`], which the gateway sets.
    OwnCookie,
    /// By a cookie of the function's own; by chance where there is none.
    Cookie(String),
    /// By a header, in lower case; by chance where there is none.
    Header(String),
}

/// Why a text is no [`Sticky`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is none of none, cookie, cookie:NAME and header:NAME")]
pub struct StickyError(String);

impl Sticky {
    /// Whether it is by chance.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl FromStr for Sticky {
    type Err = StickyError;

    fn from_str(text: &str) -> Result<Self, StickyError> {
        let refuse = || StickyError(text.chars().take(64).collect());
        let token = |name: &str| {
            let good =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            (1..=node::STICKY_NAME_BYTES).contains(&name.len()) && name.bytes().all(good)
        };
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "cookie" => Ok(Self::OwnCookie),
            Some(("cookie", name)) if token(name) && name != COOKIE => {
                Ok(Self::Cookie(name.to_owned()))
            }
            Some(("header", name)) if token(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            _ => Err(refuse()),
        }
    }
}

impl TryFrom<String> for Sticky {
    type Error = StickyError;

    fn try_from(text: String) -> Result<Self, StickyError> {
        text.parse()
    }
}

impl From<Sticky> for String {
    fn from(sticky: Sticky) -> Self {
        sticky.to_string()
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::OwnCookie => f.write_str("cookie"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}
