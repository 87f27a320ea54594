;; Returns without a response.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")))
