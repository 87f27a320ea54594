;; Asks for 64 MiB of random bytes; traps unless it is refused, then answers.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1024)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00ok")
  (func (export "mayfly_handle")
    (if (i32.eqz (call $random (i32.const 0) (i32.const 67108864))) (then unreachable))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 2)))))
