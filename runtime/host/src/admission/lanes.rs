//! The pool's slots in three lanes: one for all, a smaller one for functions that hold few, and a few for functions that
//! hold none.
//!
//! Without the second, one function under load, or one whose guests sleep, holds every slot, and each other function
//! waits a second and is refused; without the third, three such functions do. Nobody need know who the others are, and an
//! idle node pays nothing. In the end as many functions as there are slots of the third fill the pool all the same.

use std::pin::pin;
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

    /// A slot for a function, if there is one now and nobody was here first.
    pub fn try_enter(&self, function: &Holding) -> Option<Lane> {
        let unclaimed = |slots: &Slots| slots.waiting.load(SeqCst) == 0 && slots.take();
        if unclaimed(&self.common) {
            function.add();
            return Some(Lane::Common);
        }
        for (lane, slots, most) in self.kept() {
            if function.has_less(most) && unclaimed(slots) {
                if function.take(most) {
                    return Some(lane);
                }
                slots.give();
            }
        }
        None
    }

    /// The next slot that becomes free for a function: one of those that are kept as soon as it holds few, whoever else of
    /// it waits.
    pub async fn enter(&self, function: &Holding) -> Lane {
        let _waits = Counted::new(&function.waiting);
        let [reserved, last] = self.kept().map(|(_, slots, most)| few(slots, function, most));
        tokio::select! {
            () = self.common.wait() => {
                function.add();
                Lane::Common
            }
            () = reserved => Lane::Reserved,
            () = last => Lane::Last,
        }
    }

    /// Gives a function's slot back.
    pub fn leave(&self, lane: Lane, function: &Holding) {
        match lane {
            Lane::Common => self.common.give(),
            Lane::Reserved => self.reserved.give(),
            Lane::Last => self.last.give(),
        }
        function.give(self.modest);
    }

    /// What is not for all, and how many slots a function may hold with one of it.
    fn kept(&self) -> [(Lane, &Slots, usize); 2] {
        [(Lane::Reserved, &self.reserved, self.modest), (Lane::Last, &self.last, 1)]
    }
}

/// Waits for one of these while the function holds less than `most`.
async fn few(slots: &Slots, function: &Holding, most: usize) {
    loop {
        function.less(most).await;
        slots.wait().await;
        if function.take(most) {
            return;
        }
        slots.give();
    }
}

/// The slots of one function.
#[derive(Debug, Default)]
pub struct Holding {
    slots: AtomicUsize,
    /// Invocations that wait for one.
    pub waiting: AtomicUsize,
    /// Told when it holds less than what is modest.
    fewer: Notify,
}

impl Holding {
    fn add(&self) {
        self.slots.fetch_add(1, SeqCst);
    }

    fn has_less(&self, most: usize) -> bool {
        self.slots.load(SeqCst) < most
    }

    fn take(&self, most: usize) -> bool {
        let more = |slots| (slots < most).then_some(slots + 1);
        self.slots.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    /// One less. Those of a function that holds many are not woken: a thousand may wait.
    fn give(&self, modest: usize) {
        if self.slots.fetch_sub(1, SeqCst) <= modest && self.waiting.load(SeqCst) > 0 {
            self.fewer.notify_waiters();
        }
    }

    /// Waits until it holds less than `most`.
    async fn less(&self, most: usize) {
        loop {
            let mut fewer = pin!(self.fewer.notified());
            // Before the look: the last one to go may be gone between the two.
            fewer.as_mut().enable();
            if self.has_less(most) {
                return;
            }
            fewer.await;
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

    fn take(lanes: &Lanes, function: &Holding) -> Vec<Lane> {
        std::iter::from_fn(|| lanes.try_enter(function)).collect()
    }

    #[test]
    fn a_greedy_function_leaves_a_quarter_and_few_of_them_a_sixteenth() {
        let lanes = Lanes::new(32);
        assert_eq!((lanes.free(), lanes.modest), (32, 4));
        let functions: [Holding; 5] = Default::default();
        let held = functions.each_ref().map(|function| take(&lanes, function));
        assert_eq!(held.each_ref().map(Vec::len), [24, 4, 2, 1, 1]);
        assert_eq!(held[4], [Lane::Last]);
        lanes.leave(Lane::Reserved, &functions[1]);
        assert_eq!(lanes.try_enter(&functions[0]), None);
        assert_eq!(lanes.try_enter(&functions[2]), Some(Lane::Reserved));
        lanes.leave(Lane::Last, &functions[4]);
        assert_eq!(lanes.try_enter(&functions[2]), None);
        assert_eq!(lanes.try_enter(&functions[4]), Some(Lane::Last));
        assert_eq!(lanes.free(), 0);
    }

    #[test]
    fn the_smallest_pools_have_no_reserve() {
        for slots in 1..4 {
            assert_eq!(take(&Lanes::new(slots), &Holding::default()).len(), slots);
        }
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_given_back() {
        let lanes = Lanes::new(16);
        let [greedy, other, single, none]: [Holding; 4] = Default::default();
        for function in [&greedy, &other, &single] {
            take(&lanes, function);
        }
        let leave = async |lane, function: &Holding| lanes.leave(lane, function);
        for (back, of) in [(Lane::Common, &greedy), (Lane::Reserved, &other), (Lane::Last, &single)]
        {
            assert_eq!(tokio::join!(lanes.enter(&none), leave(back, of)).0, back);
            lanes.leave(back, &none);
            assert_eq!(lanes.try_enter(of), Some(back));
        }
        // What it may not have is no reason to wake it.
        let both = async {
            leave(Lane::Reserved, &other).await;
            leave(Lane::Common, &greedy).await;
        };
        let mut waits = std::pin::pin!(lanes.enter(&greedy));
        let first = tokio::select! { biased; lane = &mut waits => lane, () = both => waits.await };
        assert_eq!(first, Lane::Common);
    }

    #[tokio::test]
    async fn of_a_burst_that_waits_as_many_are_let_in_as_are_modest_one_behind_the_other() {
        let lanes = Lanes::new(32);
        let [greedy, burst]: [Holding; 2] = Default::default();
        while lanes.free() > 8 {
            lanes.try_enter(&greedy).unwrap();
        }
        let (most, now) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let one = async || {
            let lane = lanes.enter(&burst).await;
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            tokio::task::yield_now().await;
            now.set(now.get() - 1);
            lanes.leave(lane, &burst);
        };
        // Forty never become four: each that ends lets the next one in.
        let mut all: Vec<_> = (0..40).map(|_| Box::pin(one())).collect();
        std::future::poll_fn(|cx| {
            all.retain_mut(|one| one.as_mut().poll(cx).is_pending());
            if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        assert_eq!((most.get(), now.get(), lanes.free()), (4, 0, 8));
    }
}
