//! The body of a call: bytes that are there, a stream that the guest writes piece by piece, or a body handed on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use mayfly_core::limits::outbound;
use parking_lot::Mutex;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A call's body.
pub enum CallBody {
    /// All of it.
    Whole(Bytes),
    /// As it is written.
    Stream(Upload),
}

impl CallBody {
    /// Whether all of it has been taken, as far as is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }
}

/// Both ends of a streamed body.
#[derive(Clone, Default)]
pub struct Upload {
    side: Arc<Mutex<Side>>,
    length: Option<u64>,
}

#[derive(Default)]
struct Side {
    piece: Option<Bytes>,
    ended: bool,
    /// Whoever sends it is gone.
    dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Upload {
    /// One that is to have so many bytes, if that is known: the origin is told, and holds it to that.
    #[must_use]
    pub fn with_length(length: Option<u64>) -> Self {
        Self { length, ..Self::default() }
    }

    /// Waits until the piece before was taken, then gives the next: `Ready(false)` if nobody takes any more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut side = self.side.lock();
        if side.dropped {
            return Poll::Ready(false);
        }
        if side.piece.is_none() {
            return Poll::Ready(true);
        }
        side.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Puts a piece where [`Upload::poll_room`] has found room; at most `OUTBOUND_BUFFER_BYTES`.
    pub fn push(&self, bytes: Bytes) {
        debug_assert!(bytes.len() <= outbound::OUTBOUND_BUFFER_BYTES, "pieces are small");
        let mut side = self.side.lock();
        if !bytes.is_empty() {
            side.piece = Some(bytes);
        }
        wake(&mut side.reader);
    }

    /// Nothing more comes.
    pub fn end(&self) {
        let mut side = self.side.lock();
        side.ended = true;
        wake(&mut side.reader);
    }

    /// Whether all of it was written.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.side.lock().ended
    }
}

impl Drop for CallBody {
    fn drop(&mut self) {
        if let Self::Stream(upload) = self {
            let mut side = upload.side.lock();
            side.dropped = true;
            wake(&mut side.writer);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let upload = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Whole(bytes) => {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))));
            }
            Self::Stream(upload) => upload,
        };
        let mut side = upload.side.lock();
        if let Some(piece) = side.piece.take() {
            wake(&mut side.writer);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if side.ended {
            return Poll::Ready(None);
        }
        side.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(upload) => {
                upload.length.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
