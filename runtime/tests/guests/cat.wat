;; A command that answers with its environment, a variable on each line, then an empty line, and its body as it comes.
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 0) "Content-Type: text/plain\0a\0a")
  (func $write (param $ptr i32) (param $len i32)
    (loop $more
      (i32.store (i32.const 64) (local.get $ptr))
      (i32.store (i32.const 68) (local.get $len))
      (if (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 72)) (then unreachable))
      (local.set $ptr (i32.add (local.get $ptr) (i32.load (i32.const 72))))
      (local.set $len (i32.sub (local.get $len) (i32.load (i32.const 72))))
      (br_if $more (local.get $len))))
  (func (export "_start") (local $i i32)
    ;; The pointers from 1 KiB on, the text from 64 KiB on, and one more line end behind it.
    (drop (call $sizes (i32.const 80) (i32.const 84)))
    (drop (call $environ (i32.const 1024) (i32.const 65536)))
    (loop $next
      (if (i32.eqz (i32.load8_u (i32.add (i32.const 65536) (local.get $i))))
        (then (i32.store8 (i32.add (i32.const 65536) (local.get $i)) (i32.const 10))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.load (i32.const 84)))))
    (i32.store8 (i32.add (i32.const 65536) (local.get $i)) (i32.const 10))
    (call $write (i32.const 0) (i32.const 26))
    (call $write (i32.const 65536) (i32.add (i32.load (i32.const 84)) (i32.const 1)))
    (loop $body
      (i32.store (i32.const 64) (i32.const 131072))
      (i32.store (i32.const 68) (i32.const 65536))
      (if (call $fd_read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 72)) (then unreachable))
      (if (i32.load (i32.const 72))
        (then
          (call $write (i32.const 131072) (i32.load (i32.const 72)))
          (br $body))))))
