//! The log thread.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use mayfly_core::RequestId;
use mayfly_core::limits::node;

use super::record::{Body, Entry, InvocationRecord, Stream};
use super::ring::Rings;
use super::source::{Charge, Source};
use super::{Common, Format, Output, escape};
use crate::clock::timestamp;

/// Whose a record is, and what it was charged.
pub(super) struct Origin {
    pub(super) source: Arc<Source>,
    /// Nothing if it costs nothing of a rate.
    pub(super) charge: Option<Charge>,
    pub(super) charged: usize,
}

/// What workers send. Kept small, because the queue holds thousands.
pub(super) enum Record {
    Line {
        time: SystemTime,
        origin: Origin,
        revision: u64,
        request_id: RequestId,
        stream: Stream,
        line: Vec<u8>,
        truncated: bool,
    },
    Invocation(SystemTime, Origin, Box<InvocationRecord>),
    Over {
        time: SystemTime,
        origin: Origin,
        revision: u64,
        request_id: RequestId,
        bytes: u64,
        limit_bytes: u64,
    },
    Raw(Vec<u8>),
    Flush(SyncSender<()>),
    /// Some function lost a record.
    Lossy,
}

/// Between two looks at a queue that was not empty: while this thread sleeps so, a sender pays no system call to wake
/// it. At 30,000 lines a second that is a batch of 30 instead of 30,000 wakes.
const BATCH: Duration = Duration::from_millis(1);

/// Bytes after which a batch is written even if more is waiting.
const BATCH_BYTES: usize = 64 << 10;

pub(super) struct Writer {
    pub(super) records: Receiver<Record>,
    pub(super) rings: Arc<Rings>,
    pub(super) format: Format,
    pub(super) output: Output,
    pub(super) common: Arc<Common>,
}

/// Functions that lost records, and when they may be told so.
#[derive(Default)]
struct Losses {
    /// Told lately, in the order of the time until which they are not told again.
    told: VecDeque<(Instant, Arc<Source>)>,
}

impl Writer {
    /// Until the last sender is gone.
    pub(super) fn run(self) {
        let mut out = Vec::with_capacity(BATCH_BYTES);
        let mut losses = Losses::default();
        loop {
            // Somebody may have lost records while it was not to be told yet.
            let first = match losses.told.front() {
                None => self.records.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((at, _)) => {
                    self.records.recv_timeout(at.saturating_duration_since(Instant::now()))
                }
            };
            let mut next = match first {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.report_drops(&mut losses, &mut out);
                    self.write(&mut out);
                    None
                }
            };
            while let Some(record) = next {
                self.take(record, &mut losses, &mut out);
                for record in self.records.try_iter() {
                    self.take(record, &mut losses, &mut out);
                    if out.len() >= BATCH_BYTES {
                        self.write(&mut out);
                    }
                }
                self.report_drops(&mut losses, &mut out);
                self.write(&mut out);
                std::thread::sleep(BATCH);
                next = self.records.try_recv().ok();
            }
        }
    }

    fn take(&self, record: Record, losses: &mut Losses, out: &mut Vec<u8>) {
        let (origin, entry) = match record {
            Record::Lossy => return,
            Record::Raw(line) => {
                self.common.waiting.fetch_sub(1, Ordering::Relaxed);
                return out.extend_from_slice(&line);
            }
            Record::Flush(done) => {
                self.report_drops(losses, out);
                self.write(out);
                // Nobody waits any more: no harm.
                let _ = done.try_send(());
                return;
            }
            Record::Line { time, origin, revision, request_id, stream, line, truncated } => {
                self.left(&origin);
                let Some(function) = origin.source.function().cloned() else { return };
                let text = escape(&line);
                let body = Body::Line { function, revision, request_id, stream, text, truncated };
                (origin, Entry { time, body })
            }
            Record::Invocation(time, origin, mut record) => {
                self.left(&origin);
                record.path = escape(record.path.as_bytes());
                record.detail = record.detail.map(|detail| escape(detail.as_bytes()));
                (origin, Entry { time, body: Body::Invocation(record) })
            }
            Record::Over { time, origin, revision, request_id, bytes, limit_bytes } => {
                self.left(&origin);
                let Some(function) = origin.source.function().cloned() else { return };
                let body = Body::Over { function, revision, request_id, bytes, limit_bytes };
                (origin, Entry { time, body })
            }
        };
        let written = self.put(&origin.source, entry, out);
        if let Some(charge) = origin.charge {
            let more = written.saturating_sub(origin.charged);
            origin.source.bucket(charge).owe(self.common.clock.now(), more);
        }
    }

    /// A record has left the queue.
    fn left(&self, origin: &Origin) {
        self.common.waiting.fetch_sub(1, Ordering::Relaxed);
        origin.source.leave();
    }

    /// Keeps an entry and writes it; says how long it is.
    fn put(&self, source: &Arc<Source>, entry: Entry, out: &mut Vec<u8>) -> usize {
        let entry = Arc::new(entry);
        self.rings.push(source, &entry);
        if self.output == Output::Discard {
            return entry.cost();
        }
        let line = match self.format {
            Format::Human => entry.to_human(),
            Format::Json => entry.to_json(),
        };
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
        line.len() + 1
    }

    /// Says what functions lost, each at most once in [`node::LOG_DROPS_SAID`], and what the node's own log did.
    fn report_drops(&self, losses: &mut Losses, out: &mut Vec<u8>) {
        let now = Instant::now();
        while losses.told.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, source)) = losses.told.pop_front() else { break };
            self.tell(source, now, losses, out);
        }
        let lossy = std::mem::take(&mut *self.common.lossy.lock());
        for source in lossy {
            if !losses.told.iter().any(|(_, told)| Arc::ptr_eq(told, &source)) {
                self.tell(source, now, losses, out);
            }
        }
        let lost = self.common.dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.own_drops(lost, out);
        }
    }

    fn tell(&self, source: Arc<Source>, now: Instant, losses: &mut Losses, out: &mut Vec<u8>) {
        let records = source.take_lost();
        if records == 0 {
            return;
        }
        let function = source.function().cloned();
        let body = Body::Dropped { function, records };
        self.put(&source, Entry { time: SystemTime::now(), body }, out);
        losses.told.push_back((now + node::LOG_DROPS_SAID, source));
    }

    fn own_drops(&self, lost: u64, out: &mut Vec<u8>) {
        let time = timestamp(SystemTime::now());
        let line = match self.format {
            Format::Human => {
                format!("{time}  WARN {lost} log records dropped: the queue was full\n")
            }
            Format::Json => format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"log records dropped: the queue was \
                 full\",\"dropped\":{lost}}}\n"
            ),
        };
        out.extend_from_slice(line.as_bytes());
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.output == Output::Stderr && !out.is_empty() {
            // A closed stderr must not stop the node; there is nowhere left to say so.
            let _ = std::io::stderr().lock().write_all(out);
        }
        out.clear();
    }
}
