//! A guest's standard streams: body in, response out, logs aside.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use mayfly_core::limits::node;
use mayfly_core::{Outcome, RequestId};
use mayfly_observe::logs::{LogSink, Stream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::cgi::HeadParser;
use super::{Stop, Terms};
use crate::exchange::{BodyError, Exchange, WriteError};

/// The request's body as a command module's stdin.
pub struct Stdin(pub Arc<Exchange>);

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        // WASIp1 only ever asks for the stream below.
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(StdinReader { exchange: self.0.clone(), ready: None })
    }
}

struct StdinReader {
    exchange: Arc<Exchange>,
    ready: Option<Result<Bytes, BodyError>>,
}

#[async_trait]
impl Pollable for StdinReader {
    async fn ready(&mut self) {
        if self.ready.is_none() {
            self.ready = Some(self.exchange.read(node::HOSTCALL_BYTES).await);
        }
    }
}

#[async_trait]
impl InputStream for StdinReader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.ready.take() {
            None => Ok(Bytes::new()),
            Some(Ok(mut bytes)) if !bytes.is_empty() => {
                let part = bytes.split_to(size.min(bytes.len()));
                if !bytes.is_empty() {
                    self.ready = Some(Ok(bytes));
                }
                Ok(part)
            }
            Some(Ok(_)) => Err(StreamError::Closed),
            Some(Err(BodyError::TooLarge)) => Err(StreamError::Trap(too_large(&self.exchange))),
            Some(Err(error)) => {
                self.ready = Some(Err(error));
                Err(StreamError::LastOperationFailed(error.into()))
            }
        }
    }
}

/// The error that ends a guest whose request is over its limit.
pub fn too_large(exchange: &Exchange) -> wasmtime::Error {
    Stop(Outcome::RequestTooLarge { limit_bytes: exchange.caps().request_body }).into()
}

/// The error, if it is one, that ends a guest whose write failed; a client that is gone is the guest's to notice.
pub fn write_failed(exchange: &Exchange, error: WriteError) -> Option<wasmtime::Error> {
    match error {
        WriteError::TooLarge => Some(
            Stop(Outcome::ResponseTooLarge { limit_bytes: exchange.caps().response_body }).into(),
        ),
        WriteError::Gone | WriteError::State => None,
    }
}

/// A command module's stdout: a CGI head, then the body.
pub struct CgiOut {
    exchange: Arc<Exchange>,
    head: Mutex<Option<HeadParser>>,
}

impl CgiOut {
    /// A stdout with nothing written to it yet.
    pub fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange, head: Mutex::new(Some(HeadParser::default())) }
    }

    /// The words for what was written, if that is something, but no whole head.
    pub fn unfinished(&self) -> Option<String> {
        let head = self.head.lock();
        head.as_ref().filter(|head| !head.is_empty()).map(HeadParser::printed)
    }

    fn write(&self, bytes: Bytes) -> StreamResult<()> {
        let mut head = self.head.lock();
        let Some(parser) = head.as_mut() else { return self.push(bytes) };
        match parser.push(&bytes) {
            Ok(None) => Ok(()),
            Ok(Some((parsed, body))) => {
                *head = None;
                if self.exchange.start(parsed).is_err() {
                    return Err(StreamError::trap("the response was started twice"));
                }
                self.push(body.into())
            }
            Err(error) => {
                let what = format!("{error}; {}", parser.printed());
                Err(StreamError::Trap(Stop(Outcome::BadResponse(what)).into()))
            }
        }
    }

    fn push(&self, bytes: Bytes) -> StreamResult<()> {
        self.exchange.push(bytes).map_err(|error| match write_failed(&self.exchange, error) {
            Some(stop) => StreamError::Trap(stop),
            None => StreamError::Closed,
        })
    }
}

/// Hands out one stdout as often as the guest asks for it.
pub struct SharedCgi(pub Arc<CgiOut>);

struct CgiWriter(Arc<CgiOut>);

impl StdoutStream for SharedCgi {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(CgiWriter(self.0.clone()))
    }
}

impl IsTerminal for SharedCgi {
    fn is_terminal(&self) -> bool {
        false
    }
}

#[async_trait]
impl Pollable for CgiWriter {
    async fn ready(&mut self) {
        // A client that is gone makes the next write fail, which is ready too.
        let _ = poll_fn(|cx| self.0.exchange.poll_room(cx)).await;
    }
}

#[async_trait]
impl OutputStream for CgiWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match self.0.exchange.poll_room(&mut cx) {
            Poll::Ready(Ok(room)) => Ok(room.min(node::HOSTCALL_BYTES)),
            Poll::Ready(Err(_)) => Err(StreamError::Closed),
            Poll::Pending => Ok(0),
        }
    }
}

/// One invocation's log: cuts output into lines, long lines short, and everything at the limit.
pub struct GuestLog {
    terms: Arc<Terms>,
    request_id: RequestId,
    logs: LogSink,
    lines: [Line; 2],
    left: u64,
    dropped: u64,
    told: bool,
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    cut: bool,
}

impl GuestLog {
    /// An empty log.
    pub fn new(terms: Arc<Terms>, request_id: RequestId, logs: LogSink) -> Self {
        let left = terms.limits().log_bytes;
        Self { terms, request_id, logs, lines: Default::default(), left, dropped: 0, told: false }
    }

    /// Takes output of one stream.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if self.left == 0 {
            // Not line by line: a guest can write millions of them in one call, which nothing interrupts.
            self.dropped += bytes.len() as u64;
            return;
        }
        for whole in bytes.split_inclusive(|&b| b == b'\n') {
            let kept = usize::try_from(self.left).unwrap_or(usize::MAX).min(whole.len());
            self.left -= kept as u64;
            self.dropped += (whole.len() - kept) as u64;
            let piece = &whole[..kept];
            let line = &mut self.lines[usize::from(stream == Stream::Stderr)];
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = node::LOG_LINE_BYTES - line.bytes.len();
            line.cut |= text.len() > room;
            line.bytes.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.left = self.left.saturating_sub(node::LOG_LINE_COST);
                self.emit(stream);
            }
        }
    }

    /// Writes out what has no line end yet, and says once what was dropped; gives the number of bytes that were.
    pub fn finish(&mut self) -> u64 {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.lines[usize::from(stream == Stream::Stderr)].bytes.is_empty() {
                self.emit(stream);
            }
        }
        let limit_bytes = self.terms.limits().log_bytes;
        // Who wants no output at all need not hear of what there was.
        if self.dropped > 0 && limit_bytes > 0 && !self.told {
            self.told = true;
            let (source, number) = (&self.terms.log, self.terms.record.number);
            self.logs.over_limit(source, number, self.request_id, self.dropped, limit_bytes);
        }
        self.dropped
    }

    fn emit(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.lines[usize::from(stream == Stream::Stderr)]);
        self.logs.guest_line(
            &self.terms.log,
            self.terms.record.number,
            self.request_id,
            stream,
            line.bytes,
            line.cut,
        );
    }
}

// A guest that is ended from outside, or with its client, has not finished its log.
impl Drop for GuestLog {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A guest's stderr, or a reactor's stdout: one stream of its log.
#[derive(Clone)]
pub struct LogStream {
    log: Arc<Mutex<GuestLog>>,
    stream: Stream,
}

impl LogStream {
    /// A stream of this log.
    pub fn new(log: Arc<Mutex<GuestLog>>, stream: Stream) -> Self {
        Self { log, stream }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.lock().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(node::HOSTCALL_BYTES)
    }
}
