//! A response on its way to a client that may leave.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use mayfly_core::limits::node;
use mayfly_host::exchange::{Aborted, ResponseBody, TakeBy};

use super::activity::{Activity, Answer, Busy};
use crate::node::Node;
use crate::unread::End;

/// A response's body that keeps its connection from being idle, and breaks off when the client leaves, even while a
/// guest that writes nothing holds it up.
pub struct WatchedBody {
    body: ResponseBody,
    /// The connection, if its client may leave without hyper's seeing it.
    watched: Option<Arc<Activity>>,
    /// Ends when it has; made when the body first has to wait.
    left: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What it counts as; its pieces have it as well.
    answer: Option<Arc<Answer>>,
    /// Of an HTTP/2 answer to a request with a body.
    end: Option<End<Incoming>>,
    busy: Busy,
}

impl WatchedBody {
    /// Of this response.
    pub fn new(
        node: &Arc<Node>,
        remote: SocketAddr,
        mut response: Response<ResponseBody>,
        watched: Option<Arc<Activity>>,
        end: Option<End<Incoming>>,
        busy: Busy,
    ) -> Response<Self> {
        let answer = match response.extensions().get() {
            Some(TakeBy(by)) => Some(busy.owe(*by)),
            None => counted(node, remote, &mut response, &busy),
        };
        response.map(|body| Self { body, watched, left: None, answer, end, busy })
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        matches!(self.body, ResponseBody::Whole(_))
    }

    /// Whether the answer may end, as far as its request's body is concerned.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.as_mut().map_or(Poll::Ready(()), |end| end.poll(cx))
    }
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// Counts a response that is kept until its client takes it. One for which there is no room has no body.
fn counted(
    node: &Arc<Node>,
    remote: SocketAddr,
    response: &mut Response<ResponseBody>,
    busy: &Busy,
) -> Option<Arc<Answer>> {
    let bytes = match response.body() {
        ResponseBody::Whole(bytes) => bytes.len(),
        // As long as its guest lives, that one's slot bounds it.
        ResponseBody::Streamed(_) => 0,
    };
    let cost = bytes + node::ANSWER_COST;
    // HTTP/1 has one at a time, and most are short.
    if response.body().is_end_stream() || (!busy.is_h2() && cost <= node::ANSWERS_FREE_BYTES) {
        return None;
    }
    let answer = busy.answer(cost, || node.rooms.answers.grant(None, remote.ip()));
    if answer.is_none() {
        *response.body_mut() = ResponseBody::Whole(Bytes::new());
        if !is_error(response.status()) {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        for name in [CONTENT_LENGTH, CONTENT_TYPE] {
            response.headers_mut().remove(name);
        }
    }
    answer
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(activity) = self.watched.take()
        {
            self.left = Some(Box::pin(async move { activity.client_left().await }));
        }
        if polled.is_pending()
            && let Some(left) = &mut self.left
        {
            ready!(left.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Aborted)));
        }
        if matches!(polled, Poll::Ready(None)) {
            ready!(self.poll_end(cx));
        }
        let (busy, answer) = (&self.busy, self.answer.as_ref());
        polled.map_ok(|frame| frame.map_data(|piece| busy.until_sent(piece, answer)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.end.as_ref().is_none_or(End::is_here)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
