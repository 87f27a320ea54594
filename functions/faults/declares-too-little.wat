;; Says that its body has one byte, and writes two.
(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\01\00\0e\00content-length\02\0001ok")
  (func (export "mayfly_handle")
    (drop (call $start (i32.const 0) (i32.const 24) (i32.const 24) (i32.const 2)))))
