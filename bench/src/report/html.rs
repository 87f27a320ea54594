//! The page: one file, no scripts, nothing fetched.

use std::fmt::Write as _;

use super::svg::escape;
use super::{amount, headlines, interval, plots, rows, scenarios};
use crate::definitions::Rung;
use crate::record::{Run, Unit};

const STYLE: &str = include_str!("page.css");

/// The whole page.
#[must_use]
pub fn render(run: &Run) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Mayfly bench</title><style>{STYLE}</style></head><body>\n<header><h1>Mayfly bench</h1><p>{}</p></header>\n<main>\n",
        escape(&subtitle(run))
    );
    summary(run, &mut out);
    doubts(run, &mut out);
    for (title, words, drawing) in plots::all(run) {
        let _ = writeln!(
            out,
            "<section><h2>{}</h2><p class=\"words\">{}</p><figure>{drawing}</figure></section>",
            escape(&title),
            escape(&words)
        );
    }
    definitions(&mut out);
    tables(run, &mut out);
    facts(run, &mut out);
    out += "</main></body></html>\n";
    out
}

fn subtitle(run: &Run) -> String {
    let m = &run.machine;
    format!(
        "{} · {} cores · {} · kernel {} · size {}, {:.0} s",
        m.cpu,
        m.cores,
        amount(m.memory as f64, Unit::Bytes),
        m.kernel,
        run.size,
        run.took_s
    )
}

fn summary(run: &Run, out: &mut String) {
    let lines = headlines(run);
    if lines.is_empty() {
        return;
    }
    *out += "<section><h2>In short</h2><ul class=\"short\">";
    for line in lines {
        let aim = line.aim.map_or_else(String::new, |(aim, reached)| {
            let (class, word) = if reached { ("good", "reached") } else { ("bad", "not reached") };
            format!(" <span class=\"{class}\">aim {}: {word}</span>", escape(&aim))
        });
        let _ = write!(out, "<li>{}{aim}</li>", escape(&line.text));
    }
    *out += "</ul></section>\n";
}

fn doubts(run: &Run, out: &mut String) {
    if run.warnings.is_empty() && run.skipped.is_empty() {
        return;
    }
    *out += "<section class=\"doubts\"><h2>Before you quote this</h2><ul>";
    for warning in &run.warnings {
        let _ = write!(out, "<li>{}</li>", escape(warning));
    }
    for skipped in &run.skipped {
        let _ = write!(
            out,
            "<li>Not measured: {} ({})</li>",
            escape(&skipped.what),
            escape(&skipped.why)
        );
    }
    *out += "</ul></section>\n";
}

fn definitions(out: &mut String) {
    *out += "<section><h2>What each start means</h2><div class=\"wide\"><table><tr><th>start<th>clock starts<th>clock stops<th>done before</tr>";
    for rung in Rung::ALL {
        let d = rung.definition();
        let _ = write!(
            out,
            "<tr><td><b>{}</b><td>{}<td>{}<td>{}</tr>",
            d.name,
            escape(d.starts),
            escape(d.stops),
            escape(d.warm)
        );
    }
    *out += "</table></div></section>\n";
}

fn tables(run: &Run, out: &mut String) {
    *out += "<section><h2>Every figure</h2><p class=\"words\">Medians with 95 % intervals over rounds (Student's t); of fewer than six rounds, the range of their medians. Our own cost (clock, client, loopback) is taken off where it is known.</p>";
    for scenario in scenarios(run) {
        let rows = rows(run, scenario);
        let _ = write!(
            out,
            "<details><summary>{scenario} <small>{} series</small></summary><div class=\"wide\"><table><tr><th>case<th>subject<th>figure<th class=\"n\">median<th>95 % interval, or range<th class=\"n\">p99<th class=\"n\">samples</tr>",
            rows.len()
        );
        for row in rows {
            let [case, subject, figure] = &row.name;
            let p99 = row.p99.map_or_else(String::new, |p| amount(p.value, row.unit));
            let _ = write!(
                out,
                "<tr><td>{}<td>{}<td>{}<td class=\"n\">{}<td>{}<td class=\"n\">{p99}<td class=\"n\">{}</tr>",
                escape(case),
                escape(subject),
                escape(figure),
                amount(row.median.value, row.unit),
                interval(&row.median, row.samples.1, row.unit),
                row.samples.0
            );
        }
        *out += "</table></div></details>";
    }
    *out += "</section>\n";
}

fn facts(run: &Run, out: &mut String) {
    *out += "<section><h2>What was measured, where</h2><div class=\"wide\"><table><tr><th>program<th>version<th>what it is<th>command</tr>";
    for s in &run.subjects {
        let _ = write!(
            out,
            "<tr><td><b>{}</b><td>{}<td>{}<td><code>{}</code></tr>",
            escape(&s.name),
            escape(&s.version),
            escape(&s.what),
            escape(&s.command)
        );
    }
    *out += "</table></div><dl>";
    let m = &run.machine;
    let or =
        |text: &str, none: &str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
    for (name, value) in [
        ("Processor", format!("{}, {:.0} MHz, {}", m.cpu, m.mhz, m.simd)),
        ("Machine", or(&m.hypervisor, "no hypervisor seen")),
        (
            "Memory",
            format!(
                "{}, swap {}",
                amount(m.memory as f64, Unit::Bytes),
                amount(m.swap as f64, Unit::Bytes)
            ),
        ),
        ("Kernel", format!("{} ({})", m.kernel, m.os)),
        ("Huge pages", or(&m.huge_pages, "not shown")),
        ("Governor", or(&m.governor, "not shown")),
        ("Mitigations", or(&m.mitigations, "none")),
        ("Load at start", format!("{:.2}", m.load)),
        ("Compiler", m.rustc.clone()),
        ("Build", or(&super::build(run), "not recorded")),
        ("Command", run.command.join(" ")),
    ] {
        let _ = write!(out, "<dt>{name}<dd>{}", escape(&value));
    }
    *out += "</dl></section>\n";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Series, Subject};

    #[test]
    fn the_page_needs_nothing_else_and_escapes_what_it_shows() {
        let mut run = crate::plan::Plan::smoke().new_run(vec!["<script>".into()]);
        for name in ["mayfly", "bare-hyper"] {
            run.subjects.push(Subject {
                name: name.into(),
                what: "a & b".into(),
                version: String::new(),
                command: String::new(),
            });
            let series = Series::new("throughput", "hello", name, "requests", Unit::PerS);
            run.add(series.round(vec![50_000.0]).round(vec![51_000.0]));
        }
        run.warn("1 < 2");
        let page = render(&run);
        for forbidden in ["http://", "https://", "<script", "url(", "@import", "src="] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("1 &lt; 2") && page.contains("<svg"));
        assert!(super::super::markdown::render(&run).contains("| hello | mayfly | requests |"));
        assert!(super::super::terminal::render(&run).contains("mayfly"));
    }
}
