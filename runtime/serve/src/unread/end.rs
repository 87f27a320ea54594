//! The end of an HTTP/2 answer, which waits for the end of its request.
//!
//! An answer that is whole before its request is may be followed by a reset (RFC 9113, section 8.1), and half of the
//! clients take that for a failure: curl 7.88 shows nothing of the answer. So the last frame comes behind the body's, as
//! far as that is soon.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;
use mayfly_core::limits::node;
use mayfly_core::shares::Grant;

use super::rest::{Told, discard};

/// When an answer may end.
pub struct End<B> {
    told: Arc<Told<B>>,
    /// For one more stream that is open for its body alone; none once it may end.
    room: Option<Grant>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<B> End<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    /// Of the answer to a request with this body; `room` is that for streams that are kept open.
    pub fn new(told: Arc<Told<B>>, room: Grant) -> Self {
        Self { told, room: Some(room), waiting: None }
    }

    /// Whether it may end now.
    pub fn is_here(&self) -> bool {
        self.room.is_none() || self.waiting.is_none() && self.told.is_over()
    }

    /// Waits until it may.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(room) = &mut self.room else { return Poll::Ready(()) };
        if self.waiting.is_none() && !self.told.is_over() && room.grow(1) {
            self.waiting = Some(Box::pin(come(self.told.clone())));
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
        }
        self.room = None;
        self.waiting = None;
        Poll::Ready(())
    }
}

/// Waits until the body's owner leaves it, as a guest does at its end, and reads the rest for nothing.
async fn come<B: Body<Data = Bytes> + Unpin>(told: Arc<Told<B>>) {
    let idle = node::DISCARD_STREAM_IDLE;
    if let Ok(Some(mut body)) = tokio::time::timeout(idle, told.left()).await {
        discard(&mut body, idle).await;
        // Let go behind the answer's last frame: a stream that is let go before is reset before.
        told.keep(body);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http::Version;
    use http_body_util::BodyExt as _;
    use http_body_util::channel::{Channel, Sender};
    use mayfly_core::shares::Pot;

    use super::*;
    use crate::unread::ToTheEnd;

    fn answer(pot: &Arc<Pot>, expects: bool) -> (Sender<Bytes>, End<Channel<Bytes>>) {
        let (sender, body) = Channel::new(1);
        let body = ToTheEnd::new(body, Version::HTTP_2, expects, ());
        (sender, End::new(body.told(), pot.grant(None, [10, 0, 0, 1].into())))
    }

    #[tokio::test]
    async fn it_comes_behind_the_body() {
        let pot = Pot::new(4);
        let (mut sender, mut end) = answer(&pot, false);
        let ended = tokio::spawn(async move {
            assert!(!end.is_here());
            poll_fn(|cx| end.poll(cx)).await;
            assert!(end.is_here());
        });
        for _ in 0..100 {
            sender.send_data(Bytes::from_static(b"more")).await.unwrap();
        }
        assert!(!ended.is_finished() && pot.free() == 3);
        drop(sender);
        ended.await.unwrap();
        assert_eq!(pot.free(), 4);
    }

    #[tokio::test]
    async fn and_behind_the_owner_of_the_body() {
        let pot = Pot::new(4);
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let mut body = ToTheEnd::new(body, Version::HTTP_2, false, ());
        let mut end = End::new(body.told(), pot.grant(None, [10, 0, 0, 1].into()));
        let ended = tokio::spawn(async move { poll_fn(|cx| end.poll(cx)).await });
        sender.send_data(Bytes::from_static(b"first")).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        tokio::task::yield_now().await;
        assert!(!ended.is_finished());
        drop(body);
        sender.send_data(Bytes::from_static(b"for nobody")).await.unwrap();
        drop(sender);
        ended.await.unwrap();

        // And not behind an owner that has all of it.
        let (sender, body) = Channel::<Bytes>::new(1);
        let mut body = ToTheEnd::new(body, Version::HTTP_2, false, ());
        let mut end = End::new(body.told(), pot.grant(None, [10, 0, 0, 1].into()));
        assert!(!end.is_here());
        drop(sender);
        assert!(body.frame().await.is_none());
        assert!(end.is_here());
        poll_fn(|cx| end.poll(cx)).await;
    }

    #[tokio::test]
    async fn but_not_of_who_sends_nothing_or_was_not_asked_or_where_there_is_no_room() {
        let pot = Pot::new(4);
        let (_silent, mut end) = answer(&pot, false);
        poll_fn(|cx| end.poll(cx)).await;
        let (_unasked, end) = answer(&pot, true);
        assert!(end.is_here());
        let full = Pot::new(0);
        let (mut sender, mut end) = answer(&full, false);
        poll_fn(|cx| end.poll(cx)).await;
        sender.send_data(Bytes::from_static(b"kept until the answer is gone")).await.unwrap();
        drop(end);
        assert!(sender.send_data(Bytes::new()).await.is_err());
    }
}
