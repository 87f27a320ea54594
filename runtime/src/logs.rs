//! Guest output and invocation records: from any worker through one bounded queue to one thread.
//!
//! A worker never waits for a log: a full queue drops the record and counts it. The thread escapes, keeps the last
//! lines of each function for `mayfly logs`, feeds followers, and writes to stderr in one write per batch.
//! Tracing's lines take the same way ([`LogSink::raw`]), so nothing interleaves.

mod escape;
mod record;
mod ring;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use mayfly_core::limits::node;
use mayfly_core::outcome::Level;
use mayfly_core::{FunctionName, RequestId};
use prometheus::IntCounter;

pub use escape::escape;
pub use record::{Body, Entry, InvocationRecord, Stream};
pub use ring::{Followed, Follower, TooManyFollowers};

use ring::Rings;
use writer::Record;

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
    /// Whether the thread must report drops.
    dropping: Arc<AtomicBool>,
    dropped: IntCounter,
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
        let dropping = Arc::new(AtomicBool::new(false));
        let thread = writer::Writer {
            records,
            rings: Arc::clone(&rings),
            format: config.format,
            output: config.output,
            dropping: Arc::clone(&dropping),
            dropped: dropped.clone(),
        };
        std::thread::Builder::new().name("mayfly-log".into()).spawn(move || thread.run())?;
        let shared = Shared { queue, rings, requests: config.requests, dropping, dropped };
        Ok(Self(Arc::new(shared)))
    }

    /// One line that a guest wrote, without its line end; longer than [`node::LOG_LINE_BYTES`] is cut here.
    pub fn guest_line(
        &self,
        function: &FunctionName,
        revision: u64,
        request_id: RequestId,
        stream: Stream,
        mut line: Vec<u8>,
        truncated: bool,
    ) {
        let over = line.len() > node::LOG_LINE_BYTES;
        line.truncate(node::LOG_LINE_BYTES);
        self.send(Record::Line {
            time: SystemTime::now(),
            function: function.clone(),
            revision,
            request_id,
            stream,
            line,
            truncated: truncated || over,
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

    /// The line of one invocation, if [`LogSink::wants`] it.
    pub fn invocation(&self, record: InvocationRecord) {
        if self.wants(record.level, record.status) {
            self.send(Record::Invocation(SystemTime::now(), Box::new(record)));
        }
    }

    /// A line that is formatted already, with its line end.
    pub fn raw(&self, line: Vec<u8>) {
        self.send(Record::Raw(line));
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

    fn send(&self, record: Record) {
        if self.0.queue.try_send(record).is_err() {
            self.0.dropped.inc();
            self.0.dropping.store(true, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for LogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogSink")
    }
}

#[cfg(test)]
mod tests;
