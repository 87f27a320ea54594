//! The pool's slots in two lanes: one for all, and a smaller one for functions that hold few.
//!
//! Without the second, one function under load, or one whose guests sleep, holds every slot, and each other function
//! waits a second and is refused. It need not know who the others are, and costs an idle node nothing.

use tokio::sync::Semaphore;

/// Part of the pool that only modest functions may use.
const RESERVED_SHARE: usize = 4;
/// Part of the pool up to which a function is modest: so many of them can share the reserve.
const MODEST_SHARE: usize = 16;

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
    common: Semaphore,
    reserved: Semaphore,
    /// Slots up to which a function counts as holding few.
    pub modest: usize,
}

impl Lanes {
    /// Lanes for a pool of this many slots.
    pub fn new(slots: usize) -> Self {
        let reserved = slots / RESERVED_SHARE;
        Self {
            common: Semaphore::new(slots - reserved),
            reserved: Semaphore::new(reserved),
            modest: (slots / MODEST_SHARE).max(1),
        }
    }

    /// Slots that nobody holds.
    pub fn free(&self) -> usize {
        self.common.available_permits() + self.reserved.available_permits()
    }

    /// A slot, if there is one now.
    pub fn try_enter(&self, modest: bool) -> Option<Lane> {
        if let Ok(permit) = self.common.try_acquire() {
            permit.forget();
            return Some(Lane::Common);
        }
        if !modest {
            return None;
        }
        self.reserved.try_acquire().ok()?.forget();
        Some(Lane::Reserved)
    }

    /// The next slot that becomes free; never `None` while the node lives.
    pub async fn enter(&self, modest: bool) -> Option<Lane> {
        let common = self.common.acquire();
        if !modest {
            common.await.ok()?.forget();
            return Some(Lane::Common);
        }
        tokio::select! {
            permit = common => {
                permit.ok()?.forget();
                Some(Lane::Common)
            }
            permit = self.reserved.acquire() => {
                permit.ok()?.forget();
                Some(Lane::Reserved)
            }
        }
    }

    /// Gives a slot back.
    pub fn leave(&self, lane: Lane) {
        match lane {
            Lane::Common => self.common.add_permits(1),
            Lane::Reserved => self.reserved.add_permits(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_function_leaves_a_quarter() {
        let lanes = Lanes::new(32);
        assert_eq!((lanes.free(), lanes.modest), (32, 2));
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
        for (back, modest) in [(Lane::Common, false), (Lane::Common, true), (Lane::Reserved, true)]
        {
            let (lane, ()) = tokio::join!(lanes.enter(modest), async { lanes.leave(back) });
            assert_eq!(lane, Some(back));
        }
        assert_eq!(lanes.free(), 0);
    }
}
