use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use mayfly_host::exchange::{BoxError, RequestBody};

/// A tensor frame on its way to a guest: what is here already, then the rest of the client's body as it arrives.
pub(super) struct FrameBody {
    parts: VecDeque<Bytes>,
    rest: Option<RequestBody>,
    length: u64,
    left: u64,
}

/// The client's body is not as long as it said.
#[derive(Debug, thiserror::Error)]
#[error("the body ended {0} bytes before the end that its headers announced")]
struct Short(u64);

impl FrameBody {
    /// A frame of `length` bytes.
    pub(super) fn new(parts: Vec<Bytes>, rest: Option<RequestBody>, length: u64) -> Self {
        Self { parts: parts.into(), rest, length, left: length }
    }

    /// Bytes of the whole frame.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Never more than was announced: the guest was promised that many.
    fn take(&mut self, mut data: Bytes) -> Frame<Bytes> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        data.truncate(most);
        self.left -= data.len() as u64;
        Frame::data(data)
    }
}

impl Body for FrameBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        while let Some(part) = this.parts.pop_front() {
            if !part.is_empty() {
                return Poll::Ready(Some(Ok(this.take(part))));
            }
        }
        if this.left == 0 {
            return Poll::Ready(None);
        }
        while let Some(rest) = &mut this.rest {
            match std::task::ready!(rest.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    return Poll::Ready(Some(Ok(this.take(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.rest = None,
            }
        }
        Poll::Ready(Some(Err(Short(this.left).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    fn client(data: &'static [u8]) -> RequestBody {
        Box::pin(Full::new(Bytes::from_static(data)).map_err(|e| match e {}))
    }

    #[tokio::test]
    async fn what_is_here_comes_first_and_then_the_clients_rest() {
        let parts = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")];
        let body = FrameBody::new(parts, Some(client(b"def")), 6);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
    }

    #[tokio::test]
    async fn a_body_that_is_too_short_ends_in_an_error() {
        let body = FrameBody::new(vec![Bytes::from_static(b"ab")], Some(client(b"c")), 4);
        let error = body.collect().await.unwrap_err().to_string();
        assert!(error.contains("1 bytes before the end"), "{error}");
    }
}
