;; Divides by zero.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")
    (drop (i32.div_u (i32.const 1) (i32.const 0)))))
