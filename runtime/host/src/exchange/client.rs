//! The client's side of an exchange: what it takes, and what it wants no more.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Aborted, Exchange, Head, charge, wake};

impl Exchange {
    /// The head, once it is there; `None` when the exchange ended without one.
    pub async fn head(&self) -> Option<Head> {
        poll_fn(|cx| {
            let mut side = self.response.lock();
            // A guest that failed before its head went out is answered for as if it had sent none.
            if side.broken() {
                return Poll::Ready(None);
            }
            if side.head.is_some() || side.end.is_some() {
                return Poll::Ready(side.head.take());
            }
            side.client = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The whole response, if the guest has ended and nobody has taken its head.
    pub fn take_response(&self) -> Option<(Head, Bytes)> {
        let head = {
            let mut side = self.response.lock();
            if side.end.is_none() || side.broken() {
                return None;
            }
            side.head.take()?
        };
        Some((head, self.take_whole()?))
    }

    /// The whole body, if the guest has ended and everything it wrote is here; one chunk is not copied.
    pub fn take_whole(&self) -> Option<Bytes> {
        let mut side = self.response.lock();
        if side.end.is_none() || side.broken() {
            return None;
        }
        wake(&mut side.guest);
        let first = side.chunks.pop_front().unwrap_or_default();
        if side.chunks.is_empty() {
            return Some(first);
        }
        let rest: usize = side.chunks.iter().map(Bytes::len).sum();
        let mut all = Vec::with_capacity(first.len() + rest);
        all.extend_from_slice(&first);
        for chunk in side.chunks.drain(..) {
            all.extend_from_slice(&chunk);
        }
        Some(all.into())
    }

    /// What is written goes nowhere from now on: the response has its head and no body.
    pub fn discard(&self) {
        let mut side = self.response.lock();
        side.discards = true;
        side.chunks.clear();
        side.buffered = 0;
        wake(&mut side.guest);
    }

    /// Nobody listens any more: the guest's next write fails.
    pub fn client_gone(&self) {
        let mut side = self.response.lock();
        side.gone = true;
        side.chunks.clear();
        side.buffered = 0;
        wake(&mut side.guest);
    }

    pub(super) fn set_streamed(&self) {
        self.response.lock().streamed = true;
    }

    /// Whether the client's side has every byte that was declared: a connection asks for no more then.
    pub(super) fn has_all(&self) -> bool {
        let side = self.response.lock();
        side.declared == Some(side.taken)
    }

    pub(super) fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        let mut side = self.response.lock();
        if let Some(chunk) = side.chunks.pop_front() {
            side.buffered -= charge(&chunk);
            side.taken += chunk.len() as u64;
            wake(&mut side.guest);
            return Poll::Ready(Some(Ok(chunk)));
        }
        if side.broken() {
            return Poll::Ready(Some(Err(Aborted)));
        }
        if side.end.is_some() {
            return Poll::Ready(None);
        }
        side.client = Some(cx.waker().clone());
        Poll::Pending
    }
}
