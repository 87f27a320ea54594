;; Loads from where no pointer of its own leads.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")
    (drop (i32.load (i32.const 0x6f6c6c65)))))
