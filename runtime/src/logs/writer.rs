//! The log thread.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, SystemTime};

use mayfly_core::{FunctionName, RequestId};
use prometheus::IntCounter;

use super::record::{Body, Entry, InvocationRecord, Stream};
use super::ring::Rings;
use super::{Format, Output, escape};
use crate::clock::timestamp;

/// What workers send. Kept small, because the queue holds thousands.
pub(super) enum Record {
    Line {
        time: SystemTime,
        function: FunctionName,
        revision: u64,
        request_id: RequestId,
        stream: Stream,
        line: Vec<u8>,
        truncated: bool,
    },
    Invocation(SystemTime, Box<InvocationRecord>),
    Raw(Vec<u8>),
    Flush(SyncSender<()>),
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
    pub(super) dropping: Arc<AtomicBool>,
    pub(super) dropped: IntCounter,
}

impl Writer {
    /// Until the last sender is gone.
    pub(super) fn run(self) {
        let mut out = Vec::with_capacity(BATCH_BYTES);
        let mut reported = 0;
        while let Ok(first) = self.records.recv() {
            let mut next = Some(first);
            while let Some(record) = next {
                self.take(record, &mut out);
                for record in self.records.try_iter() {
                    self.take(record, &mut out);
                    if out.len() >= BATCH_BYTES {
                        self.write(&mut out);
                    }
                }
                self.report_drops(&mut reported, &mut out);
                self.write(&mut out);
                std::thread::sleep(BATCH);
                next = self.records.try_recv().ok();
            }
        }
    }

    fn take(&self, record: Record, out: &mut Vec<u8>) {
        let entry = match record {
            Record::Raw(line) => return out.extend_from_slice(&line),
            Record::Flush(done) => {
                self.write(out);
                // Nobody waits any more: no harm.
                let _ = done.try_send(());
                return;
            }
            Record::Line { time, function, revision, request_id, stream, line, truncated } => {
                let text = escape(&line);
                Entry {
                    time,
                    body: Body::Line { function, revision, request_id, stream, text, truncated },
                }
            }
            Record::Invocation(time, mut record) => {
                record.detail = record.detail.map(|detail| escape(detail.as_bytes()));
                Entry { time, body: Body::Invocation(record) }
            }
        };
        let entry = Arc::new(entry);
        self.rings.push(&entry);
        if self.output == Output::Stderr {
            let line = match self.format {
                Format::Human => entry.to_human(),
                Format::Json => entry.to_json(),
            };
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
    }

    fn report_drops(&self, reported: &mut u64, out: &mut Vec<u8>) {
        if !self.dropping.swap(false, Ordering::Relaxed) {
            return;
        }
        let dropped = self.dropped.get();
        let new = dropped.saturating_sub(*reported);
        *reported = dropped;
        let time = timestamp(SystemTime::now());
        let line = match self.format {
            Format::Human => {
                format!("{time}  WARN {new} log records dropped: the queue was full\n")
            }
            Format::Json => format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"log records dropped: the queue was \
                 full\",\"dropped\":{new}}}\n"
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
