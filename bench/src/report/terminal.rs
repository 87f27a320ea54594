//! The table that a run ends with.

use std::fmt::Write as _;

use super::{amount, headlines, interval, rows, scenarios};
use crate::record::Run;

/// The whole report as text.
#[must_use]
pub fn render(run: &Run) -> String {
    let mut out = String::new();
    for scenario in scenarios(run) {
        let rows = rows(run, scenario);
        let width = |i: usize| rows.iter().map(|r| r.name[i].chars().count()).max().unwrap_or(0);
        let (case, subject, figure) = (width(0), width(1), width(2));
        let _ = writeln!(out, "\n{scenario}");
        for row in rows {
            let [c, s, f] = &row.name;
            let median = amount(row.median.value, row.unit);
            let range = interval(&row.median, row.samples.1, row.unit);
            let p99 =
                row.p99.map_or_else(String::new, |p| format!("p99 {}", amount(p.value, row.unit)));
            let _ = writeln!(
                out,
                "  {c:<case$}  {s:<subject$}  {f:<figure$}  {median:>9}  {range:<28}  {p99:<13}  n={}",
                row.samples.0
            );
        }
    }
    let _ = writeln!(out);
    for line in headlines(run) {
        let aim = line.aim.map_or_else(String::new, |(aim, reached)| {
            format!(" [aim: {aim}, {}]", if reached { "reached" } else { "NOT reached" })
        });
        let _ = writeln!(out, "* {}{aim}", line.text);
    }
    for warning in &run.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    for skipped in &run.skipped {
        let _ = writeln!(out, "SKIPPED {}: {}", skipped.what, skipped.why);
    }
    let _ =
        writeln!(out, "{} series in {:.0} s on {}", run.series.len(), run.took_s, run.machine.cpu);
    out
}
