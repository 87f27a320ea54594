use std::cell::Cell;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, Method, Uri, Version};
use mayfly_abi::{RequestHead, RequestLine};

use crate::{Body, Error, Request, Result, host};

/// A head without cookies and tokens fits; a longer one costs one more call of the host.
const USUAL_HEAD: usize = 2048;

/// What the host knows about the request beyond the request itself.
///
/// All fields are empty in [`Function::init`](crate::Function::init) and in unit tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    /// The id under which the host logs this request.
    pub request_id: &'static str,
    /// The client's address and port.
    pub remote: &'static str,
    /// The route's prefix that was taken off the request's path: `/name`, or empty.
    pub base: &'static str,
    /// `http` or `https`, as the client used it.
    pub scheme: &'static str,
    /// Host and port as the client named them; may be empty in HTTP/1.0.
    pub authority: &'static str,
}

impl Context {
    const EMPTY: Self = Self { request_id: "", remote: "", base: "", scheme: "", authority: "" };
}

thread_local! {
    static CONTEXT: Cell<Context> = const { Cell::new(Context::EMPTY) };
}

/// What the host knows about the request being handled. An instance handles one, so it needs no argument.
#[must_use]
pub fn context() -> Context {
    CONTEXT.get()
}

/// Fetches the head from the host; the body stays there until it is read.
pub(crate) fn receive() -> Result<Request> {
    let mut frame = vec![0; USUAL_HEAD];
    let length = host::request_head(&mut frame);
    if length > frame.len() {
        frame = vec![0; length];
        host::request_head(&mut frame);
    }
    frame.truncate(length);
    // The instance ends with the request, so nothing is gained by freeing this; but now each
    // header can point into it instead of being copied.
    decode(Vec::leak(frame))
}

fn decode(frame: &'static [u8]) -> Result<Request> {
    let head = RequestHead::decode(frame)
        .map_err(|error| anyhow::anyhow!("the host's request frame: {error:?}"))?;
    let line = head.line;
    CONTEXT.set(Context {
        request_id: text(line.request_id),
        remote: text(line.remote),
        base: text(line.base),
        scheme: text(line.scheme),
        authority: text(line.authority),
    });

    let mut request = Request::new(Body::empty());
    *request.version_mut() = version(&line);
    *request.method_mut() = Method::from_bytes(line.method)
        .map_err(|error| Error::bad_request("malformed method").with_source(error))?;
    *request.uri_mut() = Uri::from_maybe_shared(Bytes::from_static(line.target))
        .map_err(|error| Error::bad_request("malformed target").with_source(error))?;
    let headers = request.headers_mut();
    headers.reserve(head.headers().len());
    for (name, value) in head.headers() {
        let name = HeaderName::from_bytes(name)
            .map_err(|error| Error::bad_request("malformed header").with_source(error))?;
        let value = HeaderValue::from_maybe_shared(Bytes::from_static(value))
            .map_err(|error| Error::bad_request("malformed header").with_source(error))?;
        headers.append(name, value);
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    *request.body_mut() = Body::incoming(length.unwrap_or(0));
    Ok(request)
}

fn version(line: &RequestLine<'_>) -> Version {
    match line.version {
        10 => Version::HTTP_10,
        20 => Version::HTTP_2,
        _ => Version::HTTP_11,
    }
}

fn text(field: &'static [u8]) -> &'static str {
    std::str::from_utf8(field).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mayfly_abi::HeadWriter;

    #[test]
    fn a_frame_becomes_a_request_and_its_context() {
        let line = RequestLine {
            method: b"POST",
            target: b"/a%20b?q=1",
            base: b"/echo",
            scheme: b"http",
            authority: b"localhost:3000",
            remote: b"127.0.0.1:5",
            request_id: b"id-1",
            version: 20,
        };
        let frame = Vec::leak(vec![0; 512]);
        let mut writer = HeadWriter::request(frame, &line).unwrap();
        writer.header(b"x-a", b"1").unwrap();
        writer.header(b"x-a", b"\xe9").unwrap();
        let length = writer.finish();
        let request = decode(&frame[..length]).unwrap();
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.uri().path(), "/a%20b");
        assert_eq!(request.uri().query(), Some("q=1"));
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(values, [&b"1"[..], b"\xe9"]);
        assert_eq!(context().request_id, "id-1");
        assert_eq!(context().base, "/echo");
    }

    #[test]
    fn a_broken_frame_is_not_the_clients_fault() {
        let error = decode(b"\x04\x00PO").unwrap_err();
        assert!(crate::error::find::<Error>(&error).is_none());
    }
}
