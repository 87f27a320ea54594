//! `mayfly profile`, as somebody meets it who has a slow function.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::node::Node;

/// A command that turns a loop in `slow` before it answers.
fn slow() -> Vec<u8> {
    wat::parse_str(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\40\00\00\00\1c\00\00\00")
        (data (i32.const 64) "Content-Type: text/plain\0a\0aok")
        (func $slow (param $n i32)
            (loop (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
        (func $main (export "_start")
            (call $slow (i32.const 1000000))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#,
    )
    .unwrap()
}

#[test]
fn a_slow_function_is_found_and_drawn() {
    let node = Node::start(tempfile::tempdir().unwrap());
    let file = node.file("busy.wasm", &slow());
    node.ok(&["deploy", &file]);

    let (code, error) = node.fails(&["profile", "busy", "--for", "200ms"]);
    assert_eq!(code, 1);
    assert!(error.contains("'busy' was not called within") && error.contains("hint:"), "{error}");
    assert_eq!(node.fails(&["profile", "busy", "--for", "2h"]).0, 1);
    assert_eq!(node.fails(&["profile", "nobody", "--for", "200ms"]).0, 1);
    let (code, error) = node.fails(&["profile", "busy", "-o", "flame.png"]);
    assert!(code == 64 && error.contains(".svg, .folded or .pprof"), "{error}");

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(node.get("/busy"), (200, "ok".into()));
            }
        });
        let table = node.ok(&["profile", "busy", "--for", "1s"]);
        let row = table
            .lines()
            .find(|line| line.ends_with("  slow"))
            .unwrap_or_else(|| panic!("{table}"));
        let own: f64 = row.split_whitespace().next().unwrap().parse().unwrap();
        assert!(own > 50.0, "{table}");
        assert!(table.starts_with("busy#1: ") && table.contains("main"), "{table}");
        let picture = node.file("flame.svg", b"");
        let told = node.ok(&["profile", "busy", "--for", "500ms", "-o", &picture]);
        assert!(told.contains("flame.svg has"), "{told}");
        let picture = std::fs::read_to_string(picture).unwrap();
        assert!(picture.starts_with("<svg ") && picture.contains("slow: "), "{picture}");
        let folded = node.file("out.folded", b"");
        node.ok(&["profile", "busy", "--for", "500ms", "-o", &folded]);
        let folded = std::fs::read_to_string(folded).unwrap();
        assert!(folded.lines().any(|line| line.starts_with("main;slow ")), "{folded}");
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_profile_ends_when_nobody_waits_for_it() {
    let node = Node::start(tempfile::tempdir().unwrap());
    let file = node.file("busy.wasm", &slow());
    node.ok(&["deploy", &file]);
    let mut waiting = node.spawn(&["profile", "busy", "--for", "60s"]);
    let until = Instant::now() + Duration::from_secs(60);
    // Until it has begun, and then until it has ended.
    while !node.fails(&["profile", "busy", "--for", "100ms"]).1.contains("already") {
        assert!(Instant::now() < until);
        // One of the two was first.
        if waiting.try_wait().unwrap().is_some() {
            waiting = node.spawn(&["profile", "busy", "--for", "60s"]);
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    while node.fails(&["profile", "busy", "--for", "100ms"]).1.contains("already") {
        assert!(Instant::now() < until);
    }
}
