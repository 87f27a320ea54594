//! When figures are doubtful, the report says so.

use std::time::Instant;

use crate::machine;
use crate::record::{Run, Series, Unit};
use crate::stats;

/// Share of a core's time that a hypervisor may take before it is worth a word.
const STOLEN: f64 = 0.01;
/// How far the control's rounds may lie apart (90th over 10th percentile).
const CONTROL_SPREAD: f64 = 1.15;
/// Load average at start, per core.
const BUSY: f64 = 0.25;
/// Bytes that the memory control maps: 1,024 pages, some 100 microseconds of faults.
const WALK_BYTES: usize = 4 << 20;

/// Watches the machine through a run.
pub struct Watch {
    stolen: (u64, u64),
}

impl Watch {
    /// Starts to watch.
    #[must_use]
    pub fn start(run: &mut Run) -> Self {
        let (load, cores) = (run.machine.load, run.machine.cores as f64);
        if load > BUSY * cores {
            run.warn(format!(
                "the machine was busy at the start (load average {load:.2} on {cores} cores): figures are too high, and tails most of all"
            ));
        }
        if cfg!(debug_assertions) {
            run.warn("the harness was built without optimisation: in-process figures are not those of a release");
        }
        Self { stolen: machine::stolen_ticks() }
    }

    /// One turn of fixed work, as a control: what it takes moves with the machine and with nothing else.
    pub fn control(&self, run: &mut Run) {
        // The median of five: the best of them misses what all figures of such a moment have in common.
        let turns: Vec<(f64, f64)> = (0..5).map(|_| (spin(), walk())).collect();
        for (case, times) in [
            ("arithmetic", turns.iter().map(|t| t.0).collect::<Vec<_>>()),
            ("page-faults", turns.iter().map(|t| t.1).collect()),
        ] {
            let series = Series::new("control", case, "machine", "time", Unit::Us);
            run.add(series.round(vec![stats::median(&times)]));
        }
    }

    /// Judges the run at its end.
    pub fn finish(self, run: &mut Run) {
        let (stolen, all) = machine::stolen_ticks();
        let share = stolen.saturating_sub(self.stolen.0) as f64
            / all.saturating_sub(self.stolen.1).max(1) as f64;
        if share > STOLEN {
            run.warn(format!("the hypervisor took {:.1} % of the time (steal)", share * 100.0));
        }
        let mut found = Vec::new();
        for series in run.series.iter().filter(|s| s.scenario == "control") {
            let medians: Vec<f64> =
                series.rounds.iter().map(|r| stats::median(&r.samples)).collect();
            let medians = stats::sorted(medians);
            let (low, high) = (stats::quantile(&medians, 0.1), stats::quantile(&medians, 0.9));
            if low > 0.0 && high / low > CONTROL_SPREAD {
                let percent = (high / low - 1.0) * 100.0;
                found.push(format!(
                    "the machine is noisy or throttled: the same {} took up to {percent:.0} % longer in some rounds",
                    series.case
                ));
            }
        }
        let timed = |s: &&Series| matches!(s.unit, Unit::Us | Unit::PerS);
        let few: Vec<String> = (run.series.iter().filter(timed))
            .filter(|s| s.net().len() < stats::INTERVAL_ROUNDS)
            .map(Series::id)
            .collect();
        if !few.is_empty() && run.size != "smoke" {
            let (n, first, rounds) = (few.len(), &few[0], stats::INTERVAL_ROUNDS);
            found.push(format!(
                "fewer than {rounds} rounds in {n} series, as in {first}: what stands beside their medians is the rounds' range, no 95 % interval"
            ));
        }
        for warning in found {
            run.warn(warning);
        }
    }
}

/// A chain of multiplications that no compiler shortens; some 200 microseconds.
fn spin() -> f64 {
    let began = Instant::now();
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    for i in 0..100_000_u64 {
        x = (x ^ i).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31);
    }
    std::hint::black_box(x);
    began.elapsed().as_secs_f64() * 1e6
}

/// Maps 4 MiB, touches each page and unmaps it: page faults. An allocator would hand out the same pages again, at 49 ns a
/// page, which is no fault. 0 where nothing can be mapped.
#[expect(unsafe_code, reason = "mapping memory without an allocator in between")]
fn walk() -> f64 {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    let began = Instant::now();
    // SAFETY: a new private mapping, known to nobody else, is written within its bounds and then unmapped.
    unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let Ok(memory) =
            mmap_anonymous(std::ptr::null_mut(), WALK_BYTES, protection, MapFlags::PRIVATE)
        else {
            return 0.0;
        };
        // A huge page would be two faults in place of 1,024; a kernel without them refuses, which is as good.
        let _ = madvise(memory, WALK_BYTES, Advice::LinuxNoHugepage);
        for at in (0..WALK_BYTES).step_by(4096) {
            memory.cast::<u8>().add(at).write_volatile(1);
        }
        let _ = munmap(memory, WALK_BYTES);
    }
    began.elapsed().as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::own_minor_faults;

    #[test]
    fn the_memory_control_faults_at_each_page_each_time() {
        for _ in 0..5 {
            let before = own_minor_faults();
            assert!(walk() > 0.0);
            assert!(own_minor_faults() - before >= (WALK_BYTES / 4096) as u64);
        }
    }
}
