//! What an admitted invocation holds of the node: a slot of the pool, a place in its function, a promise of memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mayfly_core::limits::node::LARGE_MEMORY_BYTES;

use super::lanes::Lane;
use super::registry::{Key, Large};
use super::{Admission, Tenant};
use crate::engine::pages::PAGE;
use crate::engine::scan;
use crate::engine::ticker::nudge;
use crate::meter::Meter;

/// The right to hold one instance; given back when dropped.
pub struct Slot {
    admission: Arc<Admission>,
    lane: Lane,
    place: Place,
    /// Bytes that are promised to the instance.
    claim: u64,
    /// Where it stands among the large ones, if it is one.
    large: Option<Key>,
}

impl Slot {
    pub(super) fn new(admission: Arc<Admission>, lane: Lane, place: Place, claim: u64) -> Self {
        Self { admission, lane, place, claim, large: None }
    }

    /// The client has its answer: its next request to the function is no second one at once, although the instance of
    /// this one is still to be reset.
    pub fn answered(&mut self) {
        self.place.answer();
    }

    /// Whether the instance's memory is large, or was about to be.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.large.is_some()
    }

    /// The instance's memory is about to have this size. Nothing is refused here: a guest would take it for its limit.
    pub fn grow(&mut self, meter: &Arc<Meter>, bytes: usize) {
        if (bytes as u64) < LARGE_MEMORY_BYTES {
            return;
        }
        let (registry, usage) = (self.admission.pressure.registry(), &self.place.tenant.usage);
        match self.large {
            Some(key) => registry.update(key, None, bytes),
            None => {
                let (meter, usage) = (meter.clone(), usage.clone());
                self.large = Some(registry.add(Large { meter, usage, base: 0, bytes }));
            }
        }
        let pressure = &self.admission.pressure;
        if pressure.is_tight() && meter.fate.hold() {
            // It stops at its very next check: of hundreds that grow at once, each would take some MiB until the thread
            // that watches memory has seen it. Whoever holds little is let go on at once.
            nudge(self.admission.engine.wasmtime());
            if !pressure.is_tight() {
                // Whoever would have let it go on has done so already.
                meter.fate.release();
            }
        }
        let more = usage.claim_grown(bytes as u64).and_then(|claim| claim.checked_sub(self.claim));
        if let Some(more) = more {
            self.claim += self.admission.pressure.account().exceed(more);
        }
    }

    /// The instance's memory is there.
    pub fn made(&self, memory: &[u8]) {
        if let Some(key) = self.large {
            self.admission.pressure.registry().update(
                key,
                Some(memory.as_ptr().addr()),
                memory.len(),
            );
        }
    }

    /// Measures what the instance holds at its end, now and then, and whenever it was ended before it had `finished`.
    pub fn note(&self, memory: &[u8], finished: bool) {
        let tenant = &self.place.tenant;
        tenant.footprint.note(memory);
        // Small ones are counted whole.
        if self.is_large()
            && (tenant.usage.is_due() || !finished)
            && let Some(held) = scan::private_bytes(memory.as_ptr().addr(), memory.len())
                .or_else(|| tenant.footprint.seen().map(|seen| seen.last.dirty * PAGE))
        {
            tenant.usage.note(held, memory.len() as u64, finished);
        }
    }

    /// Whether memory is short now.
    #[must_use]
    pub fn memory_is_tight(&self) -> bool {
        self.admission.pressure.is_tight()
    }

    /// What tells its tenant from others as long as this is there.
    #[must_use]
    pub fn tenant_address(&self) -> usize {
        Arc::as_ptr(&self.place.tenant).addr()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(key) = self.large {
            self.admission.pressure.registry().remove(key);
        }
        self.admission.pressure.account().give(self.claim);
        self.admission.lanes.leave(self.lane, &self.place.tenant.holding);
    }
}

/// One invocation among its revision's.
pub struct Place {
    pub(super) tenant: Arc<Tenant>,
    /// Which one it is of the revision's instances and of those that wait to be one; none before.
    in_flight: Option<usize>,
    /// Which one it is of the revision's invocations without an answer.
    pub(super) unanswered: usize,
    answered: bool,
}

impl Place {
    pub(super) fn take(tenant: Arc<Tenant>) -> Self {
        let unanswered = tenant.unanswered.fetch_add(1, Ordering::Relaxed) + 1;
        Self { tenant, in_flight: None, unanswered, answered: false }
    }

    /// Counts it as an instance, now that it is about to be one.
    pub(super) fn fly(&mut self) {
        self.in_flight = Some(self.tenant.in_flight.fetch_add(1, Ordering::Relaxed) + 1);
    }

    /// How many of the revision's instances count before it, with itself: fewer, once those that came first have ended.
    pub(super) fn instances(&self) -> usize {
        let all = self.tenant.in_flight.load(Ordering::Relaxed);
        self.in_flight.map_or(1, |mine| mine.min(all))
    }

    fn answer(&mut self) {
        if !std::mem::replace(&mut self.answered, true) {
            self.tenant.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.answer();
        if self.in_flight.is_some() {
            self.tenant.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
