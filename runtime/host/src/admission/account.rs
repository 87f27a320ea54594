//! Memory that is promised to instances before they take it.
//!
//! Each instance is counted at what its revision was seen to use ([`Usage`](super::Usage)), or can touch at once if it
//! was not seen yet. What does not fit waits. The count is a guess that a guest can belie; what is really taken is
//! watched by [`Pressure`](super::Pressure).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Part of the room that only functions which hold little may be promised.
const RESERVED_SHARE: u64 = 4;
/// Part of the room up to which a function holds little.
const MODEST_SHARE: u64 = 16;

/// What was promised, and how much there is to promise.
#[derive(Debug)]
pub struct Account {
    claimed: AtomicU64,
    room: AtomicU64,
    waiting: AtomicUsize,
    freed: Notify,
}

impl Account {
    /// With so many bytes to promise.
    pub fn new(room: u64) -> Self {
        Self {
            claimed: AtomicU64::new(0),
            room: AtomicU64::new(room),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// How much there is to promise from now on.
    pub fn set_room(&self, room: u64) {
        self.room.store(room, Ordering::Relaxed);
    }

    /// Bytes that are promised.
    pub fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Whether a function that would then hold this much holds little.
    pub fn is_modest(&self, bytes: u64) -> bool {
        bytes <= self.room.load(Ordering::Relaxed) / MODEST_SHARE
    }

    /// Promises memory, if there is that much; gives what was counted. One alone may have more than there is.
    pub fn claim(&self, bytes: u64, modest: bool) -> Option<u64> {
        let room = self.room.load(Ordering::Relaxed);
        let bytes = counted(bytes, room);
        let before = self.claimed.fetch_add(bytes, Ordering::Relaxed);
        if fits(before, bytes, room, modest) {
            return Some(bytes);
        }
        self.give(bytes);
        None
    }

    /// Counts what an instance may take beyond what it was promised; gives how much of it was counted. It is not
    /// refused, for a guest would take that for its own limit, nor does it take from those that hold little.
    pub fn exceed(&self, bytes: u64) -> u64 {
        let room = greedy_room(self.room.load(Ordering::Relaxed));
        let more = |claimed: u64| bytes.min(room.saturating_sub(claimed));
        let add = |claimed: u64| Some(claimed + more(claimed));
        match self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(before) | Err(before) => more(before),
        }
    }

    /// Takes a promise back.
    pub fn give(&self, bytes: u64) {
        self.claimed.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Waits until there may be room again. Polls of others in between do not lose it: who waits asks again each time.
    pub async fn changed(&self) {
        struct Counted<'c>(&'c AtomicUsize);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.waiting);
        self.freed.notified().await;
    }

    /// Wakes those that wait; called each few milliseconds by the thread that watches memory, so that giving back costs
    /// a request nothing but one addition.
    pub fn wake(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.freed.notify_waiters();
        }
    }

    /// Whether anybody waits.
    pub fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// What an instance is counted at: one that is larger than all the room, as much as lets it run beside modest ones.
fn counted(bytes: u64, room: u64) -> u64 {
    bytes.min(greedy_room(room) / 4 * 3)
}

/// Whether so much more may be promised.
fn fits(before: u64, bytes: u64, room: u64, modest: bool) -> bool {
    let room = if modest { room } else { greedy_room(room) };
    before.saturating_add(bytes) <= room
}

fn greedy_room(room: u64) -> u64 {
    room - room / RESERVED_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_for_those_that_hold_little() {
        for (before, bytes, modest, fit) in [
            (0, 75, false, true),
            (0, 76, false, false),
            (70, 5, false, true),
            (70, 6, false, false),
            (70, 30, true, true),
            (70, 31, true, false),
            (200, 0, true, false),
        ] {
            assert_eq!(fits(before, bytes, 100, modest), fit, "{before} {bytes} {modest}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_counted() {
        let account = Account::new(1600);
        assert_eq!(account.claim(800, false), Some(800));
        assert_eq!((account.claim(800, false), account.claimed()), (None, 800));
        assert_eq!(account.claim(100, true), Some(100));
        assert_eq!((account.exceed(1000), account.claimed()), (300, 1200));
        assert_eq!((account.claim(1, false), account.claim(400, true)), (None, Some(400)));
        assert_eq!((account.claim(1, true), account.exceed(1)), (None, 0));
        account.give(1600);
        assert_eq!(account.claimed(), 0);
        assert!(account.is_modest(100) && !account.is_modest(101));
    }

    #[test]
    fn one_that_is_larger_than_the_room_runs_beside_modest_ones() {
        let account = Account::new(1600);
        assert!(account.claim(100, true).is_some());
        let large = account.claim(1 << 40, false);
        assert_eq!(large, Some(900));
        assert_eq!(account.claim(1 << 40, false), None, "but no second one");
        assert!(account.claim(100, true).is_some());
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let account = Account::new(0);
        account.wake();
        tokio::join!(account.changed(), async {
            assert!(account.is_waited_for());
            account.wake();
        });
        assert!(!account.is_waited_for());
    }
}
