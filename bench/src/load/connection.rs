//! One keep-alive connection of the load generator: writes one request, reads one response, says when it is whole.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context as _;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::http1::{Progress, Reader};

/// What is read at once.
const READ_BYTES: usize = 64 << 10;

/// A request under way.
#[derive(Debug, Clone, Copy)]
pub struct Underway {
    /// When it was due.
    pub due: Instant,
    /// When it could be sent: it was due, and a connection was free.
    pub able: Instant,
    /// When its first byte went out.
    pub sent: Instant,
}

pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    token: Token,
    /// What is not answered yet.
    pub busy: Option<Underway>,
    unsent: usize,
    received: Vec<u8>,
    reader: Reader,
}

impl Connection {
    pub fn open(address: SocketAddr, token: Token, registry: &Registry) -> anyhow::Result<Self> {
        let stream = connect(address, token, registry)?;
        let (received, reader) = (Vec::with_capacity(READ_BYTES), Reader::default());
        Ok(Self { stream, address, token, busy: None, unsent: 0, received, reader })
    }

    /// Sends a request that was due at `due` and could be sent from `able` on.
    pub fn send(&mut self, bytes: &[u8], due: Instant, able: Instant) -> anyhow::Result<()> {
        self.busy = Some(Underway { due, able, sent: Instant::now() });
        self.unsent = bytes.len();
        self.write(bytes)
    }

    /// Goes on after the socket became ready; the status, once the response is whole.
    pub fn ready(&mut self, bytes: &[u8], registry: &Registry) -> anyhow::Result<Option<u16>> {
        if self.unsent > 0 {
            self.write(bytes)?;
        }
        loop {
            let start = self.received.len();
            self.received.resize(start + READ_BYTES, 0);
            let read = self.stream.read(&mut self.received[start..]);
            self.received.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) if self.busy.is_none() => {
                    self.reopen(registry)?;
                    return Ok(None);
                }
                Ok(0) => {
                    anyhow::bail!("the server closed the connection before its response was whole")
                }
                Ok(n) => {
                    if let Some(status) = self.progress(registry)? {
                        return Ok(Some(status));
                    }
                    // A short read means that the socket is empty: the next one would only say so.
                    if n < READ_BYTES {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading a response"),
            }
        }
    }

    fn progress(&mut self, registry: &Registry) -> anyhow::Result<Option<u16>> {
        if self.busy.is_none() {
            anyhow::bail!("the server sent bytes that nobody asked for");
        }
        let Progress::Complete { length, status, close } = self.reader.read(&self.received)? else {
            return Ok(None);
        };
        anyhow::ensure!(length == self.received.len(), "the server sent more than one response");
        self.received.clear();
        if close {
            self.reopen(registry)?;
        }
        Ok(Some(status))
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        while self.unsent > 0 {
            match self.stream.write(&bytes[bytes.len() - self.unsent..]) {
                Ok(n) => self.unsent -= n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending a request"),
            }
        }
        Ok(())
    }

    /// A server that closes after each response (none of ours do) makes each request pay for a connection.
    fn reopen(&mut self, registry: &Registry) -> anyhow::Result<()> {
        registry.deregister(&mut self.stream)?;
        self.stream = connect(self.address, self.token, registry)?;
        Ok(())
    }
}

fn connect(address: SocketAddr, token: Token, registry: &Registry) -> anyhow::Result<TcpStream> {
    // Blocking, since it happens before the clock starts.
    let stream = std::net::TcpStream::connect(address).context("connecting to the server")?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}
