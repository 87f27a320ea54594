//! What is counted of one version among several that share a function's requests, for whoever compares them.

use std::sync::atomic::{AtomicU64, Ordering};

use mayfly_observe::metrics::VersionCounters;

/// Durations are told apart by a quarter of their length: eight classes to each doubling, from 4 microseconds to 73 minutes.
const CLASSES: usize = 240;
/// log2 of the shortest duration that is told from others, in nanoseconds.
const FIRST: u32 = 12;
/// log2 of the classes to a doubling.
const FINE: u32 = 3;

/// Counters of one version.
#[derive(Debug)]
pub struct Vitals {
    counters: VersionCounters,
    durations: [AtomicU64; CLASSES],
}

/// What the counters were at one moment.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Requests.
    pub requests: u64,
    /// Those of them that failed by the function's or the node's doing.
    pub errors: u64,
    durations: Vec<u64>,
}

impl Vitals {
    /// Of a version, from now on.
    #[must_use]
    pub fn new(counters: VersionCounters) -> Self {
        Self { counters, durations: [const { AtomicU64::new(0) }; CLASSES] }
    }

    /// Counts a request.
    pub fn count(&self, status: u16, total_ns: u64) {
        self.counters.requests.inc();
        self.counters.errors.inc_by(u64::from(status >= 500));
        self.durations[class(total_ns)].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let durations = self.durations.iter().map(|class| class.load(Ordering::Relaxed));
        Counted {
            requests: self.counters.requests.get(),
            errors: self.counters.errors.get(),
            durations: durations.collect(),
        }
    }
}

impl Counted {
    /// What came since an earlier moment.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let pairs = self.durations.iter().zip(&before.durations);
        Self {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            durations: pairs.map(|(now, before)| now.saturating_sub(*before)).collect(),
        }
    }

    /// The longest of the shortest 99 in a hundred requests took about so long, in microseconds; nothing without requests.
    #[must_use]
    pub fn p99_us(&self) -> Option<u64> {
        let all: u64 = self.durations.iter().sum();
        let rank = all - all / 100;
        let mut seen = 0;
        let at = self.durations.iter().position(|count| {
            seen += count;
            seen >= rank && all > 0
        })?;
        Some(longest_ns(at) / 1_000)
    }
}

fn class(ns: u64) -> usize {
    let log = ns.max(1).ilog2();
    let Some(doubling) = log.checked_sub(FIRST) else { return 0 };
    let fine = (ns >> (log - FINE)) & ((1 << FINE) - 1);
    let at = ((u64::from(doubling) << FINE) | fine) + 1;
    usize::try_from(at).map_or(CLASSES - 1, |at| at.min(CLASSES - 1))
}

/// Where a class ends.
fn longest_ns(class: usize) -> u64 {
    let Some(at) = class.checked_sub(1) else { return 1 << FIRST };
    let (doubling, fine) = (at >> FINE, at as u64 & ((1 << FINE) - 1));
    ((1 << FINE) + fine + 1) << (doubling + (FIRST - FINE) as usize)
}

#[cfg(test)]
mod tests {
    use mayfly_core::FunctionName;
    use mayfly_observe::metrics::Metrics;

    use super::*;

    #[test]
    fn durations_fall_into_classes_that_end_close_by() {
        for ns in [1, 4_096, 5_000, 123_456, 1 << 20, 999_999_999, 60_000_000_000] {
            let end = longest_ns(class(ns));
            assert!(end >= ns && (ns < 4_096 || end <= ns + ns / 8 + 1), "{ns} {end}");
        }
        assert_eq!(class(u64::MAX), CLASSES - 1);
        for at in 1..CLASSES {
            assert!(longest_ns(at) > longest_ns(at - 1), "{at}");
        }
    }

    #[test]
    fn what_came_since_a_moment_has_its_own_quantile() {
        let metrics = Metrics::new();
        let vitals = Vitals::new(metrics.version(&FunctionName::new("f").unwrap(), 1));
        assert_eq!(vitals.counted().p99_us(), None);
        (0..1_000).for_each(|_| vitals.count(200, 1_000_000));
        let before = vitals.counted();
        (0..98).for_each(|_| vitals.count(200, 10_000_000));
        vitals.count(502, 90_000_000);
        vitals.count(404, 90_000_000);
        let since = vitals.counted().since(&before);
        assert_eq!((since.requests, since.errors), (100, 1));
        assert!((90_000..=102_000).contains(&since.p99_us().unwrap()), "{:?}", since.p99_us());
        assert!((1_000..=1_125).contains(&before.p99_us().unwrap()));
    }
}
