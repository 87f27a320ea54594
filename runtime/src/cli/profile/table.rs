//! A profile in a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mayfly_admin::profile::Frame;

use super::{Taken, frames, label};
use crate::cli::output;

/// Lines of the table; below them is noise, or `--write`.
const LINES: usize = 25;

/// What was seen, and each function's part of it.
pub(super) fn of(taken: &Taken) -> String {
    let mut functions = BTreeMap::<&Frame, (u64, u64)>::new();
    for stack in &taken.stacks {
        let stacked: Vec<_> = frames(taken, &stack.frames).collect();
        if let Some(inner) = stacked.last() {
            functions.entry(inner).or_default().0 += stack.samples;
        }
        // Once, however often it called itself.
        for frame in stacked.iter().collect::<BTreeSet<_>>() {
            functions.entry(frame).or_default().1 += stack.samples;
        }
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
    let share = |samples: u64| format!("{:.1} %", percent(samples, taken.samples));
    let row =
        |(frame, (own, all)): &(&Frame, (u64, u64))| vec![share(*own), share(*all), label(frame)];
    let rows: Vec<_> = functions.iter().take(LINES).map(row).collect();
    let mut text = format!("{}\n\n", head(taken));
    text += &output::table(&["SELF", "TOTAL", "FUNCTION"], &rows);
    if functions.len() > LINES {
        let _ = write!(text, "\n... and {} more", functions.len() - LINES);
    }
    for wait in &taken.waits {
        let import = mayfly_observe::logs::escape(wait.import.as_bytes());
        let _ = write!(text, "\nwaited {} in {import}, without a thread", output::time(wait.us));
    }
    text
}

/// How much was seen, and what it is worth.
pub(super) fn head(taken: &Taken) -> String {
    let mut text = format!(
        "{}#{}: {} samples of {} in {}, {} invocations; shares are good to {:.1} points",
        taken.function,
        taken.revision,
        taken.samples,
        output::time(taken.sample_us),
        output::time(taken.took_us),
        taken.invocations,
        margin(taken.samples),
    );
    if taken.missed > 0 {
        let _ = write!(text, "\n{} samples more could not be counted", taken.missed);
    }
    if taken.replaced {
        text += "\nanother revision serves by now, and is not in this";
    }
    text += match taken.names.as_str() {
        "names" => "",
        "exports" => {
            "\nthe module has no names but its exports': build it without strip to see them"
        }
        _ => "\nthe upload could not be read, so functions have no names; see the node's log",
    };
    text
}

/// How far a share of one half may be off, 19 times out of 20.
#[expect(clippy::cast_precision_loss, reason = "printed with three digits")]
fn margin(samples: u64) -> f64 {
    (98.0 / (samples as f64).sqrt()).min(100.0)
}

#[expect(clippy::cast_precision_loss, reason = "printed with four digits")]
pub(super) fn percent(samples: u64, all: u64) -> f64 {
    100.0 * samples as f64 / all.max(1) as f64
}
