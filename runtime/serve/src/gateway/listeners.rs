//! Where a gateway's connections come from.

use std::net::SocketAddr;

use mayfly_core::limits::node;
use tokio::net::{TcpListener, TcpStream};

use crate::tls::Tls;

/// Where connections come from.
pub struct Listeners<L> {
    pub main: L,
    /// If the main one speaks TLS itself.
    pub tls: Option<Tls>,
    /// For TLS alone, beside it.
    pub beside: Option<(L, Tls)>,
}

impl Listeners<std::net::TcpListener> {
    /// The same for another worker.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        let beside = self.beside.as_ref();
        let beside = beside.map(|(listener, tls)| Ok((listener.try_clone()?, tls.clone())));
        let beside = beside.transpose().map_err(|why: std::io::Error| why)?;
        Ok(Self { main: self.main.try_clone()?, tls: self.tls.clone(), beside })
    }

    /// For the runtime that this is called in.
    pub fn into_async(self) -> std::io::Result<Listeners<TcpListener>> {
        let beside = self.beside.map(|(listener, tls)| Ok((TcpListener::from_std(listener)?, tls)));
        let beside = beside.transpose().map_err(|why: std::io::Error| why)?;
        Ok(Listeners { main: TcpListener::from_std(self.main)?, tls: self.tls, beside })
    }
}

impl Listeners<TcpListener> {
    /// The next connection, and the TLS that it is for.
    pub async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr, Option<Tls>)> {
        let main = async {
            let (stream, remote) = self.main.accept().await?;
            Ok((stream, remote, self.tls.clone()))
        };
        let Some((listener, tls)) = &self.beside else { return main.await };
        // In turn, so that neither keeps the other waiting.
        tokio::select! {
            accepted = main => accepted,
            accepted = listener.accept() => {
                accepted.map(|(stream, remote)| (stream, remote, Some(tls.clone())))
            }
        }
    }
}

/// Listens; the address has the port that the system chose if none was given.
pub fn listen(address: SocketAddr) -> std::io::Result<(std::net::TcpListener, SocketAddr)> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Before it is bound: what is accepted has it of the listener. Without it the kernel takes up to 4 MiB for each client
    // that reads slowly, which nobody counts: 900 of them kept both cores busy for a second.
    socket.set_tcp_notsent_lowat(node::UNSENT_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_client_that_reads_nothing_is_not_written_for_in_advance() {
        let (listener, address) = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let client =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        client.connect(&address.into()).unwrap();
        let (mut stream, _) = loop {
            if let Ok(accepted) = listener.accept() {
                break accepted;
            }
        };
        stream.set_nonblocking(true).unwrap();
        let (piece, mut written) = (vec![0; 16 << 10], 0);
        while let Ok(n) = stream.write(&piece) {
            written += n;
        }
        // What the client's window takes, and a buffer of the kernel's beyond the limit.
        let most = node::UNSENT_BYTES as usize + (128 << 10);
        assert!(written <= most, "{written} bytes");
    }
}
