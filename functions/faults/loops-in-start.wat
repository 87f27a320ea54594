;; Never lets its instance come to be: the start function loops.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func $spin (loop $again (br $again)))
  (start $spin)
  (func (export "mayfly_handle")))
