;; Grows its table until it is denied, then answers.
(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00ok")
  (table $t 1 funcref)
  (func (export "mayfly_handle")
    (loop $again
      (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 2)))))
