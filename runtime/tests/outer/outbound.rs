//! Calls to others by the real program: what the command line grants, and what the node's configuration leaves of it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::node::Node;

const READS: &str = r#"(func $pass (param $h i32) (drop (call $pipe (local.get $h))))"#;

/// An origin that answers each connection's one request with its head.
fn origin() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counted.fetch_add(1, Ordering::Relaxed);
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let answer =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            let _ = stream
                .write_all(answer.as_bytes())
                .and_then(|()| stream.write_all(&head[..length]));
        }
    });
    (url, count)
}

/// The answer to a call that the guest is asked to make.
fn call(node: &Node, url: &str) -> String {
    // Each length is below 128, so that the frame is text.
    let field = |text: &str| format!("{}\0{text}", char::from(u8::try_from(text.len()).unwrap()));
    let frame = format!("{}{}{}", field("GET"), field(url), "\0".repeat(10));
    let length = frame.len();
    node.raw(
        true,
        &format!("POST /calls/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{frame}"),
    )
}

fn start(more: &[&str]) -> (Node, String) {
    let node = Node::start_with(tempfile::tempdir().unwrap(), more);
    let text = include_str!("../guests/calls.wat").replace(";; READ", READS);
    // The number of an error is no text.
    let text =
        text.replace("(drop (call $write (i32.const 16) (i32.const 4)))", "").replace("SENDS", "0");
    let wasm = node.file("calls.wasm", &wat::parse_str(text).unwrap());
    (node, wasm)
}

#[test]
fn a_function_calls_what_command_line_and_node_allow() {
    let (url, count) = origin();
    let (node, wasm) = start(&["--outbound-private", "127.0.0.0/8"]);
    // Nothing is granted: it runs, and is told which flag grants it.
    node.ok(&["deploy", &wasm]);
    let flag = format!("--outbound '{url}'");
    assert!(call(&node, &url).contains(&flag));
    assert!(node.ok(&["logs", "calls"]).contains(&flag));
    assert_eq!(count.load(Ordering::Relaxed), 0);
    node.ok(&[
        "deploy",
        &wasm,
        "--outbound",
        &url,
        "--outbound-header",
        &url,
        "X-Edge: told by the deploy",
    ]);
    let answer = call(&node, &format!("{url}/path"));
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("GET /path HTTP/1.1"),
        "{answer}"
    );
    assert!(answer.contains("x-edge: told by the deploy"), "{answer}");
    assert!(node.ok(&["inspect", "calls"]).contains(&url));
    // What is not named is kept, and said.
    let kept = node.ok(&["deploy", &wasm]);
    assert!(
        kept.contains(&format!("outbound {url}")) && kept.contains("outbound-header X-Edge"),
        "{kept}"
    );
    assert!(call(&node, &url).starts_with("HTTP/1.1 200"));
    node.ok(&["deploy", &wasm, "--reset=outbound"]);
    assert!(call(&node, &url).contains("is not allowed"));
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[test]
fn a_rule_that_cannot_be_is_refused_with_one_that_can() {
    let (node, wasm) = start(&["--outbound-deny", "https://bad.example"]);
    for (rule, expect) in [
        ("api.example.com", "https://api.example.com"),
        ("https://10.0.0.1", "outbound.private"),
        ("https://*.com", "top-level"),
    ] {
        let (_, error) = node.fails(&["deploy", &wasm, "--outbound", rule]);
        assert!(error.contains(expect), "{rule}: {error}");
    }
    let secret = "X-Key: ${NOBODY_SET_THIS}";
    let (_, error) =
        node.fails(&["deploy", &wasm, "--outbound-header", "https://a.example", secret]);
    assert!(error.contains("NOBODY_SET_THIS"), "{error}");
    node.ok(&["deploy", &wasm, "--outbound", "https://*", "--outbound", "http://*"]);
    assert!(call(&node, "https://bad.example/").contains("outbound.deny"));
    assert!(call(&node, "http://127.0.0.1/").contains("loopback"));
}
