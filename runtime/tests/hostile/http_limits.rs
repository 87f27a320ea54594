//! Each limit of a request's head and body, one byte and one header on either side of it.

use http_body_util::BodyExt as _;
use mayfly_core::limits::node;

use crate::rig::{Rig, talk};

fn status(bytes: &[u8]) -> u16 {
    let got = talk(Rig::get().patient, bytes);
    assert_eq!(got.len(), 1, "{got:?}");
    got[0].status
}

/// A request of this many bytes, head and empty line included.
fn head_of(bytes: usize) -> Vec<u8> {
    let start = "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: ";
    format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4)).into_bytes()
}

#[test]
fn a_head_has_as_many_bytes_as_it_may() {
    assert_eq!(status(&head_of(node::REQUEST_HEAD_BYTES)), 200);
    for over in [1, 2, 1000, 1 << 20] {
        assert_eq!(status(&head_of(node::REQUEST_HEAD_BYTES + over)), 431, "{over} over");
    }
    // The same in many headers, and without an end.
    let endless =
        [b"GET /ok HTTP/1.1\r\nHost: a\r\n".as_slice(), &b"X: y\r\n".repeat(200_000)].concat();
    assert_eq!(status(&endless), 431);
    Rig::get().bystander();
}

#[test]
fn a_head_has_as_many_headers_as_it_may() {
    let with = |headers: usize| {
        let more = "X: y\r\n".repeat(headers - 2);
        format!("GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n").into_bytes()
    };
    assert_eq!(status(&with(node::REQUEST_HEADERS)), 200);
    for over in [1, 2, 1000] {
        assert_eq!(status(&with(node::REQUEST_HEADERS + over)), 431, "{over} over");
    }
}

#[test]
fn a_method_has_as_many_bytes_as_it_may() {
    let with = |bytes: usize| {
        let method = "A".repeat(bytes);
        format!("{method} /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes()
    };
    assert_eq!(status(&with(node::METHOD_BYTES)), 200);
    for bytes in [node::METHOD_BYTES + 1, 5_000, 60_000] {
        assert_eq!(status(&with(bytes)), 405, "{bytes}");
    }
    Rig::get().bystander();
}

#[test]
fn a_target_has_as_many_bytes_as_it_may() {
    let with = |bytes: usize| {
        let target = format!("/mirror/{}", "x".repeat(bytes - 8));
        format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes()
    };
    assert_eq!(status(&with(node::URI_BYTES)), 200);
    for over in [1, 2, 40_000] {
        assert_eq!(status(&with(node::URI_BYTES + over)), 414, "{over} over");
    }
    // Longer than a head may be: there is no telling what was too long.
    assert!([414, 431].contains(&status(&with(70_000))));
    let query = format!("GET /mirror?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(node::URI_BYTES));
    assert_eq!(talk(Rig::get().patient, &closing(&query))[0].status, 414);
}

fn closing(request: &str) -> Vec<u8> {
    request.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1).into_bytes()
}

#[test]
fn a_body_has_as_many_bytes_as_its_function_allows() {
    const LIMIT: usize = 64 << 10;
    for (bytes, expected) in [(LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 413), (10 * LIMIT, 413)] {
        let body = "x".repeat(bytes);
        let declared =
            format!("POST /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{body}");
        assert_eq!(status(&closing(&declared)), expected, "{bytes}, declared");
        let chunked = format!(
            "POST /mirror/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{body}\r\n0\r\n\r\n"
        );
        assert_eq!(status(&closing(&chunked)), expected, "{bytes}, in a chunk");
    }
    let huge = "POST /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n";
    assert_eq!(status(&closing(huge)), 413);
    Rig::get().bystander();
}

/// Extensions and trailers are not counted as a body: they have caps of their own.
#[test]
fn what_surrounds_a_body_is_bounded_too() {
    let post = "POST /mirror/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("{post}1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(1 << 20));
    let extensions =
        format!("{post}{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(1000)).repeat(1000));
    let trailers = format!("{post}0\r\n{}\r\n", "X: y\r\n".repeat(100_000));
    for request in [extension, extensions, trailers] {
        let got = talk(Rig::get().patient, request.as_bytes());
        assert!(matches!(got[..], [ref one] if one.status == 400), "{got:?}");
    }
    Rig::get().bystander();
}

/// hyper leaves the body of an answer to HEAD out over HTTP/1 only; over HTTP/2 a client takes one for an error.
#[test]
fn head_over_http_2_has_a_length_and_no_body() {
    let ask = async |method: &str, path: &str| {
        let stream = tokio::net::TcpStream::connect(Rig::get().patient).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().method(method).uri(format!("http://a{path}"));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let response = client.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let length = parts.headers.get("content-length").map(|n| n.to_str().unwrap().to_owned());
        (parts.status.as_u16(), length, body.collect().await.unwrap().to_bytes().len())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (path, status) in [("/mirror", 200), ("/ok", 200), ("/nobody", 404), ("/healthz", 200)]
        {
            let (got, length, bytes) = ask("GET", path).await;
            assert_eq!((got, length), (status, Some(bytes.to_string())), "GET {path}");
            let (got, length, received) = ask("HEAD", path).await;
            assert_eq!((got, received), (status, 0), "HEAD {path}");
            if path == "/nobody" {
                assert_eq!(length, Some(bytes.to_string()), "HEAD {path}");
            }
        }
    });
}
