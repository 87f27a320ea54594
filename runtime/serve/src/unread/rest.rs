//! The rest of a request's body.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Response, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use mayfly_core::limits::node;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::Pace;

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
    left: Mutex<Left<B>>,
    /// Nothing more of it is to come, well or not.
    ended: AtomicBool,
    /// Its client may be waiting to be asked for it.
    unasked: AtomicBool,
    /// It is longer than what is read for nothing.
    long: bool,
}

/// An HTTP/2 body that its owner has left.
#[derive(Debug)]
struct Left<B> {
    body: Option<B>,
    waits: Option<Waker>,
}

/// Says that a connection ends with this answer to a request of this version.
pub fn close<R>(version: Version, response: &mut Response<R>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    // To a later version's answer hyper adds that a client of 1.0 may keep the connection.
    *response.version_mut() = version;
}

impl<B> Told<B> {
    /// Says so, if the connection can have no other request after this one of this version.
    pub fn close_if_last<R>(&self, version: Version, response: &mut Response<R>) {
        if self.is_last() {
            close(version, response);
        }
    }

    fn is_last(&self) -> bool {
        !self.is_stream && !self.ended.load(Relaxed) && (self.long || self.unasked.load(Relaxed))
    }

    fn end(&self) {
        self.ended.store(true, Relaxed);
        if self.is_stream
            && let Some(waits) = self.left.lock().waits.take()
        {
            waits.wake();
        }
    }

    /// Keeps what is left of a stream, until its answer is whole.
    pub(super) fn keep(&self, body: B) {
        let mut left = self.left.lock();
        left.body = Some(body);
        if let Some(waits) = left.waits.take() {
            waits.wake();
        }
    }

    /// What its owner leaves, once it does; nothing if there is no more to come.
    pub(super) async fn left(&self) -> Option<B> {
        poll_fn(|cx| {
            let mut left = self.left.lock();
            if left.body.is_some() || self.ended.load(Relaxed) {
                return Poll::Ready(left.body.take());
            }
            left.waits = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<B: Body> Told<B> {
    /// Whether nothing is to come of it, or nothing that was asked for.
    pub(super) fn is_over(&self) -> bool {
        let ended = || self.ended.load(Relaxed);
        self.unasked.load(Relaxed)
            || self.left.lock().body.as_ref().map_or_else(ended, B::is_end_stream)
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
            left: Mutex::new(Left { body: None, waits: None }),
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
        let is_over = !matches!(frame, Some(Ok(_))) || self.is_end_stream();
        // Some HTTP/2 clients end a body whose length they told with a frame of nothing, for which few owners ask.
        if is_over || self.size_hint().exact() == Some(0) {
            self.told.end();
        }
        if is_over {
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
            self.told.keep(body);
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
    let (mut pace, mut since) = (Pace::default(), Instant::now());
    let all = async {
        while let Ok(Some(Ok(frame))) = timeout(idle, body.frame()).await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if !pace.holds(since.elapsed(), bytes) || pace.bytes() > MOST_BYTES {
                return;
            }
            since = Instant::now();
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
