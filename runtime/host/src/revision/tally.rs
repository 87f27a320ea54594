//! What one revision's inferences took: for the protocol's statistics, which count nothing else of the function.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mayfly_observe::metrics::PhaseTimes;
use mayfly_oip::{Spent, Stats};

/// Counters that are never reset; each is right by itself, and all of them to within what is being counted.
#[derive(Debug, Default)]
pub struct Tally {
    success: Counted,
    fail: Counted,
    queue: Counted,
    instantiate: Counted,
    call: Counted,
    respond: Counted,
    last_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Counted {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Counted {
    fn add(&self, ns: u64) {
        self.count.fetch_add(1, Relaxed);
        self.ns.fetch_add(ns, Relaxed);
    }

    fn spent(&self) -> Spent {
        Spent { count: self.count.load(Relaxed), ns: self.ns.load(Relaxed) }
    }
}

impl Tally {
    /// Counts an inference whose answer is there, before its client has it: who asks next finds it counted.
    pub fn ended(&self, answered: bool, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if answered { &self.success } else { &self.fail }.add(ns);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Counts what its guest took, which may end a moment later. One that had none has no phases.
    pub fn phases(&self, times: &PhaseTimes) {
        if times.instantiate_ns > 0 {
            self.queue.add(times.queue_ns);
            self.instantiate.add(times.instantiate_ns);
            self.call.add(times.call_ns);
            self.respond.add(times.respond_ns);
        }
    }

    /// All of it.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            success: self.success.spent(),
            fail: self.fail.spent(),
            queue: self.queue.spent(),
            instantiate: self.instantiate.spent(),
            call: self.call.spent(),
            respond: self.respond.spent(),
            last_ms: self.last_ms.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_made_no_instance_has_no_phases() {
        let tally = Tally::default();
        assert_eq!(tally.stats(), Stats::default());
        let times = PhaseTimes {
            queue_ns: 1,
            instantiate_ns: 2,
            call_ns: 3,
            respond_ns: 4,
            total_ns: 10,
            ..PhaseTimes::default()
        };
        for _ in 0..2 {
            tally.ended(true, Duration::from_nanos(10));
            tally.phases(&times);
        }
        tally.ended(false, Duration::from_nanos(5));
        tally.phases(&PhaseTimes { total_ns: 5, ..PhaseTimes::default() });
        let stats = tally.stats();
        assert_eq!(
            (stats.success, stats.fail),
            (Spent { count: 2, ns: 20 }, Spent { count: 1, ns: 5 })
        );
        assert_eq!(
            (stats.queue.ns, stats.instantiate.ns, stats.call.ns, stats.respond.ns),
            (2, 4, 6, 8)
        );
        assert!(stats.last_ms > 1_700_000_000_000);
    }
}
