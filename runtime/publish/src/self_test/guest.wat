;; The self-test's guest: 4 MiB of memory with one data segment. It looks at a word in every 26th page and at its
;; global, traps if one is not as the module says, then writes to all of them: 40 separate dirty runs, and not more
;; pages than that, because a warm slot keeps them.
(module
  (memory (export "memory") 64)
  (data (i32.const 4096) "mayfly")
  (global $spoiled (mut i32) (i32.const 0))
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")
    (local $at i32)
    (if (global.get $spoiled) (then unreachable))
    (if (i32.ne (i32.load (i32.const 4096)) (i32.const 0x6679616d)) (then unreachable))
    (global.set $spoiled (i32.const 1))
    (i32.store (i32.const 4096) (i32.const 0))
    ;; From the third page on: the second holds the data.
    (local.set $at (i32.const 8192))
    (loop $next
      (if (i32.load (local.get $at)) (then unreachable))
      (i32.store (local.get $at) (i32.const -1))
      (local.set $at (i32.add (local.get $at) (i32.const 106496)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 4194304))))))
