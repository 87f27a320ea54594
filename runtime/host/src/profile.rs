//! Where a function's guests spend their time, sampled in production.
//!
//! While a function has a profile, its invocations begin with a [`Probe`] (`probe.rs`), which the engine's ticker finds
//! at the next check of the epoch: so many beats have passed since the last look, and this is where the guest is. What
//! the host does for a guest has no such checks; imports say when they begin and end (`span.rs`), and the beats between
//! are theirs. Everything is counted in [`Profile`]. Without a profile none of this is on a request's path: [`Switch`]
//! is one flag, which is off.

mod probe;
mod span;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use arrayvec::ArrayVec;
use mayfly_core::limits::node::{PROFILE_FRAMES, PROFILE_STACKS, PROFILE_TICK};
use parking_lot::Mutex;
use wasmtime::{AsContext, WasmBacktrace};

pub use probe::Probe;
pub use span::{Span, Unwatched, Watch};

/// Whether a revision is profiled, for whoever makes its sandboxes.
#[derive(Debug, Default)]
pub struct Switch {
    on: AtomicBool,
    profile: ArcSwapOption<Profile>,
}

impl Switch {
    /// Whether it is. The only thing that is asked of a revision that is not.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The profile, if there is one.
    #[must_use]
    pub fn profile(&self) -> Option<Arc<Profile>> {
        self.profile.load_full()
    }

    /// Switches it on; false if it is on already.
    pub fn set(&self, profile: &Arc<Profile>) -> bool {
        if self.on.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.profile.store(Some(profile.clone()));
        true
    }

    /// Switches it off.
    pub fn clear(&self) {
        self.profile.store(None);
        self.on.store(false, Ordering::Release);
    }
}

/// What a profile counts; shared by all invocations that it sees. In beats, of `PROFILE_TICK` each.
#[derive(Debug, Default)]
pub struct Profile {
    counts: Mutex<Counts>,
    /// Beats that were not counted because another thread was counting.
    missed: AtomicU64,
    invocations: AtomicU64,
    ended: AtomicU64,
    /// Of those that ended, what their calls took.
    call_ns: AtomicU64,
    closed: AtomicBool,
    /// Looks that are still to be let go by, after one that cost much; and those that were.
    skip: AtomicU64,
    skipped: AtomicU64,
}

/// What a sample may cost of the time that it stands for: one part in so many. A stack of 16,000 frames takes a tenth of a
/// millisecond to walk; as many looks after it are let go by, wherever they find a guest, and the next counts for them.
const COST_PARTS: u32 = 100;

/// Looks that are let go by at the most.
const SKIPS: u64 = 10;

/// Indices of compiled functions, the innermost first.
pub type Stack = ArrayVec<u32, PROFILE_FRAMES>;

#[derive(Debug, Default)]
struct Counts {
    stacks: HashMap<Stack, u64>,
    other_stacks: u64,
    /// After a guest's last check of the epoch: somewhere in its entry, or in what that called last.
    tails: u64,
    host: BTreeMap<(&'static str, &'static str), HostTime>,
    before: u64,
}

/// What one import took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostTime {
    /// Beats while a thread was at it.
    pub beats: u64,
    /// Beats while it waited for something else.
    pub waited: u64,
}

/// What was counted until a profile's end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// Beats by stack.
    pub stacks: Vec<(Stack, u64)>,
    /// Beats of stacks that there was no room for.
    pub other_stacks: u64,
    /// Beats between a guest's last check and its end, which are its entry's.
    pub tails: u64,
    /// Beats by import module and name.
    pub host: Vec<(&'static str, &'static str, HostTime)>,
    /// Beats in Mayfly before a guest was called: an instance was made.
    pub before: u64,
    /// Beats that could not be counted.
    pub missed: u64,
    /// Invocations that began.
    pub invocations: u64,
    /// Those that ended.
    pub ended: u64,
    /// What their calls took together, in nanoseconds.
    pub call_ns: u64,
}

impl Profile {
    /// Whether a look is to be counted, and for how many. Two threads may let one more go by, or one less.
    fn look(&self) -> Option<u64> {
        let skip = self.skip.load(Ordering::Relaxed);
        if skip == 0 {
            return Some(1 + self.skipped.swap(0, Ordering::Relaxed));
        }
        self.skip.store(skip - 1, Ordering::Relaxed);
        self.skipped.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// A sample took so long.
    fn cost(&self, took: Duration) {
        let looks = (took * COST_PARTS).as_nanos() / PROFILE_TICK.as_nanos();
        let looks = u64::try_from(looks).unwrap_or(SKIPS).min(SKIPS);
        self.skip.store(looks, Ordering::Relaxed);
    }

    /// Counts where a guest is now.
    fn add_here(&self, context: impl AsContext, below: usize, beats: u64) {
        let trace = WasmBacktrace::force_capture(context);
        let frames = trace.frames().iter().skip(below).map(wasmtime::FrameInfo::func_index);
        let stack: Stack = frames.take(PROFILE_FRAMES).collect();
        if !stack.is_empty() {
            self.count(beats, |counts| counts.add(&stack, beats));
        }
    }

    /// Counts a guest that has no probe, because it began before the profile did: at each tick, with all of that.
    pub fn add_older(&self, context: impl AsContext, beats: u64) {
        if !self.is_closed() {
            self.add_here(context, 0, beats);
        }
    }

    fn add_host(&self, import: (&'static str, &'static str), time: HostTime) {
        self.count(time.beats, |counts| {
            let all = counts.host.entry(import).or_default();
            all.beats += time.beats;
            all.waited += time.waited;
        });
    }

    /// Guest threads are niced: one that was stopped while it counts must not stop a worker, so nobody waits here.
    fn count(&self, beats: u64, count: impl FnOnce(&mut Counts)) {
        match self.counts.try_lock() {
            Some(mut counts) => count(&mut counts),
            None => {
                self.missed.fetch_add(beats, Ordering::Relaxed);
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends it: nothing is counted from now on. Gives what was.
    #[must_use]
    pub fn close(&self) -> Taken {
        self.closed.store(true, Ordering::Relaxed);
        let counts = std::mem::take(&mut *self.counts.lock());
        Taken {
            stacks: counts.stacks.into_iter().collect(),
            other_stacks: counts.other_stacks,
            tails: counts.tails,
            host: counts.host.into_iter().map(|((module, name), t)| (module, name, t)).collect(),
            before: counts.before,
            missed: self.missed.load(Ordering::Relaxed),
            invocations: self.invocations.load(Ordering::Relaxed),
            ended: self.ended.load(Ordering::Relaxed),
            call_ns: self.call_ns.load(Ordering::Relaxed),
        }
    }
}

impl Counts {
    fn add(&mut self, stack: &Stack, beats: u64) {
        if let Some(count) = self.stacks.get_mut(stack) {
            *count += beats;
        } else if self.stacks.len() < PROFILE_STACKS {
            self.stacks.insert(stack.clone(), beats);
        } else {
            self.other_stacks += beats;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(indices: &[u32]) -> Stack {
        indices.iter().copied().collect()
    }

    #[test]
    fn stacks_beyond_the_most_are_counted_together() {
        let profile = Profile::default();
        let mut counts = profile.counts.lock();
        for index in 0..u32::try_from(PROFILE_STACKS).unwrap() + 5 {
            counts.add(&stack(&[index]), 2);
        }
        counts.add(&stack(&[3]), 1);
        drop(counts);
        let taken = profile.close();
        assert_eq!((taken.stacks.len(), taken.other_stacks), (PROFILE_STACKS, 10));
        assert!(taken.stacks.contains(&(stack(&[3]), 3)));
    }

    #[test]
    fn a_profile_that_is_being_counted_in_makes_nobody_wait() {
        let profile = Profile::default();
        let counting = profile.counts.lock();
        profile.add_host(("m", "f"), HostTime { beats: 3, waited: 1 });
        drop(counting);
        profile.add_host(("m", "f"), HostTime { beats: 2, waited: 1 });
        let taken = profile.close();
        assert_eq!(taken.missed, 3);
        assert_eq!(taken.host, [("m", "f", HostTime { beats: 2, waited: 1 })]);
    }

    #[test]
    fn looks_after_a_costly_one_are_let_go_by_and_counted_with_the_next() {
        let profile = Profile::default();
        for (us, skips) in [(0, 0), (19, 0), (20, 1), (110, 5), (9_000, 10)] {
            profile.cost(Duration::from_micros(us));
            for _ in 0..skips {
                assert_eq!(profile.look(), None, "{us}");
            }
            assert_eq!(profile.look(), Some(skips + 1), "{us}");
        }
    }

    #[test]
    fn a_switch_is_on_once() {
        let (switch, profile) = (Switch::default(), Arc::default());
        assert!(!switch.is_on() && switch.set(&profile) && switch.is_on());
        assert!(!switch.set(&Arc::default()));
        assert!(Arc::ptr_eq(&switch.profile().unwrap(), &profile));
        switch.clear();
        assert!(!switch.is_on() && switch.profile().is_none() && switch.set(&profile));
    }
}
