;; Loads from just behind its memory.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")
    (drop (i32.load (i32.const 65540)))))
