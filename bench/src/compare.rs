//! Says whether two runs differ, and tries not to cry wolf: the chance of even one false alarm in a whole report, however
//! many figures it has, is to be 1 in 20. That holds for drawn samples (a test); what two real runs of one build did is in
//! `SPECIFICATION.md`.
//!
//! A difference is called real when all of this holds:
//! 1. the interval of the factor between the rounds' medians excludes 1, at a confidence that is raised with the number
//!    of figures compared (Bonferroni);
//! 2. it still does after the interval is widened by how much the machine itself changed between the runs, as the
//!    control series show: the harness's own work, and for what goes over a socket also the bare server's figures;
//! 3. it is at least [`SMALLEST`] large: below that, code layout alone moves a figure.
//!
//! Where a round's figure is zero there is no factor: then every round of one run must lie above every round of the other
//! by more than [`threshold`]. Sizes of files do not depend on the machine and are compared exactly.

use std::fmt::Write as _;

use crate::record::{Better, Run, Series, Unit};
use crate::stats::{self, Estimate};

/// The smallest factor, less one, that is worth a word.
pub const SMALLEST: f64 = 0.05;
/// Chance of a false alarm in a whole comparison.
const FALSE_ALARMS: f64 = 0.05;
/// The server without a sandbox: what it does over a socket moves with machine and kernel, not with the runtime.
const BARE: &str = "bare-hyper";
/// Series that one run has and the other has not, of which a note names this many.
const NAMED: usize = 3;

/// Figures of the load generator, which say how a run was made and not what came of it.
const OF_THE_CLIENT: [&str; 3] = ["connections", "generator_busy", "generator_lag"];

/// How far above zero a figure must lie to be called one: a microsecond, a page, one a second, half a count (the budget
/// of page faults), a twentieth.
#[must_use]
pub fn threshold(unit: Unit) -> f64 {
    match unit {
        Unit::Us | Unit::PerS => 1.0,
        Unit::Bytes => 4096.0,
        Unit::Count => 0.5,
        Unit::Ratio => 0.05,
    }
}

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
    /// How much the machine changed between the runs.
    pub drift: Drift,
}

/// How much the machine changed between two runs, as natural logarithms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Drift {
    /// By the harness's own work.
    pub machine: f64,
    /// By that and by what a bare server does: for what goes over a socket.
    pub wire: f64,
}

impl Drift {
    /// The part of it that moves this series.
    fn of(self, series: &Series) -> f64 {
        // Bytes and counts do not follow the machine's speed.
        match series.unit {
            Unit::Bytes | Unit::Count => 0.0,
            Unit::Us | Unit::PerS | Unit::Ratio if over_the_wire(series) => self.wire,
            Unit::Us | Unit::PerS | Unit::Ratio => self.machine,
        }
    }
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
    let compared =
        |s: &&Series| s.scenario != "control" && !OF_THE_CLIENT.contains(&s.figure.as_str());
    let other = |run: &'_ Run, s: &Series| run.series.iter().position(|t| t.id() == s.id());
    let pairs: Vec<(&Series, &Series)> = (a.series.iter().filter(compared))
        .filter_map(|s| Some((s, &b.series[other(b, s)?])))
        .collect();
    let sampled = pairs.iter().filter(|(s, _)| !exact(s)).count().max(1);
    let confidence = 1.0 - FALSE_ALARMS / sampled as f64;
    let drift = drift(a, b);
    let lines = pairs.iter().map(|(s, t)| line(s, t, confidence, drift)).collect();
    let mut notes = notes(a, b, drift);
    for (name, run, missing_in, from) in [("A", a, "B", b), ("B", b, "A", a)] {
        let lost: Vec<String> = (run.series.iter().filter(compared))
            .filter(|s| other(from, s).is_none())
            .map(Series::id)
            .collect();
        if !lost.is_empty() {
            let named = lost[..lost.len().min(NAMED)].join(", ");
            let n = lost.len();
            notes.push(format!("{n} series of {name} are not in {missing_in}, as {named}"));
        }
    }
    notes.extend(b.skipped.iter().map(|s| format!("B left out {}: {}", s.what, s.why)));
    Comparison { lines, notes, drift }
}

fn line(a: &Series, b: &Series, confidence: f64, drift: Drift) -> Line {
    let (net_a, net_b) = (a.net(), b.net());
    let (ma, mb) = (middle(&net_a), middle(&net_b));
    let (factor, verdict) = if exact(a) {
        let value = if ma == 0.0 { 1.0 } else { mb / ma };
        let moved = (value - 1.0).abs() > SMALLEST / 5.0 || (ma == 0.0 && mb > 0.0);
        (Some(Estimate { value, low: value, high: value }), direction(a, moved, mb > ma))
    } else {
        match stats::factor(&net_a, &net_b, confidence) {
            None if net_a.len() < 2 || net_b.len() < 2 => (None, Verdict::Unknown),
            // A median of zero on either side: nothing to divide.
            None => (None, direction(a, apart(&net_a, &net_b, a.unit), mb > ma)),
            Some(factor) => {
                let drift = drift.of(a);
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

/// Whether every round of the one lies above every round of the other, by more than the unit's threshold.
fn apart(a: &[Vec<f64>], b: &[Vec<f64>], unit: Unit) -> bool {
    let ends = |rounds: &[Vec<f64>]| {
        let medians = rounds.iter().map(|r| stats::median(r));
        medians.fold((f64::INFINITY, 0.0_f64), |(low, high), m| (low.min(m), high.max(m)))
    };
    let ((low_a, high_a), (low_b, high_b)) = (ends(a), ends(b));
    low_b > high_a + threshold(unit) || low_a > high_b + threshold(unit)
}

fn middle(rounds: &[Vec<f64>]) -> f64 {
    stats::median(&rounds.iter().map(|r| stats::median(r)).collect::<Vec<_>>())
}

/// Whether a figure depends on nothing but the bytes that were measured.
fn exact(series: &Series) -> bool {
    series.unit == Unit::Bytes
        && matches!(series.figure.as_str(), "file_size" | "wasm_size" | "artifact_size")
}

fn direction(series: &Series, moved: bool, up: bool) -> Verdict {
    match (moved, series.better, up) {
        (false, ..) => Verdict::Same,
        (true, Better::Neither, _) => Verdict::Differs,
        (true, Better::Lower, true) | (true, Better::Higher, false) => Verdict::Worse,
        (true, Better::Lower, false) | (true, Better::Higher, true) => Verdict::Better,
    }
}

/// Whether a socket is part of what was measured.
fn over_the_wire(series: &Series) -> bool {
    match series.scenario.as_str() {
        "throughput" | "load" => true,
        "scaling" => !series.case.starts_with("image/"),
        _ => false,
    }
}

/// The largest shift among the control series: work that is the same in every build.
fn drift(a: &Run, b: &Run) -> Drift {
    let largest = |control: fn(&Series) -> bool| {
        let shifts = a.series.iter().filter(|s| control(s)).filter_map(|s| {
            let other = b.series.iter().find(|t| t.id() == s.id())?;
            let (ma, mb) = (middle(&s.net()), middle(&other.net()));
            (ma > 0.0 && mb > 0.0).then(|| (mb / ma).ln().abs())
        });
        shifts.fold(0.0, f64::max)
    };
    let machine = largest(|s| s.scenario == "control");
    let bare = largest(|s| {
        s.scenario == "throughput" && s.subject == BARE && matches!(s.unit, Unit::Us | Unit::PerS)
    });
    Drift { machine, wire: machine.max(bare) }
}

fn notes(a: &Run, b: &Run, drift: Drift) -> Vec<String> {
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
    if let (Some(x), Some(y)) = (&a.build, &b.build)
        && x.binary == y.binary
    {
        notes
            .push("both runs are of the same binary: what differs is chance or the machine".into());
    }
    for (drift, what, above) in [
        (drift.machine, "the machine", SMALLEST),
        (drift.wire, "what a bare server does", SMALLEST.max(drift.machine)),
    ] {
        if drift > above {
            let percent = (drift.exp() - 1.0) * 100.0;
            notes.push(format!(
                "{what} changed by {percent:.0} % between the runs; smaller differences cannot be seen. Run both anew, one right after the other"
            ));
        }
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
    let count =
        |wanted: fn(Verdict) -> bool| comparison.lines.iter().filter(|l| wanted(l.verdict)).count();
    let unknown = count(|v| v == Verdict::Unknown);
    let differing = count(|v| !matches!(v, Verdict::Same | Verdict::Unknown));
    let of = comparison.lines.len() - unknown;
    let _ = match differing {
        0 => writeln!(out, "no difference in {of} figures"),
        n => writeln!(out, "{n} of {of} figures differ"),
    };
    if unknown > 0 {
        let _ = writeln!(out, "{unknown} more have too few rounds to tell");
    }
    out
}

#[cfg(test)]
mod tests;
