;; Logs a gibibyte that it does not have: a range outside its memory is a trap, whatever its length.
(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00ok")
  (func (export "mayfly_handle")
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (i32.const 1073741824))
    (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 2)))))
