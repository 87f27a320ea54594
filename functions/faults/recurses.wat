;; Uses up its stack.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func $deeper (param i64 i64 i64 i64)
    (call $deeper (local.get 3) (local.get 0) (local.get 1) (local.get 2)))
  (func (export "mayfly_handle")
    (call $deeper (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4))))
