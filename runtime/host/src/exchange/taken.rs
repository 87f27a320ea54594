//! What a guest's end waits for on the client's side.

use std::future::poll_fn;
use std::task::Poll;

use mayfly_core::limits::node;

use super::{Exchange, ResponseSide};

impl Exchange {
    /// Waits until the client's side has everything, after the guest's end; or nobody wants it any more.
    pub async fn taken(&self) {
        poll_fn(|cx| {
            let mut side = self.response.lock();
            let left = side.head.is_some() || !side.chunks.is_empty();
            if side.gone || side.broken() || !left {
                return Poll::Ready(());
            }
            side.guest = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits, after the guest's end, until little is left of a response whose head has gone out before it: what a slow
    /// client has not taken is bounded by slots, as if its guest were still writing.
    pub async fn nearly_taken(&self) {
        poll_fn(|cx| {
            let mut side = self.response.lock();
            if side.is_nearly_taken() {
                return Poll::Ready(());
            }
            side.guest = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether that is so now.
    pub fn is_nearly_taken(&self) -> bool {
        self.response.lock().is_nearly_taken()
    }
}

impl ResponseSide {
    fn is_nearly_taken(&self) -> bool {
        let little = self.buffered <= node::RESPONSE_BUFFER_BYTES / 16;
        !self.streamed || self.gone || self.broken() || little
    }
}
