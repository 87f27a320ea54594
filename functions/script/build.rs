//! QuickJS keeps its values on the stack in linear memory, whose limit is below (`engine::STACK_BYTES`); the rest of this is
//! for what runs above that: regular expressions, JSON, and the SDK.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=prelude");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg=-zstack-size=262144");
    }
}
