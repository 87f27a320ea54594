//! A request's body as it comes from the socket, from a client that must not dawdle.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mayfly_host::exchange::{BodyError, BoxError};
use tokio::time::Sleep;

use super::activity::Busy;
use crate::unread::{Pace, ToTheEnd};

/// A body, and how long it was waited for.
///
/// The clock between two pieces lets a byte a minute pass, and with it a client holds a slot and a connection as long as
/// its function's wall limit is. Time in which nobody asks for more is the function's own, and does not count.
pub struct Received {
    body: ToTheEnd<Incoming, Busy>,
    waits: Option<Instant>,
    pace: Pace,
    /// Made when it is first waited for, and set anew when it ends too early: what came meanwhile has earned more time.
    late: Option<Pin<Box<Sleep>>>,
}

impl Received {
    /// A body of which nothing was asked yet.
    pub fn new(body: ToTheEnd<Incoming, Busy>) -> Self {
        Self { body, waits: None, pace: Pace::default(), late: None }
    }

    /// Ends when the client is too slow, even if it sends nothing more at all.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waits.get_or_insert_with(Instant::now);
        loop {
            let left = self.pace.left().saturating_sub(since.elapsed());
            if left.is_zero() {
                return Poll::Ready(());
            }
            let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
            ready!(late.as_mut().poll(cx));
            late.as_mut().reset(tokio::time::Instant::now() + left);
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return this.poll_late(cx).map(|()| Some(Err(BodyError::Idle.into())));
        };
        let waited = this.waits.take().map_or(Duration::ZERO, |since| since.elapsed());
        if let Some(Ok(frame)) = &frame
            && !this.pace.holds(waited, frame.data_ref().map_or(0, Bytes::len))
        {
            return Poll::Ready(Some(Err(BodyError::Idle.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
