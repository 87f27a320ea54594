//! A request's body up to the end of its JSON, and no further if the rest can be passed on as it arrives.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use mayfly_core::Outcome;
use mayfly_core::limits::{Limits, node};
use mayfly_host::exchange::{BodyError, RequestBody, TakeBy};
use mayfly_oip::HEADER_LENGTH;
use tokio::time::Instant;

use super::refusal::Refusal;
use crate::hold::Hold;

/// What a request's headers say of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// Bytes of JSON at the body's start, if tensors may follow.
    json: Option<usize>,
    /// Bytes of the whole body, if it says so.
    total: Option<u64>,
    /// Bytes that the function takes at most.
    limit: u64,
}

/// By when a client must have taken an answer of so many bytes: until then it takes room that others could use.
pub(super) fn take_by(bytes: usize) -> TakeBy {
    let seconds = bytes as u64 / node::INFERENCE_ANSWER_RATE;
    TakeBy(Instant::now() + node::INFERENCE_ANSWER_GRACE + Duration::from_secs(seconds))
}

/// A body whose JSON is there.
pub(super) struct Received {
    /// All of the JSON.
    pub(super) json: Bytes,
    /// What came after it so far.
    pub(super) after: Vec<Bytes>,
    /// What is still to come.
    pub(super) rest: Option<RequestBody>,
    /// How many bytes that will be.
    pub(super) rest_bytes: u64,
}

impl Expected {
    /// Reads the headers and refuses what cannot be.
    pub(super) fn of(headers: &HeaderMap, limits: &Limits) -> Result<Self, Refusal> {
        let limit = limits.request_body_bytes;
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(Refusal::new(
                415,
                "compressed requests are not supported: send it as it is",
            ));
        }
        let number = |name: &str| -> Result<Option<u64>, Refusal> {
            let Some(value) = headers.get(name) else { return Ok(None) };
            let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
            number
                .map(Some)
                .ok_or_else(|| Refusal::new(400, format!("the header {name} is no number")))
        };
        let total = number(header::CONTENT_LENGTH.as_str())?;
        if total.is_some_and(|total| total > limit) {
            return Err(Outcome::RequestTooLarge { limit_bytes: limit }.into());
        }
        let json = number(HEADER_LENGTH)?;
        if let (Some(json), Some(total)) = (json, total)
            && json > total
        {
            return Err(Refusal::new(
                400,
                format!("the header {HEADER_LENGTH} says {json}, and the body has {total} bytes"),
            ));
        }
        let most = json.or(total).unwrap_or(0);
        if most > node::INFERENCE_JSON_BYTES as u64 {
            return Err(json_too_large());
        }
        Ok(Self { json: json.and_then(|json| usize::try_from(json).ok()), total, limit })
    }
}

fn json_too_large() -> Refusal {
    let most = mayfly_core::units::format_size(node::INFERENCE_JSON_BYTES as u64);
    Refusal::new(
        413,
        format!("a request has at most {most} of JSON; send large tensors as binary data"),
    )
}

/// Reads until the JSON is whole; to the body's end if its length is not known.
pub(super) async fn read(
    expected: Expected,
    body: Option<RequestBody>,
    idle: Duration,
    hold: &mut Hold,
) -> Result<Received, Refusal> {
    let Some(mut body) = body else { return whole(expected, Vec::new(), Pieces::default()) };
    let mut json = Vec::new();
    let mut after = Pieces::default();
    let mut read = 0u64;
    let wanted = expected.json.unwrap_or(usize::MAX);
    let total = expected.total.and_then(|total| usize::try_from(total).ok());
    let most = wanted.min(total.unwrap_or(usize::MAX)).min(node::INFERENCE_JSON_BYTES);
    loop {
        if let (Some(total), true) = (expected.total, json.len() == wanted) {
            let rest_bytes = total.saturating_sub(read);
            let after = after.done();
            return Ok(Received { json: json.into(), after, rest: Some(body), rest_bytes });
        }
        let next = tokio::time::timeout(idle, body.frame()).await;
        let Some(frame) = next.map_err(|_| Refusal::from(Outcome::BodyTimeout))? else {
            return whole(expected, json, after);
        };
        let Ok(mut data) = frame.map_err(|error| broken(&*error))?.into_data() else { continue };
        read += data.len() as u64;
        if read > expected.limit {
            return Err(Outcome::RequestTooLarge { limit_bytes: expected.limit }.into());
        }
        let part = data.split_to(data.len().min(wanted - json.len()));
        if json.len() + part.len() > node::INFERENCE_JSON_BYTES {
            return Err(json_too_large());
        }
        hold.extend(&mut json, &part, most)?;
        hold.grow(data.len())?;
        after.push(data);
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Refusal {
    match BodyError::of(error) {
        BodyError::Idle => Outcome::BodyTimeout.into(),
        _ => Outcome::ClientGone.into(),
    }
}

/// Pieces shorter than this are copied together: a chunk of one byte would keep fifty of memory.
const COPIED_BELOW: usize = 4 << 10;

/// What came after the JSON, in about as much memory as it is long.
#[derive(Default)]
struct Pieces {
    all: Vec<Bytes>,
    short: BytesMut,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        if piece.len() < COPIED_BELOW {
            self.short.extend_from_slice(&piece);
        } else {
            self.flush();
            self.all.push(piece);
        }
    }

    fn flush(&mut self) {
        if !self.short.is_empty() {
            self.all.push(self.short.split().freeze());
        }
    }

    fn done(mut self) -> Vec<Bytes> {
        self.flush();
        self.all
    }
}

/// A body that has ended.
fn whole(expected: Expected, json: Vec<u8>, after: Pieces) -> Result<Received, Refusal> {
    if let Some(promised) = expected.json
        && json.len() < promised
    {
        let found = json.len();
        return Err(Refusal::new(
            400,
            format!("the header {HEADER_LENGTH} says {promised}, and the body has {found} bytes"),
        ));
    }
    Ok(Received { json: json.into(), after: after.done(), rest: None, rest_bytes: 0 })
}

#[cfg(test)]
mod tests {
    use super::super::frame::FrameBody;
    use super::*;
    use crate::hold;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    async fn receive(
        pairs: &[(&'static str, &'static str)],
        parts: &[&'static [u8]],
    ) -> Result<Received, u16> {
        let limits = Limits { request_body_bytes: 100, ..Limits::default() };
        let expected =
            Expected::of(&headers(pairs), &limits).map_err(|r| r.response().status().as_u16())?;
        let length = parts.iter().map(|part| part.len() as u64).sum();
        let parts = parts.iter().map(|part| Bytes::from_static(part)).collect();
        let body: RequestBody = Box::pin(FrameBody::new(parts, None, length));
        let idle = Duration::from_secs(1);
        let received = read(expected, Some(body), idle, &mut hold::tests::of(10_000).1).await;
        received.map_err(|refusal| refusal.response().status().as_u16())
    }

    #[tokio::test]
    async fn json_alone_is_read_to_its_end() {
        let received = receive(&[], &[b"{\"a\"", b":1}"]).await.unwrap();
        assert_eq!(received.json, "{\"a\":1}");
        assert_eq!((received.after.len(), received.rest_bytes), (0, 0));
    }

    #[tokio::test]
    async fn what_follows_json_is_left_to_come_if_its_length_is_known() {
        let pairs = [(HEADER_LENGTH, "4"), ("content-length", "12")];
        let received = receive(&pairs, &[b"{", b"  }12", b"345678"]).await.unwrap();
        assert_eq!(received.json, "{  }");
        assert_eq!(received.after, ["12"]);
        assert_eq!(received.rest_bytes, 6);
        let rest = received.rest.unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(rest, "345678");
    }

    #[tokio::test]
    async fn what_follows_json_is_read_if_its_length_is_not_known() {
        let received = receive(&[(HEADER_LENGTH, "2")], &[b"{}12", b"34"]).await.unwrap();
        assert_eq!((received.after.concat(), received.rest_bytes), (b"1234".to_vec(), 0));
    }

    #[test]
    fn short_pieces_are_kept_in_one() {
        let long = vec![7; COPIED_BELOW];
        let mut pieces = Pieces::default();
        for _ in 0..1000 {
            pieces.push(Bytes::from_static(b"1"));
        }
        pieces.push(long.clone().into());
        pieces.push(Bytes::from_static(b"23"));
        assert_eq!(pieces.done(), [&[b'1'; 1000][..], &long, b"23"]);
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused() {
        for (pairs, parts, status) in [
            (&[("content-length", "101")][..], &[&b""[..]][..], 413),
            (&[(HEADER_LENGTH, "9"), ("content-length", "8")], &[b"12345678"], 400),
            (&[(HEADER_LENGTH, "9")], &[b"12345678"], 400),
            (&[(HEADER_LENGTH, "-1")], &[b"{}"], 400),
            (&[(HEADER_LENGTH, "99999999999")], &[b"{}"], 413),
            (&[("content-encoding", "gzip")], &[b"{}"], 415),
            (&[], &[&[b' '; 60], &[b' '; 60]], 413),
        ] {
            assert_eq!(receive(pairs, parts).await.err(), Some(status), "{pairs:?}");
        }
    }
}
