;; Sends a head longer than any head may be.
(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00")
  (func (export "mayfly_handle")
    (drop (call $start (i32.const 0) (i32.const 1000000) (i32.const 0) (i32.const 0)))))
