//! The sockets that clients see: one runtime per worker, every limit set explicitly, an accept loop that cannot die.

mod activity;
mod connection;
mod frames;
pub mod framing;
mod gate;
mod guarded_io;
mod listeners;
mod received;
mod stream;
mod watched;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use mayfly_core::limits::node;
use mayfly_core::shares::{Grant, Pot};
use mayfly_host::descriptors::Descriptors;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use connection::Accepted;
use listeners::{Listeners, listen};

use crate::accepting::Failures;
use crate::forwarded::Trusted;
use crate::node::Node;
use crate::tls::Tls;

/// What the operator decides about the gateway.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where clients connect to.
    pub listen: SocketAddr,
    /// TLS, if it is spoken: there, or at an address of its own.
    pub tls: Option<GatewayTls>,
    /// Threads that serve connections, one per core if not given.
    pub workers: Option<usize>,
    /// Proxies whose word on a request's client is taken.
    pub trusted: Trusted,
    /// Until the whole head of a request is there.
    pub header_timeout: Duration,
    /// Of a connection without a request.
    pub keep_alive_timeout: Duration,
    /// Between two pieces of a response that the client takes.
    pub write_idle_timeout: Duration,
    /// Connections at once.
    pub connections: usize,
    /// What there is for them and for functions.
    pub descriptors: Descriptors,
    /// How long a drain may take.
    pub drain_timeout: Duration,
}

/// How a gateway speaks TLS.
#[derive(Debug, Clone)]
pub struct GatewayTls {
    /// Where; if not given, the gateway's own address speaks nothing else.
    pub listen: Option<SocketAddr>,
    /// What is shown and asked.
    pub terms: Tls,
}

impl GatewayConfig {
    /// The defaults of `mayfly_core::limits::node`, at this address.
    #[must_use]
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            workers: None,
            trusted: Trusted::default(),
            header_timeout: node::HEADER_TIMEOUT,
            keep_alive_timeout: node::KEEP_ALIVE_TIMEOUT,
            write_idle_timeout: node::WRITE_IDLE_TIMEOUT,
            connections: node::CONNECTIONS,
            descriptors: Descriptors::plenty(),
            drain_timeout: Duration::from_secs(30) + node::DRAIN_GRACE,
        }
    }
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; change {key}, or stop what listens there")]
    Bind {
        /// Of the configuration.
        key: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no thread or runtime.
    #[error("cannot start a worker: {0}")]
    Worker(std::io::Error),
}

/// A listening gateway whose workers are not started yet.
pub struct Gateway {
    config: GatewayConfig,
    node: Arc<Node>,
    listeners: Listeners<std::net::TcpListener>,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
}

/// A gateway whose workers run.
pub struct Running {
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Listens. Connections wait in the kernel's queue until [`Gateway::start`].
    ///
    /// # Errors
    /// [`GatewayError::Bind`] names the address and the key.
    pub fn bind(config: GatewayConfig, node: Arc<Node>) -> Result<Self, GatewayError> {
        let open = |key, address| {
            listen(address).map_err(|source| GatewayError::Bind { key, address, source })
        };
        let (main, address) = open("gateway.listen", config.listen)?;
        let (tls, beside, tls_address) = match &config.tls {
            None => (None, None, None),
            Some(GatewayTls { listen: None, terms }) => (Some(terms.clone()), None, Some(address)),
            Some(GatewayTls { listen: Some(other), terms }) => {
                let (listener, address) = open("gateway.tls.listen", *other)?;
                (None, Some((listener, terms.clone())), Some(address))
            }
        };
        let listeners = Listeners { main, tls, beside };
        Ok(Self { config, node, listeners, address, tls_address })
    }

    /// The address that is listened on, with the port that the system chose if none was given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The one that speaks TLS, if there is any; it may be the same.
    #[must_use]
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`GatewayError::Worker`].
    pub fn start(self) -> Result<Running, GatewayError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (stop, stopped) = watch::channel(false);
        let open = Arc::new(AtomicUsize::new(0));
        let most = self.config.connections.min(self.config.descriptors.connections(0));
        let places = Pot::new(most);
        let mut workers = Vec::new();
        for i in 0..self.config.workers.unwrap_or(cores).max(1) {
            let listeners = self.listeners.try_clone().map_err(GatewayError::Worker)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                // Polling the sockets every 61 turns, the default, lets yielding guests starve them.
                .event_interval(16)
                .build()
                .map_err(GatewayError::Worker)?;
            let worker = Worker {
                config: self.config.clone(),
                node: self.node.clone(),
                open: open.clone(),
                places: places.clone(),
                stopped: stopped.clone(),
                turns: Turns {
                    heads: Arc::new(Semaphore::new(node::H2_TURNS)),
                    handshakes: Arc::new(Semaphore::new(node::TLS_HANDSHAKES_AT_ONCE)),
                },
            };
            let thread = std::thread::Builder::new()
                .name(format!("mayfly-io-{i}"))
                .spawn(move || runtime.block_on(worker.run(listeners)))
                .map_err(GatewayError::Worker)?;
            workers.push(thread);
        }
        Ok(Running { stop, workers })
    }
}

impl Running {
    /// Stops accepting, lets requests under way end, closes what is idle; returns when all workers have ended, at the
    /// drain timeout at the latest. Blocks: not for an async context.
    pub fn drain(self) {
        let _ = self.stop.send(true);
        for worker in self.workers {
            let _ = worker.join();
        }
    }
}

struct Worker {
    config: GatewayConfig,
    node: Arc<Node>,
    /// Open connections of all workers.
    open: Arc<AtomicUsize>,
    /// The same, by their clients' addresses.
    places: Arc<Pot>,
    stopped: watch::Receiver<bool>,
    turns: Turns,
}

/// What few connections of a worker have at once.
#[derive(Clone)]
struct Turns {
    /// Turns of HTTP/2 connections in which heads are read.
    heads: Arc<Semaphore>,
    /// Handshakes that are computed.
    handshakes: Arc<Semaphore>,
}

impl Worker {
    async fn run(self, listeners: Listeners<std::net::TcpListener>) {
        let listeners = match listeners.into_async() {
            Ok(listeners) => listeners,
            Err(error) => {
                tracing::error!(%error, "a worker cannot use its listener");
                return;
            }
        };
        let beating = tokio::spawn(self.node.heartbeats.join().go_on());
        let mut stopped = self.stopped.clone();
        let mut failures = Failures::of("gateway");
        let graceful = GracefulShutdown::new();
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                accepted = listeners.accept() => match accepted {
                    Ok((stream, remote, tls)) => self.serve(stream, remote, tls, &graceful),
                    Err(error) => failures.wait(&error).await,
                },
            }
        }
        // From here on the node says itself that it is not ready.
        beating.abort();
        drop(listeners);
        let drained = tokio::time::timeout(self.config.drain_timeout, graceful.shutdown()).await;
        if drained.is_err() {
            tracing::warn!("the drain timeout passed with connections open; they are cut");
        }
    }

    fn serve(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        tls: Option<Tls>,
        graceful: &GracefulShutdown,
    ) {
        let functions = self.node.catalog.load().count();
        let most = self.config.connections.min(self.config.descriptors.connections(functions));
        let place = place(&self.places, &self.config.trusted, remote.ip());
        let Some(guard) = Open::enter(&self.open, most, &self.node, place) else {
            // Dropped at once: a client that is told nothing tries another node sooner.
            return;
        };
        let accepted = Accepted {
            stream,
            remote,
            config: self.config.clone(),
            node: self.node.clone(),
            watcher: graceful.watcher(),
            turns: self.turns.clone(),
            guard,
        };
        accepted.spawn(tls);
    }
}

/// How many connections there may be of those asked for, with a memory budget of so many bytes.
#[must_use]
pub fn fitting(asked: usize, budget: u64) -> usize {
    let fit = usize::try_from(budget / node::CONNECTION_BYTES).unwrap_or(usize::MAX);
    if fit < asked {
        tracing::info!(
            connections = fit,
            "engine.memory-budget has room for fewer connections than gateway.connections allows"
        );
    }
    asked.min(fit)
}

/// One place for a connection from this address, or none if it has its part already. Not counted are those of proxies
/// that are trusted, and of this machine: they are many clients', or the operator's own.
fn place(places: &Arc<Pot>, trusted: &Trusted, peer: IpAddr) -> Option<Grant> {
    let one = || {
        let mut place = places.grant(None, peer);
        let _ = place.grow(1);
        place
    };
    (!peer.to_canonical().is_loopback() && !trusted.contains(peer)).then(one)
}

/// One open connection.
struct Open {
    count: Arc<AtomicUsize>,
    node: Arc<Node>,
    _place: Option<Grant>,
}

impl Open {
    /// None if there are `max` already, or its address has its part of them.
    fn enter(
        count: &Arc<AtomicUsize>,
        max: usize,
        node: &Arc<Node>,
        place: Option<Grant>,
    ) -> Option<Self> {
        let has_place = place.as_ref().is_none_or(|place| place.amount() > 0);
        let guard = Self { count: count.clone(), node: node.clone(), _place: place };
        node.metrics.connections.inc();
        node.metrics.connections_total.inc();
        (count.fetch_add(1, Ordering::Relaxed) < max && has_place).then_some(guard)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.node.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_connections_to_others() {
        let places = Pot::new(1600);
        let open = |peer: [u8; 4]| place(&places, &Trusted::default(), peer.into());
        let held: Vec<_> = (0..1600).map(|_| open([192, 0, 2, 1]).unwrap()).collect();
        assert_eq!(held.iter().filter(|place| place.amount() == 1).count(), 1050);
        assert_eq!(open([192, 0, 2, 2]).unwrap().amount(), 1);
        assert!(open([127, 0, 0, 1]).is_none());
        let trusted = Trusted::new(&["192.0.2.0/24".parse().unwrap()]);
        assert!(place(&places, &trusted, [192, 0, 2, 1].into()).is_none());
        drop(held);
        assert_eq!(places.free(), 1600);
    }
}
