//! The rest of a request's body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use mayfly_core::limits::node;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Bytes that are read for nothing at most: a body that is over its function's limit by `DISCARD_BYTES` is read to its end,
/// if that limit is no larger than a connection's lingering.
const MOST_BYTES: u64 = node::DISCARD_BYTES + node::LINGER_BYTES as u64;

/// A body that its owner may leave when it likes.
///
/// Of an HTTP/1 body the rest is read to its end then, by a task of its connection's worker: the next request comes behind
/// it. Of an HTTP/2 stream it is kept, for [`End`](super::End).
pub struct ToTheEnd<B, G = ()>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    G: Send + 'static,
{
    /// None once there is nothing more to come.
    body: Option<B>,
    /// What says that the connection is not idle.
    guard: Option<G>,
    told: Arc<Told<B>>,
    worker: Handle,
}

/// What is known of a body while an answer is made, and what is left of it.
#[derive(Debug)]
pub struct Told<B> {
    is_stream: bool,
    pub(super) kept: Mutex<Option<B>>,
    /// It has ended, well or not.
    ended: AtomicBool,
    /// Its client may be waiting to be asked for it.
    unasked: AtomicBool,
    /// It is longer than what is read for nothing.
    long: bool,
}

impl<B> Told<B> {
    /// Whether the connection can have no other request after this one, if nobody reads the body.
    pub fn is_last(&self) -> bool {
        !self.is_stream && !self.ended.load(Relaxed) && (self.long || self.unasked.load(Relaxed))
    }
}

impl<B: Body> Told<B> {
    /// Whether a body was left that its client is sending.
    pub(super) fn has_rest(&self) -> bool {
        !self.unasked.load(Relaxed) && self.kept.lock().as_ref().is_some_and(|b| !b.is_end_stream())
    }
}

impl<B, G> ToTheEnd<B, G>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    G: Send + 'static,
{
    /// A body of which nothing was read yet. A client that `expects` to be asked for it sends nothing until it is; `guard`
    /// lives until all of it is read.
    pub fn new(body: B, version: Version, expects: bool, guard: G) -> Self {
        let told = Told {
            is_stream: version == Version::HTTP_2,
            kept: Mutex::new(None),
            ended: AtomicBool::new(false),
            unasked: AtomicBool::new(expects),
            long: body.size_hint().lower() > MOST_BYTES,
        };
        Self {
            body: Some(body),
            guard: Some(guard),
            told: Arc::new(told),
            worker: Handle::current(),
        }
    }

    /// What its answer has to know, and to keep until it is whole.
    pub fn told(&self) -> Arc<Told<B>> {
        self.told.clone()
    }
}

impl<B, G> Body for ToTheEnd<B, G>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    G: Send + Unpin + 'static,
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
            self.guard = None;
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

impl<B, G> Drop for ToTheEnd<B, G>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    G: Send + 'static,
{
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        if self.told.is_stream {
            *self.told.kept.lock() = Some(body);
        } else if !body.is_end_stream() && !self.told.unasked.load(Relaxed) {
            let guard = self.guard.take();
            self.worker.spawn(async move {
                discard(&mut body, node::DISCARD_IDLE).await;
                drop(guard);
            });
        }
        // To read what nobody has asked for would be to ask for it.
    }
}

/// Reads a body and throws it away, as far as that goes.
pub(super) async fn discard<B: Body<Data = Bytes> + Unpin>(body: &mut B, idle: Duration) {
    let (mut bytes, began) = (0, Instant::now());
    let all = async {
        while let Ok(Some(Ok(frame))) = timeout(idle, body.frame()).await {
            bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            let took = began.elapsed();
            let slow = took > node::BODY_RATE_GRACE && bytes < node::BODY_RATE * took.as_secs();
            if bytes > MOST_BYTES || slow {
                return;
            }
        }
    };
    let _ = timeout(node::DISCARD_TIMEOUT, all).await;
}

#[cfg(test)]
mod tests {
    use http_body_util::channel::{Channel, Sender};

    use super::*;

    fn body(expects: bool) -> (Sender<Bytes>, ToTheEnd<Channel<Bytes>>) {
        let (sender, body) = Channel::new(1);
        (sender, ToTheEnd::new(body, Version::HTTP_11, expects, ()))
    }

    #[tokio::test]
    async fn what_is_left_is_read_to_its_end() {
        let (mut sender, mut body) = body(false);
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
        let (mut sender, rest) = body(false);
        drop(rest);
        let piece = Bytes::from(vec![0; 1 << 20]);
        let mut sent = 0;
        while sender.send_data(piece.clone()).await.is_ok() {
            sent += piece.len() as u64;
        }
        assert!((0..4 << 20).contains(&sent.saturating_sub(MOST_BYTES)), "{sent}");

        let (mut sender, rest) = body(false);
        drop(rest);
        sender.send_data(Bytes::new()).await.unwrap();
        tokio::time::sleep(node::DISCARD_IDLE + Duration::from_secs(1)).await;
        assert!(sender.send_data(Bytes::new()).await.is_err());
    }

    #[tokio::test]
    async fn nothing_is_asked_of_who_waits_to_be_asked() {
        let (mut sender, rest) = body(true);
        assert!(rest.told().is_last());
        drop(rest);
        assert!(sender.send_data(Bytes::new()).await.is_err());
        let (_sender, mut asked) = body(true);
        assert!(futures_poll(&mut asked).await.is_pending());
        assert!(!asked.told().is_last());
    }

    async fn futures_poll(body: &mut ToTheEnd<Channel<Bytes>>) -> Poll<()> {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx).map(|_| ())))
            .await
    }

    #[tokio::test]
    async fn a_stream_is_kept_until_its_answer_is_whole() {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let body = ToTheEnd::new(body, Version::HTTP_2, false, ());
        let answer = body.told();
        drop(body);
        sender.send_data(Bytes::from_static(b"fits")).await.unwrap();
        assert!(!answer.is_last());
        drop(answer);
        assert!(sender.send_data(Bytes::new()).await.is_err());
    }
}
