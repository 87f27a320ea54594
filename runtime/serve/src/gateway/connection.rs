//! One connection: which protocol it speaks, and each of its requests.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use mayfly_core::RequestId;
use mayfly_core::limits::node;
use mayfly_host::exchange::{RequestBody, ResponseBody};
use mayfly_host::sandbox::Inbound;
use rand::RngCore as _;
use tokio::net::TcpStream;

use super::activity::Activity;
use super::gate::{Gate, Turn};
use super::guarded_io::GuardedIo;
use super::received::Received;
use super::stream::{Beneath, Secured, Socket, Stream};
use super::watched::WatchedBody;
use super::{GatewayConfig, Open, Turns};
use crate::forwarded::{self, Trusted};
use crate::inference;
use crate::invocation::X_REQUEST_ID;
use crate::node::Node;
use crate::tls::{Client, Tls};
use crate::unread::{End, ToTheEnd, close};

/// A connection that was accepted, and what it is served with.
pub struct Accepted {
    pub stream: TcpStream,
    pub remote: SocketAddr,
    pub config: GatewayConfig,
    pub node: Arc<Node>,
    pub watcher: Watcher,
    pub turns: Turns,
    pub guard: Open,
}

impl Accepted {
    /// Starts to serve it as a task of this worker, over TLS if it came for that.
    pub fn spawn(self, tls: Option<Tls>) {
        // A response is written in one piece or streamed: waiting for more to send only costs time (Nagle: about 40 ms).
        let _ = self.stream.set_nodelay(true);
        let Ok(local) = self.stream.local_addr() else { return };
        match tls {
            None => drop(tokio::spawn(plain(self, local))),
            Some(tls) => drop(tokio::spawn(secured(self, local, tls))),
        }
    }

    /// Its socket, and all else.
    fn split(self, local: SocketAddr) -> (TcpStream, Rest) {
        let Self { stream, remote, config, node, watcher, turns, guard } = self;
        (stream, Rest { remote, local, config, node, watcher, turns, guard })
    }
}

/// A connection without its socket.
struct Rest {
    remote: SocketAddr,
    local: SocketAddr,
    config: GatewayConfig,
    node: Arc<Node>,
    watcher: Watcher,
    turns: Turns,
    guard: Open,
}

async fn plain(accepted: Accepted, local: SocketAddr) {
    let (stream, rest) = accepted.split(local);
    let deadline = tokio::time::Instant::now() + rest.config.header_timeout;
    let Ok(Some(version)) = tokio::time::timeout_at(deadline, sniff(&stream)).await else {
        return;
    };
    let (reader, writer) = stream.into_split();
    let activity = Arc::new(Activity::new(reader));
    let client = rest.config.tls.as_ref().and_then(|tls| tls.terms.nobody());
    let stream = Socket::new(writer, activity.clone());
    rest.converse(stream, activity, version, Security { over_tls: false, client }).await;
}

async fn secured(accepted: Accepted, local: SocketAddr, tls: Tls) {
    let (stream, rest) = accepted.split(local);
    let mut activity = None;
    let opening = tls.open(stream, &rest.turns.handshakes, |stream| {
        let (reader, writer) = stream.into_split();
        let activity = activity.insert(Arc::new(Activity::new(reader)));
        Beneath::new(Socket::new(writer, activity.clone()))
    });
    // On the heap, because it takes room that nothing needs once it is over.
    let Some(stream) = Box::pin(opening).await else { return };
    let Some(activity) = activity else { return };
    let session = stream.get_ref().1;
    let version = match session.alpn_protocol() {
        Some(b"h2") => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let security = Security { over_tls: true, client: tls.client(session) };
    rest.converse(Secured::new(stream), activity, version, security).await;
}

impl Rest {
    /// What serves its requests until it ends. Made at once, so that what it is made of takes no room in it.
    fn converse<S: Stream>(
        self,
        stream: S,
        activity: Arc<Activity>,
        version: Version,
        security: Security,
    ) -> impl Future<Output = ()> + Send {
        let Self { remote, local, config, node, watcher, turns, guard } = self;
        activity.speaks(version);
        // A proxy's connections are its clients': which of them a head is from is not known before it is there, so each
        // connection has a share of its own.
        let trusted = config.trusted.contains(remote.ip());
        let room = match trusted {
            true => node.rooms.heads.grant_connection(remote),
            false => node.rooms.heads.grant(None, remote.ip()),
        };
        let trusted = trusted.then(|| config.trusted.clone());
        let turn = (version == Version::HTTP_2).then(|| Arc::new(Turn::new(turns.heads)));
        let gate = turn.clone().map(Gate::new);
        let io = TokioIo::new(GuardedIo::new(stream, activity.clone(), &config, gate, room));
        let ended = activity.clone();
        let service = service_fn(move |request| {
            let (node, activity, trusted) = (node.clone(), activity.clone(), trusted.clone());
            let security = security.clone();
            async move {
                let ends = Ends { remote, local, trusted, security };
                serve(&node, request, ends, activity).await
            }
        });
        // Boxed, so that each connection has the size of its own protocol, and of none while it has not said which.
        let served = match turn {
            Some(turn) => {
                let served = watcher.watch(http2_builder().serve_connection(io, service));
                Served::Streams(turn, Box::pin(served))
            }
            None => {
                let served = watcher.watch(http1_builder().serve_connection(io, service));
                Served::One(Box::pin(served))
            }
        };
        async move {
            let _guard = guard;
            // Errors here are the client's: broken framing, a timeout, a reset. Hyper has answered what can be answered.
            match served {
                Served::One(mut served) => {
                    if served.as_mut().await.is_ok() {
                        ended.end();
                    }
                }
                Served::Streams(turn, mut served) => {
                    let turns = poll_fn(|cx| {
                        turn.begin();
                        let polled = served.as_mut().poll(cx);
                        turn.end();
                        polled
                    });
                    drop(turns.await);
                }
            }
        }
    }
}

/// A connection that is served: by HTTP/2, or by HTTP/1.
enum Served<A, B> {
    Streams(Arc<Turn>, Pin<Box<A>>),
    One(Pin<Box<B>>),
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
    security: Security,
}

/// What TLS says of a connection.
#[derive(Clone)]
struct Security {
    over_tls: bool,
    /// If clients are asked for certificates: over TLS, or beside it.
    client: Option<Arc<Client>>,
}

async fn serve(
    node: &Arc<Node>,
    request: Request<Incoming>,
    ends: Ends,
    activity: Arc<Activity>,
) -> Result<Response<WatchedBody>, ClientLeft> {
    let busy = activity.request();
    let (mut parts, body) = request.into_parts();
    let Ends { mut remote, local, trusted, security } = ends;
    if let Some(client) = security.client {
        client.tell(&mut parts.headers);
    }
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
    inbound.over_tls = security.over_tls;
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
