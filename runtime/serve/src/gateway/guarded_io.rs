//! A socket that gives up on its client.
//!
//! Three clocks, none of which costs a request anything: a connection without a request has `keep_alive_timeout` to
//! begin one; a request that has begun has `header_timeout` to complete its head; a client that does not take what we
//! write has `write_idle_timeout` for each piece. Until a request is answered to its last byte, reads are not timed
//! here: its body has a timeout of its own where it is read.
//!
//! An HTTP/2 client may take from its socket and still not from a stream: [`Activity`] knows since when.
//!
//! What is read from an HTTP/1 client passes [`Framing`] first, from an HTTP/2 client [`Gate`]. Whether there is TLS
//! beneath, only [`Stream`] knows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use mayfly_core::limits::node;
use mayfly_core::shares::Grant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::GatewayConfig;
use super::activity::Activity;
use super::framing::{Framing, Seen};
use super::gate::Gate;
use super::stream::Stream;
use crate::unread::Linger;

/// The socket with its clocks.
pub struct GuardedIo<S: Stream> {
    stream: S,
    activity: Arc<Activity>,
    header_timeout: Duration,
    keep_alive_timeout: Duration,
    write_idle_timeout: Duration,
    /// When reading gives up. Moved only when the timer fires or bytes come, so that a busy connection never touches
    /// the timer wheel.
    read_deadline: Instant,
    /// Bytes of a head have come, and no request since.
    in_head: bool,
    /// What is read passes one of these, by its protocol.
    framing: Option<Framing>,
    gate: Option<Gate>,
    /// Room for a long head, until its request has ended.
    room: Grant,
    /// Bytes that were read in pieces, and what of the room is for a buffer that takes more at once: from then on, because
    /// hyper keeps it.
    in_pieces: usize,
    wide: usize,
    /// A byte was in doubt: nothing more is read from this client.
    poisoned: bool,
    timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    /// Reads on while the client may be sending although its connection has ended.
    linger: Option<Linger>,
    /// The client was told the end.
    told: bool,
}

impl<S: Stream> GuardedIo<S> {
    /// Guards a socket whose first head must be there within the header timeout; `gate` for HTTP/2, `room` of the node's
    /// room for long heads.
    pub fn new(
        stream: S,
        activity: Arc<Activity>,
        config: &GatewayConfig,
        gate: Option<Gate>,
        room: Grant,
    ) -> Self {
        Self {
            framing: gate.is_none().then(Framing::default),
            gate,
            room,
            in_pieces: 0,
            wide: 0,
            poisoned: false,
            stream,
            activity,
            header_timeout: config.header_timeout,
            keep_alive_timeout: config.keep_alive_timeout,
            write_idle_timeout: config.write_idle_timeout,
            read_deadline: Instant::now() + config.header_timeout,
            in_head: true,
            timer: None,
            write_timer: None,
            linger: None,
            told: false,
        }
    }

    /// Whether a header block of HTTP/2 has waited too long for its end: whatever else its connection does.
    fn head_is_late(&self) -> bool {
        let open = self.gate.as_ref().and_then(Gate::open_since);
        open.is_some_and(|since| since.elapsed() >= self.header_timeout)
    }

    /// Bytes came, or a request ended: which clock runs now?
    fn note(&mut self, got_bytes: bool) {
        if self.activity.has_ended() {
            self.room.shrink(self.room.amount() - self.wide);
            self.in_head = false;
            self.read_deadline = Instant::now() + self.keep_alive_timeout;
        }
        // Of HTTP/2 only the first head is known to be one: later bytes may be anything, and the idle clock goes on.
        if got_bytes && !self.in_head && self.framing.is_some() && !self.activity.is_busy() {
            self.in_head = true;
            self.read_deadline = Instant::now() + self.header_timeout;
        }
    }

    /// Puts a NUL in place of the first byte that is in doubt, and drops the rest.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let Some(framing) = &mut self.framing else { return };
        match framing.follow(&buf.filled()[before..]) {
            // Hyper reads on, and sees by itself when its client leaves.
            Ok(Seen::Heads) if !self.activity.is_busy() => {}
            Ok(Seen::Heads | Seen::Ahead | Seen::Body) => self.activity.watch(),
            Err(at) => {
                self.poisoned = true;
                buf.set_filled(before + at);
                buf.put_slice(&[0]);
            }
        }
    }

    /// Whether a head may go on: the first bytes of each may, and those beyond while there is room for them.
    fn has_room(&mut self) -> bool {
        let bytes = match (&self.framing, &self.gate) {
            (Some(framing), _) => framing.head_bytes(),
            (None, gate) => gate.as_ref().map_or(0, Gate::head_bytes),
        };
        // Its buffer is up to twice as long.
        let wanted = 2 * bytes.saturating_sub(node::HEAD_FREE_BYTES);
        let more = wanted.saturating_sub(self.room.amount() - self.wide);
        more == 0 || self.room.grow(more.max(node::HEAD_FREE_BYTES))
    }

    /// How much is read at once: more of a client that sends much, as long as there is room for such buffers.
    fn piece(&mut self) -> usize {
        if self.wide == 0 && self.in_pieces >= node::HTTP1_WIDE_AFTER {
            self.in_pieces = 0;
            self.wide =
                if self.room.grow(node::HTTP1_BUFFER_BYTES) { node::HTTP1_BUFFER_BYTES } else { 0 };
        }
        if self.wide > 0 { usize::MAX } else { node::HTTP1_PIECE_BYTES }
    }

    fn poll_read_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let deadline = self.read_deadline;
            let timer =
                self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            // Set for an idle connection, and now a head has begun.
            if let Some(since) = self.gate.as_ref().and_then(Gate::open_since) {
                let late = since + self.header_timeout;
                if timer.deadline() > late {
                    timer.as_mut().reset(late);
                }
            }
            if self.in_head && timer.deadline() > deadline && !self.activity.is_busy() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            self.note(false);
            let now = Instant::now();
            let unsent = self.activity.unsent_since();
            if unsent.is_some_and(|t| now - t >= self.write_idle_timeout)
                || self.activity.is_overdue()
                || self.head_is_late()
            {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            // The last piece of a response may still be on its way, with the clock of writes.
            if self.activity.is_busy() || self.write_timer.is_some() {
                self.in_head = false;
                self.read_deadline = now + self.keep_alive_timeout.min(self.write_idle_timeout);
            }
            if now >= self.read_deadline {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            let deadline = self.read_deadline;
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(deadline);
            }
        }
    }

    fn guard_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        // One that takes a byte now and then keeps the clock of writes from running out.
        if self.activity.is_overdue() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if polled.is_ready() {
            self.write_timer = None;
            return polled;
        }
        if self.stream.has_taken() {
            self.write_timer = None;
        }
        let wait = self.write_idle_timeout;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Stream> AsyncRead for GuardedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poisoned {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        let this = &mut *self;
        let piece = this.piece();
        let stream = Pin::new(&mut this.stream);
        let polled = match &mut this.gate {
            Some(gate) => gate.poll_read(cx, stream, buf),
            None => read_piece(cx, stream, buf, piece),
        };
        match polled {
            Poll::Ready(_) if self.head_is_late() => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(done) => {
                self.inspect(buf, before);
                self.in_pieces += buf.filled().len() - before;
                self.note(buf.filled().len() > before);
                if self.has_room() {
                    Poll::Ready(done)
                } else {
                    Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()))
                }
            }
            Poll::Pending => {
                self.note(false);
                // A header block of HTTP/2 may have grown.
                if !self.has_room() {
                    return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
                }
                let why = ready!(self.poll_read_timeout(cx));
                // A client that waits for nothing is told that this is the end, and not that something broke.
                if !self.in_head && !self.activity.is_busy() && self.write_timer.is_none() {
                    self.stream.say_end(cx);
                }
                Poll::Ready(Err(why))
            }
        }
    }
}

/// Reads `most` bytes at most. Hyper makes its buffer twice as large as what came at once, and keeps it while nothing comes:
/// 9,000 clients that sent 72 KB of a body and no more held 98 KiB each.
fn read_piece(
    cx: &mut Context<'_>,
    reader: Pin<&mut impl AsyncRead>,
    buf: &mut ReadBuf<'_>,
    most: usize,
) -> Poll<io::Result<()>> {
    if buf.remaining() <= most {
        return reader.poll_read(cx, buf);
    }
    let mut piece = ReadBuf::new(buf.initialize_unfilled_to(most));
    ready!(reader.poll_read(cx, &mut piece))?;
    let n = piece.filled().len();
    buf.advance(n);
    Poll::Ready(Ok(()))
}

impl<S: Stream> AsyncWrite for GuardedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.guard_write(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.guard_write(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// A socket has nothing to flush. TLS has what its client does not take, and that has the clock of writes.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() {
            self.write_timer = None;
            return polled;
        }
        self.guard_write(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
            if polled.is_pending() {
                return this.guard_write(cx, polled);
            }
            this.told = true;
            ready!(polled)?;
        }
        // Beneath TLS, if there is any: whatever comes is thrown away.
        let mut reader = this.activity.reader().lock();
        let Some(reader) = reader.as_mut() else { return Poll::Ready(Ok(())) };
        let between = !this.poisoned && this.framing.as_ref().is_none_or(Framing::is_between);
        if this.linger.is_none() && between && !has_unread(reader.as_ref()) {
            return Poll::Ready(Ok(()));
        }
        this.linger.get_or_insert_default().poll(cx, Pin::new(reader)).map(Ok)
    }
}

impl<S: Stream> Drop for GuardedIo<S> {
    /// Behind a request that would have liked to upgrade, hyper lets go without a word.
    fn drop(&mut self) {
        if self.activity.is_over() && !self.told {
            self.stream.say_end(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// Whether bytes are there that nobody has read: they would make a reset of the connection's end.
fn has_unread(socket: &TcpStream) -> bool {
    rustix::io::ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0)
}
