;; A guest that keeps what it drew in init, and hashes with that and with what it draws now. The first is a constant; if
;; the host did not draw anew, the hash would be one too.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_init") (drop (call $random (i32.const 2048) (i32.const 8))))
  (func (export "mayfly_handle"))
  (func $mix (param $hash i64) (param $word i64) (result i64)
      (local.set $hash (i64.mul (i64.xor (local.get $hash) (local.get $word)) (i64.const 0x9E3779B97F4A7C15)))
      (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 29))))
  (func (export "mayfly_seed_probe") (result i64)
      (drop (call $random (i32.const 2056) (i32.const 16)))
      (call $mix (call $mix (call $mix (i64.load (i32.const 2048)) (i64.load (i32.const 2056)))
          (i64.load (i32.const 2064))) (i64.const 0x79656b))))
