;; Writes a body before any head.
(module
  (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")
    (drop (call $write (i32.const 0) (i32.const 5)))))
