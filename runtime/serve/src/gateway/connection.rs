//! One connection: which protocol it speaks, and each of its requests.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use mayfly_core::RequestId;
use mayfly_core::limits::node;
use mayfly_host::exchange::{Aborted, RequestBody, ResponseBody, TakeBy};
use mayfly_host::sandbox::Inbound;
use rand::RngCore as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::activity::{Activity, Answer, Busy};
use super::gate::{Gate, Turn};
use super::guarded_io::GuardedIo;
use super::received::Received;
use super::{GatewayConfig, Open};
use crate::forwarded::{self, Trusted};
use crate::inference;
use crate::invocation::X_REQUEST_ID;
use crate::node::Node;
use crate::unread::{End, ToTheEnd, close};

/// Starts to serve a connection as a task of this worker.
pub fn spawn(
    stream: TcpStream,
    remote: SocketAddr,
    config: &GatewayConfig,
    node: &Arc<Node>,
    graceful: &GracefulShutdown,
    guard: Open,
    turns: &Arc<Semaphore>,
) {
    // A response is written in one piece or streamed: waiting for more to send only costs time (Nagle: about 40 ms).
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let config = config.clone();
    let node = node.clone();
    let watcher = graceful.watcher();
    let turns = turns.clone();
    tokio::spawn(async move {
        let _guard = guard;
        let deadline = tokio::time::Instant::now() + config.header_timeout;
        let Ok(Some(version)) = tokio::time::timeout_at(deadline, sniff(&stream)).await else {
            return;
        };
        let (reader, writer) = stream.into_split();
        let activity = Arc::new(Activity::new(version, reader));
        // A proxy's connections are its clients': which of them a head is from is not known before it is there, so each
        // connection has a share of its own.
        let trusted = config.trusted.contains(remote.ip());
        let room = match trusted {
            true => node.rooms.heads.grant_connection(remote),
            false => node.rooms.heads.grant(None, remote.ip()),
        };
        let trusted = trusted.then(|| config.trusted.clone());
        let turn = (version == Version::HTTP_2).then(|| Arc::new(Turn::new(turns)));
        let gate = turn.clone().map(Gate::new);
        let io = TokioIo::new(GuardedIo::new(writer, activity.clone(), &config, gate, room));
        let service = service_fn(move |request| {
            let (node, activity, trusted) = (node.clone(), activity.clone(), trusted.clone());
            async move {
                let ends = Ends { remote, local, trusted };
                serve(&node, request, ends, activity).await
            }
        });
        // Errors here are the client's: broken framing, a timeout, a reset. Hyper has answered what can be answered.
        // Boxed, so that each connection has the size of its own protocol, and of none while it has not said which.
        if let Some(turn) = turn {
            let served = watcher.watch(http2_builder().serve_connection(io, service));
            let mut served = Box::pin(served);
            let _ = poll_fn(|cx| {
                turn.begin();
                let polled = served.as_mut().poll(cx);
                turn.end();
                polled
            })
            .await;
        } else {
            let served = watcher.watch(http1_builder().serve_connection(io, service));
            let _ = Box::pin(served).await;
        }
    });
}

/// Between the first two looks at a client that has sent less than tells its protocol.
const SNIFF_PAUSE: Duration = Duration::from_millis(5);

/// HTTP/2 begins with `PRI * HTTP/2.0`; no method of HTTP/1 begins with `PRI`.
async fn sniff(stream: &TcpStream) -> Option<Version> {
    let (mut start, mut pause) = ([0; 3], SNIFF_PAUSE);
    loop {
        let n = stream.peek(&mut start).await.ok()?;
        if n == 0 {
            return None;
        }
        if start[..n] != b"PRI"[..n] {
            return Some(Version::HTTP_11);
        }
        if n == 3 {
            return Some(Version::HTTP_2);
        }
        // Peek is ready at once while bytes are there: wait for the next ones by the clock, and ever longer, because
        // ten thousand clients that send a `P` each would keep a worker busy with looking.
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Ours, in `GuardedIo`, tells a slow head from an idle connection; hyper's would be the same for both.
        .header_read_timeout(None)
        .half_close(false)
        .keep_alive(true)
        .max_headers(node::REQUEST_HEADERS)
        .max_header_size(node::REQUEST_HEAD_BYTES)
        .max_buf_size(node::HTTP1_BUFFER_BYTES)
        // On, it holds a response back while more bytes are there to be read, and loses it (a 400 too) if it was the
        // connection's last.
        .pipeline_flush(false);
    builder
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(node::H2_STREAMS)
        .initial_stream_window_size(node::H2_STREAM_WINDOW)
        .initial_connection_window_size(node::H2_CONNECTION_WINDOW)
        .max_send_buf_size(node::H2_SEND_BUFFER)
        .max_header_list_size(u32::try_from(node::REQUEST_HEAD_BYTES).unwrap_or(u32::MAX))
        // Resets that clients cause before we see the stream, and that they make us cause (CVE-2023-44487 and its kin).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024);
    builder
}

/// The client of an HTTP/1 request closed its side while it sent: there is nobody to answer. Hyper closes the
/// connection and writes nothing, which a client that still listens cannot take for success.
#[derive(Debug, thiserror::Error)]
#[error("the client closed its side of the connection")]
struct ClientLeft;

/// The two ends of a connection.
struct Ends {
    remote: SocketAddr,
    local: SocketAddr,
    /// If the one at the other end is a proxy whose word is taken: all of them.
    trusted: Option<Trusted>,
}

async fn serve(
    node: &Arc<Node>,
    request: Request<Incoming>,
    ends: Ends,
    activity: Arc<Activity>,
) -> Result<Response<WatchedBody>, ClientLeft> {
    let busy = activity.request();
    let (parts, body) = request.into_parts();
    let Ends { mut remote, local, trusted } = ends;
    let seen = trusted.map(|trusted| forwarded::read(&parts, remote, &trusted));
    let (mut by_proxy, mut misled) = (None, None);
    match seen {
        Some(Ok(Some(seen))) => (remote, by_proxy) = (seen.client, seen.forwarded),
        Some(Err(why)) => misled = Some(why),
        Some(Ok(None)) | None => {}
    }
    let own = parts.headers.get(X_REQUEST_ID).and_then(|id| RequestId::from_client(id.as_bytes()));
    let request_id = own.unwrap_or_else(|| RequestId::from_random(rand::rng().next_u64()));
    let (version, watched) = (parts.version, parts.version != Version::HTTP_2);
    let head_only = parts.method == Method::HEAD;
    let expects = parts.headers.contains_key(EXPECT);
    let body = (!body.is_end_stream())
        .then(|| ToTheEnd::new(body, parts.version, expects, activity.request()));
    let told = body.as_ref().map(ToTheEnd::told);
    let body = body.map(|body| Box::pin(Received::new(body)) as RequestBody);
    let mut inbound = Inbound::new(parts, remote, local, request_id);
    (inbound.forwarded, inbound.misled) = (by_proxy, misled);
    let mut handle = pin!(inference::handle(node, inbound, body));
    if !watched {
        let end = told.map(|told| End::new(told, node.rooms.discards.grant(None, remote.ip())));
        let mut response = handle.await;
        if head_only {
            leave_body_out(&mut response);
        }
        let mut response = WatchedBody::new(node, remote, response, None, end, busy);
        // HAProxy gives up a request whose answer is there before it is whole; curl 7.88 reads no more once it has all that
        // the answer's length tells, and so never sees that it may send on.
        if response.body().is_whole() {
            poll_fn(|cx| response.body_mut().poll_end(cx)).await;
        }
        return Ok(response);
    }
    // Of a request that is answered at once, this is never polled and costs no timer.
    let mut response = tokio::select! {
        biased;
        response = &mut handle => response,
        () = activity.client_left() => return Err(ClientLeft),
    };
    if let Some(told) = told {
        told.close_if_last(version, &mut response);
    }
    if version == Version::HTTP_10 && !head_only {
        close_without_length(&mut response);
    }
    Ok(WatchedBody::new(node, remote, response, Some(activity), None, busy))
}

/// In HTTP/1.0 a body without a length ends with its connection. hyper closes that and says keep-alive all the same, so
/// the client's next request would be lost.
fn close_without_length(response: &mut Response<ResponseBody>) {
    let whole = matches!(response.body(), ResponseBody::Whole(_));
    if !whole && !response.headers().contains_key(CONTENT_LENGTH) {
        close(Version::HTTP_10, response);
    }
}

/// Of an answer to HEAD the head alone, with the length that its body would have: hyper leaves bodies out over HTTP/1
/// only, and over HTTP/2 each client would take the body for an error.
fn leave_body_out(response: &mut Response<ResponseBody>) {
    let ResponseBody::Whole(bytes) = response.body() else { return };
    let length = HeaderValue::from(bytes.len());
    if !bytes.is_empty() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length);
        *response.body_mut() = ResponseBody::Whole(Bytes::new());
    }
}

/// A response's body that keeps its connection from being idle, and breaks off when the client leaves, even while a
/// guest that writes nothing holds it up.
struct WatchedBody {
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
    fn new(
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

    fn is_whole(&self) -> bool {
        matches!(self.body, ResponseBody::Whole(_))
    }

    /// Whether the answer may end, as far as its request's body is concerned.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
