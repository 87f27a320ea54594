//! Guest output and invocation records: from any worker through one bounded queue to one thread.
//!
//! A worker never waits for a log: what finds no room is dropped and counted. Each function ([`Source`]) has its share
//! of the queue and its bytes a second, so that a flood costs the one who makes it. The thread escapes, keeps the last
//! lines of each function for `mayfly logs`, feeds followers, and writes to stderr in one write per batch.
//! Tracing's lines take the same way ([`LogSink::raw`]), so nothing interleaves.

mod escape;
mod record;
mod ring;
mod source;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use mayfly_core::limits::node;
use mayfly_core::outcome::Level;
use mayfly_core::{FunctionName, RequestId};
use parking_lot::Mutex;
use prometheus::IntCounter;

use crate::metrics::RevisionMetrics;
pub use escape::{escape, escape_json, escape_lines};
pub use record::{Body, Entry, InvocationRecord, Stream, phases};
pub use ring::{Followed, Follower, TooManyFollowers};
pub use source::Source;

use ring::Rings;
use source::{Charge, Since};
use writer::{Origin, Record};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Which invocations get a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Requests {
    /// Those that are the function's, the node's or Mayfly's fault: level warn and error, and answers of 500 and more.
    #[default]
    Errors,
    /// Every one: a record through the queue and a line for each request.
    All,
    /// None.
    Off,
}

/// Where lines go beside the rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// To stderr.
    Stderr,
    /// Nowhere: for tests, which read the rings.
    Discard,
}

/// What the log thread does.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// How lines are written.
    pub format: Format,
    /// Which invocations get one.
    pub requests: Requests,
    /// Where they go.
    pub output: Output,
}

struct Shared {
    queue: SyncSender<Record>,
    rings: Arc<Rings>,
    requests: Requests,
    dropped: IntCounter,
    common: Arc<Common>,
}

/// What the senders share with the log thread.
struct Common {
    clock: Since,
    /// Records in the queue.
    waiting: AtomicUsize,
    /// Lines of the node itself that found the queue full and were not spoken of yet.
    dropped: AtomicU64,
    /// Functions that lost records. Written once for each of them between two lines that say so.
    lossy: Mutex<Vec<Arc<Source>>>,
}

/// The way in. A clone is a counter.
#[derive(Clone)]
pub struct LogSink(Arc<Shared>);

impl LogSink {
    /// Starts the log thread; it ends when the last clone is gone. `dropped` counts what found the queue full.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(config: LogConfig, dropped: IntCounter) -> std::io::Result<Self> {
        let (queue, records) = sync_channel(node::LOG_QUEUE);
        let rings = Arc::new(Rings::default());
        let common = Arc::new(Common {
            clock: Since(Instant::now()),
            waiting: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            lossy: Mutex::default(),
        });
        let thread = writer::Writer {
            records,
            rings: Arc::clone(&rings),
            format: config.format,
            output: config.output,
            common: Arc::clone(&common),
        };
        std::thread::Builder::new().name("mayfly-log".into()).spawn(move || thread.run())?;
        let shared = Shared { queue, rings, requests: config.requests, dropped, common };
        Ok(Self(Arc::new(shared)))
    }

    /// A function's part of the log: made for its first revision, the same for those after it until the function is
    /// removed ([`LogSink::forget`]). `metrics` count what it loses.
    #[must_use]
    pub fn source(&self, function: &FunctionName, metrics: &RevisionMetrics) -> Arc<Source> {
        self.0.rings.source(function, metrics)
    }

    /// One line that a guest wrote, without its line end; longer than [`node::LOG_LINE_BYTES`] is cut here.
    pub fn guest_line(
        &self,
        source: &Arc<Source>,
        revision: u64,
        request_id: RequestId,
        stream: Stream,
        mut line: Vec<u8>,
        truncated: bool,
    ) {
        let over = line.len() > node::LOG_LINE_BYTES;
        line.truncate(node::LOG_LINE_BYTES);
        let line = source.without_hidden(line);
        let charged = line_cost(line.len());
        let time = SystemTime::now();
        let truncated = truncated || over;
        self.send(source, Some(Charge::Line), charged, |origin| Record::Line {
            time,
            origin,
            revision,
            request_id,
            stream,
            line,
            truncated,
        });
    }

    /// An invocation wrote so many bytes over its function's limit `log`, which are dropped.
    pub fn over_limit(
        &self,
        source: &Arc<Source>,
        revision: u64,
        request_id: RequestId,
        bytes: u64,
        limit_bytes: u64,
    ) {
        let time = SystemTime::now();
        self.send(source, Some(Charge::Line), RECORD_COST, |origin| Record::Over {
            time,
            origin,
            revision,
            request_id,
            bytes,
            limit_bytes,
        });
    }

    /// Whether an invocation that ended so gets a line; ask before making the record.
    #[must_use]
    pub fn wants(&self, level: Level, status: u16) -> bool {
        match self.0.requests {
            Requests::All => true,
            Requests::Off => false,
            Requests::Errors => level != Level::Info || status >= 500,
        }
    }

    /// The line of one invocation, if [`LogSink::wants`] it. Without a source the request reached no function.
    pub fn invocation(&self, source: Option<&Arc<Source>>, mut record: InvocationRecord) {
        if !self.wants(record.level, record.status) {
            return;
        }
        // Who asks for all of them gets all of them that the queue takes.
        let charge = (self.0.requests == Requests::Errors).then_some(Charge::Record);
        if let (Some(source), Some(detail)) = (source, record.detail.take()) {
            record.detail = Some(source.words_without_hidden(detail));
        }
        let charged =
            RECORD_COST + record.path.len() + record.detail.as_ref().map_or(0, String::len);
        let time = SystemTime::now();
        let node = self.0.rings.node();
        self.send(source.unwrap_or(node), charge, charged, |origin| {
            Record::Invocation(time, origin, Box::new(record))
        });
    }

    /// A line that is formatted already, with its line end.
    pub fn raw(&self, line: Vec<u8>) {
        self.0.common.waiting.fetch_add(1, Ordering::Relaxed);
        if self.0.queue.try_send(Record::Raw(line)).is_err() {
            self.0.common.waiting.fetch_sub(1, Ordering::Relaxed);
            self.0.dropped.inc();
            self.0.common.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The last `tail` entries of a function, and with `follow` those to come, without gap or overlap.
    ///
    /// # Errors
    /// [`TooManyFollowers`] at [`node::LOG_FOLLOWERS`].
    pub fn read(
        &self,
        function: &FunctionName,
        tail: usize,
        follow: bool,
    ) -> Result<(Vec<Arc<Entry>>, Option<Follower>), TooManyFollowers> {
        self.0.rings.read(function, tail, follow)
    }

    /// Forgets a removed function's lines; its followers end.
    pub fn forget(&self, function: &FunctionName) {
        self.0.rings.forget(function);
    }

    /// Waits until what was sent before is written, `patience` at most. Says whether it was.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        let until = std::time::Instant::now() + patience;
        // The queue may be full; this caller has time.
        while let Err(TrySendError::Full(_)) = self.0.queue.try_send(Record::Flush(done.clone())) {
            if std::time::Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        wait.recv_timeout(until.saturating_duration_since(std::time::Instant::now())).is_ok()
    }

    /// Sends a function's record if the function has room for it, or counts it.
    fn send(
        &self,
        source: &Arc<Source>,
        charge: Option<Charge>,
        charged: usize,
        record: impl FnOnce(Origin) -> Record,
    ) {
        let common = &*self.0.common;
        let rated =
            charge.is_none_or(|charge| source.bucket(charge).take(common.clock.now(), charged));
        if rated && source.enter(common.waiting.load(Ordering::Relaxed)) {
            common.waiting.fetch_add(1, Ordering::Relaxed);
            let origin = Origin { source: Arc::clone(source), charge, charged };
            if self.0.queue.try_send(record(origin)).is_ok() {
                return;
            }
            common.waiting.fetch_sub(1, Ordering::Relaxed);
            source.leave();
        }
        self.0.dropped.inc();
        if source.lose() {
            common.lossy.lock().push(Arc::clone(source));
            // The thread may have nothing else to wake up for. A full queue wakes it all the same.
            let _ = self.0.queue.try_send(Record::Lossy);
        }
    }
}

/// What a line of so many bytes is charged before it is written out.
fn line_cost(bytes: usize) -> usize {
    bytes + usize::try_from(node::LOG_LINE_COST).unwrap_or(usize::MAX)
}

/// What an invocation's line is charged beside its detail; about as long as it is for people.
const RECORD_COST: usize = 200;

impl std::fmt::Debug for LogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogSink")
    }
}

#[cfg(test)]
mod tests;
