;; Sends a head and a few bytes, waits until they are out, then traps.
(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00ok")
  (func (export "mayfly_handle")
    (local $i i32)
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 2)))
    ;; More than the host buffers: by the time the last write returns, the client has the head.
    (loop $more
      (drop (call $write (i32.const 64) (i32.const 65000)))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 32))))
    unreachable))
