;; Answers with a header value that has a line break.
(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\01\00\03\00x-a\10\00b\0d\0aset-cookie: c")
  (func (export "mayfly_handle")
    (drop (call $start (i32.const 0) (i32.const 27) (i32.const 0) (i32.const 0)))))
