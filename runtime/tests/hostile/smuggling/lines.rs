//! Request lines and header lines.

use super::{Table, Then, get, post};

#[test]
fn a_header_line_that_is_none_ends_the_connection() {
    let mut table = Table::default();
    for line in [
        &b"X : y"[..],
        b"X\t: y",
        b"X y: z",
        b": y",
        b" : y",
        b"X",
        b"X\0: y",
        b"X: a\0b",
        b"X: a\x01b",
        b"X: a\x7fb",
        b"X: a\x1bb",
        b"X: a\x08b",
        b"X: a\rb",
        b"X: a\nY: b",
        b"X: a\n",
        b"X: a\r",
        b"X: a\n\nb",
        b"X: a\r\n folded",
        b"X: a\r\n\tfolded",
        b"X:\r\n a",
        b" X: a",
        b"\tX: a",
        b"\x0bX: a",
        b"\x0cX: a",
        b"\xa0X: a",
        b"(X): y",
        b"X@: y",
        b"X,: y",
        b"X;: y",
        b"X/Y: z",
        b"X[]: y",
        b"X{}: y",
        b"X=: y",
        b"X?: y",
        b"X<>: y",
        b"\"X\": y",
        b"X\\: y",
        b"X\xff: y",
        b"\xc3\xa9: y",
        b"X\x7f: y",
        b"\r: y",
        b"\r\r\nX: y",
        b"\nX: y",
        b"Content-Length : 50",
        b"Content-Length\t: 50",
        b" Content-Length: 50",
        b"Content-Length\0: 50",
        b"Content-Length\x0b: 50",
        b"Content-Length",
        b"Content-Length\r: 50",
        b"X: y\nContent-Length: 50",
        b"X: y\nTransfer-Encoding: chunked",
        b"X: y\rContent-Length: 50",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b" Transfer-Encoding: chunked",
        b"\x0bTransfer-Encoding: chunked",
        b"Transfer-Encoding\0: chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer\r\n -Encoding: chunked",
    ] {
        table.refused(&get(line));
    }
    table.finish(58);
}

#[test]
fn a_header_line_that_only_looks_odd_is_passed_on() {
    let mut table = Table::default();
    for line in [
        &b"X: "[..], b"X:", b"X:y", b"X:\ty\t", b"X: a\tb", b"X: \xff\xfe", b"X: \xc3\xa9", b"!#$%&'*+-.^_`|~: x",
        b"Content_Length: 50", b"Transfer_Encoding: chunked", b"X-Content-Length: 50", b"Content-Length-X: 50",
        b"xTransfer-Encoding: chunked", b"TE: trailers, chunked", b"Trailer: X", b"Connection: keep-alive",
        b"Connection: Content-Length, Host", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13",
        b"X: HTTP/1.1 200 OK", b"X: :", b"X::y",
    ] {
        table.vector(&get(line), &["GET /a 0"], Then::Open);
    }
    table.finish(22);
}

#[test]
fn a_request_line_that_is_none_ends_the_connection() {
    let mut table = Table::default();
    for line in [
        &b"GET  /mirror/a HTTP/1.1"[..],
        b"GET /mirror/a  HTTP/1.1",
        b"GET\t/mirror/a HTTP/1.1",
        b"GET /mirror/a\tHTTP/1.1",
        b" GET /mirror/a HTTP/1.1",
        b"\tGET /mirror/a HTTP/1.1",
        b"GET /mirror/a HTTP/1.1 ",
        b"GET /mirror/a HTTP/1.1\t",
        b"GET /mirror/a",
        b"GET",
        b"GET ",
        b"GET /mirror/a HTTP/2.0",
        b"GET /mirror/a HTTP/1.2",
        b"GET /mirror/a HTTP/0.9",
        b"GET /mirror/a HTTP/3",
        b"GET /mirror/a HTTP/1.",
        b"GET /mirror/a HTTP/11",
        b"GET /mirror/a HTTP/1.10",
        b"GET /mirror/a HTTP/01.1",
        b"GET /mirror/a http/1.1",
        b"GET /mirror/a HTP/1.1",
        b"GET /mirror/a HTTP 1.1",
        b"GET /mirror/a HTTP/1,1",
        b"GET /mirror/a\rHTTP/1.1",
        b"GET /mirror/a HTTP/1.1\r",
        b"\rGET /mirror/a HTTP/1.1",
        b"G\0T /mirror/a HTTP/1.1",
        b"G(T /mirror/a HTTP/1.1",
        b"G\xffT /mirror/a HTTP/1.1",
        b"GET: /mirror/a HTTP/1.1",
        b"GET /mirror/a b HTTP/1.1",
        b"/mirror/a HTTP/1.1",
        b"GET HTTP/1.1",
        b"GET /mirror/\0 HTTP/1.1",
        b"GET /mirror/\x01 HTTP/1.1",
        b"GET /mirror/\x7f HTTP/1.1",
        b"GET http:// HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /mirror/a HTTP/1.1\nHost: a",
        b"\nGET /mirror/a HTTP/1.1",
        b"GET /mirror/a\n",
    ] {
        table.refused(&[line, b"\r\nHost: a\r\n\r\n"].concat());
    }
    table.finish(41);
}

#[test]
fn a_request_line_that_only_looks_odd_is_served() {
    let mut table = Table::default();
    for (line, seen) in [
        (&b"\r\nGET /mirror/a HTTP/1.1"[..], "GET /a 0"),
        (b"\r\n\r\n\r\nGET /mirror/a HTTP/1.1", "GET /a 0"),
        (b"BREW /mirror/a HTTP/1.1", "BREW /a 0"),
        (b"get /mirror/a HTTP/1.1", "get /a 0"),
        (b"M-SEARCH /mirror/a HTTP/1.1", "M-SEARCH /a 0"),
        (b"GET /mirror HTTP/1.1", "GET / 0"),
        (b"GET /mirror?a=%00&b=%2f HTTP/1.1", "GET /?a=%00&b=%2f 0"),
        (b"GET /mirror//a///b HTTP/1.1", "GET //a///b 0"),
        (b"GET /mirror/%41%ff%C3%A9 HTTP/1.1", "GET /%41%ff%C3%A9 0"),
        (b"GET /mirror/a;b=c,d HTTP/1.1", "GET /a;b=c,d 0"),
        (b"GET http://a/mirror/a HTTP/1.1", "GET /a 0"),
        (b"GET http://A/mirror/a?q HTTP/1.1", "GET /a?q 0"),
        (b"GET https://a/mirror/a HTTP/1.1", "GET /a 0"),
    ] {
        table.vector(&[line, b"\r\nHost: a\r\n\r\n"].concat(), &[seen], Then::Open);
    }
    table.finish(13);
}

#[test]
fn a_target_that_two_readers_could_read_differently_is_refused() {
    let mut table = Table::default();
    for (target, status) in [
        ("/mirror/..", "400"),
        ("/mirror/../ok", "400"),
        ("/mirror/.", "400"),
        ("/./mirror/a", "400"),
        ("/mirror/%2e%2e/ok", "400"),
        ("/mirror/.%2E/ok", "400"),
        ("/mirror%2fa", "400"),
        ("/mirror/%2Fa", "400"),
        ("/mirror/%5ca", "400"),
        ("/mirror/%00", "400"),
        ("/mirror/a%00b", "400"),
        ("//mirror/a", "404"),
        ("/Mirror/a", "404"),
        ("/", "404"),
        ("/mirror./a", "404"),
        ("/healthz/x", "404"),
        ("http://b/mirror/a", "400"),
        ("http://a:80/mirror/a", "400"),
        ("http://u@a/mirror/a", "400"),
        ("*", "400"),
        ("://a/mirror/a", "400"),
        ("ftp://a/mirror/a", "400"),
        ("/mirror/a\\b", "400"),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let then = if status == "400" { Then::Close } else { Then::Open };
        table.vector(bytes.as_bytes(), &[status], then);
    }
    // An escape that need not be one is read as what it stands for, as nginx and Apache do (RFC 3986, section 6.2.2).
    table.vector(b"GET /mi%72ror/a HTTP/1.1\r\nHost: a\r\n\r\n", &["GET /a 0"], Then::Open);
    for method in ["CONNECT a:80", "TRACE /mirror/a"] {
        let bytes = format!("{method} HTTP/1.1\r\nHost: a\r\n\r\n");
        table.vector(bytes.as_bytes(), &["405"], Then::Open);
    }
    table.finish(26);
}

#[test]
fn there_is_one_host_and_it_is_a_host() {
    let mut table = Table::default();
    for (lines, expect) in [
        ("", "400"),
        ("Host: a\r\nHost: a", "400"),
        ("Host: a\r\nHost: b", "400"),
        ("Host: a, b", "400"),
        ("Host: a b", "400"),
        ("Host: a/b", "400"),
        ("Host: u@a", "400"),
        ("Host: http://a", "400"),
        ("Host: a:b", "400"),
        ("Host: a:1:2", "400"),
        ("Host: [::1", "400"),
        ("Host: a#b", "400"),
        ("Host: a?b", "400"),
        ("Host: \u{e9}", "400"),
        ("Host:", "GET /a 0"),
        ("Host: a:80", "GET /a 0"),
        ("Host: [::1]:80", "GET /a 0"),
        ("hOST: a", "GET /a 0"),
    ] {
        let glue = if lines.is_empty() { "" } else { "\r\n" };
        let bytes = format!("GET /mirror/a HTTP/1.1\r\n{lines}{glue}\r\n");
        let then = if expect == "400" { Then::Close } else { Then::Open };
        table.vector(bytes.as_bytes(), &[expect], then);
    }
    table.vector(b"GET /mirror/a HTTP/1.0\r\n\r\n", &["GET /a 0"], Then::Close);
    table.vector(
        b"GET /mirror/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        &["GET /a 0"],
        Then::Open,
    );
    table.vector(&get(b"Connection: close"), &["GET /a 0"], Then::Close);
    table.vector(&get(b"Connection: Close, x"), &["GET /a 0"], Then::Close);
    table.vector(&post(b"Content-Length: 5\r\nConnection: close"), &["POST /a 5"], Then::Close);
    table.finish(23);
}
