;; Grows memory until it is denied, then traps as most allocators do.
(module
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")
    (loop $again
      (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable))
