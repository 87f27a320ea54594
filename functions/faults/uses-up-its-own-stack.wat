;; Recurses with frames in its memory, as compiled code has them, until they would be below address 0.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (global $stack (mut i32) (i32.const 32768))
  (func $deeper
    (global.set $stack (i32.sub (global.get $stack) (i32.const 48)))
    (i64.store (global.get $stack) (i64.const -1))
    (i64.store offset=8 (global.get $stack) (i64.const -1))
    (call $deeper))
  (func (export "mayfly_handle")
    (call $deeper)))
