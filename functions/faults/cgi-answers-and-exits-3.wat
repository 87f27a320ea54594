;; A command that answers as CGI has it, and then exits with code 3.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "Content-Type: text/plain\0a\0aok")
  (func (export "_start")
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (i32.const 28))
    (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))
    (call $exit (i32.const 3))))
