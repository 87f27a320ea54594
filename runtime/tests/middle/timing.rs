//! `Server-Timing`: what a response says of its own times, whole or streamed.

use std::time::Duration;

use http::Method;
use http_body::Body as _;
use mayfly_core::record::Settings;

use crate::harness::{Harness, Reply, get, request, send};
use crate::pauses::pauses;

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

        let streams = pauses(200, Duration::from_millis(50));
        harness.deploy_wat("timed-stream", &streams, Settings::default()).await;
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
