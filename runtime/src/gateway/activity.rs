//! What a connection is doing, as its requests tell.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How often a client is looked for whose bytes nobody reads.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One connection's requests. Everything here is touched by the worker of the connection only.
#[derive(Debug)]
pub struct Activity {
    /// Whether streams have windows of their own, which a client may keep shut while it takes from its socket.
    h2: bool,
    /// Requests between head and the last piece of their response.
    requests: AtomicUsize,
    /// Pieces of responses so far.
    pieces: AtomicUsize,
    /// A request has ended since the socket last looked: the idle clock starts again.
    ended: AtomicBool,
    /// The socket once more, of a client that sends bodies.
    socket: OnceLock<OwnedFd>,
    /// Pieces that wait for their clients to take them, and since when: the oldest first. At most two of each stream, of
    /// which hyper holds one and h2 the other.
    unsent: Mutex<Vec<(usize, Instant)>>,
    /// Responses that must be gone by a certain time, and how many there are.
    owed: Mutex<Vec<(usize, Instant)>>,
    debts: AtomicUsize,
}

impl Activity {
    /// A connection of this protocol that has done nothing yet.
    pub fn new(version: Version) -> Self {
        Self {
            h2: version == Version::HTTP_2,
            requests: AtomicUsize::new(0),
            pieces: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            socket: OnceLock::new(),
            unsent: Mutex::default(),
            owed: Mutex::default(),
            debts: AtomicUsize::new(0),
        }
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

    /// Keeps a second descriptor of the socket, to look at it while nobody reads.
    pub fn watch(&self, socket: impl FnOnce() -> io::Result<OwnedFd>) {
        if self.socket.get().is_none()
            && let Ok(socket) = socket()
        {
            let _ = self.socket.set(socket);
        }
    }

    /// Ends when the client has closed its side.
    ///
    /// Hyper notices that by reading, and while a body waits to be read by the guest, it does not read.
    pub async fn client_left(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.socket.get().is_some_and(has_hung_up) {
                return;
            }
        }
    }
}

fn has_hung_up(socket: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().intersects(gone)
}

/// A response that must have been taken in time: lives as long as the last of its pieces.
pub struct Owed {
    activity: Arc<Activity>,
    id: usize,
}

impl Owed {
    /// A piece of the response.
    pub fn piece(self: &Arc<Self>, piece: Bytes) -> Bytes {
        Bytes::from_owner(OwedPiece { piece, _owed: self.clone() })
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.activity.owed.lock().retain(|(id, _)| *id != self.id);
        self.activity.debts.fetch_sub(1, Relaxed);
    }
}

struct OwedPiece {
    piece: Bytes,
    _owed: Arc<Owed>,
}

impl AsRef<[u8]> for OwedPiece {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

/// A request under way.
pub struct Busy {
    activity: Arc<Activity>,
}

impl Busy {
    /// Its response must be gone by then, or its connection is ended.
    pub fn owe(&self, by: Instant) -> Arc<Owed> {
        let id = self.activity.pieces.fetch_add(1, Relaxed);
        self.activity.owed.lock().push((id, by));
        self.activity.debts.fetch_add(1, Relaxed);
        Arc::new(Owed { activity: self.activity.clone(), id })
    }

    /// A piece that is listed as unsent until its last byte is written or given up: hyper asks for it before the stream's
    /// window is open, and h2 takes the last one whatever the window is, when the request has ended for us. HTTP/1 has no
    /// streams: there the clock of writes tells.
    pub fn until_sent(&self, piece: Bytes) -> Bytes {
        if !self.activity.h2 {
            return piece;
        }
        let id = self.activity.pieces.fetch_add(1, Relaxed);
        self.activity.unsent.lock().push((id, Instant::now()));
        Bytes::from_owner(Unsent { piece, activity: self.activity.clone(), id })
    }
}

struct Unsent {
    piece: Bytes,
    activity: Arc<Activity>,
    id: usize,
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
