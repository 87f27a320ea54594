//! What the rewriting costs in code: the functions of this repository, compiled as they are and rewritten.

use mayfly_host::engine::codegen::base_config;
use wasmtime::{Engine, Module};

use super::differential::soak;
use super::guarded;

/// Per thousand of its code that a function may grow by.
const MOST: usize = 30;

/// Built guests: small ones, and with `MAYFLY_SOAK` the models too, which compile for many seconds.
const SMALL: [&str; 4] = ["hello", "hello-command", "echo", "wasi-std"];
const LARGE: [&str; 2] = ["filetype", "runner"];

#[test]
fn code_grows_by_three_per_cent_at_most() {
    let engine = Engine::new(&base_config()).unwrap();
    let large = if soak() > 1 { &LARGE[..] } else { &[] };
    // Beside this test's binary: target/debug/deps/x -> target/wasm32-wasip1/guest.
    let binary = std::env::current_exe().unwrap();
    let guests = binary.ancestors().nth(3).unwrap().join("wasm32-wasip1/guest");
    for name in SMALL.iter().chain(large) {
        let Ok(wasm) = std::fs::read(guests.join(format!("{name}.wasm"))) else {
            eprintln!("SKIPPED: there is no {name}.wasm (make guests)");
            continue;
        };
        let code = |wasm: &[u8]| -> usize {
            Module::new(&engine, wasm).unwrap().functions().map(|function| function.len).sum()
        };
        let (plain, rewritten) = (code(&wasm), code(&guarded(&wasm)));
        let grown = (rewritten.saturating_sub(plain) * 1000).div_ceil(plain);
        println!("{name}: {plain} -> {rewritten} bytes of code, +{:.1} %", grown as f64 / 10.0);
        assert!(grown <= MOST, "{name}: {plain} -> {rewritten} bytes");
    }
}
