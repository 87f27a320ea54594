//! How it ended.

use mayfly_core::Outcome;

/// How a guest ended and how long it took.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// From the slot to the instance.
    pub instantiate_ns: u64,
    /// In the guest.
    pub call_ns: u64,
    /// Log output over the limit.
    pub dropped_log_bytes: u64,
}

impl Verdict {
    /// A verdict of an end that took no measurable time.
    #[must_use]
    pub fn of(outcome: Outcome) -> Self {
        Self { outcome, instantiate_ns: 0, call_ns: 0, dropped_log_bytes: 0 }
    }
}
