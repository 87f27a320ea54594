//! What an HTTP/2 connection reads: as much as is there, but only a few heads each time its task has its turn.
//!
//! Requests are tasks of their own. A connection that gives h2 all its heads has all of them decoded, and a task made
//! for each, before the first is served or refused; a thousand connections that are ready at once have a hundred
//! thousand of them. So a connection gets few in a turn, and few connections of a worker have such a turn at once: the
//! tasks of one turn have run when the connection has its next one, because a worker takes its tasks in order.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mayfly_core::limits::node;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::frames::Frames;

/// Bytes that are read at once of a header block that waits.
const PIECE: usize = 4 << 10;

type Permit = Result<OwnedSemaphorePermit, AcquireError>;

/// The turns of one connection's task, and its part of its worker's: kept here and not in the gate, because a connection
/// that cannot write does not read, and must not keep others from reading.
pub struct Turn {
    worker: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    number: usize,
    /// Whether heads may pass in this turn.
    mine: Option<OwnedSemaphorePermit>,
    waits: Option<Pin<Box<dyn Future<Output = Permit> + Send>>>,
    /// Whether heads were there to pass.
    asked: bool,
}

impl Turn {
    /// Of a connection of the worker with these turns.
    pub fn new(worker: Arc<Semaphore>) -> Self {
        Self { worker, state: Mutex::default() }
    }

    /// The task is polled.
    pub fn begin(&self) {
        let mut state = self.state.lock();
        state.number += 1;
        state.mine = None;
        state.asked = false;
    }

    /// And has been: what it waited for is another's if it did not ask for it.
    pub fn end(&self) {
        let mut state = self.state.lock();
        if !state.asked {
            state.waits = None;
        }
    }

    fn number(&self) -> usize {
        self.state.lock().number
    }

    /// Whether heads may pass in this turn; if not, the task will be woken when they may.
    fn is_mine(&self, cx: &mut Context<'_>) -> bool {
        let state = &mut *self.state.lock();
        state.asked = true;
        if state.mine.is_some() {
            return true;
        }
        let permit = match (&mut state.waits, self.worker.clone().try_acquire_owned()) {
            (None, Ok(permit)) => Ok(permit),
            (waits, _) => {
                let acquire = || Box::pin(self.worker.clone().acquire_owned()) as Pin<Box<_>>;
                let polled = waits.get_or_insert_with(acquire).as_mut().poll(cx);
                let Poll::Ready(permit) = polled else { return false };
                *waits = None;
                permit
            }
        };
        // The semaphore is never closed.
        state.mine = permit.ok();
        // So that the turn has an end, whatever else happens to this connection.
        cx.waker().wake_by_ref();
        state.mine.is_some()
    }
}

/// One connection's way through.
pub struct Gate {
    frames: Frames,
    /// What was read beyond the last head of a turn, and how much of it has passed.
    kept: Vec<u8>,
    passed: usize,
    /// The turn that is on, and how many more heads may pass in it.
    turn: Arc<Turn>,
    number: usize,
    left: usize,
    /// Since when a header block has no end.
    open: Option<Instant>,
}

impl Gate {
    /// For a connection with these turns.
    pub fn new(turn: Arc<Turn>) -> Self {
        let (frames, kept) = (Frames::default(), Vec::new());
        Self { frames, kept, passed: 0, turn, number: 0, left: 0, open: None }
    }

    /// Since when a header block has had no end.
    pub fn open_since(&self) -> Option<Instant> {
        self.open
    }

    /// Reads from `stream`.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut stream: Pin<&mut impl AsyncRead>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let number = self.turn.number();
        if self.number != number {
            self.number = number;
            self.left = node::H2_HEADS_AT_ONCE;
        }
        if self.kept.is_empty() {
            let before = buf.filled().len();
            ready!(stream.as_mut().poll_read(cx, buf))?;
            let read = buf.filled().len() - before;
            let n = self.pass(cx, &buf.filled()[before..], read);
            if n == read {
                return Poll::Ready(Ok(()));
            }
            self.kept = buf.filled()[before + n..].to_vec();
            buf.set_filled(before + n);
            if n > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            let kept = std::mem::take(&mut self.kept);
            let rest = &kept[self.passed..];
            let n = self.pass(cx, rest, rest.len().min(buf.remaining()));
            buf.put_slice(&rest[..n]);
            self.passed += n;
            if self.passed < kept.len() {
                self.kept = kept;
            } else {
                self.passed = 0;
            }
            if n > 0 {
                return Poll::Ready(Ok(()));
            }
            if !self.frames.waits() || !ready!(self.read_on(cx, stream.as_mut()))? {
                return if self.frames.waits() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        }
    }

    /// Reads what a header block waits for; says whether there is more to come.
    fn read_on(
        &mut self,
        cx: &mut Context<'_>,
        stream: Pin<&mut impl AsyncRead>,
    ) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut space);
        ready!(stream.poll_read(cx, &mut piece))?;
        self.kept.drain(..std::mem::take(&mut self.passed));
        self.kept.extend_from_slice(piece.filled());
        Poll::Ready(Ok(!piece.filled().is_empty()))
    }

    /// Bytes that are kept of a header block, or are in h2 once it is longer than heads may be.
    pub fn head_bytes(&self) -> usize {
        match (self.frames.waits(), self.frames.is_open()) {
            (true, _) => self.kept.len() - self.passed,
            (false, true) => 2 * node::REQUEST_HEAD_BYTES,
            (false, false) => 0,
        }
    }

    /// How many of these bytes may pass now, `limit` at most. If none may, the task has been woken or will be, or a header
    /// block waits for its end.
    fn pass(&mut self, cx: &mut Context<'_>, bytes: &[u8], limit: usize) -> usize {
        let (mut n, _) = self.frames.follow(bytes, limit, 0);
        if n < limit && !self.frames.waits() && self.left > 0 && self.turn.is_mine(cx) {
            let (more, heads) = self.frames.follow(&bytes[n..], limit - n, self.left);
            self.left -= heads;
            n += more;
        }
        self.open = match self.frames.is_open() || self.frames.waits() {
            true => self.open.or_else(|| Some(Instant::now())),
            false => None,
        };
        n
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

    fn gate(worker: &Arc<Semaphore>) -> Gate {
        Gate::new(Arc::new(Turn::new(worker.clone())))
    }

    /// One turn, in which is read until nothing comes; gives the bytes.
    fn read(gate: &mut Gate, from: &mut &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let turn = gate.turn.clone();
        turn.begin();
        loop {
            let mut space = [0; 50];
            let mut buf = ReadBuf::new(&mut space);
            let polled = gate.poll_read(&mut cx, Pin::new(&mut *from), &mut buf);
            if polled.is_pending() || buf.filled().is_empty() {
                turn.end();
                return all;
            }
            all.extend_from_slice(buf.filled());
        }
    }

    #[test]
    fn few_heads_pass_in_a_turn_and_in_the_end_every_byte() {
        let bytes = sent(100);
        let (mut gate, mut from) = (gate(&Arc::new(Semaphore::new(1))), &bytes[..]);
        let mut all = Vec::new();
        let mut turns = 0;
        while all.len() < bytes.len() {
            turns += 1;
            let got = read(&mut gate, &mut from);
            assert!(got.len() <= 24 + 12 * node::H2_HEADS_AT_ONCE + 8, "{turns}: {}", got.len());
            all.extend_from_slice(&got);
        }
        assert_eq!(all, bytes);
        assert_eq!(turns, 100_usize.div_ceil(node::H2_HEADS_AT_ONCE));
    }

    #[test]
    fn a_header_block_passes_once_its_end_is_there() {
        let frame = |kind: u8, flags: u8| {
            [&[0, 0, 200, kind, flags, 0, 0, 0, 1][..], &[0x82; 200]].concat()
        };
        let start =
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(1, 0), &frame(9, 0)].concat();
        let end = frame(9, 4);
        let worker = Arc::new(Semaphore::new(1));
        let mut gate = gate(&worker);
        // It asks for no turn before it can use it, and is late by the clock of heads.
        assert_eq!(read(&mut gate, &mut &start[..]), start[..24 + 8]);
        assert_eq!((worker.available_permits(), gate.head_bytes()), (1, start.len() - 32));
        assert!(gate.open_since().is_some());
        let (first, last) = end.split_at(100);
        assert!(read(&mut gate, &mut &first[..]).is_empty());
        assert_eq!(read(&mut gate, &mut &last[..]), [&start[32..], &end].concat());
        assert_eq!((gate.head_bytes(), gate.open_since()), (0, None));
    }

    #[test]
    fn few_connections_have_a_turn_at_once() {
        let worker = Arc::new(Semaphore::new(1));
        let bytes = sent(1);
        let (mut first, mut second) = (gate(&worker), gate(&worker));
        assert_eq!(read(&mut first, &mut &bytes[..]), bytes);
        let mut from = &bytes[..];
        let early = read(&mut second, &mut from);
        assert_eq!(early, bytes[..24 + 8], "all before the head");
        assert!(read(&mut second, &mut from).is_empty());
        // The first one's next turn, in which it does not read.
        first.turn.begin();
        first.turn.end();
        assert_eq!([early, read(&mut second, &mut from)].concat(), bytes);
        drop(second);
        assert_eq!(worker.available_permits(), 1);
    }

    #[test]
    fn who_has_its_turn_and_does_not_read_keeps_nobody_waiting() {
        let worker = Arc::new(Semaphore::new(1));
        let bytes = sent(1);
        let (mut first, mut second, mut third) = (gate(&worker), gate(&worker), gate(&worker));
        read(&mut first, &mut &bytes[..]);
        let (mut from, mut also) = (&bytes[..], &bytes[..]);
        read(&mut second, &mut from);
        read(&mut third, &mut also);
        // It is the second one's now, which cannot write and so does not read.
        first.turn.begin();
        second.turn.begin();
        second.turn.end();
        assert_eq!(read(&mut third, &mut also).len(), 12 - 8);
    }
}
