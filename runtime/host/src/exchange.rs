//! Where one guest and one client meet: the request's body on its way in, the response on its way out.
//!
//! The guest's side lives in its sandbox and may run on another thread than the connection. Both sides wait for each
//! other through wakers; what lies between them is bounded by `RESPONSE_BUFFER_BYTES`, so a slow client stops its guest
//! and a slow guest costs a client nothing but time. No lock here is shared between requests.

mod body;
mod client;
mod error;
mod notes;
mod taken;
mod verdict;
mod write;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Body;
use mayfly_core::Outcome;
use mayfly_core::limits::node;
use parking_lot::Mutex;

pub use body::{Aborted, Guest, ResponseBody, Streamed, TakeBy};
pub use error::{BodyError, WriteError};
use notes::Notes;
pub use verdict::Verdict;
pub use write::write_all;

/// Head of a guest's response, already checked.
#[derive(Debug)]
pub struct Head {
    /// 200 to 599.
    pub status: StatusCode,
    /// Without hop-by-hop and framing headers.
    pub headers: HeaderMap,
    /// How long the guest says that its body is.
    pub length: Option<u64>,
}

/// What an exchange is limited to.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Bytes of the request's body.
    pub request_body: u64,
    /// Bytes of the response's body.
    pub response_body: u64,
    /// Between two pieces of the request's body; a time, not bytes.
    pub body_idle: Duration,
}

/// A request's body as the gateway or a test hands it in.
pub type RequestBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;
/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The meeting point; one per invocation.
pub struct Exchange {
    caps: Caps,
    request: Mutex<RequestSide>,
    response: Mutex<ResponseSide>,
    /// The guest used up its first tick and wants to go on elsewhere.
    overran: AtomicBool,
    /// Body bytes read by the guest.
    request_bytes: AtomicU64,
    /// Times on the way.
    pub notes: Notes,
}

struct RequestSide {
    body: Option<RequestBody>,
    rest: Bytes,
    total: u64,
    failed: Option<BodyError>,
}

#[derive(Default)]
struct ResponseSide {
    head: Option<Head>,
    started: bool,
    chunks: VecDeque<Bytes>,
    buffered: usize,
    total: u64,
    status: Option<StatusCode>,
    /// Nobody asked for a body.
    head_only: bool,
    /// How long the body has to be, if the guest said so and there is one.
    declared: Option<u64>,
    /// Bytes that the client's side has taken.
    taken: u64,
    end: Option<Verdict>,
    gone: bool,
    /// The client's side has the head and takes the body as it comes.
    streamed: bool,
    discards: bool,
    client: Option<Waker>,
    guest: Option<Waker>,
}

impl Exchange {
    /// A fresh one for a request with this body, if it has any.
    #[must_use]
    pub fn new(body: Option<RequestBody>, caps: Caps) -> Arc<Self> {
        Arc::new(Self {
            caps,
            request: Mutex::new(RequestSide { body, rest: Bytes::new(), total: 0, failed: None }),
            response: Mutex::new(ResponseSide::default()),
            overran: AtomicBool::new(false),
            request_bytes: AtomicU64::new(0),
            notes: Notes::default(),
        })
    }

    /// What it is limited to.
    pub fn caps(&self) -> Caps {
        self.caps
    }

    // --- the guest's side: request body ---

    /// Up to `max` more bytes of the request's body; none at its end.
    ///
    /// # Errors
    /// [`BodyError`]; the same one each time from then on.
    pub async fn read(&self, max: usize) -> Result<Bytes, BodyError> {
        // The timer costs more than the look, so it is set only for a body that is not there yet.
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(self.poll_read(cx, max))).await {
            return done;
        }
        let _wait = self.notes.wait();
        match tokio::time::timeout(self.caps.body_idle, poll_fn(|cx| self.poll_read(cx, max))).await
        {
            Ok(done) => done,
            Err(_) => {
                self.request.lock().failed = Some(BodyError::Idle);
                Err(BodyError::Idle)
            }
        }
    }

    /// [`Exchange::read`] without the timeout.
    pub fn poll_read(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Bytes, BodyError>> {
        let mut side = self.request.lock();
        loop {
            if !side.rest.is_empty() {
                let n = side.rest.len().min(max);
                self.request_bytes.fetch_add(n as u64, Ordering::Relaxed);
                return Poll::Ready(Ok(side.rest.split_to(n)));
            }
            if let Some(error) = side.failed {
                return Poll::Ready(Err(error));
            }
            let Some(body) = side.body.as_mut() else { return Poll::Ready(Ok(Bytes::new())) };
            match std::task::ready!(body.as_mut().poll_frame(cx)) {
                None => side.body = None,
                Some(Err(error)) => side.failed = Some(BodyError::of(&*error)),
                Some(Ok(frame)) => {
                    // Trailers are dropped: neither ABI has a place for them.
                    let Ok(data) = frame.into_data() else { continue };
                    side.total += data.len() as u64;
                    if side.total > self.caps.request_body {
                        side.failed = Some(BodyError::TooLarge);
                        side.body = None;
                    } else {
                        side.rest = data;
                    }
                }
            }
        }
    }

    /// Whether the guest waits for a piece of its request's body that its client should have sent long ago.
    pub fn is_kept_waiting(&self) -> bool {
        self.notes.waits_for() >= node::BODY_RATE_GRACE
    }

    /// The error that the request's body ended in, if it did.
    pub fn request_failed(&self) -> Option<BodyError> {
        self.request.lock().failed
    }

    /// Bytes of the request's body that the guest took.
    pub fn request_bytes(&self) -> u64 {
        self.request_bytes.load(Ordering::Relaxed)
    }

    // --- the guest's side: response ---

    /// Sends the head. The client is not woken for it: see [`Exchange::wake_client`].
    ///
    /// # Errors
    /// [`WriteError::State`] when one was sent before.
    pub fn start(&self, head: Head) -> Result<(), WriteError> {
        let mut side = self.response.lock();
        if side.started {
            return Err(WriteError::State);
        }
        side.started = true;
        side.status = Some(head.status);
        if !side.head_only && !is_bodiless(head.status) {
            side.declared = head.length;
        }
        side.head = Some(head);
        Ok(())
    }

    /// How many bytes may be pushed now; waits while there is no room.
    ///
    /// # Errors
    /// [`WriteError::Gone`] when nobody listens any more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, WriteError>> {
        let mut side = self.response.lock();
        if side.gone {
            return Poll::Ready(Err(WriteError::Gone));
        }
        let room = node::RESPONSE_BUFFER_BYTES.saturating_sub(side.buffered);
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        side.guest = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Sends bytes of the body; at most as many as [`Exchange::poll_room`] allowed.
    ///
    /// # Errors
    /// [`WriteError::State`] before the head, [`WriteError::TooLarge`] over the limit, [`WriteError::Gone`].
    pub fn push(&self, mut bytes: Bytes) -> Result<(), WriteError> {
        let mut side = self.response.lock();
        if !side.started {
            return Err(WriteError::State);
        }
        if side.gone {
            return Err(WriteError::Gone);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        side.total += bytes.len() as u64;
        if side.total > self.caps.response_body {
            return Err(WriteError::TooLarge);
        }
        if let Some(over) = side.declared.and_then(|declared| side.total.checked_sub(declared)) {
            // A client that was told a length takes no more, and what is over would be the next response's.
            bytes.truncate(bytes.len().saturating_sub(usize::try_from(over).unwrap_or(usize::MAX)));
        }
        if side.discards || bytes.is_empty() {
            return Ok(());
        }
        side.buffered += charge(&bytes);
        side.chunks.push_back(bytes);
        if side.buffered >= node::RESPONSE_BUFFER_BYTES / 4 {
            wake(&mut side.client);
        }
        Ok(())
    }

    /// Tells the client's side what was written so far: when the guest waits, and at each of its ticks. A guest that
    /// ends within a tick of its first byte so has a whole response, with a length, whatever thread it ran on.
    pub fn wake_client(&self) {
        let mut side = self.response.lock();
        if side.head.is_some() || !side.chunks.is_empty() {
            wake(&mut side.client);
        }
    }

    /// Ends the response: whole if the guest answered, else cut off where it is. Only the first end counts.
    pub fn finish(&self, verdict: Verdict) {
        let mut side = self.response.lock();
        if side.end.is_none() {
            side.end = Some(verdict);
            wake(&mut side.client);
        }
    }

    /// How it ended, if it has.
    pub fn verdict(&self) -> Option<Verdict> {
        self.response.lock().end.clone()
    }

    /// The status that went out to the client, or is about to.
    pub fn status(&self) -> Option<u16> {
        let side = self.response.lock();
        // A head that was never taken is one that the client never saw.
        if side.head.is_some() && side.broken() { None } else { side.status.map(|s| s.as_u16()) }
    }

    /// Whether a head was sent.
    pub fn started(&self) -> bool {
        self.response.lock().started
    }

    /// Whether the request is one for a head alone: what a guest says of its body's length is about one that it need not write.
    pub fn expect_no_body(&self, head_only: bool) {
        self.response.lock().head_only = head_only;
    }

    /// The length that the guest declared for its body and the one that it wrote, if they differ.
    pub fn wrong_length(&self) -> Option<(u64, u64)> {
        let side = self.response.lock();
        let declared = side.declared.filter(|declared| *declared != side.total && !side.gone)?;
        Some((declared, side.total))
    }

    /// Bytes of the response's body so far.
    pub fn response_bytes(&self) -> u64 {
        self.response.lock().total
    }

    /// Marks that the guest should go on elsewhere.
    pub fn set_overran(&self) {
        self.overran.store(true, Ordering::Relaxed);
    }

    /// Whether the guest should go on elsewhere.
    pub fn overran(&self) -> bool {
        self.overran.load(Ordering::Relaxed)
    }
}

impl ResponseSide {
    fn broken(&self) -> bool {
        // What was cut at its declared length is a whole response all the same.
        let cut = self.declared.is_some_and(|declared| self.total > declared);
        let short = self.declared.is_some_and(|declared| self.total < declared);
        self.end.as_ref().is_some_and(|end| match end.outcome {
            Outcome::Answered => false,
            // Whoever exits has written what it wanted to; with which code is for the log.
            Outcome::ExitCode(_) => short,
            Outcome::BadResponse(_) => !cut,
            _ => true,
        })
    }
}

/// Statuses whose responses have no body, whatever a guest writes.
pub fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What a piece takes of the buffer: a guest that writes byte by byte fills it as well.
fn charge(piece: &Bytes) -> usize {
    piece.len().max(node::RESPONSE_PIECE_BYTES)
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
