//! A call's frame to the call, and an answer's head to its frame. Pure.

use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mayfly_abi::{FetchHead, HeadWriter};
use mayfly_core::limits::{node, outbound};
use mayfly_core::outbound::{Target, is_hosts_own};
use mayfly_outbound::{Call, Code, Fault};

use crate::sandbox::head::{VALUE_BYTES_MAX, for_guest};

/// What a guest's frame asks for, and the length that it declares for a body that it streams.
pub(super) fn decode(frame: &[u8], hops: u8) -> Result<(Call, Option<u64>), Fault> {
    let refuse = |words: String| Fault::new(Code::Name, words);
    if frame.len() > outbound::OUTBOUND_FRAME_BYTES {
        let most = outbound::OUTBOUND_FRAME_BYTES;
        return Err(Fault::new(
            Code::TooLarge,
            format!("the call's frame has more than {most} bytes"),
        ));
    }
    let head = FetchHead::decode(frame)
        .map_err(|why| refuse(format!("the call's frame is malformed: {why:?}")))?;
    if head.line.flags != 0 {
        return Err(refuse("the call has flags that this node does not know".to_owned()));
    }
    let method = Method::from_bytes(head.line.method).ok().filter(|method| {
        method.as_str().len() <= node::METHOD_BYTES
            && *method != Method::CONNECT
            && *method != Method::TRACE
    });
    let method = method.ok_or_else(|| {
        refuse("the call's method is none, or CONNECT or TRACE, which nobody is sent".to_owned())
    })?;
    let url = std::str::from_utf8(head.line.url)
        .map_err(|_| refuse("the call's URL is not UTF-8".to_owned()))?;
    let target = Target::parse(url).map_err(|why| refuse(format!("the call's URL: {why}")))?;
    let (headers, length) = headers_of(&head)?;
    let timeout_ms = head.line.timeout_ms;
    let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into()));
    Ok((Call { method, target, headers, timeout, hops }, length))
}

fn headers_of(head: &FetchHead<'_>) -> Result<(HeaderMap, Option<u64>), Fault> {
    let refuse = |words: String| Fault::new(Code::Name, words);
    if head.headers().len() > outbound::OUTBOUND_HEAD_LINES {
        let words = format!("the call has more than {} headers", outbound::OUTBOUND_HEAD_LINES);
        return Err(Fault::new(Code::TooLarge, words));
    }
    let (mut headers, mut length) = (HeaderMap::new(), None);
    for (name, value) in head.headers() {
        let shown = || String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned();
        let known = HeaderName::from_bytes(name)
            .map_err(|_| refuse(format!("'{}' is not a header's name", shown())))?;
        let value =
            HeaderValue::from_bytes(value).ok().filter(|value| value.len() <= VALUE_BYTES_MAX);
        let value = value.ok_or_else(|| {
            refuse(format!(
                "the value of header '{}' has a control character or more than 16 KiB",
                shown()
            ))
        })?;
        if known == CONTENT_LENGTH {
            let digits = value.as_bytes().iter().all(u8::is_ascii_digit);
            let number = value.to_str().ok().filter(|_| digits).and_then(|text| text.parse().ok());
            let alone = number.filter(|number| length.is_none_or(|before| before == *number));
            length =
                Some(alone.ok_or_else(|| refuse("content-length is not one number".to_owned()))?);
        } else if !is_hosts_own(&known) {
            headers.append(known, value);
        }
    }
    Ok((headers, length))
}

/// Bytes that an answer's frame takes at most.
pub(super) fn most(head: &Parts) -> usize {
    4 + head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>()
}

/// Writes an answer's head as a response frame; nothing if a header is longer than a frame can say.
pub(super) fn encode(head: &Parts, buffer: &mut [u8]) -> Option<usize> {
    let mut writer = HeadWriter::response(buffer, head.status.as_u16()).ok()?;
    for (name, value) in for_guest(&head.headers) {
        writer.header(name.as_str().as_bytes(), value.as_bytes()).ok()?;
    }
    Some(writer.finish())
}

#[cfg(test)]
mod tests {
    use mayfly_abi::FetchLine;

    use super::*;

    fn frame(method: &[u8], url: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut buffer = vec![0; 200_000];
        let line = FetchLine { method, url, timeout_ms: 5, flags: 0 };
        let mut writer = HeadWriter::fetch(&mut buffer, &line).unwrap();
        for (name, value) in headers {
            writer.header(name, value).unwrap();
        }
        let n = writer.finish();
        buffer.truncate(n);
        buffer
    }

    #[test]
    fn a_frame_is_a_call_without_what_is_the_hosts() {
        let headers: [(&[u8], &[u8]); 4] = [
            (b"Host", b"evil"),
            (b"X-A", b"1"),
            (b"Transfer-Encoding", b"chunked"),
            (b"content-length", b"5"),
        ];
        let (call, length) = decode(&frame(b"POST", b"https://a.example/x", &headers), 2).unwrap();
        assert_eq!((call.method.as_str(), call.headers.len(), call.hops), ("POST", 1, 2));
        assert_eq!((length, call.timeout), (Some(5), Some(Duration::from_millis(5))));
    }

    #[test]
    fn what_is_no_call_is_refused_and_never_panics() {
        let url = b"https://a.example/";
        let many: Vec<(&[u8], &[u8])> = vec![(b"a", b"b"); 101];
        let long = vec![b'x'; 20_000];
        let cases: Vec<(Vec<u8>, Code)> = vec![
            (Vec::new(), Code::Name),
            (vec![0xff; 64], Code::Name),
            (vec![0; 100_000], Code::TooLarge),
            (frame(b"GE T", url, &[]), Code::Name),
            (frame(b"", url, &[]), Code::Name),
            (frame(b"CONNECT", url, &[]), Code::Name),
            (frame(b"GET\r\nX: y", url, &[]), Code::Name),
            (frame(b"GET", b"https://\xff/", &[]), Code::Name),
            (frame(b"GET", b"https://a.example\r\n", &[]), Code::Name),
            (frame(b"GET", url, &[(b"a", b"b\r\nc: d")]), Code::Name),
            (frame(b"GET", url, &[(b"a: b\r\nc", b"d")]), Code::Name),
            (frame(b"GET", url, &[(b"a", b"\0")]), Code::Name),
            (frame(b"GET", url, &[(b"a", &long)]), Code::Name),
            (
                frame(b"GET", url, &[(b"content-length", b"5"), (b"content-length", b"6")]),
                Code::Name,
            ),
            (frame(b"GET", url, &[(b"content-length", b"+5")]), Code::Name),
            (frame(b"GET", url, &many), Code::TooLarge),
        ];
        for (frame, code) in cases {
            assert_eq!(
                decode(&frame, 0).unwrap_err().code,
                code,
                "{:?}",
                &frame[..frame.len().min(60)]
            );
        }
    }
}
