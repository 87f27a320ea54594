;; Reads all of the request, then answers; traps if reading fails.
(module
  (import "mayfly_http_v1" "request_body_read" (func $read (param i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00ok")
  (func (export "mayfly_handle")
    (local $n i32)
    (loop $more
      (local.set $n (call $read (i32.const 1024) (i32.const 60000)))
      (if (i32.lt_s (local.get $n) (i32.const 0)) (then unreachable))
      (br_if $more (local.get $n)))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 2)))))
