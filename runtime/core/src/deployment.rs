//! Which versions of a function answer its requests, who gets which, and under what paths. A deployment is never changed:
//! each change is a new one with the next generation, so that going back is one more step and not a loss of history.

mod percent;
mod sticky;
mod tag;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::FunctionName;
use crate::limits::node;
pub use percent::{Percent, PercentError};
pub use sticky::{COOKIE, Sticky, StickyError};
pub use tag::{Tag, TagError};

/// What a version has of a function's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The version.
    pub version: u64,
    /// Its part; nothing for one that only previews reach.
    pub percent: Percent,
}

/// A version's second name, for previews.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tagged {
    /// The version.
    pub version: u64,
    /// Whether its preview needs no token.
    #[serde(default)]
    pub public: bool,
}

/// Who made a deployment and why, in their words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Remark {
    /// Why; empty if nothing was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Who; empty if nothing was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// The one record that says how a function is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The function.
    pub function: FunctionName,
    /// Counts up with each deployment of the function.
    pub generation: u64,
    /// Its versions, the newest first; together they have all requests. Kept by [`Deployment::check`].
    pub splits: Vec<Split>,
    /// Versions under a second name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<Tag, Tagged>,
    /// By what a request's version is chosen.
    #[serde(default, skip_serializing_if = "Sticky::is_none")]
    pub sticky: Sticky,
    /// Routes beside `/{name}/...`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// The generation of the deployment before the rollout whose step it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<u64>,
    /// The generation of the earlier deployment that it serves like, if somebody went back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<u64>,
    /// Seconds since 1970, by the node's clock; for people only.
    pub at_unix_s: u64,
    /// Who and why.
    #[serde(flatten)]
    pub remark: Remark,
}

/// Why a deployment cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeploymentError {
    /// Nobody, or more than all, would be served.
    #[error("the percentages make {sum} and not 100")]
    Sum {
        /// What they make, as written.
        sum: String,
    },
    /// A version that is named twice.
    #[error("version {0} is named twice")]
    Twice(u64),
    /// Too many versions at once.
    #[error("{count} versions: a deployment has at most {max}", max = node::SPLITS)]
    Splits {
        /// How many.
        count: usize,
    },
    /// Too many tags.
    #[error("{count} tags: a function has at most {max}", max = node::TAGS)]
    Tags {
        /// How many.
        count: usize,
    },
    /// Words that are too long.
    #[error("a message has at most {max} bytes", max = node::MESSAGE_BYTES)]
    Message,
}

impl Deployment {
    /// All requests to one version.
    #[must_use]
    pub fn whole(function: FunctionName, version: u64, routes: Vec<String>) -> Self {
        Self {
            function,
            generation: 1,
            splits: vec![Split { version, percent: Percent::ALL }],
            tags: BTreeMap::new(),
            sticky: Sticky::None,
            routes,
            rollout: None,
            back: None,
            at_unix_s: 0,
            remark: Remark::default(),
        }
    }

    /// Puts the versions in order, and sees that it can be served.
    ///
    /// # Errors
    /// [`DeploymentError`] says what is wrong.
    pub fn check(&mut self) -> Result<(), DeploymentError> {
        self.splits.sort_by_key(|split| std::cmp::Reverse(split.version));
        if let Some(pair) = self.splits.windows(2).find(|pair| pair[0].version == pair[1].version) {
            return Err(DeploymentError::Twice(pair[0].version));
        }
        if self.splits.len() > node::SPLITS {
            return Err(DeploymentError::Splits { count: self.splits.len() });
        }
        let sum: u32 = self.splits.iter().map(|split| u32::from(split.percent.points())).sum();
        if sum != u32::from(Percent::ALL.points()) {
            return Err(DeploymentError::Sum { sum: percent::written(sum) });
        }
        if self.tags.len() > node::TAGS {
            return Err(DeploymentError::Tags { count: self.tags.len() });
        }
        if self.remark.message.len() > node::MESSAGE_BYTES || self.remark.by.len() > node::BY_BYTES
        {
            return Err(DeploymentError::Message);
        }
        Ok(())
    }

    /// The version with the most requests, the newest of equal ones: what settings are kept of, and whose routes hold.
    #[must_use]
    pub fn main(&self) -> u64 {
        let most = self.splits.iter().min_by_key(|split| {
            (std::cmp::Reverse(split.percent), std::cmp::Reverse(split.version))
        });
        most.map_or(0, |split| split.version)
    }

    /// All versions that a request may reach, the main one first, each once.
    #[must_use]
    pub fn versions(&self) -> Vec<u64> {
        let main = self.main();
        let shared = self.splits.iter().map(|split| split.version);
        let tagged = self.tags.values().map(|tagged| tagged.version);
        let others: BTreeSet<u64> = shared.chain(tagged).filter(|other| *other != main).collect();
        std::iter::once(main).chain(others).collect()
    }

    /// Whether more than one version has requests.
    #[must_use]
    pub fn is_split(&self) -> bool {
        self.splits.iter().filter(|split| split.percent != Percent::NONE).count() > 1
    }

    /// What a version has of the requests.
    #[must_use]
    pub fn percent(&self, version: u64) -> Percent {
        let split = self.splits.iter().find(|split| split.version == version);
        split.map_or(Percent::NONE, |split| split.percent)
    }

    /// The version of a bucket. The newest have the first ones: whoever has a version keeps it, or gets a newer one, while
    /// the newest version's part grows.
    #[must_use]
    pub fn choose(&self, bucket: Bucket) -> u64 {
        let mut left = bucket.0;
        for split in &self.splits {
            match left.checked_sub(split.percent.points()) {
                Some(rest) => left = rest,
                None => return split.version,
            }
        }
        self.main()
    }

    /// Whether requests are shared out alike, under the same paths.
    #[must_use]
    pub fn serves_like(&self, other: &Self) -> bool {
        let shares = |of: &Self| -> Vec<Split> {
            of.splits.iter().copied().filter(|split| split.percent != Percent::NONE).collect()
        };
        shares(self) == shares(other) && self.sticky == other.sticky && self.routes == other.routes
    }

    /// Whether nothing but its place in the history tells it from another one.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        let of = |d: &Self| (d.splits.clone(), d.tags.clone(), d.sticky.clone(), d.routes.clone());
        of(self) == of(other)
    }

    /// Whether going back from here leads to another one: the last before it, or before the one that it went back to, that
    /// serves otherwise. Steps on the way of a rollout are no place to be.
    #[must_use]
    pub fn goes_back_to(&self, other: &Self) -> bool {
        let before = self.back.unwrap_or(self.generation);
        let on_the_way =
            other.rollout.is_some() && (other.is_split() || other.rollout == self.rollout);
        other.generation < before && !on_the_way && !other.serves_like(self)
    }

    /// Its versions and what each has, as in `8 10 %, 7 90 %`.
    #[must_use]
    pub fn written(&self) -> String {
        let each = self.splits.iter().map(|split| format!("{} {} %", split.version, split.percent));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// One of ten thousand parts of a function's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket(u16);

impl Bucket {
    /// One of all, by chance.
    #[must_use]
    pub fn drawn(random: u64) -> Self {
        Self::of(random)
    }

    /// Always the same one for a function and a key.
    #[must_use]
    pub fn of_key(function: &FunctionName, key: &[u8]) -> Self {
        let mut digest = crate::DigestBuilder::default();
        digest.add(function.as_str().as_bytes());
        digest.add(b"\0");
        digest.add(key);
        let bytes = digest.finish();
        let first = bytes.as_bytes().first_chunk().copied().unwrap_or_default();
        Self::of(u64::from_be_bytes(first))
    }

    /// That of a cookie's value, if it is one.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let digits = !text.is_empty() && text.len() <= 4 && text.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
        text.parse().ok().map(Self)
    }

    /// As in a cookie.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    fn of(number: u64) -> Self {
        let parts = u64::from(Percent::ALL.points());
        Self(u16::try_from(number % parts).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
