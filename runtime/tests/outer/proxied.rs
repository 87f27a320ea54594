//! A node behind proxies: whose word it takes, and how they find out whether it is well.

use crate::node::Node;

const ENVIRONMENT: &str = include_str!("../guests/environment.wat");
const SAID: &str = "X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
                    X-Forwarded-Host: shop.example\r\n";

fn start(more: &[&str]) -> Node {
    let node = Node::start_with(tempfile::tempdir().unwrap(), more);
    let wasm = node.file("env.wasm", &wat::parse_str(ENVIRONMENT).unwrap());
    node.ok(&["deploy", &wasm]);
    node
}

#[test]
fn a_trusted_proxy_is_believed_and_its_client_is_logged() {
    let node = start(&["--gateway-trusted-proxies", "127.0.0.0/8"]);
    let (status, text) = node.get_with("/env/x", SAID);
    assert_eq!(status, 200, "{text}");
    for line in [
        "REMOTE_ADDR=192.0.2.7",
        "HTTPS=on",
        "SERVER_NAME=shop.example",
        "SERVER_PORT=443",
        "X_FULL_URL=https://shop.example/env/x",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
    let (status, text) = node.get_with("/env", "Forwarded: for=x;;for=y\r\n");
    assert!(status == 400 && text.contains("Forwarded header is malformed"), "{text}");
    let logs = node.ok(&["logs", "env", "--output", "json"]);
    assert!(logs.contains(r#""client":"192.0.2.7""#), "{logs}");
}

#[test]
fn nobody_else_is() {
    for trusted in [&[][..], &["--gateway-trusted-proxies", "192.0.2.0/24"]] {
        let node = start(trusted);
        let (status, text) = node.get_with("/env/x", SAID);
        assert_eq!(status, 200, "{text}");
        for line in ["REMOTE_ADDR=127.0.0.1", "HTTP_X_FORWARDED_PROTO=https"] {
            assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
        }
        assert!(!text.contains("\nHTTPS="), "{text}");
        assert!(!text.contains("X_FULL_URL=https"), "{text}");
    }
}

#[test]
fn health_checks_without_a_host_are_answered_on_both_listeners() {
    let node = Node::start(tempfile::tempdir().unwrap());
    for (gateway, request, status) in [
        (true, "OPTIONS / HTTP/1.0", 204),
        (true, "OPTIONS * HTTP/1.0", 204),
        (true, "GET /healthz HTTP/1.0", 200),
        (true, "GET /readyz HTTP/1.0", 200),
        (true, "HEAD /readyz HTTP/1.0", 200),
        (true, "GET /nobody HTTP/1.0", 404),
        (false, "OPTIONS / HTTP/1.0", 204),
        (false, "GET /healthz HTTP/1.0", 200),
        (false, "GET /readyz HTTP/1.0", 200),
        (false, "GET /v1/functions HTTP/1.0", 401),
        (true, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close", 204),
        (true, "OPTIONS * HTTP/1.1\r\nConnection: close", 400),
    ] {
        let answer = node.raw(gateway, &format!("{request}\r\n\r\n"));
        let got = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(got, status.to_string(), "{request}: {answer}");
        assert!(
            status != 204 || answer.to_ascii_lowercase().contains("\r\nallow: get, head"),
            "{answer}"
        );
    }
}
