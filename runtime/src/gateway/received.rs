//! A request's body as it comes from the socket, from a client that must not dawdle.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mayfly_core::limits::node;

use super::activity::Busy;
use crate::exchange::{BodyError, BoxError};
use crate::unread::ToTheEnd;

/// A body, and how long it was waited for.
///
/// The clock between two pieces lets a byte a minute pass, and with it a client holds a slot and a connection as long as
/// its function's wall limit is. Time in which nobody asks for more is the function's own, and does not count.
pub struct Received {
    body: ToTheEnd<Incoming, Busy>,
    waits: Option<Instant>,
    pace: Pace,
}

/// What came in which time.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts a piece that was waited for so long; says whether its client is fast enough.
    fn holds(&mut self, waited: Duration, bytes: usize) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        self.waited <= node::BODY_RATE_GRACE
            || u128::from(self.bytes) * 1000
                >= u128::from(node::BODY_RATE) * self.waited.as_millis()
    }
}

impl Received {
    /// A body of which nothing was asked yet.
    pub fn new(body: ToTheEnd<Incoming, Busy>) -> Self {
        Self { body, waits: None, pace: Pace::default() }
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
            this.waits.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        if let Some(since) = this.waits.take()
            && let Some(Ok(frame)) = &frame
        {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if !this.pace.holds(since.elapsed(), bytes) {
                return Poll::Ready(Some(Err(BodyError::Idle.into())));
            }
        } else if let Some(Ok(frame)) = &frame {
            this.pace.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_be_slow_for_a_while_and_then_has_a_rate() {
        let second = Duration::from_secs(1);
        let grace = node::BODY_RATE_GRACE;
        let mut pace = Pace::default();
        assert!(pace.holds(grace, 1));
        assert!(!pace.holds(second, 1), "a byte a second");
        let rate = usize::try_from(node::BODY_RATE).unwrap();
        let mut pace = Pace::default();
        assert!((0..100).all(|_| pace.holds(second, rate)));
        assert!(!pace.holds(Duration::from_millis(10), 0), "a little too slow");
        // What came fast before counts.
        let mut pace = Pace::default();
        assert!(pace.holds(Duration::ZERO, 100 * rate) && pace.holds(100 * second, 0));
    }
}
