//! What a connection's bytes pass between the socket and its clocks: nothing, or TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::OwnedWriteHalf;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;

/// A client's bytes as they are read and written.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether the client has taken bytes since this was last asked, of those that wait in here.
    fn has_taken(&mut self) -> bool;
    /// Tells the client that nothing more comes, if closing the socket does not tell it as well.
    fn say_end(&mut self, cx: &mut Context<'_>);
}

/// The socket itself. Its half that is read is in [`Activity`], which looks at it as well.
pub struct Socket {
    writer: OwnedWriteHalf,
    activity: Arc<Activity>,
}

impl Socket {
    /// Of a connection whose other half is in `activity`.
    pub fn new(writer: OwnedWriteHalf, activity: Arc<Activity>) -> Self {
        Self { writer, activity }
    }
}

impl Stream for Socket {
    /// Nothing waits in here.
    fn has_taken(&mut self) -> bool {
        false
    }

    fn say_end(&mut self, _: &mut Context<'_>) {}
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut reader = self.activity.reader().lock();
        let Some(reader) = reader.as_mut() else { return Poll::Ready(Ok(())) };
        Pin::new(reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        *self.activity.reader().lock() = None;
    }
}

/// A socket beneath TLS, which is told of by what its client takes.
pub struct Beneath {
    socket: Socket,
    taken: bool,
}

impl Beneath {
    /// This one.
    pub fn new(socket: Socket) -> Self {
        Self { socket, taken: false }
    }
}

impl AsyncRead for Beneath {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Beneath {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.taken |= polled.is_ready();
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.taken |= polled.is_ready();
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// What is above TLS.
pub struct Secured(TlsStream<Beneath>);

impl Secured {
    /// Of a connection that is agreed on.
    pub fn new(stream: TlsStream<Beneath>) -> Self {
        Self(stream)
    }
}

impl Stream for Secured {
    fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.0.get_mut().0.taken)
    }

    /// As far as that can be written at once.
    fn say_end(&mut self, cx: &mut Context<'_>) {
        let _ = Pin::new(&mut self.0).poll_shutdown(cx);
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            // Many clients close without saying so. No message of HTTP from a client ends with its connection, so what
            // was cut is seen as without TLS.
            Poll::Ready(Err(why)) if why.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            polled => polled,
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
