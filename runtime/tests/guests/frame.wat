;; A reactor that answers with the frame of its request's head.
(module
  (import "mayfly_http_v1" "request_head" (func $head (param i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  ;; Status 200, no headers.
  (data (i32.const 0) "\c8\00\00\00")
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 1024)
      (call $head (i32.const 1024) (i32.const 65536))))))
