//! HTTP/1 framing: bytes in, and what must come of them. A vector that is refused is followed by a request that must
//! never be answered; one that is served is followed by one that must be, on the same connection.

mod lines;
mod messages;
mod sizes;

use crate::rig::{Reply, Rig, replies, talk};
use crate::secured;

/// What a smuggler would get through.
const HIDDEN: &[u8] = b"GET /mirror/hidden HTTP/1.1\r\nHost: a\r\n\r\n";
const PROBE: &[u8] = b"GET /mirror/probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What the connection is, after the vector's own responses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Open,
    Close,
}

/// Runs vectors, and tells all that went wrong at once.
#[derive(Default)]
struct Table {
    count: usize,
    wrong: Vec<String>,
}

impl Table {
    /// `expect`: a status, or what the function `mirror` saw ("POST /a 5").
    fn vector(&mut self, bytes: &[u8], expect: &[&str], then: Then) {
        let after = if then == Then::Open { PROBE } else { HIDDEN };
        let sent = [bytes, after].concat();
        let mut expect: Vec<String> = expect.iter().map(|&e| e.to_owned()).collect();
        if then == Then::Open {
            expect.push("GET /probe 0".into());
        }
        self.count += 1;
        // Over TLS the same bytes come to the same end.
        let over_tls = secured::talk(Rig::get().secured[0], &sent);
        for (how, replies) in [("plain", talk(Rig::get().patient, &sent)), ("TLS", over_tls)] {
            let seen = |r: &Reply| if r.status == 200 { r.seen() } else { r.status.to_string() };
            let got: Vec<String> = replies.iter().map(seen).collect();
            if got != expect {
                let what = bytes[..bytes.len().min(200)].escape_ascii();
                self.wrong.push(format!("{what}\n    {how}: expected {expect:?}, got {got:?}"));
            }
        }
    }

    /// One that must end in 400 and a closed connection.
    fn refused(&mut self, bytes: &[u8]) {
        self.vector(bytes, &["400"], Then::Close);
    }

    fn finish(self, at_least: usize) {
        assert!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        assert!(self.count >= at_least, "only {} vectors", self.count);
        Rig::get().bystander();
    }
}

/// A request without a body and with these header lines (without the last line end).
fn get(lines: &[u8]) -> Vec<u8> {
    [b"GET /mirror/a HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n\r\n"].concat()
}

/// A request with these header lines and five bytes of a body.
fn post(lines: &[u8]) -> Vec<u8> {
    [b"POST /mirror/a HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n\r\nabcde"].concat()
}

/// A chunked request with these bytes behind its head.
fn chunked(body: &[u8]) -> Vec<u8> {
    [b"POST /mirror/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", body].concat()
}

#[test]
fn the_parser_of_these_tests_tells_responses_apart() {
    let stream = b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\nabHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let got: Vec<_> =
        replies(stream, b"GET ").into_iter().map(|r| (r.status, r.body.len())).collect();
    assert_eq!(got, [(204, 0), (400, 2), (200, 1)]);
}
