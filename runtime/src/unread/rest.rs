//! The rest of a request's body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use mayfly_core::limits::node;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::shares::Grant;

/// A body that is read to its end: what its owner leaves when dropping it is taken by a task of its connection's worker.
pub struct ToTheEnd<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    /// None once there is nothing more to come.
    body: Option<B>,
    told: Arc<Told>,
    worker: Handle,
    room: Option<Grant>,
}

/// What is known of a body while an answer is made.
#[derive(Debug)]
pub struct Told {
    /// It has ended, well or not.
    ended: AtomicBool,
    /// Its client may be waiting to be asked for it.
    unasked: AtomicBool,
    /// It is longer than what is read for nothing.
    long: bool,
}

impl Told {
    /// Whether the connection can have no other request after this one, if nobody reads the body.
    pub fn is_last(&self) -> bool {
        !self.ended.load(Relaxed) && (self.long || self.unasked.load(Relaxed))
    }
}

impl<B> ToTheEnd<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    /// A body of which nothing was read yet. A client that `expects` to be asked for it sends nothing until it is;
    /// `room` is that for streams that are kept open for their bodies alone, where a connection has many.
    pub fn new(body: B, expects: bool, room: Option<Grant>) -> Self {
        let long = body.size_hint().lower() > node::DISCARD_BYTES;
        let told = Told { ended: AtomicBool::new(false), unasked: AtomicBool::new(expects), long };
        Self { body: Some(body), told: Arc::new(told), worker: Handle::current(), room }
    }

    /// What its connection may know.
    pub fn told(&self) -> Arc<Told> {
        self.told.clone()
    }
}

impl<B> Body for ToTheEnd<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        self.told.unasked.store(false, Relaxed);
        let frame = ready!(polled);
        if !matches!(frame, Some(Ok(_))) || self.is_end_stream() {
            self.told.ended.store(true, Relaxed);
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

impl<B> Drop for ToTheEnd<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        // To read now would be to ask for it.
        if body.is_end_stream() || self.told.unasked.load(Relaxed) {
            return;
        }
        let mut room = self.room.take();
        if room.as_mut().is_none_or(|room| room.grow(1)) {
            self.worker.spawn(discard(body, room));
        }
    }
}

/// Reads a body and throws it away, as far as that goes.
async fn discard<B: Body<Data = Bytes> + Unpin>(mut body: B, _room: Option<Grant>) {
    let mut bytes = 0;
    let all = async {
        while let Ok(Some(Ok(frame))) = timeout(node::DISCARD_IDLE, body.frame()).await {
            bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            if bytes > node::DISCARD_BYTES {
                return;
            }
        }
    };
    let _ = timeout(node::DISCARD_TIMEOUT, all).await;
}

#[cfg(test)]
mod tests {
    use http_body_util::channel::{Channel, Sender};
    use std::time::Duration;

    use super::*;
    use crate::shares::Pot;

    fn body(expects: bool, room: Option<Grant>) -> (Sender<Bytes>, ToTheEnd<Channel<Bytes>>) {
        let (sender, body) = Channel::new(1);
        (sender, ToTheEnd::new(body, expects, room))
    }

    #[tokio::test]
    async fn what_is_left_is_read_to_its_end() {
        let (mut sender, mut body) = body(false, None);
        sender.send_data(Bytes::from_static(b"first")).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        let told = body.told();
        drop(body);
        for _ in 0..100 {
            sender.send_data(Bytes::from_static(b"more")).await.unwrap();
        }
        assert!(!told.is_last());
    }

    #[tokio::test]
    async fn but_not_more_than_a_bound_and_not_from_who_sends_nothing() {
        let (mut sender, rest) = body(false, None);
        drop(rest);
        let piece = Bytes::from(vec![0; 1 << 20]);
        let mut sent = 0;
        while sender.send_data(piece.clone()).await.is_ok() {
            sent += piece.len() as u64;
        }
        assert!((0..4 << 20).contains(&sent.saturating_sub(node::DISCARD_BYTES)), "{sent}");

        let (mut sender, rest) = body(false, None);
        drop(rest);
        sender.send_data(Bytes::new()).await.unwrap();
        tokio::time::sleep(node::DISCARD_IDLE + Duration::from_secs(1)).await;
        assert!(sender.send_data(Bytes::new()).await.is_err());
    }

    #[tokio::test]
    async fn nothing_is_asked_of_who_waits_to_be_asked() {
        let (mut sender, rest) = body(true, None);
        assert!(rest.told().is_last());
        drop(rest);
        assert!(sender.send_data(Bytes::new()).await.is_err());
        let (_sender, mut asked) = body(true, None);
        assert!(futures_poll(&mut asked).await.is_pending());
        assert!(!asked.told().is_last());
    }

    async fn futures_poll(body: &mut ToTheEnd<Channel<Bytes>>) -> Poll<()> {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx).map(|_| ())))
            .await
    }

    #[tokio::test]
    async fn streams_that_are_kept_open_for_their_bodies_are_counted() {
        let pot = Pot::new(4);
        let kept: Vec<_> = (0..6)
            .map(|_| body(false, Some(pot.grant(None, [10, 0, 0, 1].into()))))
            .map(|(sender, rest)| {
                drop(rest);
                sender
            })
            .collect();
        assert_eq!(pot.free(), 1, "an address has three quarters");
        drop(kept);
        while pot.free() < 4 {
            tokio::task::yield_now().await;
        }
    }
}
