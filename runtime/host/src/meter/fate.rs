//! What the node has decided about an invocation from outside, and how the invocation learns of it.
//!
//! A guest that runs sees it at its next tick; one that waits is woken. Setting it costs nobody a lock who is not
//! waiting at that moment.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Waker};

use mayfly_core::Outcome;
use parking_lot::Mutex;

const FREE: u8 = 0;
const HELD: u8 = 1;
const DOOMED: u8 = 2;

/// One invocation's fate.
#[derive(Debug, Default)]
pub struct Fate {
    state: AtomicU8,
    /// What it held when it was doomed, in bytes.
    held_bytes: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Fate {
    /// Ends it: it held so many bytes when memory ran out.
    pub fn doom(&self, held_bytes: u64) {
        self.held_bytes.store(held_bytes, Ordering::Relaxed);
        self.state.store(DOOMED, Ordering::Release);
        self.wake();
    }

    /// Keeps it from running on until [`Fate::release`]; says whether it was free to.
    pub fn hold(&self) -> bool {
        self.state.compare_exchange(FREE, HELD, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Lets it run on, if it is held.
    pub fn release(&self) {
        let held = self.state.compare_exchange(HELD, FREE, Ordering::Release, Ordering::Relaxed);
        if held.is_ok() {
            self.wake();
        }
    }

    /// Whether it is to be ended.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        self.state.load(Ordering::Acquire) == DOOMED
    }

    /// What it held when it was doomed.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Whether nothing was decided about it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.state.load(Ordering::Relaxed) == FREE
    }

    /// Whether it may not run on.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state.load(Ordering::Relaxed) == HELD
    }

    /// How it ends, if it is to be ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let held_bytes = self.held_bytes();
        self.is_doomed().then_some(Outcome::MemoryPressure { held_bytes })
    }

    /// What a poll of the guest must do first; whoever polls is woken when that changes.
    pub fn watch(&self, context: &Context<'_>) -> Order {
        let mut waker = self.waker.lock();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        drop(waker);
        // After the waker is there: whoever sets the state from now on wakes it.
        match self.state.load(Ordering::Acquire) {
            FREE => Order::GoOn,
            HELD => Order::Wait,
            _ => Order::End,
        }
    }

    fn wake(&self) {
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What [`Fate::watch`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Poll the guest.
    GoOn,
    /// Do not poll it now.
    Wait,
    /// It has ended.
    End,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_by_release_and_by_doom() {
        let (fate, count) = (Fate::default(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let context = Context::from_waker(&waker);
        assert_eq!(fate.watch(&context), Order::GoOn);
        fate.hold();
        assert_eq!((fate.watch(&context), fate.is_held()), (Order::Wait, true));
        fate.release();
        assert_eq!((fate.watch(&context), fate.outcome()), (Order::GoOn, None));
        fate.doom(7);
        assert_eq!(fate.watch(&context), Order::End);
        assert_eq!(fate.outcome(), Some(Outcome::MemoryPressure { held_bytes: 7 }));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn nothing_undoes_doom() {
        let fate = Fate::default();
        fate.doom(1);
        fate.hold();
        fate.release();
        assert!(fate.is_doomed() && !fate.is_held());
    }
}
