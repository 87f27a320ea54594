;; A command with a status that no function may send.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "Status: 1000\0a\0a")
  (func (export "_start")
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (i32.const 14))
    (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))))
