//! Responses without a body: what becomes of the guest behind them.

use http::{Method, StatusCode};
use mayfly_runtime::revision::Settings;

use crate::harness::{Harness, get, read, request, send};

/// Sends a head with the status in the first two bytes of its data, sleeps 50 ms in the host, writes to the response and
/// then to its log.
fn works_on(status: u16) -> String {
    let [low, high] = status.to_le_bytes();
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $log (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\{low:02x}\{high:02x}\00\00done\0a")
  (func (export "mayfly_handle")
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const 50000000))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0)))
    (drop (call $poll (i32.const 1024) (i32.const 1280) (i32.const 1) (i32.const 1536)))
    (if (i32.lt_s (call $write (i32.const 4) (i32.const 5)) (i32.const 0)) (then unreachable))
    (i32.store (i32.const 512) (i32.const 4))
    (i32.store (i32.const 516) (i32.const 5))
    (drop (call $log (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 520)))))"#
    )
}

#[test]
fn a_guest_whose_response_has_no_body_still_does_its_work() {
    let harness = Harness::get();
    harness.run(async {
        let slots = harness.node.free_slots();
        for status in [204, 205, 304] {
            let name = format!("works-on-{status}");
            harness.deploy_wat(&name, &works_on(status), Settings::default()).await;
            let reply = get(harness, &format!("/{name}")).await;
            assert_eq!((reply.status.as_u16(), reply.body.len()), (status, 0));
            harness.settled(slots).await;
            let log = harness.log_of(&name);
            assert!(log.contains("done") && log.contains("answered"), "{log}");
            harness.remove(&name).await;
        }
    });
}

#[test]
fn a_guest_that_was_asked_for_its_head_alone_has_answered() {
    let harness = Harness::get();
    harness.run(async {
        let slots = harness.node.free_slots();
        harness.deploy_wat("headed", &works_on(200), Settings::default()).await;
        let reply = read(send(harness, request(Method::HEAD, "/headed"), None).await).await;
        assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, 0));
        harness.settled(slots).await;
        let log = harness.log_of("headed");
        assert!(log.contains("answered") && !log.contains("client-gone"), "{log}");
        harness.remove("headed").await;
    });
}
