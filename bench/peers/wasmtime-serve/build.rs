//! A stack of 32 KiB, as `functions/hello` has it: what lies beyond the resident part of a slot is faulted in anew by each
//! request, and a mebibyte of stack would push everything there.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=32768");
    }
}
