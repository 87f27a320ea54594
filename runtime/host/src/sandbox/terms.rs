//! What a revision's guests may have and know, without what runs them.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use mayfly_core::Limits;
use mayfly_core::record::{Abi, RevisionRecord};
use mayfly_observe::logs::Source;
use mayfly_outbound::Access;

use super::{Assets, cgi};
use crate::profile::Switch;

/// Names and values.
pub type Variables = Vec<(String, String)>;

/// The same for each request of a revision.
pub struct Terms {
    /// What its revision is.
    pub record: Arc<RevisionRecord>,
    /// `KEY=VALUE` pairs for the guest.
    pub env: Vec<(String, String)>,
    /// Secrets as `KEY=VALUE` pairs; nothing for who has none. Swapped as a whole when one is set anew.
    secrets: Option<ArcSwap<Variables>>,
    /// Its function's part of the log.
    pub log: Arc<Source>,
    /// Assets that init reads for each request, if there is no snapshot.
    pub assets: Option<Arc<Assets>>,
    /// What they may call, if anything.
    pub outbound: Option<Arc<Access>>,
    /// Whether they are profiled.
    pub profiling: Switch,
}

impl Terms {
    /// What a deploy said, as its guests get it.
    #[must_use]
    pub fn new(
        record: Arc<RevisionRecord>,
        log: Arc<Source>,
        assets: Option<Arc<Assets>>,
        outbound: Option<Arc<Access>>,
    ) -> Arc<Self> {
        // A command's request has the last word on what a request is.
        let own = |name: &String| record.abi != Abi::Command || !cgi::is_of_request(name);
        let own = record.settings.env.iter().filter(|(name, _)| own(name));
        let env = own.map(|(k, v)| (k.clone(), v.clone())).collect();
        let secrets = (!record.settings.secrets.is_empty()).then(ArcSwap::default);
        let profiling = Switch::default();
        Arc::new(Self { record, env, secrets, log, assets, outbound, profiling })
    }

    /// Gives its guests these values of its secrets from the next request on.
    pub fn set_secrets(&self, values: Vec<(String, String)>) {
        let Some(secrets) = &self.secrets else { return };
        let own = |name: &str| self.record.abi != Abi::Command || !cgi::is_of_request(name);
        secrets.store(Arc::new(values.into_iter().filter(|(name, _)| own(name)).collect()));
    }

    /// Its secrets as they are now.
    #[must_use]
    pub fn secrets(&self) -> Option<Guard<Arc<Variables>>> {
        Some(self.secrets.as_ref()?.load())
    }

    /// Caps of one invocation.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.record.settings.limits
    }
}
