//! Calls of functions to others: what is allowed, what is reached, and what becomes of hostile guests and origins.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mayfly_abi::{FetchLine, HeadWriter};
use mayfly_core::outbound::EdgeHeader;
use mayfly_core::record::Settings;
use mayfly_host::engine::EngineConfig;

use crate::harness::{Harness, Reply, body_of, post};

pub const READS: &str = r#"(func $pass (param $h i32) (local $n i32)
    (loop $more
      (local.set $n (call $read (local.get $h) (i32.const 262144) (i32.const 65536)))
      (if (i32.gt_s (local.get $n) (i32.const 0))
        (then (drop (call $write (i32.const 262144) (local.get $n))) (br $more)))
      (if (i32.lt_s (local.get $n) (i32.const 0))
        (then (i32.store (i32.const 16) (local.get $n)) (drop (call $write (i32.const 16) (i32.const 4)))))))"#;
pub const PIPES: &str = r#"(func $pass (param $h i32) (local $n i32)
    (local.set $n (call $pipe (local.get $h)))
    (if (local.get $n)
      (then (i32.store (i32.const 16) (local.get $n)) (drop (call $write (i32.const 16) (i32.const 4))))))"#;

/// The guest that makes the call it is sent, with so many bytes of body.
pub fn guest(pass: &str, sends: usize) -> String {
    let text = include_str!("../guests/calls.wat");
    text.replace(";; READ", pass).replace("SENDS", &sends.to_string())
}

pub fn rules(rules: &[&str], limits: &[&str]) -> Settings {
    let outbound = rules.iter().map(|rule| (*rule).to_owned()).collect();
    let mut settings = Settings { outbound, ..Settings::default() };
    limits.iter().for_each(|limit| settings.limits.set(limit).unwrap());
    settings
}

pub fn frame(method: &str, url: &str, timeout_ms: u32, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut buffer = vec![0; 20_000];
    let line = FetchLine { method: method.as_bytes(), url: url.as_bytes(), timeout_ms, flags: 0 };
    let mut writer = HeadWriter::fetch(&mut buffer, &line).unwrap();
    for (name, value) in headers {
        writer.header(name.as_bytes(), value.as_bytes()).unwrap();
    }
    let length = writer.finish();
    buffer.truncate(length);
    buffer
}

async fn call(harness: &Harness, name: &str, frame: Vec<u8>) -> Reply {
    post(harness, &format!("/{name}/"), frame, true).await
}

/// The number and the words of a failure.
fn failure(reply: &Reply) -> (i32, String) {
    let (number, words) =
        reply.body.split_at_checked(4).unwrap_or_else(|| panic!("{}", body_of(reply)));
    let number = i32::from_le_bytes(number.try_into().unwrap());
    (number, String::from_utf8_lossy(words).into_owned())
}

async fn fails(harness: &Harness, name: &str, url: &str, timeout_ms: u32) -> (i32, String) {
    failure(&call(harness, name, frame("GET", url, timeout_ms, &[])).await)
}

/// An origin on this machine: each connection's requests are answered by `answer`, which gets their heads and bodies.
pub struct Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    pub fn start(
        answer: impl Fn(&str, &[u8], &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (connections.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                count.fetch_add(1, Ordering::Relaxed);
                let answer = answer.clone();
                std::thread::spawn(move || while serve(&mut stream, &*answer) {});
            }
        });
        Self { address, connections }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn serve(stream: &mut TcpStream, answer: &dyn Fn(&str, &[u8], &mut TcpStream) -> bool) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).is_ok() && answer(&head, &body, stream)
}

pub fn say(stream: &mut TcpStream, text: &str) -> bool {
    stream.write_all(text.as_bytes()).is_ok()
}

/// An origin that answers with the head that it got.
fn echo() -> Origin {
    Origin::start(|head, body, stream| {
        let text = format!("{head}{} bytes", body.len());
        say(
            stream,
            &format!(
                "HTTP/1.1 201 Made\r\nX-Own: a\r\nX-Own: b\r\nKeep-Alive: x\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            ),
        )
    })
}

#[test]
fn a_call_is_made_as_it_was_said_and_its_answer_is_passed_on() {
    let harness = Harness::get();
    let origin = echo();
    harness.run(async {
        let mut settings = rules(&[&origin.url()], &[]);
        settings.outbound_headers =
            vec![EdgeHeader::new(&origin.url(), "X-Edge: of the deploy").unwrap()];
        harness.deploy_wat("out-calls", &guest(READS, 0), settings).await;
        let headers =
            [("X-Mine", "1"), ("x-edge", "forged"), ("Host", "evil"), ("Connection", "x-mine")];
        let asked = frame("POST", &format!("{}/a%20b?c=d", origin.url()), 0, &headers);
        let reply = call(harness, "out-calls", asked).await;
        assert_eq!(reply.status, 201, "{}", body_of(&reply));
        let own: Vec<_> = reply.headers.get_all("x-own").iter().collect();
        assert_eq!(own, ["a", "b"]);
        assert!(!reply.headers.contains_key("keep-alive"));
        let got = body_of(&reply).to_ascii_lowercase();
        assert!(got.starts_with("post /a%20b?c=d http/1.1\r\n"), "{got}");
        let host = format!("\r\nhost: {}\r\n", origin.address);
        for line in
            ["\r\nx-mine: 1\r\n", "\r\nx-edge: of the deploy\r\n", "\r\nuser-agent: mayfly/", &host]
        {
            assert!(got.contains(line), "{line}: {got}");
        }
        for line in ["forged", "evil", "connection:", "transfer-encoding"] {
            assert!(!got.contains(line), "{line}: {got}");
        }
    });
}

#[test]
fn connections_are_kept_and_no_function_has_anothers() {
    let harness = Harness::get();
    let origin = echo();
    harness.run(async {
        for name in ["out-kept", "out-other"] {
            harness.deploy_wat(name, &guest(READS, 0), rules(&[&origin.url()], &[])).await;
        }
        for name in ["out-kept", "out-kept", "out-kept", "out-other", "out-kept"] {
            let reply = call(harness, name, frame("GET", &origin.url(), 0, &[])).await;
            assert_eq!(reply.status, 201, "{}", body_of(&reply));
        }
        assert_eq!(origin.connections(), 2);
    });
}

#[test]
fn what_is_not_allowed_is_denied_and_the_log_says_what_would_allow_it() {
    let harness = Harness::get();
    let origin = echo();
    harness.run(async {
        harness.deploy_wat("out-none", &guest(READS, 0), rules(&[], &[])).await;
        let url = format!("{}/x", origin.url());
        let (number, words) = fails(harness, "out-none", &url, 0).await;
        assert_eq!(number, -10, "{words}");
        let flag = format!("--outbound 'http://{}'", origin.address);
        assert!(words.contains(&flag), "{words}");
        assert!(harness.log_of("out-none").contains(&flag), "{}", harness.log_of("out-none"));
        let only = format!("GET {}/v1/...", origin.url());
        harness.deploy_wat("out-some", &guest(READS, 0), rules(&[&only], &[])).await;
        let reply =
            call(harness, "out-some", frame("GET", &format!("{}/v1/x", origin.url()), 0, &[]))
                .await;
        assert_eq!(reply.status, 201);
        for (method, path) in
            [("POST", "/v1/x"), ("GET", "/v2"), ("GET", "/v1/../v2"), ("GET", "/v1/%2e%2e/v2")]
        {
            let asked = frame(method, &format!("{}{path}", origin.url()), 0, &[]);
            assert_eq!(failure(&call(harness, "out-some", asked).await).0, -10, "{method} {path}");
        }
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn nobody_reaches_what_is_private_or_the_nodes_own() {
    let harness = Harness::get();
    let own = echo();
    harness.publisher.outbound().add_own([Some(own.address)]);
    harness.run(async {
        let port = own.address.port();
        let any = [format!("http://*:{port}"), "http://*".to_owned(), "https://*".to_owned()];
        let any: Vec<_> = any.iter().map(String::as_str).collect();
        harness.deploy_wat("out-any", &guest(READS, 0), rules(&any, &[])).await;
        for url in [
            "http://10.0.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "https://[::1]/",
            "http://[fd00::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a00:1]/",
            "http://[2002:a00:1::1]/",
            "http://0.0.0.0/",
            "http://100.100.100.200/",
            &format!("http://127.0.0.1:{port}/"),
            &format!("http://[::ffff:127.0.0.1]:{port}/"),
        ] {
            let (number, words) = fails(harness, "out-any", url, 0).await;
            assert_eq!(number, -12, "{url}: {words}");
        }
        for url in [
            "http://127.1/",
            "http://2130706433/",
            "http://a@127.0.0.1/",
            "http://127.0.0.1./",
            "ftp://a/",
        ] {
            let (number, words) = fails(harness, "out-any", url, 0).await;
            assert_eq!(number, -11, "{url}: {words}");
        }
        assert_eq!(own.connections(), 0);
        let wasm = wat::parse_str(guest(READS, 0)).unwrap();
        let refused = harness
            .deploy("out-private", wasm, rules(&["http://10.0.0.1"], &[]))
            .await
            .unwrap_err();
        let words = format!("{} {}", refused.kind, refused.hint().unwrap_or_default());
        assert!(refused.status() == 422 && words.contains("outbound.private"), "{words}");
    });
}

/// One that does what its path says.
fn hostile() -> Origin {
    Origin::start(|head, _, stream| {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        match path.as_str() {
            "/headers" => {
                let line = format!("X-A: {}\r\n", "a".repeat(1000));
                say(stream, &format!("HTTP/1.1 200 OK\r\n{}\r\n", line.repeat(2000)))
            }
            "/many" => say(stream, &format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101))),
            "/continue" => {
                let until = Instant::now() + Duration::from_secs(5);
                while Instant::now() < until && say(stream, "HTTP/1.1 103 Early Hints\r\n\r\n") {}
                false
            }
            "/silent" => {
                std::thread::sleep(Duration::from_secs(5));
                false
            }
            "/stalls" => {
                say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab");
                std::thread::sleep(Duration::from_secs(5));
                false
            }
            "/short" => {
                say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab");
                false
            }
            "/garbage" => {
                say(stream, "SSH-2.0-OpenSSH\r\n\r\n");
                false
            }
            "/split" => {
                say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
            }
            "/huge" => {
                let piece = "a".repeat(65_536);
                say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
                while say(stream, &piece) {}
                false
            }
            "/switch" => say(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            ),
            _ => false,
        }
    })
}

#[test]
fn hostile_origins_end_in_their_errors() {
    let harness = Harness::get();
    let origin = hostile();
    harness.run(async {
        let settings = rules(&[&origin.url()], &["outbound-bytes=1MiB"]);
        harness.deploy_wat("out-hostile", &guest(READS, 0), settings).await;
        let url = |path: &str| format!("{}{path}", origin.url());
        for (path, timeout_ms, expect) in [
            ("/headers", 0, -16),
            ("/many", 0, -16),
            ("/continue", 0, -16),
            ("/silent", 300, -15),
            ("/garbage", 0, -18),
            ("/split", 0, -18),
            ("/closes", 0, -18),
        ] {
            let (number, words) = fails(harness, "out-hostile", &url(path), timeout_ms).await;
            assert_eq!(number, expect, "{path}: {words}");
            assert!(!words.is_empty());
        }
        // In the middle of a body it is what the guest reads last.
        for (path, timeout_ms, expect) in
            [("/stalls", 300, -15_i32), ("/short", 0, -18), ("/huge", 0, -16)]
        {
            let reply =
                call(harness, "out-hostile", frame("GET", &url(path), timeout_ms, &[])).await;
            // `/stalls` and `/short` declare a length that the guest then does not keep: cut off.
            let whole = reply.body.ends_with(&expect.to_le_bytes());
            assert!(whole || reply.broken || reply.status == 502, "{path}: {}", reply.status);
        }
        let reply = call(harness, "out-hostile", frame("GET", &url("/switch"), 300, &[])).await;
        assert_ne!(reply.status, 500, "{}", body_of(&reply));
        // And the node is as before.
        let (number, _) = fails(harness, "out-hostile", &url("/closes"), 0).await;
        assert_eq!(number, -18);
    });
}

#[test]
fn a_body_is_piped_without_passing_the_guest() {
    const BYTES: usize = 8 << 20;
    let harness = Harness::get();
    let origin = Origin::start(|_, _, stream| {
        say(stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"));
        let piece: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
        (0..BYTES / piece.len()).all(|_| stream.write_all(&piece).is_ok())
    });
    harness.run(async {
        harness.deploy_wat("out-pipes", &guest(PIPES, 0), rules(&[&origin.url()], &[])).await;
        for _ in 0..2 {
            let reply = call(harness, "out-pipes", frame("GET", &origin.url(), 0, &[])).await;
            assert_eq!(
                (reply.status.as_u16(), reply.body.len(), reply.broken),
                (200, BYTES, false)
            );
            assert!(reply.body.iter().enumerate().all(|(at, byte)| at & 255 == usize::from(*byte)));
        }
        // At its end a connection goes back as behind one that was read.
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn a_body_longer_than_a_piece_is_streamed_with_its_length() {
    let harness = Harness::get();
    let origin = echo();
    harness.run(async {
        let sends = 300_000;
        harness.deploy_wat("out-sends", &guest(READS, sends), rules(&[&origin.url()], &[])).await;
        let reply = call(harness, "out-sends", frame("PUT", &origin.url(), 0, &[])).await;
        let got = body_of(&reply);
        assert!(got.ends_with("300000 bytes") && got.contains("content-length: 300000"), "{got}");
        let little = rules(&[&origin.url()], &["outbound-bytes=100KiB"]);
        harness.deploy_wat("out-sends-less", &guest(READS, sends), little).await;
        let (number, words) = fails(harness, "out-sends-less", &origin.url(), 0).await;
        assert_eq!(number, -16, "{words}");
        assert!(words.contains("--limit outbound-bytes"), "{words}");
        // A range outside memory is the guest's own end, as anywhere.
        harness
            .deploy_wat("out-outside", &guest(READS, 1 << 20), rules(&[&origin.url()], &[]))
            .await;
        let reply = call(harness, "out-outside", frame("PUT", &origin.url(), 0, &[])).await;
        assert_eq!(reply.status, 502);
    });
}

#[test]
fn functions_call_each_other_by_name_and_a_circle_ends() {
    let harness = Harness::get();
    harness.run(async {
        let inner = r#"(module
            (import "mayfly_http_v1" "request_head" (func $head (param i32 i32) (result i32)))
            (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (data (i32.const 0) "\ca\00\00\00")
            (func (export "mayfly_abi_1"))
            (func (export "mayfly_handle")
              (drop (call $start (i32.const 0) (i32.const 4) (i32.const 1024)
                (call $head (i32.const 1024) (i32.const 65536))))))"#;
        harness.deploy_wat("in-named", inner, Settings::default()).await;
        harness.deploy_wat("out-within", &guest(READS, 0), rules(&["mayfly://in-named/...", "mayfly://nobody/..."], &[])).await;
        let asked = frame("GET", "mayfly://in-named/deep/path?x=1", 0, &[("x-mine", "1")]);
        let reply = call(harness, "out-within", asked).await;
        let got = body_of(&reply);
        assert_eq!(reply.status, 202, "{got}");
        for part in ["/deep/path?x=1", "/in-named", "x-mine"] {
            assert!(got.contains(part), "{part}: {got}");
        }
        assert_eq!(fails(harness, "out-within", "mayfly://nobody/", 0).await.0, -11);
        assert_eq!(fails(harness, "out-within", "mayfly://out-within/", 0).await.0, -10);
    });
}

#[test]
fn a_circle_of_functions_ends_after_eight_calls() {
    // One function has a quarter of the slots at most, and this one wants nine.
    let config = EngineConfig { slots: Some(64), ..EngineConfig::default() };
    let harness = &Harness::start(&config);
    harness.run(async {
        // Calls itself with the same frame: its request's body.
        let wat = guest(READS, 0).replace(
            "(i32.const 0) (i32.const 0)))\n    (if",
            "(i32.const 4096) (i32.sub (local.get $at) (i32.const 4096))))\n    (if",
        );
        harness.deploy_wat("out-circle", &wat, rules(&["mayfly://out-circle/..."], &[])).await;
        let reply =
            call(harness, "out-circle", frame("POST", "mayfly://out-circle/", 0, &[])).await;
        let (number, words) = failure(&reply);
        assert_eq!(number, -19, "{words}");
        let runs = harness.log_of("out-circle").matches("POST /out-circle/").count();
        // The outermost one's line may come a moment later.
        assert!((8..=9).contains(&runs), "{}", harness.log_of("out-circle"));
    });
}

#[test]
fn ten_failures_in_turn_are_refused_without_a_try() {
    let harness = Harness::get();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    harness.run(async {
        let url = format!("http://{closed}");
        harness.deploy_wat("out-refused", &guest(READS, 0), rules(&[&url], &[])).await;
        for _ in 0..10 {
            let (number, words) = fails(harness, "out-refused", &url, 0).await;
            assert!(number == -13 && words.contains("refused"), "{number} {words}");
        }
        let (number, words) = fails(harness, "out-refused", &url, 0).await;
        assert!(number == -13 && words.contains("10 connections in turn"), "{number} {words}");
    });
}

#[test]
fn a_request_makes_as_many_calls_as_it_may() {
    let harness = Harness::get();
    let origin =
        Origin::start(|_, _, stream| say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    harness.run(async {
        // Makes calls until one is refused, and answers with the handle's number then; drops none.
        let wat = r#"(module
            (import "mayfly_http_v1" "request_body_read" (func $body (param i32 i32) (result i32)))
            (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
            (import "mayfly_fetch_v1" "fetch" (func $fetch (param i32 i32 i32 i32) (result i32)))
            (import "mayfly_fetch_v1" "head" (func $head (param i32 i32 i32) (result i32)))
            (import "mayfly_fetch_v1" "drop" (func $drop (param i32)))
            (memory (export "memory") 2)
            (data (i32.const 0) "\c8\00\00\00")
            (func (export "mayfly_abi_1"))
            (func (export "mayfly_handle") (local $n i32) (local $h i32) (local $made i32)
              (local.set $n (call $body (i32.const 1024) (i32.const 16384)))
              (loop $more
                (local.set $h (call $fetch (i32.const 1024) (local.get $n) (i32.const 0) (i32.const 0)))
                (if (i32.gt_s (local.get $h) (i32.const 0)) (then
                  (local.set $made (i32.add (local.get $made) (i32.const 1)))
                  DROP
                  (br $more))))
              (i32.store (i32.const 16) (local.get $made))
              (i32.store (i32.const 20) (local.get $h))
              (drop (call $start (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 8)))))"#;
        let drops = "(drop (call $head (local.get $h) (i32.const 32768) (i32.const 1024))) (call $drop (local.get $h))";
        for (name, drop, expect) in [("out-open", "", 6), ("out-done", drops, 50)] {
            harness.deploy_wat(name, &wat.replace("DROP", drop), rules(&[&origin.url()], &[])).await;
            let reply = call(harness, name, frame("GET", &origin.url(), 0, &[])).await;
            let numbers = reply.body.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes));
            assert_eq!(numbers.collect::<Vec<_>>(), [expect, -17], "{name}");
        }
    });
}

#[test]
fn init_calls_nobody() {
    let harness = Harness::get();
    harness.run(async {
        let wat = guest(READS, 0).replace(
            "(func (export \"mayfly_handle\")",
            "(func (export \"mayfly_init\") (drop (call $fetch (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
             (func (export \"mayfly_handle\")",
        );
        let wasm = wat::parse_str(wat).unwrap();
        let refused = harness.deploy("out-init", wasm, rules(&["https://*"], &[])).await.unwrap_err();
        let words = refused.kind.to_string();
        assert!(words.contains("mayfly_fetch_v1::fetch"), "{words}");
    });
}
