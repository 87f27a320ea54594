//! The listener for operators: functions, logs, health, readiness, metrics.
//!
//! It has a thread and a runtime of its own, so that it answers while guests hold every worker. Everything but health,
//! readiness and the API's description wants a token, on loopback as well: a web page can reach loopback too.
#![forbid(unsafe_code)]

mod body;
mod control;
mod guard;
mod handlers;
mod node_control;
mod problem;
pub mod profile;
mod routes;
mod secrets;
mod settings;
mod tokens;
mod upload;
mod versions;
mod view;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use http::Request;
use http::header::EXPECT;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use mayfly_core::auth::Tokens;
use mayfly_core::limits::{Limits, node};
use mayfly_observe::logs::LogSink;
use mayfly_observe::metrics::Metrics;
use mayfly_serve::accepting::Failures;
use mayfly_serve::tls::Tls;
use mayfly_serve::unread::{Lingering, ToTheEnd};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

pub use control::{Control, Function, Profiling, Progress, Published, Refused, Removed, State};
pub use handlers::handle;
pub use node_control::NodeControl;
pub use tokens::{TokenError, load_or_make, parse_token, read_token, read_token_file};
pub use view::base_url;

/// How long open connections may go on after the node has drained; log followers would stay for ever.
const LINGER: Duration = Duration::from_secs(1);

/// What the admin API answers from.
pub struct AdminState {
    /// Publishes, removes, lists.
    pub control: Arc<dyn Control>,
    /// For `/metrics` and `inspect`.
    pub metrics: Arc<Metrics>,
    /// For `logs`.
    pub logs: LogSink,
    /// Who may do what.
    pub tokens: Tokens,
    /// Names accepted in `Host`, beside `localhost` and IP addresses; lower case.
    pub hosts: Vec<String>,
    /// Whether the self-test has passed and the node is not draining.
    pub ready: Arc<AtomicBool>,
    /// Why requests should go to another node although this one has started, if they should.
    pub unready: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Whether everything that was deployed before is in the catalog; nothing may change until then.
    pub restored: Arc<AtomicBool>,
    /// The URL below which clients reach functions.
    pub gateway: String,
    /// Limits of a function whose deploy names none.
    pub limits: Limits,
    /// What no deploy may exceed.
    pub limits_max: Limits,
    /// Bytes that a module may have on this node.
    pub package_bytes: u64,
    /// Uploads under way, and those that wait for their turn.
    pub uploads: Uploads,
}

/// Bytes that a module may have on a node with so much memory.
#[must_use]
pub fn package_bytes(memory_budget: u64) -> u64 {
    let fitting = memory_budget / node::PACKAGE_MEMORY_PARTS;
    fitting.clamp(node::PACKAGE_SMALL_BYTES, node::PACKAGE_BYTES)
}

/// Room for modules: one permit is one upload of up to [`AdminState::package_bytes`] and its publish.
#[derive(Debug)]
pub struct Uploads {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(node::PUBLISHES)), waiting: AtomicUsize::new(0) }
    }
}

/// A bound admin listener.
pub struct Admin {
    listener: std::net::TcpListener,
    address: SocketAddr,
    connections: usize,
    tls: Option<Tls>,
}

impl Admin {
    /// Listens; connections wait until [`Admin::start`].
    ///
    /// # Errors
    /// What the system says about the address.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, connections: node::ADMIN_CONNECTIONS, tls: None })
    }

    /// Over TLS, if it is given.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// With so many connections at once.
    #[must_use]
    pub fn with_connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// The address in use, with the port the system chose if none was given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on a thread of its own until `stop` is true.
    ///
    /// # Errors
    /// When there is no thread or runtime to be had.
    pub fn start(
        self,
        state: Arc<AdminState>,
        stop: watch::Receiver<bool>,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("mayfly-admin".into()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(self, state, stop)) {
                tracing::error!(%error, "the admin listener ended");
            }
            // A publish under way runs on; the process ends without it, which the state directory can take.
            runtime.shutdown_background();
        })
    }
}

async fn serve(
    admin: Admin,
    state: Arc<AdminState>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(admin.listener)?;
    let room = Arc::new(Semaphore::new(admin.connections));
    let handshakes = Arc::new(Semaphore::new(node::TLS_HANDSHAKES_AT_ONCE));
    let graceful = GracefulShutdown::new();
    let mut failures = Failures::of("admin");
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Beyond the cap a connection is closed at once: waiting would only hide it.
                if let Ok(permit) = room.clone().try_acquire_owned() {
                    let tls = admin.tls.clone().map(|tls| (tls, handshakes.clone()));
                    connection(stream, tls, state.clone(), graceful.watcher(), permit);
                }
            }
            // Out of descriptors, most likely.
            Err(error) => failures.wait(&error).await,
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(LINGER, graceful.shutdown()).await;
    Ok(())
}

fn connection(
    stream: TcpStream,
    tls: Option<(Tls, Arc<Semaphore>)>,
    state: Arc<AdminState>,
    watcher: Watcher,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    // Ends a connection whose client takes nothing: the kernel counts a closed window as well as a lost host.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(node::WRITE_IDLE_TIMEOUT));
    tokio::spawn(async move {
        let _permit = permit;
        let Some((tls, handshakes)) = tls else {
            return converse(stream, state, watcher).await;
        };
        let opened = Box::pin(tls.open(stream, &handshakes, |stream| stream)).await;
        if let Some(stream) = opened {
            converse(stream, state, watcher).await;
        }
    });
}

/// Serves the requests of a connection until it ends.
async fn converse<S>(stream: S, state: Arc<AdminState>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        async move {
            let expects = request.headers().contains_key(EXPECT);
            let version = request.version();
            let request = request.map(|body| ToTheEnd::new(body, version, expects, ()));
            let told = request.body().told();
            let mut response = handlers::handle(&state, request).await;
            told.close_if_last(version, &mut response);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(node::HEADER_TIMEOUT)
        .max_headers(node::REQUEST_HEADERS)
        .max_header_size(node::REQUEST_HEAD_BYTES)
        .serve_connection(TokioIo::new(Lingering::new(stream)), service);
    // The client's own faults (a reset, a slow head) are no news.
    let _ = watcher.watch(connection).await;
}

#[cfg(test)]
mod tests;
