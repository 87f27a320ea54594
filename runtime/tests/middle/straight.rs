//! Guests whose work stands in a straight line, without a loop: each ends at its limit, with its outcome.

use http::StatusCode;
use mayfly_core::record::Settings;

use crate::harness::{Harness, get};

/// A draw of 64 KiB takes some 50 us, so that all of them take over a second.
const DRAW: &str = "(drop (call $draw (i32.const 65536) (i32.const 65536)))";
/// All of 512 MiB, which takes some 50 ms, and longer the first time.
const FILL: &str =
    "(memory.fill (i32.const 0) (i32.const 1) (i32.mul (i32.const 65536) (memory.size)))";
const COPY: &str = "(memory.copy (i32.const 1) (i32.const 0) (i32.sub (i32.mul (i32.const 65536) (memory.size)) (i32.const 1)))";

fn guest(pages: u32, start: &str, init: &str, handle: &str) -> String {
    let begin = if start.is_empty() { "" } else { "(start $begin)" };
    let init = if init.is_empty() {
        String::new()
    } else {
        format!(r#"(func (export "mayfly_init") {init})"#)
    };
    format!(
        r#"(module (import "wasi_snapshot_preview1" "random_get" (func $draw (param i32 i32) (result i32)))
        (memory (export "memory") {pages}) (func (export "mayfly_abi_1"))
        (func $begin {start}) {begin} {init} (func (export "mayfly_handle") {handle}))"#
    )
}

fn settings(limits: &[&str]) -> Settings {
    let mut settings = Settings::default();
    for limit in limits {
        settings.limits.set(limit).unwrap();
    }
    settings
}

#[test]
fn work_in_a_straight_line_ends_at_its_limit() {
    let harness = Harness::get();
    harness.run(async {
        for (name, pages, work, times) in [
            ("draws-in-line", 2, DRAW, 40_000),
            ("fills-in-line", 8_192, FILL, 200),
            ("copies-in-line", 8_192, COPY, 200),
        ] {
            let wat = guest(pages, "", "", &work.repeat(times));
            let limits = settings(&["wall=200ms", "cpu=200ms", "memory=512MiB"]);
            harness.deploy_wat(name, &wat, limits).await;
            let reply = get(harness, &format!("/{name}")).await;
            assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT, "{name}");
            harness.remove(name).await;
        }
    });
}

#[test]
fn a_start_function_in_a_straight_line_ends_at_its_limit() {
    let harness = Harness::get();
    harness.run(async {
        let wat = guest(2, &DRAW.repeat(200_000), "", "");
        let wasm = wat::parse_str(&wat).unwrap();
        let error = harness.deploy("starts-in-line", wasm, settings(&[])).await.unwrap_err();
        let text = error.to_string();
        // A start function that never waits is interrupted; one that does is stopped by a clock.
        assert!(text.contains("interrupt") || text.contains("start function"), "{text}");
        assert_eq!(error.status(), 422, "{text}");
    });
}

#[test]
fn an_init_in_a_straight_line_ends_at_its_limit() {
    let harness = Harness::get();
    harness.run(async {
        let wat = guest(2, "", &DRAW.repeat(40_000), "");
        let wasm = wat::parse_str(&wat).unwrap();
        let error =
            harness.deploy("inits-in-line", wasm, settings(&["init=200ms"])).await.unwrap_err();
        assert_eq!(error.status(), 422, "{error}");
    });
}
