;; Calls an empty slot of its table.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (table 1 funcref)
  (type $t (func))
  (func (export "mayfly_handle")
    (call_indirect (type $t) (i32.const 0))))
