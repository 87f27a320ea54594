//! Which headers cross the wall, and in what state. Pure.
//!
//! The host owns framing: hop-by-hop headers are taken off in both directions, so a guest cannot see how its bytes
//! travel. A length that it declares is kept aside: the body that it writes is held to it.

use std::collections::HashSet;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mayfly_abi::ResponseHead;

use crate::exchange::Head;

/// Longest value of a guest's header, in bytes: what common proxies still pass on.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Headers that describe one connection, not the message.
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    let name = name.as_str();
    // The lengths are those of the names below: most headers are told apart without a comparison.
    match name.len() {
        2 => name == "te",
        7 => name == "upgrade" || name == "trailer",
        10 => name == "connection" || name == "keep-alive",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        18 => name == "proxy-authenticate",
        19 => name == "proxy-authorization",
        25 => name == "proxy-authentication-info",
        _ => false,
    }
}

/// Headers that act on a browser's whole origin, which functions share: one would log the visitors of all others out, or
/// put its service worker before them.
#[must_use]
pub fn is_of_origin(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.len() {
        15 => name == "clear-site-data",
        22 => name == "service-worker-allowed",
        _ => false,
    }
}

/// In a request: the version that is wanted. In a response: the one that answered.
pub const VERSION: HeaderName = HeaderName::from_static("mayfly-version");
/// The token for a function's previews.
pub const PREVIEW: HeaderName = HeaderName::from_static("mayfly-preview");

/// Headers by which a version is asked for: the token is no guest's business, the previewed one's least of all.
fn is_of_previews(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.len() == 14 && (name == "mayfly-version" || name == "mayfly-preview")
}

/// The headers of a request that a guest may see: not hop-by-hop, not named by `Connection`, and not of previews.
pub fn for_guest(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let named = named_by_connection(headers);
    headers.iter().filter(move |(name, _)| {
        !is_hop_by_hop(name) && !is_of_previews(name) && !named.contains(*name)
    })
}

/// Each token is looked at once, and only headers that are there are kept: a client may name tens of thousands.
fn named_by_connection(headers: &HeaderMap) -> HashSet<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let tokens = values.flat_map(|value| value.split(',')).map(str::trim);
    tokens
        .filter(|token| !token.is_empty() && headers.contains_key(*token))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .collect()
}

/// Why a guest's response head is not HTTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not 200 to 599.
    #[error("status {0} is not one a function may send (200 to 599)")]
    Status(u16),
    /// Not a header name.
    #[error("'{0}' is not a header name")]
    Name(String),
    /// A value with a line break, NUL or other control character, or too long.
    #[error("the value of header '{0}' has a control character or more than 16 KiB")]
    Value(String),
    /// More headers than the limit.
    #[error("more than {0} headers")]
    TooMany(usize),
    /// More bytes than the limit.
    #[error("the head is longer than {0} bytes")]
    TooLong(usize),
    /// A CGI line without a colon, or bytes that are not text.
    #[error("'{0}' is not a header line (Name: value)")]
    Line(String),
    /// A CGI `Status` without a number.
    #[error("'{0}' has no status: it is a number from 200 to 599, as in \"Status: 404 Not Found\"")]
    NoStatus(String),
    /// A length that is none, or two that differ.
    #[error("'{0}' is not the length of its body, or not the only one")]
    Length(String),
    /// None of the headers that make a CGI response.
    #[error("the head has no Content-Type, Location or Status")]
    Incomplete,
    /// A frame that does not decode.
    #[error("the response frame is malformed: {0:?}")]
    Frame(mayfly_abi::FrameError),
}

/// Collects a guest's headers, checks each and drops those that are the host's.
#[derive(Debug, Default)]
pub struct HeadBuilder {
    headers: HeaderMap,
    count: usize,
    length: Option<u64>,
}

impl HeadBuilder {
    /// Adds one header.
    ///
    /// # Errors
    /// [`HeadError`] if it is not HTTP or one too many.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        let lossy = || String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned();
        self.count += 1;
        if self.count > mayfly_abi::limits::RESPONSE_HEADERS {
            return Err(HeadError::TooMany(mayfly_abi::limits::RESPONSE_HEADERS));
        }
        let name = HeaderName::from_bytes(name).map_err(|_| HeadError::Name(lossy()))?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(HeadError::Value(lossy()));
        }
        let value = HeaderValue::from_bytes(value).map_err(|_| HeadError::Value(lossy()))?;
        if name == CONTENT_LENGTH {
            self.length = Some(self.length_of(&value)?);
        } else if !is_hop_by_hop(&name) && !is_of_origin(&name) {
            self.headers.append(name, value);
        }
        Ok(())
    }

    /// The length that a value says, if it says one and no other was said before. RFC 9110 allows digits only: what one
    /// proxy takes for a number and the next does not is how a response is split.
    fn length_of(&self, value: &HeaderValue) -> Result<u64, HeadError> {
        let bytes = value.as_bytes();
        let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
        let length =
            std::str::from_utf8(bytes).ok().filter(|_| digits).and_then(|d| d.parse().ok());
        let alone = |length: &u64| self.length.is_none_or(|before| before == *length);
        length.filter(alone).ok_or_else(|| {
            HeadError::Length(String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned())
        })
    }

    /// The head with this status.
    ///
    /// # Errors
    /// [`HeadError::Status`] if it is not 200 to 599.
    pub fn finish(self, status: u16) -> Result<Head, HeadError> {
        let refuse = || HeadError::Status(status);
        if !(200..600).contains(&status) {
            return Err(refuse());
        }
        let status = StatusCode::from_u16(status).map_err(|_| refuse())?;
        Ok(Head { status, headers: self.headers, length: self.length })
    }

    /// Whether such a header was added.
    #[must_use]
    pub fn has(&self, name: &HeaderName) -> bool {
        self.headers.contains_key(name)
    }
}

/// Decodes and checks a reactor's response frame.
///
/// # Errors
/// [`HeadError`] says what is wrong with it.
pub fn decode(frame: &[u8]) -> Result<Head, HeadError> {
    let head = ResponseHead::decode(frame).map_err(HeadError::Frame)?;
    let mut builder = HeadBuilder::default();
    for (name, value) in head.headers() {
        builder.header(name, value)?;
    }
    builder.finish(head.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_the_whole_origin_is_not_a_functions_to_send() {
        let mut builder = HeadBuilder::default();
        for name in ["Clear-Site-Data", "SERVICE-WORKER-ALLOWED", "x-own"] {
            builder.header(name.as_bytes(), b"/").unwrap();
        }
        let head = builder.finish(200).unwrap();
        assert_eq!(head.headers.keys().collect::<Vec<_>>(), ["x-own"]);
    }

    #[test]
    fn what_belongs_to_the_connection_stays_with_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "secret"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
            ("content-length", "3"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let names: Vec<_> = for_guest(&headers).map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["accept", "content-length"]);
    }

    #[test]
    fn every_connection_header_counts_however_long() {
        let mut headers = HeaderMap::new();
        headers.append("connection", HeaderValue::from_static("X-One"));
        let many = ",".repeat(60_000) + "x-two,,";
        headers.append("connection", HeaderValue::from_str(&many).unwrap());
        for name in ["x-one", "x-two", "x-three"] {
            headers.append(name, HeaderValue::from_static("1"));
        }
        let names: Vec<_> = for_guest(&headers).map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-three"]);
    }

    #[test]
    fn a_guest_cannot_frame_or_split_its_response() {
        let mut builder = HeadBuilder::default();
        for (name, value) in
            [("Content-Length", "12"), ("Transfer-Encoding", "chunked"), ("Connection", "close")]
        {
            builder.header(name.as_bytes(), value.as_bytes()).unwrap();
        }
        builder.header(b"X-A", b"1").unwrap();
        for bad in [&b"a\nb"[..], b"a\rb", b"a\0", b"\x7f", &[b'x'; VALUE_BYTES_MAX + 1]] {
            assert!(matches!(builder.header(b"x", bad), Err(HeadError::Value(_))), "{bad:?}");
        }
        for bad in [&b""[..], b"a b", b"a\n", b"\xff", b"a:"] {
            assert!(matches!(builder.header(bad, b""), Err(HeadError::Name(_))), "{bad:?}");
        }
        let head = builder.finish(200).unwrap();
        assert_eq!((head.headers.len(), head.length), (1, Some(12)));
    }

    #[test]
    fn a_length_is_one_number() {
        let declared = |values: &[&str]| {
            let mut builder = HeadBuilder::default();
            for value in values {
                builder.header(b"content-length", value.as_bytes())?;
            }
            builder.finish(200).map(|head| head.length)
        };
        assert_eq!(declared(&[]), Ok(None));
        assert_eq!(declared(&["0"]), Ok(Some(0)));
        assert_eq!(declared(&["5", "005"]), Ok(Some(5)));
        let wrong =
            [&["5", "6"][..], &[""], &["+5"], &["-5"], &["5,5"], &["5 "], &["0x5"], &["1e3"]];
        for values in wrong.into_iter().chain([&["18446744073709551616"][..], &["five"]]) {
            assert!(matches!(declared(values), Err(HeadError::Length(_))), "{values:?}");
        }
    }

    #[test]
    fn statuses_and_counts_have_bounds() {
        for bad in [0, 99, 100, 101, 199, 600, 1000, 65535] {
            assert_eq!(HeadBuilder::default().finish(bad).unwrap_err(), HeadError::Status(bad));
        }
        for good in [200, 204, 404, 599] {
            assert_eq!(HeadBuilder::default().finish(good).unwrap().status, good);
        }
        let mut builder = HeadBuilder::default();
        for _ in 0..mayfly_abi::limits::RESPONSE_HEADERS {
            builder.header(b"a", b"b").unwrap();
        }
        assert!(matches!(builder.header(b"a", b"b"), Err(HeadError::TooMany(_))));
    }
}
