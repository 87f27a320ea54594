//! The time of one invocation: wall and CPU, asked at each tick and between polls.

mod fate;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mayfly_core::limits::node;
use mayfly_core::{Limits, Outcome};
use rustix::time::{ClockId, clock_gettime};

pub use fate::{Fate, Order};

/// A poll shorter than this has not overrun anything: the tick merely came at a bad time.
const POLL_FREE: Duration = Duration::from_millis(2);

/// Counts one invocation's time. Shared between the guest and whoever polls it; both are never at it at once.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    wall: Duration,
    cpu: Duration,
    /// CPU time of the polls before this one, in nanoseconds.
    used_ns: AtomicU64,
    /// When this poll began, in nanoseconds: since `start`, or of the thread's CPU clock.
    poll_began_ns: AtomicU64,
    /// On an I/O worker a poll is short, and `Instant` costs a tenth of the thread's CPU clock. Off it, many guests
    /// share the cores, and only the thread's own clock tells this one's share.
    off_worker: AtomicBool,
    /// What the node decided about it from outside.
    pub fate: Fate,
}

impl Meter {
    /// Starts counting wall time at `start`.
    #[must_use]
    pub fn new(start: Instant, limits: &Limits) -> Self {
        Self {
            start,
            wall: limits.wall(),
            cpu: limits.cpu(),
            used_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            off_worker: AtomicBool::new(false),
            fate: Fate::default(),
        }
    }

    /// When the wall limit is reached.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.start + self.wall
    }

    /// Counts CPU time that was used on the guest's behalf and not in its polls.
    pub fn spend(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.used_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// A poll begins.
    pub fn begin(&self) {
        self.poll_began_ns.store(self.now_ns(), Ordering::Relaxed);
    }

    /// The poll ended: what it took.
    pub fn end(&self) -> Duration {
        let ns = self.poll_ns();
        self.used_ns.fetch_add(ns, Ordering::Relaxed);
        Duration::from_nanos(ns)
    }

    /// What a host function finds between two pieces of its work. It asks far more often than ticks come, so it has
    /// a whole tick's worth before it lets others run.
    #[must_use]
    pub fn look(&self) -> Tick {
        match self.tick() {
            Tick::Yield if self.poll_ns() < nanos(node::TICK) => Tick::GoOn,
            found => found,
        }
    }

    /// The guest goes on on a thread that it shares with other guests. Between polls only.
    pub fn move_off_worker(&self) {
        self.off_worker.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    #[must_use]
    pub fn is_off_worker(&self) -> bool {
        self.off_worker.load(Ordering::Relaxed)
    }

    /// CPU time used before this poll.
    #[must_use]
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Ordering::Relaxed))
    }

    /// CPU time used until now, by whoever runs the guest's poll.
    #[must_use]
    pub fn used_until_now(&self) -> Duration {
        self.used() + Duration::from_nanos(self.poll_ns())
    }

    /// What a tick finds.
    #[must_use]
    pub fn tick(&self) -> Tick {
        if let Some(outcome) = self.fate.outcome() {
            return Tick::Over(outcome);
        }
        if Instant::now() >= self.deadline() {
            return Tick::Over(self.wall_over());
        }
        let poll = self.poll_ns();
        let used = self.used_ns.load(Ordering::Relaxed) + poll;
        if u128::from(used) >= self.cpu.as_nanos() {
            let limit = mayfly_core::units::format_duration(self.cpu);
            return Tick::Over(Outcome::CpuLimit { limit });
        }
        let free = u128::from(poll) < POLL_FREE.as_nanos() && !self.fate.is_held();
        if free { Tick::GoOn } else { Tick::Yield }
    }

    /// The outcome of running into the wall limit.
    #[must_use]
    pub fn wall_over(&self) -> Outcome {
        Outcome::WallLimit { limit: mayfly_core::units::format_duration(self.wall) }
    }

    fn poll_ns(&self) -> u64 {
        self.now_ns().saturating_sub(self.poll_began_ns.load(Ordering::Relaxed))
    }

    fn now_ns(&self) -> u64 {
        if self.off_worker.load(Ordering::Relaxed) {
            let t = clock_gettime(ClockId::ThreadCPUTime);
            let ns = t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec);
            u64::try_from(ns).unwrap_or(0)
        } else {
            u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What to do with a guest at a tick.
#[derive(Debug, PartialEq, Eq)]
pub enum Tick {
    /// Let it run.
    GoOn,
    /// Let others run first.
    Yield,
    /// End it.
    Over(Outcome),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(wall_us: u64, cpu_us: u64) -> Limits {
        Limits { wall_us, cpu_us, ..Limits::default() }
    }

    #[test]
    fn a_fresh_poll_goes_on_a_long_one_yields() {
        let meter = Meter::new(Instant::now(), &limits(60_000_000, 60_000_000));
        meter.begin();
        assert_eq!(meter.tick(), Tick::GoOn);
        let meter = Meter::new(Instant::now() - 2 * POLL_FREE, &limits(60_000_000, 60_000_000));
        assert_eq!(meter.tick(), Tick::Yield);
    }

    #[test]
    fn a_poll_says_what_it_took_and_host_work_has_a_tick_of_it() {
        let limits = limits(60_000_000, 60_000_000);
        let meter = Meter::new(Instant::now() - 2 * node::TICK, &limits);
        assert_eq!(meter.look(), Tick::Yield);
        assert!(meter.end() >= 2 * node::TICK);
        meter.begin();
        assert_eq!(meter.look(), Tick::GoOn);
        assert!(meter.end() < node::TICK);
    }

    #[test]
    fn each_limit_ends_in_its_own_outcome() {
        let long_ago = Instant::now() - Duration::from_secs(2);
        let meter = Meter::new(long_ago, &limits(1_000_000, 60_000_000));
        assert_eq!(meter.tick(), Tick::Over(Outcome::WallLimit { limit: "1s".into() }));
        let meter = Meter::new(long_ago, &limits(60_000_000, 1_000_000));
        assert_eq!(meter.tick(), Tick::Over(Outcome::CpuLimit { limit: "1s".into() }));
    }

    #[test]
    fn waiting_between_polls_is_not_cpu_time() {
        let meter =
            Meter::new(Instant::now() - Duration::from_secs(2), &limits(60_000_000, 1_000_000));
        meter.move_off_worker();
        meter.begin();
        meter.end();
        meter.begin();
        assert_ne!(meter.tick(), Tick::Over(Outcome::CpuLimit { limit: "1s".into() }));
        assert!(meter.used() < Duration::from_secs(1));
    }
}
