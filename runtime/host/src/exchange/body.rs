//! The client's end of an exchange, as hyper takes it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use mayfly_core::limits::node;

use super::Exchange;

/// Body of a response on its way to the client.
pub enum ResponseBody {
    /// Everything is here.
    Whole(Bytes),
    /// The guest is still writing, or its writing is still going out.
    Streamed(Streamed),
}

/// An extension of a response whose memory others wait for: by when its client must have taken all of it.
#[derive(Debug, Clone, Copy)]
pub struct TakeBy(pub tokio::time::Instant);

/// The client's end of an [`Exchange`]; dropping it tells the guest.
pub struct Streamed {
    exchange: Arc<Exchange>,
    /// Ends the guest with the client: dropped after the body.
    guest: Option<Box<dyn Guest>>,
}

/// A guest that ends when this is dropped.
pub trait Guest: Send + Sync {
    /// Lets it end by itself.
    fn let_go(self: Box<Self>);
}

impl Guest for () {
    fn let_go(self: Box<Self>) {}
}

impl Streamed {
    /// The rest of this exchange's response, and who writes it.
    pub fn new(exchange: Arc<Exchange>, guest: Box<dyn Guest>) -> Self {
        exchange.set_streamed();
        Self { exchange, guest: Some(guest) }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // A connection that has sent the declared length is done with the body before the guest is.
        if self.exchange.has_all()
            && let Some(guest) = self.guest.take()
        {
            self.exchange.discard();
            guest.let_go();
            return;
        }
        self.exchange.client_gone();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            // In pieces, so that as much of a long one waits with its connection's clocks as a guest's own would.
            Self::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(node::RESPONSE_BUFFER_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Self::Streamed(streamed) => {
                streamed.exchange.poll_chunk(cx).map(|chunk| chunk.map(|c| c.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}

/// The body of a response that ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the function failed in the middle of its response")]
pub struct Aborted;
