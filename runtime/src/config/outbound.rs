//! What functions may call: the node's part of it.

use std::path::PathBuf;

use ipnet::IpNet;
use mayfly_core::limits::outbound;
use mayfly_core::outbound::{Rule, Rules};
use mayfly_outbound::{OutboundConfig, Roots};

use super::ConfigError;

/// Keys under `outbound`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundKeys {
    /// What no function goes beyond; nothing is no such bound.
    pub allow: Vec<Rule>,
    /// What nobody calls.
    pub deny: Vec<Rule>,
    /// Networks that are not public, and may be called.
    pub private: Vec<IpNet>,
    /// Authorities that are believed beside the system's.
    pub ca: Option<PathBuf>,
}

impl OutboundKeys {
    /// As the node has it, with an eighth of the files that connections and functions share for its sockets.
    #[must_use]
    pub fn resolve(&self, roots: Roots, shared_files: usize) -> OutboundConfig {
        OutboundConfig {
            allow: Rules(self.allow.clone()),
            deny: Rules(self.deny.clone()),
            private: self.private.clone(),
            roots,
            sockets: outbound::OUTBOUND_SOCKETS.min(shared_files / 8),
            ..OutboundConfig::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, rules) in [("allow", &self.allow), ("deny", &self.deny)] {
            if rules.len() > outbound::OUTBOUND_RULES {
                return Err(ConfigError::Conflict(format!(
                    "outbound.{key} has {} rules; a node takes {}",
                    rules.len(),
                    outbound::OUTBOUND_RULES
                )));
            }
        }
        Ok(())
    }
}
