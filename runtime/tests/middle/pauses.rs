//! A guest that waits in the host in the middle of its response.

use std::time::Duration;

/// Notes mark 3, sends its head and "one", sleeps, sends "two", and writes "done" to its log. Without a body, what it
/// writes goes nowhere, and must not fail.
pub fn pauses(status: u16, pause: Duration) -> String {
    let [low, high] = status.to_le_bytes();
    let nanos = pause.as_nanos();
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $log (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "mark" (func $mark (param i32)))
  (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\{low:02x}\{high:02x}\00\00one\0atwo\0adone\0a")
  (func (export "mayfly_handle")
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const {nanos}))
    (call $mark (i32.const 3))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 4)))
    (drop (call $poll (i32.const 1024) (i32.const 1280) (i32.const 1) (i32.const 1536)))
    (if (i32.lt_s (call $write (i32.const 8) (i32.const 4)) (i32.const 0)) (then unreachable))
    (i32.store (i32.const 512) (i32.const 12))
    (i32.store (i32.const 516) (i32.const 5))
    (drop (call $log (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 520)))))"#
    )
}
