;; Answers with a Content-Length, which is true, and a Transfer-Encoding of its own; framing is the host's.
(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\02\00\0e\00content-length\04\000002\11\00transfer-encoding\07\00chunkedok")
  (func (export "mayfly_handle")
    (drop (call $start (i32.const 0) (i32.const 54) (i32.const 54) (i32.const 2)))))
