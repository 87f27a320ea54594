//! The pool's slots in three lanes: one for all, a smaller one for functions that hold few, and a few for functions that
//! hold none.
//!
//! Without the second, one function under load, or one whose guests sleep, holds every slot, and each other function
//! waits a second and is refused; without the third, three such functions do. Nobody need know who the others are, and an
//! idle node pays nothing. In the end as many functions as there are slots of the third fill the pool all the same.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

/// Part of the pool that only modest functions may use.
const RESERVED_SHARE: usize = 4;
/// Part of the pool that only functions without another instance may use; taken from the one before.
const LAST_SHARE: usize = 16;
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
    /// For functions that hold none.
    Last,
}

/// All of them.
#[derive(Debug)]
pub struct Lanes {
    common: Slots,
    reserved: Slots,
    last: Slots,
    /// Slots up to which a function counts as holding few.
    pub modest: usize,
}

impl Lanes {
    /// Lanes for a pool of this many slots.
    pub fn new(slots: usize) -> Self {
        let (kept, last) = (slots / RESERVED_SHARE, slots / LAST_SHARE);
        Self {
            common: Slots::new(slots - kept),
            reserved: Slots::new(kept - last),
            last: Slots::new(last),
            modest: (slots / MODEST_SHARE).max(MODEST_LEAST).min(kept - last).max(1),
        }
    }

    /// Slots that nobody holds.
    pub fn free(&self) -> usize {
        [&self.common, &self.reserved, &self.last].iter().map(|s| s.free.load(SeqCst)).sum()
    }

    /// A slot for a function that will hold so many with it, if there is one now and nobody was here first.
    pub fn try_enter(&self, holds: usize) -> Option<Lane> {
        let unclaimed = |slots: &Slots| slots.waiting.load(SeqCst) == 0 && slots.take();
        if unclaimed(&self.common) {
            return Some(Lane::Common);
        }
        if holds <= self.modest && unclaimed(&self.reserved) {
            return Some(Lane::Reserved);
        }
        (holds == 1 && unclaimed(&self.last)).then_some(Lane::Last)
    }

    /// The next slot that becomes free, of the reserve once its function is `modest`: a burst of four is immodest in a
    /// small pool, and a moment later three of them have ended.
    pub async fn enter(&self, holds: usize, modest: impl Future<Output = ()>) -> Lane {
        let reserved = async {
            modest.await;
            self.reserved.wait().await;
        };
        let last = async {
            match holds {
                1 => self.last.wait().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.common.wait() => Lane::Common,
            () = reserved => Lane::Reserved,
            () = last => Lane::Last,
        }
    }

    /// Gives a slot back.
    pub fn leave(&self, lane: Lane) {
        match lane {
            Lane::Common => self.common.give(),
            Lane::Reserved => self.reserved.give(),
            Lane::Last => self.last.give(),
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
    fn a_greedy_function_leaves_a_quarter_and_few_of_them_a_sixteenth() {
        let lanes = Lanes::new(32);
        assert_eq!((lanes.free(), lanes.modest), (32, 4));
        let take = |holds| std::iter::from_fn(|| lanes.try_enter(holds)).count();
        assert_eq!((take(5), lanes.free()), (24, 8));
        assert_eq!((take(4), take(2), lanes.free()), (6, 0, 2));
        assert_eq!((take(1), lanes.free()), (2, 0));
        lanes.leave(Lane::Reserved);
        assert_eq!(lanes.try_enter(5), None);
        assert_eq!(lanes.try_enter(4), Some(Lane::Reserved));
        lanes.leave(Lane::Last);
        assert_eq!((lanes.try_enter(2), lanes.try_enter(1)), (None, Some(Lane::Last)));
    }

    #[test]
    fn the_smallest_pools_have_no_reserve() {
        for slots in 1..4 {
            let lanes = Lanes::new(slots);
            assert_eq!(std::iter::from_fn(|| lanes.try_enter(5)).count(), slots);
        }
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_given_back() {
        let lanes = Lanes::new(16);
        while lanes.try_enter(1).is_some() {}
        let leave = async |lane| lanes.leave(lane);
        for back in [Lane::Common, Lane::Reserved, Lane::Last] {
            let (lane, ()) = tokio::join!(lanes.enter(1, std::future::ready(())), leave(back));
            assert_eq!(lane, back);
        }
        let never = lanes.enter(2, std::future::pending());
        let (lane, (), (), ()) =
            tokio::join!(never, leave(Lane::Last), leave(Lane::Reserved), leave(Lane::Common));
        assert_eq!((lane, lanes.free()), (Lane::Common, 2));
    }
}
