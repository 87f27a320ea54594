//! Declared lengths as a client's socket sees them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::node::Node;

/// A command that does the same as [`reactor`]: its head is flushed before anything else.
fn command(rest: usize) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "Content-Type: text/plain\0aContent-Length: 10\0a\0a")
  (data (i32.const 64) "0123456789abcdefghij")
  (data (i32.const 128) "the end\0a")
  (func $write (param i32 i32 i32)
    (i32.store (i32.const 512) (local.get 1))
    (i32.store (i32.const 516) (local.get 2))
    (drop (call $fd_write (local.get 0) (i32.const 512) (i32.const 1) (i32.const 520))))
  (func $nap
    (drop (call $poll (i32.const 1024) (i32.const 1280) (i32.const 1) (i32.const 1536))))
  (func (export "_start")
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const 50000000))
    (call $write (i32.const 1) (i32.const 0) (i32.const 45))
    (call $nap)
    (call $write (i32.const 1) (i32.const 64) (i32.const 5))
    (call $write (i32.const 1) (i32.const 69) (i32.const {rest}))
    (call $nap)
    (call $write (i32.const 2) (i32.const 128) (i32.const 8))))"#
    ))
    .unwrap()
}

/// A reactor that declares ten bytes, sends its head and five of them, sleeps for 50 ms, and sends `rest` more; then it
/// writes a line to its log.
fn reactor(rest: usize) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $log (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\01\00\0e\00content-length\02\0010")
  (data (i32.const 64) "0123456789abcdefghij")
  (data (i32.const 128) "the end\0a")
  (func $nap
    (drop (call $poll (i32.const 1024) (i32.const 1280) (i32.const 1) (i32.const 1536))))
  (func (export "mayfly_handle")
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const 50000000))
    (drop (call $start (i32.const 0) (i32.const 24) (i32.const 64) (i32.const 5)))
    (call $nap)
    (drop (call $write (i32.const 69) (i32.const {rest})))
    (call $nap)
    (i32.store (i32.const 512) (i32.const 128))
    (i32.store (i32.const 516) (i32.const 8))
    (drop (call $log (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 520)))))"#
    ))
    .unwrap()
}

/// Two requests on one connection; all that comes until it is closed.
fn twice(node: &Node, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let line = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", node.address());
    write!(stream, "{line}\r\n{line}Connection: close\r\n\r\n").unwrap();
    let mut all = Vec::new();
    // A connection that is cut may end in a reset.
    let _ = stream.read_to_end(&mut all);
    String::from_utf8(all).unwrap().to_ascii_lowercase()
}

#[test]
fn a_client_sees_what_is_missing_and_never_what_is_over() {
    let node = Node::start(tempfile::tempdir().unwrap());
    for guest in [reactor, command] {
        sees(&node, guest);
    }
}

fn sees(node: &Node, guest: fn(usize) -> Vec<u8>) {
    for (name, rest) in [("short", 3), ("exact", 5), ("long", 15)] {
        let file = node.file(&format!("{name}.wasm"), &guest(rest));
        node.ok(&["deploy", &file, "--name", name]);
    }
    // Cut: no second response, and eight bytes of ten.
    let short = twice(node, "GET", "/short");
    assert_eq!(short.matches("http/1.1 200").count(), 1, "{short}");
    assert!(short.contains("content-length: 10\r\n") && short.ends_with("\r\n01234567"), "{short}");
    for name in ["exact", "long"] {
        let answers = twice(node, "GET", &format!("/{name}"));
        assert_eq!(answers.matches("http/1.1 200").count(), 2, "{answers}");
        assert_eq!(answers.matches("content-length: 10\r\n").count(), 2, "{answers}");
        assert_eq!(answers.matches("\r\n0123456789").count(), 2, "{answers}");
        assert!(answers.ends_with("\r\n0123456789"), "{answers}");
        let heads = twice(node, "HEAD", &format!("/{name}"));
        assert_eq!(heads.matches("content-length: 10\r\n").count(), 2, "{heads}");
        assert!(heads.ends_with("\r\n\r\n"), "{heads}");
    }
    // Whoever had the last byte did not end the guest: it wrote its line after it.
    let mut ends = 0;
    for _ in 0..100 {
        ends = node.ok(&["logs", "exact"]).matches("the end").count();
        if ends == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ends, 2, "{}", node.ok(&["logs", "exact"]));
    for name in ["short", "exact", "long"] {
        node.ok(&["remove", name]);
    }
}
