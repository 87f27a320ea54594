//! `Server-Timing`: what a response says of its own times, whole or streamed.

use http::Method;
use http_body::Body as _;
use mayfly_runtime::revision::Settings;

use crate::harness::{Harness, Reply, get, request, send};

/// Notes a mark, sends its head and a line, sleeps 50 ms in the host, sends another line.
const STREAMS: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "mark" (func $mark (param i32)))
  (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00one\0atwo\0a")
  (func (export "mayfly_handle")
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const 50000000))
    (call $mark (i32.const 3))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 4)))
    (drop (call $poll (i32.const 1024) (i32.const 1280) (i32.const 1) (i32.const 1536)))
    (drop (call $write (i32.const 8) (i32.const 4)))))"#;

/// Counts for several ticks, then answers in two writes.
const COUNTS: &str = r#"(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00one\0atwo\0a")
  (func (export "mayfly_handle") (local $i i32)
    (loop $again
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (local.get $i)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 50000000))))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 4)))
    (drop (call $write (i32.const 8) (i32.const 4)))))"#;

fn names(reply: &Reply) -> Vec<String> {
    let timing = reply.headers.get("server-timing").expect("Server-Timing").to_str().unwrap();
    timing.split(", ").map(|entry| entry.split(";dur=").next().unwrap().to_owned()).collect()
}

#[test]
fn a_whole_response_tells_its_call_and_a_streamed_one_the_time_to_its_head() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("timed", "naps", &[]).await;
        let reply = get(harness, "/timed").await;
        assert_eq!(names(&reply), ["queue", "instantiate", "call"]);

        harness.deploy_wat("timed-stream", STREAMS, Settings::default()).await;
        let reply = get(harness, "/timed-stream").await;
        assert_eq!(reply.body, b"one\ntwo\n");
        assert_eq!(names(&reply), ["queue", "instantiate", "head", "mark3"]);
    });
}

#[test]
fn a_guest_that_ends_soon_after_its_head_has_a_length_on_whatever_thread_it_ran() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("counts", COUNTS, Settings::default()).await;
        // The first is moved off the worker, the others start beside it.
        for _ in 0..3 {
            let response = send(harness, request(Method::GET, "/counts"), None).await;
            assert_eq!(response.body().size_hint().exact(), Some(8));
        }
    });
}
