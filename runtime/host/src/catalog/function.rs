//! One function as it is served: its deployment, and its versions as they stand.

use std::sync::Arc;

use mayfly_core::deployment::{Bucket, Deployment, Percent};

use super::Entry;

/// A function: by what its requests are shared out, and what they reach.
#[derive(Debug, Clone)]
pub struct Function {
    /// Which versions serve, for whom, and where.
    pub deployment: Arc<Deployment>,
    /// The version with the most requests.
    main: Entry,
    /// The other versions that a request may reach.
    others: Arc<[Entry]>,
    is_split: bool,
}

/// A version that a path or a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The version.
    pub version: u64,
    /// Whether anybody may reach it: it is tagged as public.
    pub public: bool,
}

impl Function {
    /// A deployment with its versions: those that are given, else as they stand in `before`. Nothing if none is to be had of
    /// its main version.
    pub(super) fn new(
        deployment: Deployment,
        fresh: Vec<Entry>,
        before: Option<&Self>,
    ) -> Option<Self> {
        let entry = |number: u64| {
            let fresh = fresh.iter().find(|entry| entry.record().number == number);
            fresh.or_else(|| before?.entry(number)).cloned()
        };
        let mut entries: Vec<_> = deployment.versions().into_iter().map(entry).collect();
        let main = entries.remove(0)?;
        let others = entries.into_iter().flatten().collect();
        let is_split = deployment.is_split();
        Some(Self { deployment: Arc::new(deployment), main, others, is_split })
    }

    /// The version with the most requests.
    #[must_use]
    pub fn main(&self) -> &Entry {
        &self.main
    }

    /// Whether more than one version has requests.
    #[must_use]
    pub fn is_split(&self) -> bool {
        self.is_split
    }

    /// Whether a request may reach more than the main version.
    #[must_use]
    pub fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// All versions that a request may reach, the main one first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        std::iter::once(&self.main).chain(self.others.iter())
    }

    /// One of its versions.
    #[must_use]
    pub fn entry(&self, version: u64) -> Option<&Entry> {
        self.entries().find(|entry| entry.record().number == version)
    }

    /// The version that a bucket's requests get.
    #[must_use]
    pub fn choose(&self, bucket: Bucket) -> &Entry {
        self.entry(self.deployment.choose(bucket)).unwrap_or(&self.main)
    }

    /// What a version's number or a tag names here, if it is there.
    #[must_use]
    pub fn reach(&self, name: &str) -> Option<Reached> {
        let tagged = self.deployment.tags.get(name);
        let version = match tagged {
            Some(tagged) => tagged.version,
            None => name.parse().ok().filter(|_| !name.starts_with(['+', '0']))?,
        };
        self.entry(version)?;
        Some(Reached { version, public: tagged.is_some_and(|tagged| tagged.public) })
    }

    /// Whether requests reach a version without its being named.
    #[must_use]
    pub fn serves(&self, version: u64) -> bool {
        self.deployment.percent(version) != Percent::NONE
    }

    /// Puts another state of a version in its place, if `is_it` says that what is there is meant.
    pub(super) fn put(&mut self, entry: Entry, is_it: impl Fn(&Entry) -> bool) -> bool {
        let number = entry.record().number;
        let meant = |now: &Entry| now.record().number == number && is_it(now);
        if meant(&self.main) {
            self.main = entry;
            return true;
        }
        let Some(at) = self.others.iter().position(meant) else { return false };
        self.others = self
            .others
            .iter()
            .enumerate()
            .map(|(other, now)| if other == at { entry.clone() } else { now.clone() })
            .collect();
        true
    }
}
