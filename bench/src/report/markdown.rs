//! A run as Markdown, for a README or a page of the docs.

use std::fmt::Write as _;

use super::{amount, headlines, interval, rows, scenarios};
use crate::record::Run;

/// The whole report.
#[must_use]
pub fn render(run: &Run) -> String {
    let mut out = String::from("# Mayfly bench\n\n");
    for line in headlines(run) {
        let aim = line.aim.map_or_else(String::new, |(aim, reached)| {
            format!(" (aim: {aim}, {})", if reached { "reached" } else { "**not reached**" })
        });
        let _ = writeln!(out, "- {}{aim}", line.text);
    }
    doubts(run, &mut out);
    for scenario in scenarios(run) {
        let what =
            crate::scenarios::ALL.iter().find(|(name, ..)| *name == scenario).map_or("", |s| s.1);
        let _ = writeln!(out, "\n## {scenario}\n\n{}.\n", capital(what));
        out += "| case | subject | figure | median | 95 % interval, or range | p99 | samples (rounds) |\n";
        out += "| --- | --- | --- | ---: | --- | ---: | ---: |\n";
        for row in rows(run, scenario) {
            let [c, s, f] = &row.name;
            let (median, range) = (
                amount(row.median.value, row.unit),
                interval(&row.median, row.samples.1, row.unit),
            );
            let p99 = row.p99.map_or_else(String::new, |p| amount(p.value, row.unit));
            let (n, rounds) = row.samples;
            let _ =
                writeln!(out, "| {c} | {s} | {f} | {median} | {range} | {p99} | {n} ({rounds}) |");
        }
    }
    let _ = writeln!(out, "\n## Definitions\n\n{}", crate::definitions::markdown());
    facts(run, &mut out);
    out
}

fn doubts(run: &Run, out: &mut String) {
    for (title, lines) in [
        ("Warnings", run.warnings.clone()),
        ("Not measured", run.skipped.iter().map(|s| format!("{}: {}", s.what, s.why)).collect()),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n## {title}\n");
            for line in lines {
                let _ = writeln!(out, "- {}", line.replace('\n', " "));
            }
        }
    }
}

fn facts(run: &Run, out: &mut String) {
    let m = &run.machine;
    let _ = writeln!(
        out,
        "## What was measured, where\n\n| program | version | command | what it is |\n| --- | --- | --- | --- |"
    );
    for s in &run.subjects {
        let _ = writeln!(out, "| {} | {} | `{}` | {} |", s.name, s.version, s.command, s.what);
    }
    let hypervisor = if m.hypervisor.is_empty() { "no hypervisor seen" } else { &m.hypervisor };
    let _ = writeln!(
        out,
        "\n{}, {} cores at {:.0} MHz, {}, {}; {} of memory, {} of swap; kernel {}, {}; huge pages: {}; governor: {}; mitigations: {}; load at start {:.2}. Built with {}. {}\n",
        m.cpu,
        m.cores,
        m.mhz,
        m.simd,
        hypervisor,
        amount(m.memory as f64, crate::record::Unit::Bytes),
        amount(m.swap as f64, crate::record::Unit::Bytes),
        m.kernel,
        m.os,
        m.huge_pages,
        if m.governor.is_empty() { "not shown" } else { &m.governor },
        m.mitigations,
        m.load,
        m.rustc,
        super::build(run)
    );
    let _ =
        writeln!(out, "Run `{}`, size {}, {:.0} s.", run.command.join(" "), run.size, run.took_s);
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
