//! A version's second name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A version's second name: `^[a-z][a-z0-9._-]{0,31}$`, and not `latest`. It starts with a letter, so that none can be
/// taken for a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Arc<str>);

/// Why a text is no [`Tag`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// What may stand in one.
    #[error(
        "'{0}' is no tag: write 1 to 32 of a-z, 0-9, '.', '_' and '-', the first a letter, as in pr-42"
    )]
    Form(String),
    /// Whose meaning nobody would agree on.
    #[error("'latest' is no tag: the newest version has a number, and what serves has no tag")]
    Latest,
}

impl Tag {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !starts || text.len() > 32 || !text.bytes().all(allowed) {
            return Err(TagError::Form(text.chars().take(64).collect()));
        }
        if text == "latest" {
            return Err(TagError::Latest);
        }
        Ok(Self(text.into()))
    }
}

impl std::borrow::Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Tag {
    type Error = TagError;

    fn try_from(text: String) -> Result<Self, TagError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0.as_ref().to_owned()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
