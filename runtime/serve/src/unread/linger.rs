//! The end of a connection whose client may still be sending.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use mayfly_core::limits::node;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Bytes that are thrown away at once, and how often in a row before others have their turn.
const PIECE: usize = 16 << 10;
const IN_A_ROW: usize = 16;

/// What is read of a connection that has been told its end.
#[derive(Debug, Default)]
pub struct Linger {
    bytes: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Linger {
    /// Reads and throws away until the client closes its side, or for as long and as much as that may take.
    pub fn poll(&mut self, cx: &mut Context<'_>, mut from: Pin<&mut impl AsyncRead>) -> Poll<()> {
        for _ in 0..IN_A_ROW {
            let mut space = [MaybeUninit::uninit(); PIECE];
            let mut buf = ReadBuf::uninit(&mut space);
            let Poll::Ready(read) = from.as_mut().poll_read(cx, &mut buf) else {
                let wait = || Box::pin(tokio::time::sleep(node::LINGER_TIMEOUT));
                return self.timer.get_or_insert_with(wait).as_mut().poll(cx);
            };
            self.bytes += buf.filled().len();
            if read.is_err() || buf.filled().is_empty() || self.bytes > node::LINGER_BYTES {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A stream that lingers when it is shut down.
#[derive(Debug)]
pub struct Lingering<S> {
    stream: S,
    /// Once its side is shut down.
    linger: Option<Linger>,
}

impl<S> Lingering<S> {
    /// Of this stream.
    pub fn new(stream: S) -> Self {
        Self { stream, linger: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        this.linger.get_or_insert_default().poll(cx, Pin::new(&mut this.stream)).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_client_that_sends_on_gets_the_answer_and_then_its_end() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Lingering::new(server);
        server.write_all(b"answer").await.unwrap();
        let served = tokio::spawn(async move { server.shutdown().await });
        client.write_all(&vec![0; 100_000]).await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"answer");
        assert!(!served.is_finished());
        drop(client);
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn it_has_bounds() {
        for silent in [true, false] {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let served = tokio::spawn(async move { Lingering::new(server).shutdown().await });
            let mut sent = 0;
            while !silent && client.write_all(&[0; 65_536]).await.is_ok() {
                sent += 65_536;
            }
            served.await.unwrap().unwrap();
            assert!(silent || (0..2 << 20).contains(&(sent - node::LINGER_BYTES)), "{sent}");
        }
    }
}
