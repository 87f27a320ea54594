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
    /// Requests and their pieces so far.
    count: AtomicUsize,
    /// A request has ended since the socket last looked: the idle clock starts again.
    ended: AtomicBool,
    /// The socket once more, of a client that sends bodies.
    socket: OnceLock<OwnedFd>,
    /// Streams whose client was given all it was ready to take, and pieces that wait for it, and since when: the oldest
    /// first. As many as streams and the two pieces that each may have.
    unsent: Mutex<Vec<(usize, Instant)>>,
}

impl Activity {
    /// A connection of this protocol that has done nothing yet.
    pub fn new(version: Version) -> Self {
        Self {
            h2: version == Version::HTTP_2,
            requests: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            socket: OnceLock::new(),
            unsent: Mutex::default(),
        }
    }

    /// A request's head is complete; it is being answered until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Relaxed);
        Busy { id: self.count.fetch_add(1, Relaxed), activity: self.clone(), listed: false }
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

/// A request under way.
pub struct Busy {
    activity: Arc<Activity>,
    id: usize,
    /// Whether it is among the unsent.
    listed: bool,
}

impl Busy {
    /// Says whether it is the client of this stream, and not its guest, that is waited for. HTTP/1 has no streams: there
    /// the clock of writes tells.
    pub fn client_is_waited_for(&mut self, yes: bool) {
        if !self.activity.h2 {
            return;
        }
        if self.listed {
            self.activity.sent(self.id);
        }
        if yes {
            self.activity.unsent.lock().push((self.id, Instant::now()));
        }
        self.listed = yes;
    }

    /// A piece that is listed as unsent until its last byte is written or given up. HTTP/2 takes a response's last piece
    /// whatever the stream's window is, and the request has ended for us while the client still has it to take.
    pub fn until_sent(&self, piece: Bytes) -> Bytes {
        if !self.activity.h2 {
            return piece;
        }
        let id = self.activity.count.fetch_add(1, Relaxed);
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
        self.client_is_waited_for(false);
        self.activity.requests.fetch_sub(1, Relaxed);
        self.activity.ended.store(true, Relaxed);
    }
}
