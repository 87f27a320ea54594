//! How the kernel's limit of mappings is divided: a fault that cannot be seen to would look like the guest's own mistake.

use std::io;

use super::book::FAULTS_MOST;

/// Of an arena in which nothing was written to: its image, its zeros, what is behind; its stack and the stack's guard.
const BASE: u64 = 5;
/// Of each run that is mapped otherwise than its neighbours: it and what it splits off.
const EACH: u64 = 2;
/// What is grown.
const GROWN: u64 = 1;
/// Runs of hot pages: stack, statics and heap are three; a model's scratch is a few more.
const HOT_MOST: u64 = 8;
/// Part of the limit that arenas may use, in percent. The rest is for code, threads and the allocator.
const PERCENT: u64 = 80;
/// What Linux has unless it is told otherwise.
const DEFAULT: u64 = 65_530;

/// What one arena may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mappings {
    /// Runs of hot pages.
    pub hot_runs: usize,
    /// Faults of one request that are noted.
    pub faults: usize,
}

/// Why so many arenas cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NoRoom {
    /// The kernel's limit.
    #[error(
        "{slots} slots need {need} mappings, and vm.max_map_count is {have}: lower engine.slots to {fit}, or raise it with \
         `sysctl vm.max_map_count={need}`"
    )]
    Mappings {
        /// How many were asked for.
        slots: usize,
        /// The least limit for so many.
        need: u64,
        /// The limit.
        have: u64,
        /// How many fit.
        fit: u64,
    },
    /// The system does not reserve so much.
    #[error("the address space of the slots cannot be reserved: {0}")]
    AddressSpace(#[source] io::Error),
}

impl NoRoom {
    /// In slots that serve, if so many arenas are for others.
    #[must_use]
    pub fn besides(self, others: usize) -> Self {
        match self {
            Self::Mappings { slots, need, have, fit } => {
                let fit = fit.saturating_sub(others as u64);
                Self::Mappings { slots: slots.saturating_sub(others), need, have, fit }
            }
            Self::AddressSpace(error) => Self::AddressSpace(error),
        }
    }
}

impl Mappings {
    /// Divides the limit among so many arenas: a third is for hot runs, of which there are eight at most, the rest for
    /// faults.
    ///
    /// # Errors
    /// [`NoRoom::Mappings`].
    pub fn plan(arenas: usize, limit: u64) -> Result<Self, NoRoom> {
        let count = (arenas as u64).max(1);
        let each = limit / 100 * PERCENT / count;
        let least = BASE + GROWN + 2 * EACH;
        if each < least {
            let need = (count * least).div_ceil(PERCENT) * 100;
            let fit = limit / 100 * PERCENT / least;
            return Err(NoRoom::Mappings { slots: arenas, need, have: limit, fit });
        }
        let splits = (each - BASE - GROWN) / EACH;
        let hot = (splits / 3).clamp(1, HOT_MOST);
        let faults = (splits - hot).min(FAULTS_MOST as u64);
        let small = |n: u64| usize::try_from(n).unwrap_or(FAULTS_MOST);
        Ok(Self { hot_runs: small(hot), faults: small(faults) })
    }

    /// Mappings of one arena at the most.
    #[must_use]
    pub fn most(&self) -> u64 {
        BASE + GROWN + EACH * (self.hot_runs + self.faults) as u64
    }
}

/// The kernel's limit.
#[must_use]
pub fn max_map_count() -> u64 {
    let said = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    said.and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_exceeded_and_used_where_it_helps() {
        for limit in [1_000, 65_530, 262_144, 1 << 20] {
            for arenas in [1, 16, 264, 520, 1_000, 4_008, 5_242] {
                let Ok(plan) = Mappings::plan(arenas, limit) else {
                    assert!(arenas as u64 * 10 > limit / 100 * 80, "{arenas} of {limit}");
                    continue;
                };
                assert!(plan.most() * arenas as u64 <= limit / 100 * 80, "{plan:?}");
                assert!(plan.hot_runs >= 1 && plan.faults >= 1, "{plan:?}");
            }
        }
        let usual = Mappings::plan(520, 65_530).unwrap();
        assert_eq!(usual, Mappings { hot_runs: 8, faults: 16 });
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let error = Mappings::plan(6_000, 65_530).unwrap_err();
        let NoRoom::Mappings { need, fit, .. } = error else { panic!("{error}") };
        assert!(Mappings::plan(6_000, need).is_ok() && Mappings::plan(6_000, need - 100).is_err());
        let fit = usize::try_from(fit).unwrap();
        assert!(Mappings::plan(fit, 65_530).is_ok() && Mappings::plan(fit + 1, 65_530).is_err());
    }
}
