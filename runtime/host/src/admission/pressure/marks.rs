//! The amounts of memory at which something is done.

use std::time::Duration;

/// What one core can take of fresh memory at most, page by page; 1.4 GB/s were measured.
const BYTES_PER_CORE_SECOND: u64 = 2_000_000_000;
/// From a core's passing the mark until it is stopped: a look at the memory, the watching thread's turn on a busy
/// machine, and a guest's next check of the epoch.
const LATENCY: Duration = Duration::from_millis(10);
/// Between two looks at most, and when there are large instances.
const SELDOM: Duration = Duration::from_millis(100);
const OFTEN: Duration = Duration::from_millis(10);
/// Between two looks at least.
const SOONEST: Duration = Duration::from_millis(1);

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Above it, nobody large runs on.
    pub full: u64,
    /// From here on instances are ended.
    pub high: u64,
    /// Until what is left is below this.
    pub low: u64,
    /// Functions that hold this much are held while others are ended.
    pub greedy: u64,
    rate: u64,
}

impl Marks {
    /// For a budget on a machine of so many cores: what all cores can take until they are stopped stays within a
    /// twentieth above the budget.
    pub fn of(budget: u64, cores: usize) -> Self {
        let rate = BYTES_PER_CORE_SECOND.saturating_mul(cores as u64).max(1);
        let late = rate / 1_000 * u64::try_from(LATENCY.as_millis()).unwrap_or(u64::MAX);
        let twentieth = budget / 20;
        let high = (budget.saturating_add(twentieth)).saturating_sub(late);
        let high = high.clamp(budget / 2, budget - twentieth);
        Self {
            full: (budget - budget / 50).max(high),
            high,
            low: high - budget / 16,
            greedy: budget / 16,
            rate,
        }
    }

    /// Until memory must be looked at again.
    pub fn pause(&self, used: u64, large: bool) -> Duration {
        let room = self.high.saturating_sub(used);
        let until = Duration::from_millis(room.saturating_mul(1_000) / self.rate);
        until.clamp(SOONEST, if large { OFTEN } else { SELDOM })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn all_cores_are_stopped_within_a_twentieth_above_the_budget() {
        for budget in [256 * MIB, 512 * MIB, 2 << 30, 64 << 30] {
            for cores in [1, 2, 4] {
                let marks = Marks::of(budget, cores);
                let late = 20_000_000 * cores as u64;
                assert!(marks.high + late <= budget + budget / 20, "{budget} {cores} {marks:?}");
                assert!(marks.low < marks.high && marks.high <= marks.full && marks.full < budget);
                assert!(marks.low > budget / 3);
            }
        }
        // More cores than so small a budget can be held against: half of it is used all the same.
        assert_eq!(Marks::of(256 * MIB, 64).high, 128 * MIB);
    }

    #[test]
    fn memory_is_looked_at_more_often_near_the_mark() {
        let marks = Marks::of(2 << 30, 2);
        for (used, large, ms) in [
            (0, false, 100),
            (0, true, 10),
            (marks.high - 20_000_000, true, 5),
            (marks.high - 20_000_000, false, 5),
            (marks.high, true, 1),
            (marks.high * 2, true, 1),
        ] {
            assert_eq!(marks.pause(used, large), Duration::from_millis(ms), "{used}");
        }
    }
}
