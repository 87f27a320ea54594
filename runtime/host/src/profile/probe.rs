//! One invocation's part of a profile: beats that fell while a thread was at it, and which of them are counted.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mayfly_core::limits::node::PROFILE_TICK;
use wasmtime::AsContext;

use super::{HostTime, Profile};
use crate::engine::ticker::{Beats, TICK_EPOCHS};
use crate::meter::Meter;

/// Counts one invocation's beats. Its numbers are one thread's at a time, as its store is: relaxed.
#[derive(Debug)]
pub struct Probe {
    profile: Arc<Profile>,
    beats: Arc<Beats>,
    /// The beat at which this poll began.
    began: AtomicU64,
    /// Beats that fell into the polls before.
    spent: AtomicU64,
    /// Of all that fell into polls, those that somebody was told of.
    told: AtomicU64,
    /// How often it was polled.
    polls: AtomicU64,
    /// The epoch at which the guest's limits are asked again.
    due: AtomicU64,
    meter: Arc<Meter>,
}

impl Probe {
    /// For an invocation that begins now.
    #[must_use]
    pub fn new(profile: Arc<Profile>, beats: Arc<Beats>, meter: Arc<Meter>) -> Arc<Self> {
        profile.invocations.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            began: AtomicU64::new(beats.now()),
            spent: AtomicU64::default(),
            told: AtomicU64::default(),
            polls: AtomicU64::default(),
            due: AtomicU64::new(beats.epochs() + TICK_EPOCHS),
            profile,
            beats,
            meter,
        })
    }

    /// Runs the invocation: beats count for it while it is polled.
    pub async fn over<T>(self: Arc<Self>, invocation: impl Future<Output = T>) -> T {
        let mut invocation = pin!(invocation);
        std::future::poll_fn(|cx| {
            self.began.store(self.beats.now(), Ordering::Relaxed);
            self.polls.fetch_add(1, Ordering::Relaxed);
            let polled = invocation.as_mut().poll(cx);
            self.spent.store(self.passed(), Ordering::Relaxed);
            self.began.store(u64::MAX, Ordering::Relaxed);
            polled
        })
        .await
    }

    /// The guest is called now: what passed until here was not its own.
    pub fn calls(&self) {
        if let Some(looks) = self.look() {
            self.profile.count(looks, |counts| counts.before += looks);
        }
    }

    /// The guest has returned, after a call of so many nanoseconds.
    pub fn returned(&self, call_ns: u64) {
        if let Some(looks) = self.look() {
            self.profile.count(looks, |counts| counts.tails += looks);
        }
        if self.profile.is_closed() {
            return;
        }
        self.profile.ended.fetch_add(1, Ordering::Relaxed);
        self.profile.call_ns.fetch_add(call_ns, Ordering::Relaxed);
    }

    /// At a check of the epoch: counts where the guest is. Gives the epochs until the next.
    pub fn sample(&self, context: impl AsContext) -> u64 {
        self.sample_below(0, context);
        if self.profile.is_closed() { TICK_EPOCHS } else { 1 }
    }

    fn sample_below(&self, frames: usize, context: impl AsContext) {
        if let Some(looks) = self.look() {
            let began = Instant::now();
            self.profile.add_here(context, frames, looks);
            self.profile.cost(began.elapsed());
        }
    }

    /// Whether something is to be counted here, and how many times. A guest looks at once when it is asked: of several
    /// beats all but one passed while its thread was not running.
    fn look(&self) -> Option<u64> {
        if self.take() == 0 || self.profile.is_closed() { None } else { self.profile.look() }
    }

    /// Whether a tick is due, as it would be without a profile.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let now = self.beats.epochs();
        let due = now >= self.due.load(Ordering::Relaxed);
        if due {
            self.due.store(now + TICK_EPOCHS, Ordering::Relaxed);
        }
        due
    }

    /// An import begins, called by the guest from its thunk.
    pub(super) fn enters(&self, context: impl AsContext) -> Entered {
        self.sample_below(1, context);
        self.entered()
    }

    fn entered(&self) -> Entered {
        let polls = self.polls.load(Ordering::Relaxed);
        Entered { epoch: self.beats.epochs(), polls, used: self.meter.used() }
    }

    /// An import ends.
    pub(super) fn leaves(&self, import: (&'static str, &'static str), entered: &Entered) {
        let polled = self.take();
        let mut waited = 0;
        if self.polls.load(Ordering::Relaxed) != entered.polls {
            let all = self.beats.epochs().saturating_sub(entered.epoch);
            waited = all.saturating_sub(polled);
        }
        if polled + waited == 0 || self.profile.is_closed() {
            return;
        }
        let mut beats = polled;
        if polled > 1 && self.meter.is_off_worker() {
            // Guest threads are many and niced: what passed while this one was not running is nobody's.
            let used = self.meter.used_until_now().saturating_sub(entered.used);
            let most = used.as_nanos().div_ceil(PROFILE_TICK.as_nanos());
            beats = beats.min(u64::try_from(most).unwrap_or(u64::MAX));
        }
        self.profile.add_host(import, HostTime { beats, waited });
    }

    /// Beats that nobody was told of.
    fn take(&self) -> u64 {
        let passed = self.passed();
        passed.saturating_sub(self.told.swap(passed, Ordering::Relaxed))
    }

    /// Beats that fell into polls.
    fn passed(&self) -> u64 {
        let this_poll = self.beats.now().saturating_sub(self.began.load(Ordering::Relaxed));
        self.spent.load(Ordering::Relaxed) + this_poll
    }
}

/// When an import began.
#[derive(Debug)]
pub(super) struct Entered {
    epoch: u64,
    polls: u64,
    /// CPU time of the invocation in the polls before; nothing has to be asked for it.
    used: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beats_count_while_a_thread_is_at_it_and_are_told_once() {
        let (profile, beats) = (Arc::<Profile>::default(), Arc::<Beats>::default());
        let meter = Arc::new(Meter::new(Instant::now(), &mayfly_core::Limits::default()));
        let probe = Probe::new(profile.clone(), beats.clone(), meter);
        let (mine, clock) = (probe.clone(), beats.clone());
        let mut invocation = pin!(probe.clone().over(async move {
            clock.advance(2, 2);
            mine.calls();
            let entered = mine.entered();
            clock.advance(1, 1);
            tokio::task::yield_now().await;
            clock.advance(3, 3);
            mine.leaves(("m", "wait"), &entered);
            clock.advance(4, 4);
            mine.returned(7);
        }));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(invocation.as_mut().poll(&mut cx).is_pending());
        beats.advance(10, 10);
        assert!(invocation.as_mut().poll(&mut cx).is_ready());
        assert_eq!(probe.take(), 0);
        let taken = profile.close();
        assert_eq!((taken.before, taken.tails, taken.ended, taken.call_ns), (1, 1, 1, 7));
        assert_eq!(taken.host, [("m", "wait", HostTime { beats: 4, waited: 10 })]);
    }
}
