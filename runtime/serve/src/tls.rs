//! TLS of a listener: what clients are shown, and how a connection is agreed on.
//!
//! What is shown can be changed while connections stand; each begins with what there is at its first byte. A connection
//! agrees within a clock of its own, and counts as one meanwhile. Handshakes are most of what TLS costs (0.1 to 1 ms
//! each), so few of a worker are computed before its other tasks have their turn.

mod client;
mod names;
mod pair;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use mayfly_core::limits::node;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{
    Acceptor, NoServerSessionStorage, ProducesTickets, ServerConfig, ServerConnection,
    WebPkiClientVerifier,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::unread::Lingering;

pub use client::{Authorities, Client};
pub use names::Names;
pub use pair::{Fault, Pair};

/// What a connection that begins with HTTP is told: a client whose URL is `http` shows it.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 62\r\nconnection: close\r\n\r\nthis port speaks TLS: write https:// in place of http:// here\n";

/// What is shown to clients, and asked of them.
#[derive(Debug)]
pub struct Terms {
    /// Certificates, by the names that clients ask for.
    pub names: Names,
    /// Whose certificates clients may have, if they are asked for them.
    pub clients: Option<Authorities>,
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    pub h2: bool,
}

/// The TLS of a listener. A clone is a counter.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    config: ArcSwap<ServerConfig>,
    /// The same for all terms, so that clients resume after a change; its key is renewed every 6 h.
    tickets: Arc<dyn ProducesTickets>,
    /// When the first of the certificates expires.
    expires: AtomicU64,
    /// What functions are told of a client without a certificate, if clients are asked for them.
    nobody: Option<Arc<Client>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("expires", &self.expires()).finish_non_exhaustive()
    }
}

impl Tls {
    /// With these terms.
    ///
    /// # Errors
    /// What rustls says; nothing of it is known to happen with terms that could be made.
    pub fn new(terms: Terms) -> Result<Self, rustls::Error> {
        let tickets = ring::Ticketer::new()?;
        let (expires, asks) = (terms.names.expires(), terms.clients.is_some());
        let config = ArcSwap::new(Arc::new(server_config(terms, &tickets)?));
        let nobody = asks.then(Arc::default);
        Ok(Self(Arc::new(Inner { config, tickets, expires: expires.into(), nobody })))
    }

    /// Other terms for connections that begin from now on; whether clients are asked for certificates stays as it was.
    ///
    /// # Errors
    /// As for [`Tls::new`]; nothing is changed then.
    pub fn change(&self, terms: Terms) -> Result<(), rustls::Error> {
        let expires = terms.names.expires();
        self.0.config.store(Arc::new(server_config(terms, &self.0.tickets)?));
        self.0.expires.store(expires, Relaxed);
        Ok(())
    }

    /// When the first of the certificates expires, in seconds after 1970.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.0.expires.load(Relaxed)
    }

    /// What functions are told of a client that shows no certificate; none if clients are not asked for them.
    #[must_use]
    pub fn nobody(&self) -> Option<Arc<Client>> {
        self.0.nobody.clone()
    }

    /// What functions are told of the client of this connection; none if clients are not asked for certificates.
    #[must_use]
    pub fn client(&self, of: &ServerConnection) -> Option<Arc<Client>> {
        let nobody = self.nobody()?;
        let shown = of.peer_certificates().and_then(<[_]>::first);
        Some(shown.map_or(nobody, |certificate| Arc::new(Client::of(certificate))))
    }

    /// Agrees with a client, and gives what is above TLS; `beneath` makes of its socket what is below, and `turns` are
    /// those of the worker. None if the client did not agree in time: then it has been told what can be told.
    pub async fn open<S>(
        &self,
        socket: TcpStream,
        turns: &Semaphore,
        beneath: impl FnOnce(TcpStream) -> S,
    ) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let deadline = Instant::now() + node::TLS_HANDSHAKE_TIMEOUT;
        let opening = async {
            let mut first = [0];
            if socket.peek(&mut first).await.ok()? == 0 {
                return None;
            }
            // A method of HTTP; TLS begins with 22.
            if first[0].is_ascii_uppercase() {
                let mut socket = Lingering::new(socket);
                let _ = socket.write_all(PLAIN).await;
                let _ = socket.shutdown().await;
                return None;
            }
            match self.agree(beneath(socket), turns).await {
                Ok(stream) => Some(stream),
                Err(beneath) => {
                    // It may still be sending what it would not have sent had it known: see `unread`.
                    let _ = Lingering::new(beneath?).shutdown().await;
                    None
                }
            }
        };
        timeout_at(deadline, opening).await.ok().flatten()
    }

    async fn agree<S>(&self, beneath: S, turns: &Semaphore) -> Result<TlsStream<S>, Option<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Waits for the client with nothing in its hands.
        let mut hello = LazyConfigAcceptor::new(Acceptor::default(), beneath);
        let Ok(start) = (&mut hello).await else { return Err(hello.take_io()) };
        let turn = turns.acquire().await;
        let accept = start.into_stream_with(self.0.config.load_full(), |connection| {
            connection.set_buffer_limit(Some(node::TLS_BUFFER_BYTES));
        });
        // Kept until all others that are ready have had their turn.
        tokio::task::yield_now().await;
        drop(turn);
        accept.into_fallible().await.map_err(|(_, beneath)| Some(beneath))
    }
}

fn server_config(
    terms: Terms,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let resumes = terms.clients.is_none();
    let builder = match terms.clients {
        None => builder.with_no_client_auth(),
        Some(Authorities { roots, required }) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
            let verifier =
                verifier.build().map_err(|why| rustls::Error::General(why.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(terms.names));
    let h2 = terms.h2.then(|| b"h2".to_vec());
    config.alpn_protocols = h2.into_iter().chain([b"http/1.1".to_vec()]).collect();
    // Tickets only: the client keeps its session, and nothing is kept here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if resumes {
        config.ticketer = tickets.clone();
    } else {
        // A ticket would let a certificate in that has expired since, or whose authority is trusted no more.
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
