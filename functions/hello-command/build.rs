//! A stack of 128 KiB in place of a mebibyte: the whole memory then fits what a slot keeps resident (256 KiB), and a
//! request costs no page fault and no call to give memory back.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg=-zstack-size=131072");
    }
}
