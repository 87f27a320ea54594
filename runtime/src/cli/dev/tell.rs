//! What the loop says on the terminal. A closed pipe is no reason to stop serving, so nothing here fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::FunctionName;
use mayfly_observe::logs::{Body, Entry, Followed};

use super::super::local::Local;
use super::super::output::{self, time};
use super::round::Done;

/// Paths that are named in one line.
const SHOWN: usize = 3;

/// Says what becomes of one function.
#[derive(Debug, Clone)]
pub(super) struct Tell {
    /// Before each line, where there are several.
    name: Option<FunctionName>,
}

impl Tell {
    pub(super) fn new(name: Option<FunctionName>) -> Self {
        Self { name }
    }

    fn line(&self, text: impl std::fmt::Display) {
        let _ = match &self.name {
            Some(name) => output::line(format_args!("{name}: {text}")),
            None => output::line(text),
        };
    }

    /// What starts a build; at first, all that there is.
    pub(super) fn changed(&self, dir: &Path, changed: &[PathBuf]) {
        if !changed.is_empty() {
            self.line(format_args!("{} changed", names(dir, changed)));
        }
    }

    pub(super) fn ending(&self) {
        self.line("a save during the build: it is ended and begins again");
    }

    pub(super) fn own(&self, dir: &Path, paths: &[PathBuf]) {
        self.line(format_args!(
            "note: {} changed during three builds in a row and counts as written by the build; if that is so, name it in \
             .gitignore, and if you saved it, save it again",
            names(dir, paths)
        ));
    }

    pub(super) fn problem(&self, why: &str) {
        self.line(format_args!("error: {why}"));
    }

    /// A line of the build.
    pub(super) fn build(&self, line: &str) {
        self.line(format_args!("  | {line}"));
    }

    /// The end of a build and deploy.
    pub(super) fn done(&self, done: &Done, node: &Local, name: &FunctionName) {
        match done {
            Done::Stopped => {}
            Done::Served { build, deploy, revision, notes } => {
                for note in notes {
                    self.line(format_args!("  {note}"));
                }
                let us =
                    |took: &Duration| time(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                self.line(format_args!(
                    "  build {}   deploy {}   version {revision}   {}/{name}",
                    us(build),
                    us(deploy),
                    node.gateway()
                ));
            }
            Done::Failed(why) => {
                let history = node.publisher().history(name).unwrap_or_default();
                let serves = match history.first() {
                    Some(record) => format!("version {} still serves", record.number),
                    None => "nothing serves yet".to_owned(),
                };
                self.line(format_args!("error: {why}\n  {serves}; the next save builds again"));
            }
        }
    }

    /// Says what a function's requests do, from now on.
    pub(super) fn follow(&self, node: &Arc<Local>, name: &FunctionName) {
        let Ok((_, Some(mut follower))) = node.logs().read(name, 0, true) else { return };
        let tell = self.clone();
        node.runtime().spawn(async move {
            loop {
                match follower.next().await {
                    Followed::Entry(entry) => tell.entry(&entry),
                    Followed::Gap(lines) => tell.line(format_args!("  ({lines} lines more)")),
                    Followed::End => return,
                }
            }
        });
    }

    fn entry(&self, entry: &Entry) {
        match &entry.body {
            Body::Invocation(record) => {
                let took = time(record.times.total_ns / 1_000);
                let (method, path, status) = (&record.method, &record.path, record.status);
                let why = match (record.outcome, &record.detail) {
                    ("answered", _) => String::new(),
                    (outcome, None) => format!("  {outcome}"),
                    (outcome, Some(detail)) => format!("  {outcome}: {detail}"),
                };
                self.line(format_args!("  {method} {path} {status}  {took}{why}"));
            }
            Body::Line { text, .. } => self.line(format_args!("  > {text}")),
            Body::Over { .. } | Body::Dropped { .. } => {
                self.line(format_args!("  > {}", entry.to_human()));
            }
        }
    }
}

fn names(dir: &Path, paths: &[PathBuf]) -> String {
    let short = |path: &PathBuf| path.strip_prefix(dir).unwrap_or(path).display().to_string();
    let shown: Vec<_> = paths.iter().take(SHOWN).map(short).collect();
    match paths.len().checked_sub(SHOWN) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}
