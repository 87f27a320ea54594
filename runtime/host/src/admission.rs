//! Who may have an instance, and when: a place in its function, a slot of the pool, a promise of memory.
//!
//! It is below what serves, because an instance that grows asks its slot, and its slot asks the account and the thread
//! that watches memory.

mod account;
mod greedy;
mod lanes;
mod pressure;
mod registry;
mod slot;
mod tenant;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mayfly_core::Outcome;
use mayfly_core::limits::node;
use mayfly_observe::metrics::Metrics;

use crate::engine::Engine;
pub use lanes::Holding;
use lanes::{Lane, Lanes};
use pressure::Pressure;

pub use pressure::memory_is_short;
pub use slot::{Place, Slot};
pub use tenant::Tenant;
pub use usage::Usage;

/// How niced a thread is that runs guests, so that a worker with a request in hand goes first.
pub const GUEST_NICE: i32 = 5;

/// The slots and the memory of a process, and who waits for them.
pub struct Admission {
    engine: Engine,
    lanes: Lanes,
    waiting: AtomicUsize,
    waiting_max: usize,
    pressure: Pressure,
    queue_timeout: Duration,
}

impl Admission {
    /// For all slots of an engine; a request may wait for one as long as `queue_timeout`.
    ///
    /// # Errors
    /// When the system gives no thread to watch memory with.
    pub fn new(
        engine: Engine,
        metrics: Arc<Metrics>,
        queue_timeout: Duration,
    ) -> std::io::Result<Arc<Self>> {
        let (slots, budget) = (engine.plan().slots, engine.plan().memory_budget);
        let pressure = Pressure::watch(budget, slots, &engine, metrics)?;
        Ok(Arc::new(Self {
            engine,
            lanes: Lanes::new(slots),
            waiting: AtomicUsize::new(0),
            waiting_max: slots * node::QUEUE_PER_SLOT,
            pressure,
            queue_timeout,
        }))
    }

    /// Slots that nobody uses.
    pub fn free_slots(&self) -> usize {
        self.lanes.free()
    }

    /// Whether everybody has been refused for want of memory for longer than a moment.
    pub fn refuses_everybody(&self) -> bool {
        self.pressure.is_unready()
    }

    /// Takes a place in the revision, without which nothing is kept for a request: no more of them than its function
    /// may answer at once, and none while memory is used up.
    ///
    /// # Errors
    /// [`Outcome::FunctionBusy`] or [`Outcome::MemoryFull`].
    pub fn place(&self, tenant: &Arc<Tenant>) -> Result<Place, Outcome> {
        let concurrency = tenant.concurrency;
        let place = Place::take(tenant.clone());
        if place.unanswered as u64 > concurrency {
            return Err(Outcome::FunctionBusy { concurrency });
        }
        if self.pressure.is_full() {
            return Err(Outcome::MemoryFull);
        }
        Ok(place)
    }

    /// Takes a slot in the pool and a promise of memory, waiting for both if there is room to wait.
    ///
    /// A function that holds many slots already is served from the larger part of the pool only, so that others find
    /// one; the same goes for one that holds much memory.
    ///
    /// # Errors
    /// [`Outcome::NodeFull`] or [`Outcome::MemoryFull`].
    pub async fn enter(self: &Arc<Self>, mut place: Place) -> Result<Slot, Outcome> {
        // Asked again: the body may have taken its time.
        if self.pressure.is_full() {
            return Err(Outcome::MemoryFull);
        }
        place.fly();
        if let Some(claim) = self.claim(&place) {
            if let Some(lane) = self.lanes.try_enter(&place.tenant.holding) {
                return Ok(Slot::new(self.clone(), lane, place, claim));
            }
            self.pressure.account().give(claim);
        }
        let waiting = Waiting::enter(&self.waiting);
        let of_it = place.tenant.holding.waiting.load(Ordering::Relaxed);
        if waiting.position > room(self.waiting_max, of_it) {
            return Err(Outcome::NodeFull);
        }
        let mut want = Outcome::NodeFull;
        let both = self.wait(&place, &mut want);
        match tokio::time::timeout(self.queue_timeout, both).await {
            Ok((lane, claim)) => Ok(Slot::new(self.clone(), lane, place, claim)),
            Err(_) => Err(want),
        }
    }

    /// Waits for a slot, and for memory without keeping the slot from others. `want` says what is missing.
    async fn wait(&self, place: &Place, want: &mut Outcome) -> (Lane, u64) {
        loop {
            *want = Outcome::NodeFull;
            let lane = self.lanes.enter(&place.tenant.holding).await;
            if let Some(claim) = self.claim(place) {
                return (lane, claim);
            }
            self.lanes.leave(lane, &place.tenant.holding);
            *want = Outcome::MemoryFull;
            self.pressure.account().changed().await;
        }
    }

    /// Memory for one more instance, if there is any for its function now.
    fn claim(&self, place: &Place) -> Option<u64> {
        let (account, bytes) = (self.pressure.account(), place.tenant.usage.claim());
        let modest = account.is_modest(bytes.saturating_mul(place.instances() as u64));
        if !modest && self.pressure.is_tight() {
            return None;
        }
        account.claim(bytes, modest)
    }
}

/// Places of a queue of `all` that a function may use of which so many wait: half is for functions of which few do. One
/// is few in the smallest queue too, or a busy function would have all that anybody may use.
fn room(all: usize, of_it: usize) -> usize {
    let few = (all / node::QUEUE_FEW_PARTS).max(1);
    if of_it < few { all } else { all / 2 }
}

struct Waiting<'n> {
    count: &'n AtomicUsize,
    position: usize,
}

impl<'n> Waiting<'n> {
    fn enter(count: &'n AtomicUsize) -> Self {
        Self { count, position: count.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_every_queue_is_for_functions_of_which_few_wait() {
        for slots in [1, 2, 3, 8, 512] {
            let all = slots * node::QUEUE_PER_SLOT;
            assert_eq!(room(all, 0), all, "{slots} slots");
            assert_eq!(room(all, (all / node::QUEUE_FEW_PARTS).max(1)), all / 2, "{slots} slots");
        }
    }
}
