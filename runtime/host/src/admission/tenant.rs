//! What the invocations of one revision have of the node.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::{Holding, Usage};
use crate::engine::pages::Footprint;

/// One per revision.
pub struct Tenant {
    /// What its instances take of the node's memory.
    pub usage: Arc<Usage>,
    /// What requests leave of their instances' memory.
    pub footprint: Footprint,
    /// Instances that are there, those that are being reset included.
    pub in_flight: AtomicUsize,
    /// Slots that they have, and who waits for one.
    pub holding: Holding,
    /// Invocations that are not answered yet: what the limit `concurrency` counts.
    pub unanswered: AtomicUsize,
    /// How many of those there may be.
    pub(super) concurrency: u64,
}

impl Tenant {
    /// One that has nothing yet, and may have so many invocations at once.
    #[must_use]
    pub fn new(usage: Usage, concurrency: u64) -> Arc<Self> {
        Arc::new(Self {
            usage: Arc::new(usage),
            footprint: Footprint::default(),
            in_flight: AtomicUsize::new(0),
            holding: Holding::default(),
            unanswered: AtomicUsize::new(0),
            concurrency,
        })
    }
}
