//! What a connection is doing, as its requests tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use mayfly_core::limits::node;
use mayfly_core::shares::Grant;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;

/// How often a client is looked for whose bytes nobody reads.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One connection's requests. Everything here is touched by the worker of the connection only.
#[derive(Debug)]
pub struct Activity {
    /// Whether streams have windows of their own, which a client may keep shut while it takes from its socket.
    h2: AtomicBool,
    /// It has ended, and nothing was broken off.
    over: AtomicBool,
    /// Requests between head and the last piece of their response.
    requests: AtomicUsize,
    /// Pieces of responses so far.
    pieces: AtomicUsize,
    /// A request has ended since the socket last looked: the idle clock starts again.
    ended: AtomicBool,
    /// Gone with the connection, so that what outlives it keeps no descriptor.
    reader: Mutex<Option<OwnedReadHalf>>,
    /// Whether the client sends a body.
    watched: AtomicBool,
    /// Pieces that wait for their clients to take them, and since when: the oldest first. At most two of each stream, of
    /// which hyper holds one and h2 the other.
    unsent: Mutex<Vec<(usize, Instant)>>,
    /// Responses that must be gone by a certain time, and how many there are.
    owed: Mutex<Vec<(usize, Instant)>>,
    debts: AtomicUsize,
    /// Bytes of answers that the client has not taken.
    unread: AtomicUsize,
}

impl Activity {
    /// A connection that has done nothing yet; which protocol it speaks, [`Activity::speaks`] says before its first
    /// request.
    pub fn new(reader: OwnedReadHalf) -> Self {
        Self {
            h2: AtomicBool::new(false),
            over: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            pieces: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            reader: Mutex::new(Some(reader)),
            watched: AtomicBool::new(false),
            unsent: Mutex::default(),
            owed: Mutex::default(),
            debts: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
        }
    }

    /// Its protocol.
    pub fn speaks(&self, version: Version) {
        self.h2.store(version == Version::HTTP_2, Relaxed);
    }

    /// It has ended, and nothing was broken off.
    pub fn end(&self) {
        self.over.store(true, Relaxed);
    }

    /// Whether that is so.
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// A request's head is complete; it is being answered until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Relaxed);
        Busy { activity: self.clone() }
    }

    /// Whether a request is being answered.
    pub fn is_busy(&self) -> bool {
        self.requests.load(Relaxed) > 0
    }

    /// Whether a request has ended since this was last asked.
    pub fn has_ended(&self) -> bool {
        self.ended.swap(false, Relaxed)
    }

    /// Since when some stream's client has taken nothing of what is there for it.
    pub fn unsent_since(&self) -> Option<Instant> {
        self.unsent.lock().first().map(|(_, since)| *since)
    }

    /// Whether a response should have been taken by now that others wait for the memory of.
    pub fn is_overdue(&self) -> bool {
        // Of nearly all connections there is no such response.
        self.debts.load(Relaxed) > 0 && {
            let now = Instant::now();
            self.owed.lock().iter().any(|(_, by)| *by <= now)
        }
    }

    fn sent(&self, id: usize) {
        self.unsent.lock().retain(|(unsent, _)| *unsent != id);
    }

    /// The half of the socket that is read, here because it is looked at as well while nobody reads.
    pub fn reader(&self) -> &Mutex<Option<OwnedReadHalf>> {
        &self.reader
    }

    /// The client sends a body, or more than it has an answer to: from now on it is looked for while nobody reads.
    pub fn watch(&self) {
        self.watched.store(true, Relaxed);
    }

    /// Ends when the client has closed its side.
    ///
    /// Hyper notices that by reading, and while a body waits to be read by the guest, or the next request for its turn,
    /// it does not read. Of other connections nothing is looked at here.
    pub async fn client_left(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if !self.watched.load(Relaxed) {
                continue;
            }
            let reader = self.reader.lock();
            if reader.as_ref().is_some_and(|half| has_hung_up(half.as_ref())) {
                return;
            }
        }
    }
}

fn has_hung_up(socket: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().intersects(gone)
}

/// A response with a body on its way: lives as long as the last of its pieces.
pub struct Answer {
    activity: Arc<Activity>,
    id: usize,
    bytes: usize,
    /// What it has of the node's room for answers, if its connection has more than a little of them.
    _room: Option<Grant>,
    owed: bool,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.activity.unread.fetch_sub(self.bytes, Relaxed);
        if self.owed {
            self.activity.owed.lock().retain(|(id, _)| *id != self.id);
            self.activity.debts.fetch_sub(1, Relaxed);
        }
    }
}

/// A request under way.
pub struct Busy {
    activity: Arc<Activity>,
}

impl Busy {
    /// Its response has a body of so many bytes. The node's room is asked for those beyond a few of the connection; none
    /// if there is no room.
    pub fn answer(&self, bytes: usize, room: impl FnOnce() -> Grant) -> Option<Arc<Answer>> {
        let unread = self.activity.unread.fetch_add(bytes, Relaxed) + bytes;
        let mut answer =
            Answer { activity: self.activity.clone(), id: 0, bytes, _room: None, owed: false };
        if unread > node::ANSWERS_FREE_BYTES {
            let mut room = room();
            if !room.grow(bytes) {
                return None;
            }
            answer._room = Some(room);
        }
        Some(Arc::new(answer))
    }

    /// Its response, which others wait for the memory of, must be gone by then, or its connection is ended.
    pub fn owe(&self, by: Instant) -> Arc<Answer> {
        let id = self.activity.pieces.fetch_add(1, Relaxed);
        self.activity.owed.lock().push((id, by));
        self.activity.debts.fetch_add(1, Relaxed);
        let activity = self.activity.clone();
        Arc::new(Answer { activity, id, bytes: 0, _room: None, owed: true })
    }

    /// Whether its connection has many requests at once.
    pub fn is_h2(&self) -> bool {
        self.activity.h2.load(Relaxed)
    }

    /// A piece that is listed as unsent until its last byte is written or given up: hyper asks for it before the stream's
    /// window is open, and h2 takes the last one whatever the window is, when the request has ended for us. HTTP/1 has no
    /// streams: there the clock of writes tells.
    pub fn until_sent(&self, piece: Bytes, answer: Option<&Arc<Answer>>) -> Bytes {
        if !self.is_h2() {
            return match answer {
                Some(answer) => Bytes::from_owner(Part { piece, _answer: answer.clone() }),
                None => piece,
            };
        }
        let id = self.activity.pieces.fetch_add(1, Relaxed);
        self.activity.unsent.lock().push((id, Instant::now()));
        let (activity, answer) = (self.activity.clone(), answer.cloned());
        Bytes::from_owner(Unsent { piece, activity, id, _answer: answer })
    }
}

/// A piece of an answer.
struct Part {
    piece: Bytes,
    _answer: Arc<Answer>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

struct Unsent {
    piece: Bytes,
    activity: Arc<Activity>,
    id: usize,
    _answer: Option<Arc<Answer>>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.activity.sent(self.id);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.requests.fetch_sub(1, Relaxed);
        self.activity.ended.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use mayfly_core::shares::Pot;

    use super::*;

    async fn connection(version: Version) -> Arc<Activity> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let activity = Activity::new(client.into_split().0);
        activity.speaks(version);
        Arc::new(activity)
    }

    #[tokio::test]
    async fn answers_beyond_a_few_of_a_connection_need_room_until_their_last_piece_is_gone() {
        let (activity, pot) = (connection(Version::HTTP_2).await, Pot::new(40_000));
        let busy = activity.request();
        let room = || pot.grant(None, [10, 0, 0, 1].into());
        let few = busy.answer(node::ANSWERS_FREE_BYTES, room).unwrap();
        assert_eq!(pot.free(), 40_000);
        let more = busy.answer(20_000, room).unwrap();
        assert_eq!(pot.free(), 20_000);
        assert!(busy.answer(30_000, room).is_none());
        assert_eq!(pot.free(), 20_000);
        let piece = busy.until_sent(Bytes::from_static(b"last"), Some(&more));
        drop((few, more));
        assert_eq!(pot.free(), 20_000, "{piece:?} is not sent");
        drop(piece);
        assert_eq!(pot.free(), 40_000);
        assert!(busy.answer(node::ANSWERS_FREE_BYTES, room).is_some(), "as at first");
    }

    #[tokio::test]
    async fn an_answer_that_is_owed_ends_its_connection_when_it_is_late() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let activity = connection(version).await;
            let busy = activity.request();
            let later = busy.owe(Instant::now() + Duration::from_secs(3600));
            assert!(!activity.is_overdue());
            let late = busy.owe(Instant::now());
            let piece = busy.until_sent(Bytes::from_static(b"last"), Some(&late));
            drop(late);
            assert!(activity.is_overdue());
            drop(piece);
            assert!(!activity.is_overdue());
            drop(later);
        }
    }
}
