//! A line for each stack: what flamegraph.pl, speedscope and others read.

use std::fmt::Write as _;

use super::{Taken, frames, label};

/// `outer;inner 12`, in samples.
pub(super) fn of(taken: &Taken) -> String {
    let mut out = String::new();
    for stack in &taken.stacks {
        // A name may have the one character that it must not have here.
        let names: Vec<_> =
            frames(taken, &stack.frames).map(|frame| label(frame).replace(';', ":")).collect();
        let _ = writeln!(out, "{} {}", names.join(";"), stack.samples);
    }
    out
}
