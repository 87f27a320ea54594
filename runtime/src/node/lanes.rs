//! The pool's slots in two lanes: one for all, and a smaller one for functions that hold few.
//!
//! Without the second, one function under load, or one whose guests sleep, holds every slot, and each other function
//! waits a second and is refused. It need not know who the others are, and costs an idle node nothing.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

/// Part of the pool that only modest functions may use.
const RESERVED_SHARE: usize = 4;
/// Part of the pool up to which a function is modest: so many of them can share the reserve.
const MODEST_SHARE: usize = 8;
/// And up to so many in a small pool, if the reserve has them: at 200 requests a second two or three are in flight now
/// and then, and with fewer such a function counted as greedy beside one that was (8 of 6,181 refused).
const MODEST_LEAST: usize = 3;

/// Where a slot came from and goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// For every function.
    Common,
    /// For functions that hold few slots.
    Reserved,
}

/// Both lanes.
#[derive(Debug)]
pub struct Lanes {
    common: Slots,
    reserved: Slots,
    /// Slots up to which a function counts as holding few.
    pub modest: usize,
}

impl Lanes {
    /// Lanes for a pool of this many slots.
    pub fn new(slots: usize) -> Self {
        let reserved = slots / RESERVED_SHARE;
        Self {
            common: Slots::new(slots - reserved),
            reserved: Slots::new(reserved),
            modest: (slots / MODEST_SHARE).max(MODEST_LEAST).min(reserved).max(1),
        }
    }

    /// Slots that nobody holds.
    pub fn free(&self) -> usize {
        self.common.free.load(SeqCst) + self.reserved.free.load(SeqCst)
    }

    /// A slot, if there is one now and nobody was here first.
    pub fn try_enter(&self, modest: bool) -> Option<Lane> {
        let unclaimed = |slots: &Slots| slots.waiting.load(SeqCst) == 0 && slots.take();
        if unclaimed(&self.common) {
            return Some(Lane::Common);
        }
        (modest && unclaimed(&self.reserved)).then_some(Lane::Reserved)
    }

    /// The next slot that becomes free, of the reserve once its function is `modest`: a burst of four is immodest in a
    /// small pool, and a moment later three of them have ended.
    pub async fn enter(&self, modest: impl Future<Output = ()>) -> Lane {
        let reserved = async {
            modest.await;
            self.reserved.wait().await;
        };
        tokio::select! {
            () = self.common.wait() => Lane::Common,
            () = reserved => Lane::Reserved,
        }
    }

    /// Gives a slot back.
    pub fn leave(&self, lane: Lane) {
        match lane {
            Lane::Common => self.common.give(),
            Lane::Reserved => self.reserved.give(),
        }
    }
}

/// A counting semaphore whose way in and out is one atomic operation while nobody waits. Tokio's locks a mutex at each
/// release, and that would be a lock that all workers share in each request.
#[derive(Debug)]
struct Slots {
    free: AtomicUsize,
    waiting: AtomicUsize,
    given: Notify,
}

impl Slots {
    fn new(free: usize) -> Self {
        Self { free: AtomicUsize::new(free), waiting: AtomicUsize::new(0), given: Notify::new() }
    }

    fn take(&self) -> bool {
        self.free.fetch_update(SeqCst, SeqCst, |free| free.checked_sub(1)).is_ok()
    }

    fn give(&self) {
        self.free.fetch_add(1, SeqCst);
        // Who waits has counted itself before it looked at `free` for the last time: one of us sees the other.
        if self.waiting.load(SeqCst) > 0 {
            self.given.notify_one();
        }
    }

    /// Takes a slot, about in the order of arrival. Dropped before its end, it passes on what woke it.
    async fn wait(&self) {
        let _counted = Counted::new(&self.waiting);
        loop {
            let given = self.given.notified();
            if self.take() {
                // `given` keeps one call at most: of two given back between two waiters' looks, one would be lost.
                if self.free.load(SeqCst) > 0 && self.waiting.load(SeqCst) > 1 {
                    self.given.notify_one();
                }
                return;
            }
            given.await;
        }
    }
}

/// One that waits.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_function_leaves_a_quarter() {
        let lanes = Lanes::new(32);
        assert_eq!((lanes.free(), lanes.modest), (32, 4));
        let held = std::iter::from_fn(|| lanes.try_enter(false)).count();
        assert_eq!((held, lanes.free()), (24, 8));
        let modest = std::iter::from_fn(|| lanes.try_enter(true)).count();
        assert_eq!((modest, lanes.free()), (8, 0));
        lanes.leave(Lane::Reserved);
        assert_eq!(lanes.try_enter(false), None);
        assert_eq!(lanes.try_enter(true), Some(Lane::Reserved));
    }

    #[test]
    fn the_smallest_pools_have_no_reserve() {
        for slots in 1..4 {
            let lanes = Lanes::new(slots);
            assert_eq!(std::iter::from_fn(|| lanes.try_enter(false)).count(), slots);
        }
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_given_back() {
        let lanes = Lanes::new(4);
        while lanes.try_enter(true).is_some() {}
        let leave = async |lane| lanes.leave(lane);
        for back in [Lane::Common, Lane::Reserved] {
            let (lane, ()) = tokio::join!(lanes.enter(std::future::ready(())), leave(back));
            assert_eq!(lane, back);
        }
        let never = lanes.enter(std::future::pending());
        let (lane, (), ()) = tokio::join!(never, leave(Lane::Reserved), leave(Lane::Common));
        assert_eq!((lane, lanes.free()), (Lane::Common, 1));
    }
}
