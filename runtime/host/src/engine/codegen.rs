//! Everything that decides whether compiled code fits an engine. The compile child and the serving engine start from
//! the same [`base_config`], so that what the one writes the other can load.

use crate::engine::memory::{GUARD_BYTES, MEMORY_BYTES};
use mayfly_core::limits::node;
use wasmtime::{Config, Engine, Inlining, Module, OptLevel, WasmFeatures};

/// What guests may use: WebAssembly 2.0 without reference-counted types, and what current toolchains emit besides.
///
/// Each proposal that is off is code of the engine that no guest can reach; most of wasmtime's advisories of the last
/// years needed one of them.
pub const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::EXTENDED_CONST)
    .difference(WasmFeatures::GC_TYPES);

/// The part of the configuration that the compile child and every engine that runs its code share.
#[must_use]
pub fn base_config() -> Config {
    let mut config = Config::new();
    config
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(FEATURES, true)
        .gc_support(false)
        .concurrency_support(false)
        // A guest that loops is asked to yield at each back edge; fuel would cost two to three times as much.
        .epoch_interruption(true)
        .consume_fuel(false)
        // A function's entry is where the clock is looked at: a thunk that is inlined away is no entry. Said, because it
        // is only a default.
        .compiler_inlining(Inlining::No)
        .cranelift_opt_level(OptLevel::Speed)
        // Images are ours (`memory`). Said of what runs init as well, because it is part of what code fits.
        .memory_init_cow(false)
        .memory_reservation(MEMORY_BYTES as u64)
        .memory_guard_size(GUARD_BYTES as u64)
        // Guard pages stand in for bounds checks.
        .signals_based_traps(true)
        .max_wasm_stack(node::WASM_STACK_BYTES)
        .async_stack_size(node::FIBER_STACK_BYTES)
        // The table from code to wasm offsets is only for backtraces, which would show one tenant's code in our logs.
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None)
        .native_unwind_info(false);
    config
}

/// Loads code from memory: in a child of publish, and in `mayfly run`, which starts the compile child itself.
///
/// Only for bytes that the parent handed down: it has them from a compile child, which runs no guest, or from a file
/// that it verified. The serving process loads through [`VerifiedArtifact`](mayfly_store::artifact::VerifiedArtifact) instead.
///
/// # Errors
/// When the code was made for another configuration.
#[expect(
    unsafe_code,
    reason = "the same door as the engine's load, for the confined process that runs init"
)]
pub fn load_handed_down(engine: &Engine, code: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: the caller's promise above; the bytes were sealed, and wasmtime copies them. A child of publish
    // has no file, no network and no memory of anyone else, should they be wrong after all; `mayfly run` has what its
    // user has, and its bytes come from a compile child of its own.
    unsafe { Module::deserialize(engine, code) }
}

/// CPU features that the compiler infers from this machine, for the artifact's key: code that was made for one CPU
/// must not be tried on another.
#[must_use]
pub fn cpu_features() -> String {
    let mut found = vec![std::env::consts::ARCH];
    macro_rules! detect {
        ($detect:ident: $($feature:tt)*) => {
            $(if std::arch::$detect!($feature) { found.push($feature); })*
        };
    }
    #[cfg(target_arch = "x86_64")]
    detect!(is_x86_feature_detected:
        "cmpxchg16b" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "avxvnni" "bmi1" "bmi2" "lzcnt"
        "avx512bitalg" "avx512dq" "avx512f" "avx512vl" "avx512vbmi" "avx512vnni");
    #[cfg(target_arch = "aarch64")]
    detect!(is_aarch64_feature_detected: "lse" "paca" "fp16" "dotprod" "i8mm");
    found.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_that_wasmtime_takes() {
        let compiling = wasmtime::Engine::new(&base_config()).unwrap();
        let code = compiling.precompile_module(b"\0asm\x01\0\0\0").unwrap();
        assert!(!code.is_empty());
    }

    #[test]
    fn what_is_off_stays_off() {
        let engine = wasmtime::Engine::new(&base_config()).unwrap();
        for (feature, module) in [
            ("threads", "(module (memory 1 1 shared))"),
            ("memory64", "(module (memory i64 1))"),
            ("multi-memory", "(module (memory 1) (memory 1))"),
            ("tail calls", "(module (func $f return_call $f))"),
            ("exceptions", "(module (tag))"),
            ("externref", "(module (func (param externref)))"),
            ("typed references", "(module (type $t (func)) (func (param (ref $t))))"),
            ("custom page sizes", "(module (memory 1 (pagesize 1)))"),
        ] {
            let wasm = wat::parse_str(module).unwrap();
            assert!(engine.precompile_module(&wasm).is_err(), "{feature}");
        }
    }

    #[test]
    fn the_architecture_leads_the_features() {
        assert!(cpu_features().starts_with(std::env::consts::ARCH));
    }
}
