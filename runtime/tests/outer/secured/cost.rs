//! What TLS costs a node's CPU: of a request on a connection that stays, and of a new connection. Small here, where only
//! the counts are looked at; `MAYFLY_MEASURE=20000 MAYFLY_BIN=target/release/mayfly cargo test --test outer cost --
//! --nocapture` has figures.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;

use super::made::Authority;
use super::{client, flags, open};
use crate::node::{Node, module};

const ROUNDS: usize = 5;
const REQUEST: &[u8] = b"GET /greet HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends so many requests, each behind the answer to the one before it.
fn talk(stream: &mut (impl Read + Write), requests: usize) {
    let mut buffer = [0; 4096];
    for _ in 0..requests {
        stream.write_all(REQUEST).unwrap();
        let mut have = 0;
        while !buffer[..have].ends_with(b"hello") {
            let n = stream.read(&mut buffer[have..]).unwrap();
            assert!(n > 0, "{}", buffer[..have].escape_ascii());
            have += n;
        }
    }
}

/// Microseconds of the node's for each of so many, the middle of the rounds.
fn middle(mut rounds: Vec<Duration>, of: usize) -> f64 {
    rounds.sort();
    rounds[rounds.len() / 2].as_secs_f64() * 1e6 / of as f64
}

#[test]
fn a_request_and_a_connection_over_tls_beside_plain_ones() {
    let size = std::env::var("MAYFLY_MEASURE").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let more = ["--gateway-tls-listen=127.0.0.1:0", "--gateway-workers=1"];
    let flags = flags(&dir, &authority, &more);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let node = Node::start_with(tempfile::TempDir::new().unwrap(), &flags);
    node.ok(&["deploy", &node.file("greet.wasm", &module("hello"))]);
    let mut client = (*client(&authority)).clone();
    client.resumption = Resumption::disabled();
    let client = Arc::new(client);
    let spent = |work: &mut dyn FnMut()| {
        let before = node.cpu();
        work();
        node.cpu() - before
    };
    let mut plain = TcpStream::connect(node.address()).unwrap();
    plain.set_nodelay(true).unwrap();
    let mut tls = open(&client, node.beside());
    tls.sock.set_nodelay(true).unwrap();
    let (mut kept, mut new) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        kept[0].push(spent(&mut || talk(&mut plain, size)));
        kept[1].push(spent(&mut || talk(&mut tls, size)));
        let fewer = size.div_ceil(10);
        new[0].push(spent(&mut || {
            (0..fewer).for_each(|_| talk(&mut TcpStream::connect(node.address()).unwrap(), 1));
        }));
        new[1].push(spent(&mut || {
            (0..fewer).for_each(|_| talk(&mut open(&client, node.beside()), 1));
        }));
    }
    let [plain, tls] = kept.map(|rounds| middle(rounds, size));
    println!(
        "a request, kept alive: plain {plain:.2} us, TLS {tls:.2} us, more {:.2} us",
        tls - plain
    );
    let [plain, tls] = new.map(|rounds| middle(rounds, size.div_ceil(10)));
    let more = tls - plain;
    let each = 1e6 / more;
    println!(
        "a connection and a request: plain {plain:.1} us, TLS {tls:.1} us; {each:.0} handshakes a second and core"
    );
    assert!(node.metrics().contains("mayfly_connections_total"));
}
