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
/// Rounds under which an interval says little.
const ROUNDS: usize = 3;

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
        let (compute, memory) =
            (0..5).map(|_| (spin(), walk())).fold((f64::INFINITY, f64::INFINITY), |best, now| {
                (best.0.min(now.0), best.1.min(now.1))
            });
        run.add(
            Series::new("control", "arithmetic", "machine", "time", Unit::Us).round(vec![compute]),
        );
        run.add(Series::new("control", "memory", "machine", "time", Unit::Us).round(vec![memory]));
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
        let few = run.series.iter().filter(|s| {
            matches!(s.unit, Unit::Us | Unit::PerS)
                && s.rounds.len() < ROUNDS
                && s.rounds.iter().map(|r| r.samples.len()).sum::<usize>() < 10
        });
        let few: Vec<String> = few.map(Series::id).collect();
        if !few.is_empty() && run.size != "smoke" {
            let (n, first) = (few.len(), &few[0]);
            found.push(format!("too few samples for an interval in {n} series, as in {first}"));
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

/// Touches 4 MiB of fresh memory: page faults and cache misses.
fn walk() -> f64 {
    let began = Instant::now();
    let mut memory = vec![0u8; 4 << 20];
    for i in (0..memory.len()).step_by(4096) {
        memory[i] = 1;
    }
    std::hint::black_box(&memory);
    began.elapsed().as_secs_f64() * 1e6
}
