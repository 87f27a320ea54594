;; Executes unreachable.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle") unreachable))
