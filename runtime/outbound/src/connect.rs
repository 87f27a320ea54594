//! A new connection: resolve, judge every address, connect to one that was judged, agree on TLS by the name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mayfly_core::limits::outbound;
use mayfly_core::outbound::{Scheme, Target};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{Client, within};
use crate::fault::{Code, Fault};
use crate::pool::{Conn, Origin, Places, Pool};

/// TLS sessions of one function that can be resumed.
const SESSIONS: usize = 32;

/// Opens a connection for a call.
pub(crate) async fn connect(
    client: Arc<Client>,
    pool: Arc<Pool>,
    target: Arc<Target>,
) -> Result<Conn, Fault> {
    let node = (&client.sockets, client.most_sockets());
    let places = pool.places(node, || client.close_idlest())?;
    let late = || {
        let most = mayfly_core::units::format_duration(outbound::OUTBOUND_CONNECT);
        format!("no connection to {} within {most}", target.authority())
    };
    let made =
        within(outbound::OUTBOUND_CONNECT, late, open(&client, &pool, &target, places)).await;
    // A name that leads nowhere is no origin that fails.
    let failed = made.as_ref().err().map(|fault| fault.code);
    let failed = matches!(failed, Some(Code::Connect | Code::Tls | Code::Timeout | Code::Closed));
    pool.tried(&Origin::of(&target), failed);
    made
}

async fn open(
    client: &Client,
    pool: &Pool,
    target: &Target,
    places: Places,
) -> Result<Conn, Fault> {
    let addresses = resolve(client, target).await?;
    let mut last = None;
    for address in addresses.into_iter().take(outbound::OUTBOUND_ADDRESSES) {
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(why) => {
                last = Some(format!("{} at {address}: {why}", target.authority()));
                continue;
            }
        };
        // What was judged is what is reached, whatever stands between.
        if stream.peer_addr().ok() != Some(address) {
            return Err(Fault::new(Code::Address, format!("{address} led elsewhere")));
        }
        let _ = stream.set_nodelay(true);
        return match target.scheme {
            Scheme::Https => handshake(agree(client, pool, target, stream).await?, places).await,
            Scheme::Http | Scheme::Mayfly => handshake(stream, places).await,
        };
    }
    let words = last.unwrap_or_else(|| format!("{} has no address", target.authority()));
    Err(Fault::new(Code::Connect, words))
}

/// The addresses of a call's host, every one of them fit to be called.
async fn resolve(client: &Client, target: &Target) -> Result<Vec<SocketAddr>, Fault> {
    let ips: Vec<IpAddr> = match target.address {
        Some(address) => vec![address],
        None => client.names()?.resolve(&target.host).await?,
    };
    if ips.is_empty() {
        return Err(Fault::new(Code::Name, format!("{} has no address", target.host)));
    }
    let mut addresses = Vec::with_capacity(ips.len());
    for ip in ips {
        let address = SocketAddr::new(ip.to_canonical(), target.port);
        // One bad one is enough: whoever puts it there chooses which is tried.
        client.judge(address).map_err(|why| {
            let words = match target.address {
                Some(_) => why,
                None => format!("{} leads to an address that nobody may call: {why}", target.host),
            };
            Fault::new(Code::Address, words)
        })?;
        addresses.push(address);
    }
    Ok(addresses)
}

async fn agree(
    client: &Client,
    pool: &Pool,
    target: &Target,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Fault> {
    let connector = pool.tls(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|config| config.with_root_certificates(client.roots()).with_no_client_auth());
        // ring has every version that is asked for.
        let mut config = config.unwrap_or_else(|_| unreachable!("TLS 1.2 and 1.3 are built in"));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        TlsConnector::from(Arc::new(config))
    });
    let failed = |why: &dyn std::fmt::Display| {
        Fault::new(Code::Tls, format!("no TLS with {}: {why}", target.authority()))
    };
    let name = match target.address {
        Some(address) => ServerName::from(address),
        None => ServerName::try_from(target.host.clone()).map_err(|why| failed(&why))?,
    };
    connector.connect(name, stream).await.map_err(|why| failed(&why))
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    places: Places,
) -> Result<Conn, Fault> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(outbound::OUTBOUND_HEAD_BYTES)
        .max_headers(outbound::OUTBOUND_HEAD_LINES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|why| Fault::new(Code::Connect, why.to_string()))?;
    // It ends with its sender, or with its other side.
    tokio::spawn(async move {
        if let Err(why) = connection.await {
            tracing::debug!(%why, "a connection for calls ended");
        }
    });
    Ok(Conn::new(sender, places))
}
