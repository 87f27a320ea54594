;; Fills all of its 64 MiB over and over: bulk operations are not interrupted, only what lies between them is.
(module
  (memory (export "memory") 1024)
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")
    (loop $again
      (memory.fill (i32.const 0) (i32.const 7) (i32.const 67108864))
      (br $again))))
