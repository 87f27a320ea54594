//! One function's part of the log: who it is, and how much of the way that all share it may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use aho_corasick::{AhoCorasick, MatchKind};
use arc_swap::ArcSwapOption;
use mayfly_core::FunctionName;
use mayfly_core::limits::node;

use crate::metrics::RevisionMetrics;

/// A function from its first deploy to its removal. A function deployed under the same name later is another one, so
/// that a line on its way while its function was removed is in nobody else's log.
#[derive(Default)]
pub struct Source {
    /// The function, and the series that count what it loses; nothing for requests that reached none.
    function: Option<(FunctionName, RevisionMetrics)>,
    /// Records between a worker and the log thread.
    waiting: AtomicUsize,
    lines: Bucket,
    records: Bucket,
    /// Records without room that were not spoken of yet.
    dropped: AtomicU64,
    /// What must not be in its lines.
    hidden: ArcSwapOption<Hidden>,
}

impl Source {
    /// A function's.
    pub(super) fn new(function: FunctionName, metrics: RevisionMetrics) -> Self {
        Self { function: Some((function, metrics)), ..Self::default() }
    }

    /// The function, if it is one's.
    #[must_use]
    pub fn function(&self) -> Option<&FunctionName> {
        self.function.as_ref().map(|(name, _)| name)
    }

    /// Takes these texts out of its lines from now on, and still those of before: who holds an old one may write it yet.
    pub fn hide(&self, values: impl IntoIterator<Item = Vec<u8>>) {
        let mut pieces: Vec<_> = values.into_iter().flat_map(|value| pieces(&value)).collect();
        if let Some(before) = self.hidden.load_full() {
            pieces.extend(before.pieces.iter().cloned());
        }
        pieces.sort();
        pieces.dedup();
        pieces.truncate(node::SECRET_PIECES);
        if pieces.is_empty() {
            return;
        }
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&pieces);
        match finder {
            Ok(finder) => self.hidden.store(Some(Arc::new(Hidden { pieces, finder }))),
            Err(error) => tracing::error!(%error, "secrets are not taken out of the log"),
        }
    }

    /// A line without what is hidden.
    pub(super) fn without_hidden(&self, line: Vec<u8>) -> Vec<u8> {
        let hidden = self.hidden.load();
        let Some(hidden) = &*hidden else { return line };
        if !hidden.finder.is_match(&line) {
            return line;
        }
        let mut out = Vec::with_capacity(line.len());
        hidden.finder.replace_all_with_bytes(&line, &mut out, |_, _, out| {
            out.extend_from_slice(b"***");
            true
        });
        out
    }

    /// The same of words.
    pub(super) fn words_without_hidden(&self, words: String) -> String {
        if self.hidden.load().is_none() {
            return words;
        }
        String::from_utf8_lossy(&self.without_hidden(words.into_bytes())).into_owned()
    }

    /// Where this kind of record is charged. Apart, so that a flood of lines does not hide how requests ended.
    pub(super) fn bucket(&self, charge: Charge) -> &Bucket {
        match charge {
            Charge::Line => &self.lines,
            Charge::Record => &self.records,
        }
    }

    /// Takes a place in the queue, of which `all` are taken. Of two workers that ask at once both may get the last one:
    /// what is bounded is a share, and the queue itself holds no more than it holds.
    pub(super) fn enter(&self, all: usize) -> bool {
        let free = node::LOG_QUEUE.saturating_sub(all);
        let room = self.waiting.load(Ordering::Relaxed) < free / node::LOG_QUEUE_PARTS;
        if room {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    /// Gives the place back.
    pub(super) fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a record that found no room; true for the first that was not spoken of yet.
    pub(super) fn lose(&self) -> bool {
        if let Some((_, metrics)) = &self.function {
            metrics.log_dropped();
        }
        self.dropped.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// How many there are to speak of; none afterwards.
    pub(super) fn take_lost(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({:?})", self.function())
    }
}

/// What must not be in a log, and what finds it: of texts that begin alike the longest.
struct Hidden {
    pieces: Vec<Vec<u8>>,
    finder: AhoCorasick,
}

/// What of a value is looked for. The log is made of lines, and cuts long ones: of a value of several lines each, and of a
/// long line each part.
fn pieces(value: &[u8]) -> Vec<Vec<u8>> {
    let lines = value.split(|byte| matches!(byte, b'\n' | b'\r'));
    let parts = lines.flat_map(|line| line.chunks(node::SECRET_PIECE_BYTES));
    parts.filter(|part| part.len() >= node::SECRET_HIDDEN_BYTES).map(<[u8]>::to_vec).collect()
}

/// What a record is charged as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charge {
    /// A guest's output.
    Line,
    /// How a request ended.
    Record,
}

/// Bytes a second, with a burst: the time at which all that was taken is paid for, in nanoseconds of the node's clock.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

const BURST_NS: u64 = cost(node::LOG_BURST_BYTES);

impl Bucket {
    /// Takes so many bytes, if the burst allows.
    pub(super) fn take(&self, now: u64, bytes: usize) -> bool {
        let next = |paid: u64| {
            let after = paid.max(now).saturating_add(cost(bytes as u64));
            (after - now <= BURST_NS).then_some(after)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// What a record taken before turned out to need beside: to escape a byte of a guest takes up to six.
    pub(super) fn owe(&self, now: u64, bytes: usize) {
        let next = |paid: u64| Some(paid.max(now).saturating_add(cost(bytes as u64)));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

const fn cost(bytes: u64) -> u64 {
    bytes.saturating_mul(1_000_000_000) / node::LOG_RATE_BYTES
}

/// A clock of nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since(pub(super) Instant);

impl Since {
    pub(super) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_in_no_line_and_short_texts_are_not_looked_for() {
        let source = Source::default();
        let line = |text: &str| {
            String::from_utf8(source.without_hidden(text.as_bytes().to_vec())).unwrap()
        };
        assert_eq!(line("key hunter2hunter2"), "key hunter2hunter2");
        source.hide(["hunter2hunter2", "short"].map(|value| value.as_bytes().to_vec()));
        assert_eq!(line("key=hunter2hunter2, hunter2hunter2hunter2"), "key=***, ***hunter2");
        assert_eq!(line("short"), "short");
        // Set anew: whoever has the old one may write it still.
        source.hide(["another-value".as_bytes().to_vec()]);
        assert_eq!(line("hunter2hunter2 another-value"), "*** ***");
        assert_eq!(source.words_without_hidden("panicked: another-value".into()), "panicked: ***");
        // One that begins like another, one of several lines, and one that is longer than a line of the log.
        let long = "0123456789abcdef".repeat(1_000);
        let values = ["another-value-and-tail", "-----BEGIN\nMIIEvQIBADAN\n-----END", &long];
        source.hide(values.map(|value| value.as_bytes().to_vec()));
        assert_eq!(line("a another-value-and-tail"), "a ***");
        assert_eq!(line("MIIEvQIBADAN"), "***");
        assert!(!line(&long[..8 << 10]).contains("0123"));
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let bucket = Bucket::default();
        let piece = 64 << 10;
        let at = |now: u64| (0..1_000).take_while(|_| bucket.take(now, piece)).count() as u64;
        let (burst, rate) = (node::LOG_BURST_BYTES, node::LOG_RATE_BYTES);
        assert_eq!(at(0), burst / piece as u64);
        assert_eq!(at(1_000_000_000), rate / piece as u64);
        // After a long silence it is the burst again and no more.
        assert_eq!(at(1 << 60), burst / piece as u64);
        bucket.owe(1 << 60, 3 * piece);
        assert_eq!(at((1 << 60) + 1_000_000_000), rate / piece as u64 - 3);
    }

    #[test]
    fn whoever_comes_late_still_finds_room_in_the_queue() {
        let source = Source::default;
        let floods: Vec<_> = (0..64).map(|_| source()).collect();
        let mut all = 0;
        for flood in floods.iter().cycle().take(64 * node::LOG_QUEUE) {
            all += usize::from(flood.enter(all));
        }
        assert!(all < node::LOG_QUEUE, "{all}");
        let late = source();
        assert!(late.enter(all));
        // One by itself has a third of the queue, whatever its lines.
        let alone = source();
        let held = (0..node::LOG_QUEUE).take_while(|held| alone.enter(*held)).count();
        assert_eq!(held, node::LOG_QUEUE / 3);
    }
}
