//! What a revision's guests may have and know, without what runs them.

use std::sync::Arc;

use mayfly_core::Limits;
use mayfly_core::record::{Abi, RevisionRecord};
use mayfly_observe::logs::Source;

use super::{Assets, cgi};

/// The same for each request of a revision.
pub struct Terms {
    /// What its revision is.
    pub record: Arc<RevisionRecord>,
    /// `KEY=VALUE` pairs for the guest.
    pub env: Vec<(String, String)>,
    /// Its function's part of the log.
    pub log: Arc<Source>,
    /// Assets that init reads for each request, if there is no snapshot.
    pub assets: Option<Arc<Assets>>,
}

impl Terms {
    /// What a deploy said, as its guests get it.
    #[must_use]
    pub fn new(
        record: Arc<RevisionRecord>,
        log: Arc<Source>,
        assets: Option<Arc<Assets>>,
    ) -> Arc<Self> {
        // A command's request has the last word on what a request is.
        let own = |name: &String| record.abi != Abi::Command || !cgi::is_of_request(name);
        let own = record.settings.env.iter().filter(|(name, _)| own(name));
        let env = own.map(|(k, v)| (k.clone(), v.clone())).collect();
        Arc::new(Self { record, env, log, assets })
    }

    /// Caps of one invocation.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.record.settings.limits
    }
}
