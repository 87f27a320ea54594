//! A run as a table for the terminal, as Markdown, and as one page that needs nothing else.

pub mod html;
pub mod markdown;
pub mod plots;
pub mod svg;
pub mod terminal;

use crate::record::{Run, Series, Unit};
use crate::stats::{self, Estimate};

/// One line of a table: a series in three figures.
#[derive(Debug, Clone)]
pub struct Row {
    /// `case` and `subject`, `figure`.
    pub name: [String; 3],
    /// Its unit.
    pub unit: Unit,
    /// Median with its interval or range.
    pub median: Estimate,
    /// 99th percentile, if there are samples enough for one.
    pub p99: Option<Estimate>,
    /// How many were measured, and in how many rounds.
    pub samples: (u64, usize),
}

/// Samples that a 99th percentile needs: with fewer it is the maximum.
const P99_SAMPLES: usize = 200;

/// The rows of one scenario.
#[must_use]
pub fn rows(run: &Run, scenario: &str) -> Vec<Row> {
    let series = run.series.iter().filter(|s| s.scenario == scenario);
    let mut rows: Vec<Row> = series.filter_map(row).collect();
    if scenario == "ladder" {
        rows.sort_by(|a, b| {
            let guest = |r: &Row| r.name[0].split('/').next().unwrap_or("").to_owned();
            guest(a).cmp(&guest(b)).then(b.median.value.total_cmp(&a.median.value))
        });
    }
    rows
}

fn row(series: &Series) -> Option<Row> {
    let net = series.net();
    let kept: usize = net.iter().map(Vec::len).sum();
    Some(Row {
        name: [series.case.clone(), series.subject.clone(), series.figure.clone()],
        unit: series.unit,
        median: stats::estimate(&net, 0.5)?,
        p99: if kept >= P99_SAMPLES { stats::estimate(&net, 0.99) } else { None },
        samples: (series.rounds.iter().map(|r| r.seen).sum(), net.len()),
    })
}

/// Scenarios that a run has, in the order of measuring.
#[must_use]
pub fn scenarios(run: &Run) -> Vec<&'static str> {
    let known = crate::scenarios::ALL.iter().map(|(name, ..)| *name);
    known.filter(|name| run.series.iter().any(|s| s.scenario == *name)).collect()
}

/// A figure with its unit, in three digits.
#[must_use]
pub fn amount(value: f64, unit: Unit) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let last = steps.last().copied().unwrap_or((1.0, ""));
        let (size, name) =
            steps.iter().copied().find(|(size, _)| value.abs() < size * 999.5).unwrap_or(last);
        format!("{} {name}", digits(value / size)).trim_end().to_owned()
    };
    match unit {
        Unit::Us if value != 0.0 && value.abs() < 0.9995 => format!("{} ns", digits(value * 1e3)),
        Unit::Us => scaled(&[(1.0, "µs"), (1e3, "ms"), (1e6, "s")]),
        Unit::Bytes => scaled(&[(1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB")]),
        Unit::PerS => scaled(&[(1.0, "/s"), (1e3, "k/s"), (1e6, "M/s"), (1e9, "G/s")]),
        Unit::Count => scaled(&[(1.0, ""), (1e3, "k"), (1e6, "M")]),
        Unit::Ratio => format!("{value:.2} x"),
    }
}

fn digits(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        x_abs if x_abs < 10.0 && x.fract() != 0.0 => format!("{x:.2}"),
        x_abs if x_abs < 100.0 && x.fract() != 0.0 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}

/// `low to high`, in the unit of the figure; `range low to high` of so few rounds that it is no 95 % interval.
#[must_use]
pub fn interval(estimate: &Estimate, rounds: usize, unit: Unit) -> String {
    if estimate.low == estimate.high {
        return "–".into();
    }
    let word = if rounds < stats::INTERVAL_ROUNDS { "range " } else { "" };
    format!("{word}{} to {}", amount(estimate.low, unit), amount(estimate.high, unit))
}

/// Which build was measured, in words.
#[must_use]
pub fn build(run: &Run) -> String {
    run.build.as_ref().map_or_else(String::new, |build| {
        let commit = if build.commit.is_empty() { "unknown" } else { &build.commit };
        format!("Binary {}, commit {commit}.", build.binary)
    })
}

/// Median of a series, our own cost taken off.
#[must_use]
pub fn median_of(
    run: &Run,
    scenario: &str,
    case: &str,
    subject: &str,
    figure: &str,
) -> Option<f64> {
    let net = run.get(scenario, case, subject, figure)?.net();
    stats::estimate(&net, 0.5).map(|e| e.value)
}

/// A sentence with a figure that people will quote, and whether it reaches what we aim at.
#[derive(Debug, Clone)]
pub struct Headline {
    /// The sentence.
    pub text: String,
    /// The aim, and whether it is reached.
    pub aim: Option<(String, bool)>,
}

/// The sentences at the top of every report.
#[must_use]
pub fn headlines(run: &Run) -> Vec<Headline> {
    let mut out = Vec::new();
    let mut say = |text: String, aim: Option<(&str, bool)>| {
        out.push(Headline { text, aim: aim.map(|(aim, reached)| (aim.to_owned(), reached)) });
    };
    let get = |scenario, case, subject, figure| median_of(run, scenario, case, subject, figure);
    if let Some(us) = get("micro", "hello", "mayfly", "life") {
        let text =
            format!("hello: sandbox, instance, call and reset take {} (p50)", amount(us, Unit::Us));
        say(text, Some(("at most 15 µs", us <= 15.0)));
    }
    let mine = get("throughput", "hello", "mayfly", "requests");
    for (peer, aim) in [
        ("bare-hyper", 0.6),
        ("wasmtime-serve", 8.0),
        ("workerd", 4.0),
        ("process-per-request", 0.0),
    ] {
        let theirs = get("throughput", "hello", peer, "requests");
        if let (Some(mine), Some(theirs)) = (mine, theirs) {
            let ratio = mine / theirs;
            let text = format!(
                "hello, one core: {} with a fresh instance each, {ratio:.2} x {peer} ({})",
                amount(mine, Unit::PerS),
                amount(theirs, Unit::PerS)
            );
            let words = format!("{aim} x");
            say(text, (aim > 0.0).then_some((words.as_str(), ratio >= aim)));
        }
    }
    let cpu = |subject| get("throughput", "hello", subject, "cpu_per_request");
    if let (Some(mine), Some(theirs)) = (cpu("mayfly"), cpu("bare-hyper")) {
        say(
            format!(
                "hello: {} of CPU per request over bare hyper's {}",
                amount(mine - theirs, Unit::Us),
                amount(theirs, Unit::Us)
            ),
            None,
        );
    }
    for guest in ["hello", "classify", "resnet18"] {
        let rung =
            |name: &str| median_of(run, "ladder", &format!("{guest}/{name}"), "mayfly", "start");
        if let (Some(jit), Some(warm)) = (rung("jit"), rung("pooled-snapshot")) {
            let orders = (jit / warm).log10();
            let text = format!(
                "{guest}: from {} (compiled on the request's path) to {} (pooled, snapshot): {orders:.1} orders of magnitude",
                amount(jit, Unit::Us),
                amount(warm, Unit::Us)
            );
            say(text, (guest == "resnet18").then_some(("five orders", orders >= 5.0)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_few_rounds_is_not_called_an_interval() {
        let estimate = Estimate { value: 2.0, low: 1.0, high: 3.0 };
        assert_eq!(interval(&estimate, 5, Unit::Count), "range 1 to 3");
        assert_eq!(interval(&estimate, 6, Unit::Count), "1 to 3");
    }

    #[test]
    fn amounts_have_three_digits_and_a_unit() {
        for (value, unit, text) in [
            (0.0, Unit::Us, "0 µs"),
            (0.25, Unit::Us, "250 ns"),
            (12.34, Unit::Us, "12.3 µs"),
            (1234.0, Unit::Us, "1.23 ms"),
            (999.9, Unit::Us, "1.00 ms"),
            (4_200_000.0, Unit::Bytes, "4.20 MB"),
            (86_000.0, Unit::PerS, "86 k/s"),
            (3.0, Unit::Count, "3"),
        ] {
            assert_eq!(amount(value, unit), text);
        }
    }
}
