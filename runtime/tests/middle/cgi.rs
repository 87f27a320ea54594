//! What a command finds of a request, and what becomes of what it writes: CGI as others' servers have it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, StreamBody};
use mayfly_core::record::Settings;
use mayfly_host::catalog::Entry;
use mayfly_host::exchange::RequestBody;
use mayfly_host::revision::Revision;

use crate::harness::{Harness, Reply, body_of, post, read, request, send};

const CAT: &str = include_str!("../guests/cat.wat");

/// What the guest `cat` says: its variables, and its body.
fn said(reply: &Reply) -> (BTreeMap<String, String>, Vec<u8>) {
    let end = reply.body.windows(2).position(|pair| pair == b"\n\n");
    let end = end.unwrap_or_else(|| panic!("{} {}", reply.status, body_of(reply)));
    let text = String::from_utf8(reply.body[..end].to_vec()).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (variables, reply.body[end + 2..].to_vec())
}

fn revision(harness: &Harness, name: &str) -> Arc<Revision> {
    match harness.node.catalog.load().get(name) {
        Some(Entry::Ready(revision)) => revision.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

/// A path's status; if it is 200, `SCRIPT_NAME`, `PATH_INFO` and `QUERY_STRING`.
type Found = Result<[&'static str; 3], u16>;

/// All of these were sent to Apache 2.4.71 (mod_cgid, `ScriptAlias /p`) and nginx 1.22 (fcgiwrap, a regular expression for
/// script and path) as well. Both give what stands here, `REQUEST_URI` as it was sent, and a `REMOTE_PORT`, unless it says
/// A for Apache or N for nginx, and what they do.
#[rustfmt::skip]
const PATHS: &[(&str, Found)] = &[
    ("/p", Ok(["/p", "", ""])),
    ("/p/", Ok(["/p", "/", ""])),
    ("/p/a", Ok(["/p", "/a", ""])),
    ("/p/a/b/c", Ok(["/p", "/a/b/c", ""])),
    ("/p/a/", Ok(["/p", "/a/", ""])),
    ("/p/a%20b", Ok(["/p", "/a b", ""])),
    ("/p/a+b", Ok(["/p", "/a+b", ""])),
    ("/p/100%25", Ok(["/p", "/100%", ""])),
    ("/p/100%2525", Ok(["/p", "/100%25", ""])),
    ("/p/%25", Ok(["/p", "/%", ""])),
    ("/p/%252e%252e/x", Ok(["/p", "/%2e%2e/x", ""])),
    ("/p/who%3Fq=evil", Ok(["/p", "/who?q=evil", ""])),
    ("/p/who%3fq=evil?x=1", Ok(["/p", "/who?q=evil", "x=1"])),
    ("/p/a%23b", Ok(["/p", "/a#b", ""])),
    ("/p/%7Ejane", Ok(["/p", "/~jane", ""])),
    ("/p/a%2Db%2Ec%5Fd", Ok(["/p", "/a-b.c_d", ""])),
    ("/p/%41", Ok(["/p", "/A", ""])),
    ("/p/%C3%A9", Ok(["/p", "/é", ""])),
    ("/p/%E4%B8%96", Ok(["/p", "/世", ""])),
    ("/p/%09", Ok(["/p", "/\t", ""])),
    ("/p/%22q%22", Ok(["/p", "/\"q\"", ""])),
    ("/p/a=b;c", Ok(["/p", "/a=b;c", ""])),
    ("/p/a%3Db%3Bc", Ok(["/p", "/a=b;c", ""])),
    ("/p/@u:x$!*'(),&", Ok(["/p", "/@u:x$!*'(),&", ""])),
    ("/p/%40", Ok(["/p", "/@", ""])),
    ("/p/...", Ok(["/p", "/...", ""])),
    ("/p/.hidden", Ok(["/p", "/.hidden", ""])),
    ("/p/a..b", Ok(["/p", "/a..b", ""])),
    ("/p/a%2e%2eb", Ok(["/p", "/a..b", ""])),
    ("/p?x=1", Ok(["/p", "", "x=1"])),
    ("/p/?", Ok(["/p", "/", ""])),
    ("/p/?a=1&b=2", Ok(["/p", "/", "a=1&b=2"])),
    ("/p/?a=%26&b=+%2B", Ok(["/p", "/", "a=%26&b=+%2B"])),
    ("/p/?a?b", Ok(["/p", "/", "a?b"])),
    ("/p/?/../x", Ok(["/p", "/", "/../x"])),
    ("/p/?%00", Ok(["/p", "/", "%00"])),
    ("/p/a?%2F", Ok(["/p", "/a", "%2F"])),
    ("/%70/x", Ok(["/p", "/x", ""])),
    ("/%70", Ok(["/p", "", ""])),
    ("/~jane/x", Ok(["/~jane", "/x", ""])),
    ("/%7Ejane/x", Ok(["/~jane", "/x", ""])),
    ("/%7ejane/%7e", Ok(["/~jane", "/~", ""])),
    ("/~jane", Ok(["/~jane", "", ""])),
    ("/~janet", Err(404)),
    ("/exact", Ok(["/exact", "", ""])),
    ("/ex%61ct", Ok(["/exact", "", ""])),
    ("/exact/", Err(404)),
    ("/P/x", Err(404)),
    ("/p%20/x", Err(404)),
    ("/p/100%", Err(400)),
    ("/p/%zz", Err(400)),
    ("/p/%4", Err(400)),
    // Whoever filters by paths in front may read these differently: they are refused and not made out.
    ("/p/a%2Fb", Err(400)), // A: 404, N: PATH_INFO=/a/b
    ("/p%2Fx", Err(400)), // A: 404, N: PATH_INFO=/x
    ("/p/a%00b", Err(400)), // A: 404
    ("/p/a%5Cb", Err(400)), // A, N: PATH_INFO=/a\b
    ("/p/a\\b", Err(400)), // A, N: PATH_INFO=/a\b
    ("/p/../x", Err(400)), // A, N: 404
    ("/p/./x", Err(400)), // A, N: PATH_INFO=/x
    ("/p/a/..", Err(400)), // A, N: PATH_INFO=/
    ("/p/%2e%2e/p/x", Err(400)), // A, N: PATH_INFO=/x
    ("/p/.%2E/x", Err(400)), // A, N: 404
    ("/p/%2e", Err(400)), // A, N: PATH_INFO=/
    // An empty segment is a segment: RFC 3986 has no rule by which it goes.
    ("/p/a//b", Ok(["/p", "/a//b", ""])), // A, N: PATH_INFO=/a/b
    ("/p//", Ok(["/p", "//", ""])), // A, N: PATH_INFO=/
    ("//p/x", Err(404)), // A, N: PATH_INFO=/x
    // The environment of WASI is text: what is none is marked, and REQUEST_URI has it as it was sent.
    ("/p/%C3%28", Ok(["/p", "/\u{fffd}(", ""])), // A, N: the two bytes
];

#[test]
fn paths_are_what_other_servers_make_of_them() {
    let harness = Harness::get();
    harness.run(async {
        let routes = ["/~jane/...", "/exact"].map(str::to_owned).to_vec();
        harness.deploy_wat("p", CAT, Settings { routes, ..Settings::default() }).await;
        for (path, expected) in PATHS {
            let reply = read(send(harness, request(Method::GET, path), None).await).await;
            let [script, info, query] = match expected {
                Ok(all) => all,
                Err(status) => {
                    assert_eq!(reply.status.as_u16(), *status, "{path}: {}", body_of(&reply));
                    continue;
                }
            };
            assert_eq!(reply.status, 200, "{path}: {}", body_of(&reply));
            let (variables, _) = said(&reply);
            for (name, value) in [
                ("SCRIPT_NAME", *script),
                ("PATH_INFO", *info),
                ("QUERY_STRING", *query),
                ("REQUEST_URI", *path),
                ("REMOTE_PORT", "4000"),
            ] {
                assert_eq!(variables.get(name).map(String::as_str), Some(value), "{path}: {name}");
            }
        }
        harness.remove("p").await;
    });
}

#[test]
fn of_an_absolute_target_the_path_counts() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("cgi-absolute", CAT, Settings::default()).await;
        let target = "http://test:80/cgi-absolute/%7Ea?b";
        let reply = read(send(harness, request(Method::GET, target), None).await).await;
        let (variables, _) = said(&reply);
        assert_eq!(variables["REQUEST_URI"], "/cgi-absolute/%7Ea?b");
        assert_eq!(variables["PATH_INFO"], "/~a");
        assert_eq!(variables["X_RAW_PATH_INFO"], "/%7Ea");
        harness.remove("cgi-absolute").await;
    });
}

#[test]
fn a_body_has_a_length_however_it_came() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("cgi-bodies", CAT, Settings::default()).await;
        let asks = Settings { stream_body: true, ..Settings::default() };
        harness.deploy_wat("cgi-stream", CAT, asks).await;
        for size in [0, 1, 99, 100, 70_000, 1_000_000] {
            let body: Vec<u8> = (0..=255_u8).cycle().take(size).collect();
            let length = size.to_string();
            for (name, declared, told) in [
                ("cgi-bodies", true, Some(&length)),
                ("cgi-bodies", false, Some(&length)),
                ("cgi-stream", true, Some(&length)),
                ("cgi-stream", false, None),
            ] {
                let reply = post(harness, &format!("/{name}"), body.clone(), declared).await;
                assert_eq!(reply.status, 200, "{name} {size}: {}", body_of(&reply));
                let (variables, came) = said(&reply);
                assert_eq!(variables.get("CONTENT_LENGTH"), told, "{name} {size} {declared}");
                assert!(came == body, "{name} {size} {declared}: {} bytes", came.len());
            }
        }
        // Who sends none has none.
        let reply = read(send(harness, request(Method::POST, "/cgi-bodies"), None).await).await;
        assert_eq!(said(&reply).0.get("CONTENT_LENGTH"), None);
        assert_eq!(revision(harness, "cgi-bodies").shares.bodies.load(Ordering::Relaxed), 0);
    });
}

/// A body whose pieces the test sends, without a length.
fn sent_piece_by_piece() -> (tokio::sync::mpsc::Sender<Bytes>, RequestBody) {
    struct Pieces(tokio::sync::mpsc::Receiver<Bytes>);
    impl futures_core::Stream for Pieces {
        type Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece))))
        }
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    (sender, Box::pin(StreamBody::new(Pieces(receiver)).map_err(|never| match never {})))
}

#[test]
fn until_its_body_is_there_a_request_has_no_instance_and_what_is_held_is_counted() {
    let harness = Harness::get();
    harness.run(async {
        let name = "cgi-held";
        harness.deploy_wat(name, CAT, Settings::default()).await;
        let revision = revision(harness, name);
        let held = || revision.shares.bodies.load(Ordering::Relaxed);
        let (sender, body) = sent_piece_by_piece();
        let asked = request(Method::POST, "/cgi-held");
        let answer = tokio::spawn(async move { send(harness, asked, Some(body)).await });
        sender.send(vec![1; 10_000].into()).await.unwrap();
        while held() < 10_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(revision.tenant.in_flight.load(Ordering::Relaxed), 0);
        assert_eq!(revision.tenant.unanswered.load(Ordering::Relaxed), 1);
        assert_eq!(revision.shares.receiving.load(Ordering::Relaxed), 1);
        sender.send(vec![2; 10_000].into()).await.unwrap();
        drop(sender);
        let (variables, came) = said(&read(answer.await.unwrap()).await);
        assert_eq!((variables["CONTENT_LENGTH"].as_str(), came.len()), ("20000", 20_000));
        assert_eq!(held(), 0);
        // One that is left in the middle gives back what it had.
        let (sender, body) = sent_piece_by_piece();
        let asked = request(Method::POST, "/cgi-held");
        let left = tokio::spawn(async move { send(harness, asked, Some(body)).await });
        sender.send(vec![1; 10_000].into()).await.unwrap();
        while held() < 10_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        left.abort();
        assert!(left.await.is_err());
        assert_eq!((held(), revision.shares.receiving.load(Ordering::Relaxed)), (0, 0));
        assert!(harness.log_of(name).contains("client-gone"), "{}", harness.log_of(name));
    });
}

#[test]
fn a_body_without_a_length_has_the_functions_limits_and_the_nodes() {
    let harness = Harness::get();
    harness.run(async {
        let mut settings = Settings::default();
        settings.limits.set("request-body=100KiB").unwrap();
        settings.limits.set("wall=200ms").unwrap();
        harness.deploy_wat("cgi-limits", CAT, settings.clone()).await;
        for (size, status) in [(100 << 10, 200), ((100 << 10) + 1, 413), (300 << 10, 413)] {
            let reply = post(harness, "/cgi-limits", vec![7; size], false).await;
            assert_eq!(reply.status.as_u16(), status, "{size}: {}", body_of(&reply));
        }
        // The time of the function passes while its body comes.
        let (sender, body) = sent_piece_by_piece();
        sender.send(Bytes::from_static(b"x")).await.unwrap();
        let late = request(Method::POST, "/cgi-limits");
        let reply = read(send(harness, late, Some(body)).await).await;
        assert_eq!(reply.status, 504);
        assert!(body_of(&reply).contains("wall-limit"), "{}", body_of(&reply));
        drop(sender);
        // Half of what the node has for such bodies is a function's at most.
        settings.limits.set("request-body=1GiB").unwrap();
        settings.limits.set("wall=60s").unwrap();
        harness.deploy_wat("cgi-limits", CAT, settings).await;
        let (sender, body) = sent_piece_by_piece();
        let sends = tokio::spawn(async move {
            let piece = Bytes::from(vec![0; 1 << 20]);
            while sender.send(piece.clone()).await.is_ok() {}
        });
        let much = request(Method::POST, "/cgi-limits");
        let reply = read(send(harness, much, Some(body)).await).await;
        sends.await.unwrap();
        assert_eq!(reply.status, 503);
        let body = body_of(&reply);
        assert!(body.contains("bodies-full") && body.contains("Content-Length"), "{body}");
        assert_eq!(reply.headers.get("retry-after").unwrap(), "1");
    });
}

#[test]
fn credentials_reach_a_command_that_asked_for_them() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("cgi-closed", CAT, Settings::default()).await;
        let asks = Settings { pass_authorization: true, ..Settings::default() };
        harness.deploy_wat("cgi-asks", CAT, asks).await;
        for (name, expected) in [("cgi-closed", None), ("cgi-asks", Some("Bearer abc"))] {
            let asked = Request::get(format!("/{name}"))
                .header("host", "test")
                .header("authorization", "Bearer abc")
                .header("proxy-authorization", "Basic secret")
                .header("proxy", "http://evil")
                .body(())
                .unwrap();
            let (variables, _) = said(&read(send(harness, asked, None).await).await);
            let given = variables.get("HTTP_AUTHORIZATION").map(String::as_str);
            assert_eq!(given, expected, "{name}");
            assert!(!variables.contains_key("HTTP_PROXY_AUTHORIZATION"), "{name}");
            assert!(!variables.contains_key("HTTP_PROXY"), "{name}");
        }
    });
}

/// A command that writes `text` (of so many bytes), sleeps if it is to, and exits with a code.
fn exits(text: &str, bytes: usize, sleeps: bool, code: u32) -> String {
    let sleep =
        "(drop (call $poll (i32.const 1024) (i32.const 1280) (i32.const 1) (i32.const 1536)))";
    let sleep = if sleeps { sleep } else { "" };
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 2048) "{text}")
  (func (export "_start")
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const 30000000))
    (i32.store (i32.const 512) (i32.const 2048))
    (i32.store (i32.const 516) (i32.const {bytes}))
    (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))
    {sleep}
    (call $exit (i32.const {code}))))"#
    )
}

#[test]
fn an_exit_code_changes_nothing_of_an_answer_that_has_begun() {
    let harness = Harness::get();
    harness.run(async {
        for sleeps in [false, true] {
            for (text, bytes, code, status, broken, word) in [
                ("Status: 201\\0a\\0aok", 15, 3, 201, false, "it exited with code 3"),
                ("Status: 201\\0a\\0aok", 15, 255, 201, false, "it exited with code 255"),
                ("Status: 201\\0a\\0aok", 15, 0, 201, false, "answered"),
                (
                    "Status: 201\\0aContent-Length: 2\\0a\\0aok",
                    33,
                    3,
                    201,
                    false,
                    "it exited with code 3",
                ),
                // Less than it declared is no answer, or a broken one.
                (
                    "Status: 201\\0aContent-Length: 3\\0a\\0aok",
                    33,
                    3,
                    if sleeps { 201 } else { 502 },
                    sleeps,
                    "it exited with code 3",
                ),
                ("Status: 201\\0a", 12, 3, 502, false, "it exited with code 3"),
            ] {
                let wat = exits(text, bytes, sleeps, code);
                harness.deploy_wat("cgi-exits", &wat, Settings::default()).await;
                let asked = request(Method::GET, "/cgi-exits");
                let reply = read(send(harness, asked, None).await).await;
                let what = format!("{text} {code} {sleeps}: {}", body_of(&reply));
                assert_eq!((reply.status.as_u16(), reply.broken), (status, broken), "{what}");
                if status == 201 {
                    assert_eq!(body_of(&reply), "ok", "{what}");
                } else {
                    assert!(body_of(&reply).contains("exited with code 3"), "{what}");
                }
                for _ in 0..1_000 {
                    if harness.log_of("cgi-exits").contains(word) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let log = harness.log_of("cgi-exits");
                assert!(log.contains(word), "{what}: {log}");
                harness.remove("cgi-exits").await;
            }
        }
    });
}

#[test]
fn what_is_printed_in_place_of_a_head_is_in_the_log() {
    let harness = Harness::get();
    harness.run(async {
        let long = "x".repeat(300);
        for (text, bytes, words) in [
            ("hello world\\0a", 12, &["without a head", r#"printed "hello world\n""#][..]),
            ("{\\\"ok\\\": 1}\\0a", 10, &["without a head", r#"printed "{"ok": 1}\n""#]),
            (
                "DEBUG a.go:1 x\\0aContent-Type: a/b\\0a\\0ahi",
                36,
                &["not a header name", "DEBUG a.go:1 x"],
            ),
            ("\\1b[31m\\0a\\0a", 7, &["not a header line", r"\u{1b}[31m\n"]),
            (&long, 300, &["and 100 bytes more"]),
        ] {
            harness
                .deploy_wat("cgi-prints", &exits(text, bytes, false, 0), Settings::default())
                .await;
            let reply = read(send(harness, request(Method::GET, "/cgi-prints"), None).await).await;
            assert_eq!(reply.status, 502, "{text}");
            let body = body_of(&reply);
            assert!(body.contains("bad-response") && !body.contains("DEBUG"), "{body}");
            let log = harness.log_of("cgi-prints");
            for word in words {
                assert!(log.contains(word), "{word} is not in {log}");
            }
            harness.remove("cgi-prints").await;
        }
    });
}

#[test]
fn a_module_made_with_emscripten_may_tell_of_its_memory() {
    let harness = Harness::get();
    harness.run(async {
        let wat = r#"(module
  (import "env" "emscripten_notify_memory_growth" (func $grown (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "Status: 200\0a\0agrown")
  (func (export "_start")
    (drop (memory.grow (i32.const 1)))
    (call $grown (i32.const 0))
    (i32.store (i32.const 516) (i32.const 18))
    (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))))"#;
        harness.deploy_wat("cgi-emscripten", wat, Settings::default()).await;
        let asked = request(Method::GET, "/cgi-emscripten");
        let reply = read(send(harness, asked, None).await).await;
        assert_eq!((reply.status.as_u16(), body_of(&reply)), (200, "grown".into()));
    });
}
