//! What an HTTP/2 connection reads: as much as is there, but only a few heads each time its task has its turn.
//!
//! Requests are tasks of their own. A connection that gives h2 all its heads has all of them decoded, and a task made
//! for each, before the first is served or refused; a thousand connections that are ready at once have a hundred
//! thousand of them. So a connection gets few in a turn, and few connections of a worker have such a turn at once: the
//! tasks of one turn have run when the connection has its next one, because a worker takes its tasks in order.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mayfly_core::limits::node;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::frames::Frames;

type Permit = Result<OwnedSemaphorePermit, AcquireError>;

/// One connection's way through.
pub struct Gate {
    frames: Frames,
    /// What was read beyond the last head of a turn, and how much of it has passed.
    kept: Vec<u8>,
    passed: usize,
    /// The turn that is on, and how many more heads may pass in it.
    turn: usize,
    left: usize,
    /// Turns of this worker.
    turns: Arc<Semaphore>,
    mine: Option<OwnedSemaphorePermit>,
    waits: Option<Pin<Box<dyn Future<Output = Permit> + Send>>>,
    /// Since when a header block has no end.
    open: Option<Instant>,
}

impl Gate {
    /// For a connection of the worker with these turns.
    pub fn new(turns: Arc<Semaphore>) -> Self {
        Self {
            frames: Frames::default(),
            kept: Vec::new(),
            passed: 0,
            turn: 0,
            left: 0,
            turns,
            mine: None,
            waits: None,
            open: None,
        }
    }

    /// Since when a header block has had no end.
    pub fn open_since(&self) -> Option<Instant> {
        self.open
    }

    /// Reads from `stream` in the connection's turn of this number.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        turn: usize,
        stream: Pin<&mut impl AsyncRead>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn != turn {
            self.turn = turn;
            self.left = node::H2_HEADS_AT_ONCE;
            self.mine = None;
        }
        if self.kept.is_empty() {
            let before = buf.filled().len();
            ready!(stream.poll_read(cx, buf))?;
            let n = self.pass(cx, &buf.filled()[before..]);
            let read = buf.filled().len() - before;
            if n == read {
                return Poll::Ready(Ok(()));
            }
            self.kept = buf.filled()[before + n..].to_vec();
            buf.set_filled(before + n);
            return if n > 0 { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let kept = std::mem::take(&mut self.kept);
        let most = kept.len().min(self.passed + buf.remaining());
        let n = self.pass(cx, &kept[self.passed..most]);
        buf.put_slice(&kept[self.passed..self.passed + n]);
        self.passed += n;
        if self.passed < kept.len() {
            self.kept = kept;
        } else {
            self.passed = 0;
        }
        if n > 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// How many of these bytes may pass now. If none may, the task has been woken or will be.
    fn pass(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> usize {
        let (mut n, _) = self.frames.follow(bytes, 0);
        if n < bytes.len() && self.left > 0 && self.has_turn(cx) {
            let (more, heads) = self.frames.follow(&bytes[n..], self.left);
            self.left -= heads;
            n += more;
        }
        self.open = match self.frames.is_open() {
            true => self.open.or_else(|| Some(Instant::now())),
            false => None,
        };
        n
    }

    /// Whether this is one of the worker's connections with a turn; if not, it will be woken when it is.
    fn has_turn(&mut self, cx: &mut Context<'_>) -> bool {
        if self.mine.is_some() {
            return true;
        }
        if self.waits.is_none()
            && let Ok(permit) = self.turns.clone().try_acquire_owned()
        {
            return self.begin(cx, permit);
        }
        let turns = &self.turns;
        let waits = self.waits.get_or_insert_with(|| Box::pin(turns.clone().acquire_owned()));
        let Poll::Ready(permit) = waits.as_mut().poll(cx) else { return false };
        self.waits = None;
        // The semaphore is never closed.
        permit.is_ok_and(|permit| self.begin(cx, permit))
    }

    fn begin(&mut self, cx: &Context<'_>, permit: OwnedSemaphorePermit) -> bool {
        self.mine = Some(permit);
        // So that the turn has an end, whatever else happens to this connection.
        cx.waker().wake_by_ref();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A connection that has sent so many heads of three bytes.
    fn sent(heads: usize) -> Vec<u8> {
        let head = [0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86];
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &head.repeat(heads)].concat()
    }

    /// Reads until nothing comes; gives the bytes.
    fn read(gate: &mut Gate, turn: usize, from: &mut &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut space = [0; 50];
            let mut buf = ReadBuf::new(&mut space);
            let polled = gate.poll_read(&mut cx, turn, Pin::new(&mut *from), &mut buf);
            if polled.is_pending() || buf.filled().is_empty() {
                return all;
            }
            all.extend_from_slice(buf.filled());
        }
    }

    #[test]
    fn few_heads_pass_in_a_turn_and_in_the_end_every_byte() {
        let bytes = sent(100);
        let (mut gate, mut from) = (Gate::new(Arc::new(Semaphore::new(1))), &bytes[..]);
        let mut all = Vec::new();
        let mut turns = 0;
        while all.len() < bytes.len() {
            turns += 1;
            let got = read(&mut gate, turns, &mut from);
            assert!(got.len() <= 24 + 12 * node::H2_HEADS_AT_ONCE + 8, "{turns}: {}", got.len());
            all.extend_from_slice(&got);
        }
        assert_eq!(all, bytes);
        assert_eq!(turns, 100_usize.div_ceil(node::H2_HEADS_AT_ONCE));
    }

    #[test]
    fn few_connections_have_a_turn_at_once() {
        let turns = Arc::new(Semaphore::new(1));
        let bytes = sent(1);
        let (mut first, mut second) = (Gate::new(turns.clone()), Gate::new(turns.clone()));
        assert_eq!(read(&mut first, 1, &mut &bytes[..]), bytes);
        let mut from = &bytes[..];
        let early = read(&mut second, 1, &mut from);
        assert_eq!(early, bytes[..24 + 8], "all before the head");
        assert!(read(&mut second, 2, &mut from).is_empty());
        // The first one's next turn, in which it reads nothing.
        read(&mut first, 2, &mut &b""[..]);
        assert_eq!([early, read(&mut second, 3, &mut from)].concat(), bytes);
        drop(second);
        assert_eq!(turns.available_permits(), 1);
    }
}
