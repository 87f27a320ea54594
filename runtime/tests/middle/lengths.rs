//! Bodies that are not as long as their guests said.

use std::time::Duration;

use http::Method;
use mayfly_core::record::Settings;

use crate::harness::{Harness, Reply, body_of, read, request, send};

/// What a guest says and does.
#[derive(Clone, Copy)]
struct Says {
    status: u16,
    /// Values of `Content-Length`.
    lengths: &'static [&'static str],
    /// Bytes of its body.
    body: usize,
    /// Whether it sleeps before the second half of it, so that its head leaves first.
    pauses: bool,
}

const fn says(lengths: &'static [&'static str], body: usize) -> Says {
    Says { status: 200, lengths, body, pauses: false }
}

const SLEEP: &str =
    "(drop (call $poll (i32.const 1024) (i32.const 1280) (i32.const 1) (i32.const 1536)))";

fn pause(says: Says) -> (u128, &'static str) {
    (Duration::from_millis(30).as_nanos(), if says.pauses { SLEEP } else { "" })
}

fn reactor(says: Says) -> String {
    let short = |n: usize| {
        let [low, high] = u16::try_from(n).unwrap().to_le_bytes();
        format!("\\{low:02x}\\{high:02x}")
    };
    let headers: String = says
        .lengths
        .iter()
        .map(|value| format!("{}content-length{}{value}", short(14), short(value.len())))
        .collect();
    let frame: usize = 4 + says.lengths.iter().map(|value| 18 + value.len()).sum::<usize>();
    let (first, (nanos, sleep)) = (says.body / 2, pause(says));
    let (status, count) = (short(says.status.into()), short(says.lengths.len()));
    let rest = says.body - first;
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "{status}{count}{headers}")
  (data (i32.const 2048) "0123456789012345678901234567890123456789")
  (func (export "mayfly_handle")
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const {nanos}))
    (drop (call $start (i32.const 0) (i32.const {frame}) (i32.const 2048) (i32.const {first})))
    {sleep}
    (if (call $write (i32.const {second}) (i32.const {rest})) (then unreachable))))"#,
        second = 2048 + first,
    )
}

fn command(says: Says) -> String {
    let lengths: String =
        says.lengths.iter().map(|value| format!("Content-Length: {value}\\0a")).collect();
    let bytes: usize = says.lengths.iter().map(|value| 17 + value.len()).sum();
    let (first, (nanos, sleep)) = (says.body / 2, pause(says));
    let (head, rest) = (12 + bytes + 1, says.body - first);
    let status = says.status;
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "Status: {status}\0a{lengths}\0a")
  (data (i32.const 2048) "0123456789012345678901234567890123456789")
  (func $write (param i32 i32)
    (i32.store (i32.const 512) (local.get 0))
    (i32.store (i32.const 516) (local.get 1))
    (if (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520))
      (then unreachable)))
  (func (export "_start")
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const {nanos}))
    (call $write (i32.const 0) (i32.const {head}))
    (call $write (i32.const 2048) (i32.const {first}))
    {sleep}
    (call $write (i32.const {second}) (i32.const {rest}))))"#,
        second = 2048 + first,
    )
}

/// The response to each ABI's guest, with all that was logged.
async fn ask(method: &Method, says: Says) -> Vec<(Reply, String)> {
    let (harness, mut replies) = (Harness::get(), Vec::new());
    let slots = harness.node.free_slots();
    for wat in [reactor(says), command(says)] {
        harness.deploy_wat("lengths", &wat, Settings::default()).await;
        let reply = read(send(harness, request(method.clone(), "/lengths"), None).await).await;
        harness.settled(slots).await;
        // Its line is written after its slot is given back.
        for _ in 0..1_000 {
            if !harness.log_of("lengths").is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        replies.push((reply, harness.log_of("lengths")));
        harness.remove("lengths").await;
    }
    replies
}

fn told(reply: &Reply) -> Option<&str> {
    reply.headers.get("content-length").map(|value| value.to_str().unwrap())
}

// One test, because its cases share a function's name.
#[test]
fn a_body_is_held_to_the_length_that_its_guest_declares() {
    Harness::get().run(async {
        let get = &Method::GET;
        for (reply, log) in ask(get, says(&["10"], 10)).await {
            assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 10));
            assert!(log.contains("answered"), "{log}");
        }
        // Too little, all of it here: the client is told that this is no response.
        for (reply, log) in ask(get, says(&["10"], 5)).await {
            assert_eq!(reply.status, 502, "{log}");
            assert!(body_of(&reply).contains("bad-response"), "{}", body_of(&reply));
            assert!(log.contains("declared a body of 10 bytes and produced 5"), "{log}");
        }
        // Too much: the client gets what it was promised, the log the rest of the story.
        for (reply, log) in ask(get, says(&["5"], 10)).await {
            assert_eq!((reply.status.as_u16(), body_of(&reply)), (200, "01234".into()), "{log}");
            assert!(log.contains("declared a body of 5 bytes and produced 10"), "{log}");
            assert!(log.contains("bad-response"), "{log}");
        }
        for body in [0, 1] {
            for (reply, log) in ask(get, says(&["0"], body)).await {
                assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0), "{log}");
            }
        }
        streamed().await;
        without_a_body().await;
        for lengths in [&["5", "6"][..], &["ten"], &["-1"], &["5, 5"], &["99999999999999999999"]] {
            for (reply, log) in ask(get, says(lengths, 5)).await {
                assert_eq!(reply.status, 502, "{lengths:?} {log}");
                assert!(body_of(&reply).contains("bad-response"), "{lengths:?}");
            }
        }
        for (reply, log) in ask(get, says(&["5", "5"], 5)).await {
            assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 5), "{log}");
        }
    });
}

/// Once the head is out, it has the length in it, so that a client sees what is missing.
async fn streamed() {
    let streams = |lengths, body| Says { pauses: true, ..says(lengths, body) };
    for (reply, log) in ask(&Method::GET, streams(&["10"], 10)).await {
        assert_eq!(
            (told(&reply), reply.broken, reply.body.len()),
            (Some("10"), false, 10),
            "{log}"
        );
        assert!(log.contains("answered"), "{log}");
    }
    for (reply, log) in ask(&Method::GET, streams(&["10"], 6)).await {
        assert_eq!((reply.status.as_u16(), told(&reply), reply.broken), (200, Some("10"), true));
        assert!(log.contains("declared a body of 10 bytes and produced 6"), "{log}");
    }
    for (reply, log) in ask(&Method::GET, streams(&["5"], 20)).await {
        assert_eq!(
            (told(&reply), reply.broken, body_of(&reply)),
            (Some("5"), false, "01234".into())
        );
        assert!(log.contains("declared a body of 5 bytes and produced 20"), "{log}");
    }
    for (reply, _) in ask(&Method::GET, streams(&[], 10)).await {
        assert_eq!((told(&reply), reply.broken, reply.body.len()), (None, false, 10));
    }
}

/// To HEAD, a length is about the body that GET would have; where no body can be, nobody is told one.
async fn without_a_body() {
    for (body, pauses) in [(0, false), (10, false), (0, true), (10, true)] {
        let head = Says { pauses, ..says(&["1000"], body) };
        for (reply, log) in ask(&Method::HEAD, head).await {
            let said = (reply.status.as_u16(), told(&reply), reply.body.len());
            assert_eq!(said, (200, Some("1000"), 0), "{log}");
            assert!(log.contains("answered"), "{log}");
        }
        for status in [204, 205, 304] {
            for (reply, log) in ask(&Method::GET, Says { status, ..head }).await {
                let said = (reply.status.as_u16(), told(&reply), reply.body.len());
                assert_eq!(said, (status, None, 0), "{log}");
                assert!(log.contains("answered"), "{log}");
            }
        }
    }
}
