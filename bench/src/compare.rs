//! Says whether two runs differ, and does not cry wolf: two runs of the same build compare as "no difference" at least
//! 19 times out of 20, *for the whole report*, however many figures it has.
//!
//! A difference is called real when all of this holds:
//! 1. the interval of the factor between the rounds' medians excludes 1, at a confidence that is raised with the number
//!    of figures compared (Bonferroni), so that the chance of even one false alarm is 1 in 20;
//! 2. it still does after the interval is widened by how much the machine itself changed between the runs, as the
//!    control series show;
//! 3. it is at least [`SMALLEST`] large: below that, code layout alone moves a figure.
//!
//! Counts that do not depend on the machine (bytes of files, instructions) are compared exactly.

use std::fmt::Write as _;

use crate::record::{Better, Run, Series, Unit};
use crate::stats::{self, Estimate};

/// The smallest factor, less one, that is worth a word.
pub const SMALLEST: f64 = 0.05;
/// Chance of a false alarm in a whole comparison.
const FALSE_ALARMS: f64 = 0.05;

/// How two series relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that could not be chance.
    Same,
    /// B is better.
    Better,
    /// B is worse.
    Worse,
    /// B differs, and neither way is good.
    Differs,
    /// Too few rounds to tell.
    Unknown,
}

/// One compared figure.
#[derive(Debug, Clone)]
pub struct Line {
    /// The series' id.
    pub id: String,
    /// Its unit.
    pub unit: Unit,
    /// Median of A.
    pub a: f64,
    /// Median of B.
    pub b: f64,
    /// B over A, with the widened interval.
    pub factor: Option<Estimate>,
    /// The answer.
    pub verdict: Verdict,
}

/// A whole comparison.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Every figure that both runs have.
    pub lines: Vec<Line>,
    /// What hinders the comparison.
    pub notes: Vec<String>,
    /// How much the machine changed between the runs, as a natural logarithm.
    pub drift: f64,
}

impl Comparison {
    /// Whether any figure differs.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.lines.iter().any(|l| !matches!(l.verdict, Verdict::Same | Verdict::Unknown))
    }
}

/// Compares B with A.
#[must_use]
pub fn compare(a: &Run, b: &Run) -> Comparison {
    let pairs: Vec<(&Series, &Series)> = a
        .series
        .iter()
        .filter(|s| s.scenario != "control")
        .filter_map(|s| Some((s, b.series.iter().find(|t| t.id() == s.id())?)))
        .collect();
    let sampled = pairs.iter().filter(|(s, _)| !exact(s)).count().max(1);
    let confidence = 1.0 - FALSE_ALARMS / sampled as f64;
    let drift = drift(a, b);
    let lines = pairs.iter().map(|(s, t)| line(s, t, confidence, drift)).collect();
    Comparison { lines, notes: notes(a, b, drift), drift }
}

fn line(a: &Series, b: &Series, confidence: f64, drift: f64) -> Line {
    let (net_a, net_b) = (a.net(), b.net());
    let (ma, mb) = (middle(&net_a), middle(&net_b));
    let (factor, verdict) = if exact(a) {
        let value = if ma == 0.0 { 1.0 } else { mb / ma };
        let moved = (value - 1.0).abs() > SMALLEST / 5.0 || (ma == 0.0 && mb > 0.0);
        (Some(Estimate { value, low: value, high: value }), direction(a, moved, mb > ma))
    } else {
        match stats::factor(&net_a, &net_b, confidence) {
            None if net_a.len() < 2 || net_b.len() < 2 => (None, Verdict::Unknown),
            // Medians of zero on either side: nothing to divide.
            None => (None, direction(a, false, false)),
            Some(factor) => {
                // Bytes and counts do not follow the machine's speed.
                let drift = if matches!(a.unit, Unit::Us | Unit::PerS) { drift } else { 0.0 };
                let widened = Estimate {
                    value: factor.value,
                    low: factor.low * (-drift).exp(),
                    high: factor.high * drift.exp(),
                };
                let moved = (widened.low > 1.0 || widened.high < 1.0)
                    && factor.value.ln().abs() > (1.0 + SMALLEST).ln();
                (Some(widened), direction(a, moved, factor.value > 1.0))
            }
        }
    };
    Line { id: a.id(), unit: a.unit, a: ma, b: mb, factor, verdict }
}

fn middle(rounds: &[Vec<f64>]) -> f64 {
    stats::median(&rounds.iter().map(|r| stats::median(r)).collect::<Vec<_>>())
}

/// Whether a figure depends on nothing but the bytes that were measured.
fn exact(series: &Series) -> bool {
    matches!(series.unit, Unit::Bytes | Unit::Count)
        && matches!(series.figure.as_str(), "file_size" | "instructions" | "allocations")
}

fn direction(series: &Series, moved: bool, up: bool) -> Verdict {
    match (moved, series.better, up) {
        (false, ..) => Verdict::Same,
        (true, Better::Neither, _) => Verdict::Differs,
        (true, Better::Lower, true) | (true, Better::Higher, false) => Verdict::Worse,
        (true, Better::Lower, false) | (true, Better::Higher, true) => Verdict::Better,
    }
}

/// The largest shift among the control series: work that is the same in every build.
fn drift(a: &Run, b: &Run) -> f64 {
    let controls = a.series.iter().filter(|s| s.scenario == "control");
    controls
        .filter_map(|s| {
            let other = b.series.iter().find(|t| t.id() == s.id())?;
            let (ma, mb) = (middle(&s.net()), middle(&other.net()));
            (ma > 0.0 && mb > 0.0).then(|| (mb / ma).ln().abs())
        })
        .fold(0.0, f64::max)
}

fn notes(a: &Run, b: &Run, drift: f64) -> Vec<String> {
    let mut notes = Vec::new();
    let (ma, mb) = (&a.machine, &b.machine);
    if (&ma.cpu, ma.cores, &ma.kernel) != (&mb.cpu, mb.cores, &mb.kernel) {
        notes.push(format!(
            "the machines differ ({}, {} cores, kernel {} / {}, {} cores, kernel {}): times are not comparable",
            ma.cpu, ma.cores, ma.kernel, mb.cpu, mb.cores, mb.kernel
        ));
    }
    if a.size != b.size {
        notes.push(format!("the runs are of different size ({} / {})", a.size, b.size));
    }
    if drift > SMALLEST {
        let percent = (drift.exp() - 1.0) * 100.0;
        notes.push(format!(
            "the machine changed by {percent:.0} % between the runs; smaller differences cannot be seen. Run both anew, one right after the other"
        ));
    }
    notes
}

/// A table for the terminal; only what differs, unless `all`.
#[must_use]
pub fn table(comparison: &Comparison, all: bool) -> String {
    let mut out = String::new();
    for note in &comparison.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let shown: Vec<_> =
        comparison.lines.iter().filter(|l| all || !matches!(l.verdict, Verdict::Same)).collect();
    let width = shown.iter().map(|l| l.id.len()).max().unwrap_or(0);
    for line in &shown {
        let word = match line.verdict {
            Verdict::Same => "no difference",
            Verdict::Better => "BETTER",
            Verdict::Worse => "WORSE",
            Verdict::Differs => "DIFFERS",
            Verdict::Unknown => "too few rounds to tell",
        };
        let factor = line.factor.map_or_else(String::new, |f| {
            format!("x{:.3} ({:.3} to {:.3})", f.value, f.low, f.high)
        });
        let unit = line.unit;
        let (a, b) = (crate::report::amount(line.a, unit), crate::report::amount(line.b, unit));
        let _ = writeln!(out, "{:<width$}  {a:>10} -> {b:>10}  {factor:<28}  {word}", line.id);
    }
    let differing =
        comparison.lines.iter().filter(|l| !matches!(l.verdict, Verdict::Same | Verdict::Unknown));
    let (n, of) = (differing.count(), comparison.lines.len());
    let _ = match n {
        0 => writeln!(out, "no difference in {of} figures"),
        _ => writeln!(out, "{n} of {of} figures differ"),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    const FIGURES: usize = 25;

    /// Asking for the compiler's version starts a process: once will do.
    fn empty() -> Run {
        static EMPTY: std::sync::OnceLock<Run> = std::sync::OnceLock::new();
        EMPTY.get_or_init(|| crate::plan::Plan::smoke().new_run(Vec::new())).clone()
    }

    fn heavy(rng: &mut StdRng) -> f64 {
        let normal = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        // One sample in thirty hits a disturbance of up to ten times.
        if rng.random::<f64>() < 0.03 { normal.abs() * 10.0 } else { normal }
    }

    /// A run whose rounds share a mood of 4 %, whose samples scatter by 10 % with heavy tails, `slower` by a factor.
    fn run(rng: &mut StdRng, slower: f64, rounds: usize) -> Run {
        let mut run = empty();
        let machine = (0.02 * heavy(rng).clamp(-3.0, 3.0)).exp();
        let control = (0..rounds).map(|_| vec![machine * (0.005 * heavy(rng)).exp()]).collect();
        run.add(series("control", 0, control));
        for figure in 0..FIGURES {
            let rounds = (0..rounds)
                .map(|_| {
                    let level = slower * machine * (0.04 * heavy(rng)).exp();
                    (0..15).map(|_| level * (0.1 * heavy(rng)).exp()).collect()
                })
                .collect();
            run.add(series("throughput", figure, rounds));
        }
        run
    }

    fn series(scenario: &str, figure: usize, rounds: Vec<Vec<f64>>) -> Series {
        let mut s = Series::new(scenario, &figure.to_string(), "mayfly", "latency", Unit::Us);
        s.rounds = rounds.into_iter().map(crate::record::Round::new).collect();
        s
    }

    #[test]
    fn the_same_build_twice_is_no_difference_19_times_out_of_20() {
        let mut rng = StdRng::seed_from_u64(20);
        let trials = 200;
        let alarms = (0..trials)
            .filter(|_| compare(&run(&mut rng, 1.0, 6), &run(&mut rng, 1.0, 6)).differs())
            .count();
        assert!(alarms * 20 <= trials, "{alarms} false alarms in {trials}");
    }

    #[test]
    fn a_build_that_is_a_third_slower_is_found_out() {
        let mut rng = StdRng::seed_from_u64(21);
        let trials = 100;
        let found = (0..trials)
            .filter(|_| {
                let c = compare(&run(&mut rng, 1.0, 8), &run(&mut rng, 1.33, 8));
                c.lines.iter().any(|l| l.verdict == Verdict::Worse)
                    && !c.lines.iter().any(|l| l.verdict == Verdict::Better)
            })
            .count();
        assert!(found * 100 >= trials * 95, "{found} of {trials}");
    }

    #[test]
    fn exact_figures_need_no_statistics() {
        let size = |bytes: f64| {
            let mut run = empty();
            run.add(
                Series::new("figures", "hello", "mayfly", "file_size", Unit::Bytes)
                    .round(vec![bytes]),
            );
            run
        };
        assert!(!compare(&size(1000.0), &size(1005.0)).differs());
        let grown = compare(&size(1000.0), &size(1100.0));
        assert_eq!(grown.lines[0].verdict, Verdict::Worse);
        assert!(table(&grown, false).contains("WORSE"));
    }
}
