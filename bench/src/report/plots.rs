//! The drawings of the page, each from the series of one scenario.

use super::svg::{Axis, COLOURS, Plot, WIDTH};
use super::{amount, interval};
use crate::definitions::Rung;
use crate::record::{Run, Series, Unit};
use crate::stats;

/// Samples drawn per row of the ladder: more only make the cloud opaque.
const CLOUD: usize = 80;
const ROW: f64 = 30.0;

/// A subject has one colour on the whole page.
#[must_use]
pub fn colour(run: &Run, subject: &str) -> &'static str {
    let place = run.subjects.iter().position(|s| s.name == subject);
    COLOURS[place.map_or(COLOURS.len() - 1, |i| i % COLOURS.len())]
}

/// Title, words under it, drawing.
pub type Figure = (String, String, String);

/// Every drawing that this run has data for.
#[must_use]
pub fn all(run: &Run) -> Vec<Figure> {
    let mut out = ladders(run);
    out.extend(bars(
        run,
        ("throughput", "hello", "requests"),
        "Answers per second from one core",
        "The same 27 bytes from every program, 16 or 64 connections, whichever suits it better, server and client on a core each. Longer is better.",
    ));
    out.extend(bars(
        run,
        ("throughput", "hello", "cpu_per_request"),
        "CPU time per answer",
        "All threads of the server, kernel included, by the scheduler's count. Independent of how fast the client is. Shorter is better.",
    ));
    out.extend(load(run));
    let mut line = |scenario, prefix, figure, unit, title: &str, words: &str, x: &str| {
        out.extend(row(run, (scenario, prefix, figure), unit, title, words, x));
    };
    line(
        "density",
        "functions/",
        "pss",
        Unit::Bytes,
        "Memory of an idle node",
        "Proportional set size of a node that was just started with so many functions, none of them called.",
        "functions deployed",
    );
    line(
        "scaling",
        "image/",
        "life",
        Unit::Us,
        "Time of a fresh instance over the size of its image",
        "Sandbox, instance, call and reset of a function whose init left so many megabytes in memory. In process.",
        "MiB of image",
    );
    line(
        "scaling",
        "functions/",
        "cpu_per_request",
        Unit::Us,
        "CPU time per answer over the number of functions",
        "One function is called; the others are deployed beside it.",
        "functions deployed",
    );
    for model in ["classify", "resnet18"] {
        out.extend(bars(
            run,
            ("figures", model, "requests"),
            &format!("{model}: pictures per second on one core"),
            "A JPEG in, the five likeliest classes out. Direct convolution is what a core would do that made every multiplication of the model at the rate of a good native matrix product, and nothing else; Winograd's convolutions need fewer.",
        ));
        out.extend(bars(
            run,
            ("figures", model, "peak"),
            &format!("{model}: peak memory of the serving process"),
            "After the load above (VmHWM, shared pages of files included).",
        ));
    }
    out
}

fn ladders(run: &Run) -> Vec<Figure> {
    let mut out = Vec::new();
    for guest in ["hello", "hello-command", "classify", "resnet18"] {
        let rungs: Vec<(Rung, &Series)> = Rung::ALL
            .into_iter()
            .filter_map(|rung| {
                let case = format!("{guest}/{}", rung.name());
                let subject = if rung == Rung::Reused { "harness" } else { "mayfly" };
                Some((rung, run.get("ladder", &case, subject, "start")?))
            })
            .collect();
        if !rungs.is_empty() {
            let words = "Each dot is one start, the bar its median, on a scale where each line is ten times the one before. What each name means is defined below.";
            out.push((
                format!("The cold-start ladder of {guest}"),
                words.into(),
                ladder(run, guest, &rungs),
            ));
        }
    }
    out
}

fn ladder(run: &Run, guest: &str, rungs: &[(Rung, &Series)]) -> String {
    let (left, top) = (140.0, 8.0);
    let bottom = top + ROW * rungs.len() as f64;
    let values = || rungs.iter().flat_map(|(_, s)| s.net().into_iter().flatten());
    let axis = Axis::new(values(), true, left, WIDTH - 90.0);
    let mut plot = Plot::new(&format!("cold starts of {guest}"), bottom + 28.0);
    plot.x_axis(&axis, Unit::Us, top, bottom);
    for (i, (rung, series)) in rungs.iter().enumerate() {
        let y = top + ROW * (i as f64 + 0.5);
        let ours = *rung == Rung::PooledSnapshot;
        plot.text(
            left - 12.0,
            y + 4.0,
            "end",
            if ours { "name strong" } else { "name" },
            rung.name(),
        );
        let rounds = series.net();
        let samples: Vec<f64> = rounds.iter().flatten().copied().collect();
        let shade = if *rung == Rung::Reused { "#8a8f98" } else { colour(run, "mayfly") };
        let step = samples.len().div_ceil(CLOUD).max(1);
        for (k, x) in samples.iter().step_by(step).enumerate() {
            // Spread by a fixed pattern, so that the same run draws the same page.
            let jitter = (k * 7 % 11) as f64 - 5.0;
            plot.dot(axis.at(*x), y + jitter, 2.2, shade, 0.35, "");
        }
        if let Some(median) = stats::estimate(&rounds, 0.5) {
            let x = axis.at(median.value);
            plot.line((x, y - 11.0), (x, y + 11.0), "median");
            let n = samples.len();
            let tip = format!(
                "{}: median {} ({}), n = {n}",
                rung.name(),
                amount(median.value, Unit::Us),
                interval(&median, rounds.len(), Unit::Us)
            );
            plot.dot(x, y, 4.5, shade, 1.0, &tip);
            let class = if ours { "value strong" } else { "value" };
            plot.text(WIDTH - 4.0, y + 4.0, "end", class, &amount(median.value, Unit::Us));
        }
    }
    plot.finish()
}

fn bars(
    run: &Run,
    (scenario, case, figure): (&str, &str, &str),
    title: &str,
    words: &str,
) -> Option<Figure> {
    let mut found: Vec<(&Series, stats::Estimate)> = run
        .series
        .iter()
        .filter(|s| s.scenario == scenario && s.case == case)
        .filter(|s| s.figure == figure || (figure == "requests" && s.figure == "direct"))
        .filter_map(|s| Some((s, stats::estimate(&s.net(), 0.5)?)))
        .collect();
    if found.len() < 2 {
        return None;
    }
    found.sort_by(|a, b| b.1.value.total_cmp(&a.1.value));
    let (left, top) = (160.0, 8.0);
    let bottom = top + ROW * found.len() as f64;
    let unit = found[0].0.unit;
    let axis = Axis::new(found.iter().map(|(_, e)| e.high), false, left, WIDTH - 100.0);
    let mut plot = Plot::new(title, bottom + 28.0);
    plot.x_axis(&axis, unit, top, bottom);
    for (i, (series, estimate)) in found.iter().enumerate() {
        let y = top + ROW * (i as f64 + 0.5);
        let (name, shade) = match series.figure.as_str() {
            "direct" => ("direct convolution", "#8a8f98"),
            _ => (series.subject.as_str(), colour(run, &series.subject)),
        };
        let class = if name == "mayfly" { "name strong" } else { "name" };
        plot.text(left - 12.0, y + 4.0, "end", class, name);
        let tip = format!(
            "{name}: {} ({})",
            amount(estimate.value, unit),
            interval(estimate, series.rounds.len(), unit)
        );
        plot.bar((left, y - 9.0), (axis.at(estimate.value) - left, 18.0), shade, &tip);
        plot.line((axis.at(estimate.low), y), (axis.at(estimate.high), y), "whisker");
        plot.text(WIDTH - 4.0, y + 4.0, "end", "value", &amount(estimate.value, unit));
    }
    Some((title.into(), words.into(), plot.finish()))
}

fn load(run: &Run) -> Option<Figure> {
    let all: Vec<&Series> =
        run.series.iter().filter(|s| s.scenario == "load" && s.figure == "latency").collect();
    // At twice the capacity it is the length of the test that sets the latency; older records have it.
    let all: Vec<&Series> = all.into_iter().filter(|s| s.x.is_some_and(|x| x <= 1.0)).collect();
    let mut subjects: Vec<&str> = all.iter().map(|s| s.subject.as_str()).collect();
    subjects.sort_by_key(|name| run.subjects.iter().position(|s| s.name == **name));
    subjects.dedup();
    let (left, right, top, bottom) = (70.0, WIDTH - 20.0, 34.0, 300.0);
    let quantile = |s: &Series, q| stats::estimate(&s.net(), q).map_or(0.0, |e| e.value);
    let points: Vec<(&str, f64, f64, f64)> = all
        .iter()
        .filter_map(|s| Some((s.subject.as_str(), s.x?, quantile(s, 0.5), quantile(s, 0.99))))
        .collect();
    if points.is_empty() {
        return None;
    }
    let y = Axis::new(points.iter().flat_map(|p| [p.2, p.3]), true, bottom, top);
    let title = "Latency against load";
    let mut plot = Plot::new(title, bottom + 44.0);
    plot.y_axis(&y, Unit::Us, left, right);
    let place = |x: f64| left + 60.0 + (x / 0.5).log2() * (right - left - 120.0);
    for x in [0.5, 1.0] {
        plot.line((place(x), top), (place(x), bottom), "grid");
        plot.text(place(x), bottom + 18.0, "middle", "tick", &format!("{x} × capacity"));
    }
    for subject in &subjects {
        for (tail, dashed, name) in [(false, false, "p50"), (true, true, "p99")] {
            let mut line: Vec<(f64, f64, String)> = points
                .iter()
                .filter(|p| p.0 == *subject)
                .map(|p| {
                    let value = if tail { p.3 } else { p.2 };
                    let tip = format!(
                        "{subject} at {} × capacity: {name} {}",
                        p.1,
                        amount(value, Unit::Us)
                    );
                    (place(p.1), y.at(value), tip)
                })
                .collect();
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            plot.path(&line, colour(run, subject), dashed);
        }
    }
    let names: Vec<_> = subjects.iter().map(|s| ((*s).to_owned(), colour(run, s))).collect();
    plot.legend(left, 16.0, &names);
    let words = "Open loop: requests arrive when they are due, whether or not the ones before are answered, and their wait counts from then. Each program at fractions of its own capacity; solid p50, dashed p99. Beyond the capacity a queue grows for as long as the test lasts, so latency there is the test's.";
    Some((title.into(), words.into(), plot.finish()))
}

fn row(
    run: &Run,
    (scenario, prefix, figure): (&str, &str, &str),
    unit: Unit,
    title: &str,
    words: &str,
    x_name: &str,
) -> Option<Figure> {
    let mut points: Vec<(f64, usize, stats::Estimate)> = run
        .series
        .iter()
        .filter(|s| s.scenario == scenario && s.case.starts_with(prefix) && s.figure == figure)
        .filter_map(|s| Some((s.x?, s.rounds.len(), stats::estimate(&s.net(), 0.5)?)))
        .collect();
    if points.len() < 2 {
        return None;
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (left, right, top, bottom) = (80.0, WIDTH - 40.0, 12.0, 230.0);
    let y = Axis::new(points.iter().map(|p| p.2.high), false, bottom, top);
    let mut plot = Plot::new(title, bottom + 46.0);
    plot.y_axis(&y, unit, left, right);
    // Even steps: sizes such as 1, 10, 100 would crowd at one end.
    let place =
        |i: usize| left + 30.0 + i as f64 / (points.len() - 1) as f64 * (right - left - 60.0);
    let mut line = Vec::new();
    for (i, (x, rounds, estimate)) in points.iter().enumerate() {
        plot.text(place(i), bottom + 18.0, "middle", "tick", &format!("{x}"));
        plot.line((place(i), y.at(estimate.low)), (place(i), y.at(estimate.high)), "whisker");
        let value = amount(estimate.value, unit);
        plot.text(place(i), y.at(estimate.value) - 10.0, "middle", "value", &value);
        line.push((
            place(i),
            y.at(estimate.value),
            format!("{x}: {value} ({})", interval(estimate, *rounds, unit)),
        ));
    }
    plot.path(&line, colour(run, "mayfly"), false);
    plot.text(f64::midpoint(left, right), bottom + 38.0, "middle", "tick", x_name);
    Some((title.into(), words.into(), plot.finish()))
}
