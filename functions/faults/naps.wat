;; Sleeps for 100 ms in the host, then answers.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00ok")
  (func (export "mayfly_handle")
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const 100000000))
    (drop (call $poll (i32.const 1024) (i32.const 1280) (i32.const 1) (i32.const 1536)))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 2)))))
