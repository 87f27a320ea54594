//! What init can do, what it cannot, and what of it is in the snapshot.

use mayfly_core::record::{Settings, Snapshot};

use crate::node::{TestNode, limits, reactor, state, with_section};

/// Memory, a global and a grown memory: all that init changed is there, and init does not run again.
const KEEPS: &str = r#"
    (global $runs (mut i32) (i32.const 0))
    (global $pi (mut f64) (f64.const 0))
    (global $wide (mut v128) (v128.const i64x2 0 0))
    (func (export "mayfly_init")
        (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
        (global.set $pi (f64.const 3.5))
        (global.set $wide (v128.const i64x2 5 6))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const 1)) (then unreachable))
        (i32.store8 (i32.const 100000) (i32.const 33))
        (i32.store (i32.const 0) (i32.const 0x79646165)))
    (func (export "mayfly_seed_probe") (result i64)
        (if (i32.ne (global.get $runs) (i32.const 1)) (then unreachable))
        (if (f64.ne (global.get $pi) (f64.const 3.5)) (then unreachable))
        (if (i64.ne (i64x2.extract_lane 1 (global.get $wide)) (i64.const 6)) (then unreachable))
        (drop (call $random (i32.const 2048) (i32.const 8)))
        (i64.load (i32.const 2048)))"#;

#[tokio::test]
async fn a_snapshot_has_the_memory_and_the_globals_that_init_left() {
    let state = state();
    let node = TestNode::open(state.path());
    let report = node.deploy("f", &reactor(4, KEEPS), Settings::default()).await.unwrap();
    let Snapshot::Taken { memory_bytes, image_bytes, .. } = report.record.snapshot else {
        panic!("{report:?}")
    };
    assert_eq!((memory_bytes, image_bytes), (2 * 65536, 2 * 4096));
    let stages: Vec<_> = report.record.stages.iter().map(|time| time.stage.as_str()).collect();
    let expected = ["validate", "compile", "preinit", "compile", "store", "activate"];
    assert_eq!(stages, expected);
    assert!(report.functions_cached > 0, "the snapshot is compiled from the cache: {report:?}");
    for _ in 0..3 {
        assert_eq!(node.get("/f").await, (200, "eady".into()));
    }
}

#[tokio::test]
async fn a_command_can_have_an_init_too() {
    let module = r#"(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 100) "Content-Type: text/plain\n\n?")
        (data (i32.const 8) "\64\00\00\00\1b\00\00\00")
        (func (export "wizer-initialize") (i32.store8 (i32.const 126) (i32.const 33)))
        (func (export "_start")
            (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))))"#;
    let state = state();
    let node = TestNode::open(state.path());
    let report = node.deploy("f", module, Settings::default()).await.unwrap();
    assert!(matches!(report.record.snapshot, Snapshot::Taken { .. }));
    assert_eq!(node.get("/f").await, (200, "!".into()));
}

/// Copies the asset `greeting` to address 0.
const READS_ASSET: &str = r#"
    (data (i32.const 3000) "greeting")
    (func (export "mayfly_init")
        (if (i64.ne (call $asset_len (i32.const 3000) (i32.const 8)) (i64.const 11)) (then unreachable))
        (if (i64.ne (call $asset_len (i32.const 3000) (i32.const 7)) (i64.const -4)) (then unreachable))
        (if (i32.ne (call $asset_read (i32.const 3000) (i32.const 8) (i64.const 6) (i32.const 0) (i32.const 100))
            (i32.const 5)) (then unreachable))
        (if (i32.ne (call $asset_read (i32.const 3000) (i32.const 8) (i64.const -1) (i32.const 0) (i32.const 9))
            (i32.const 0)) (then unreachable)))"#;

#[tokio::test]
async fn init_reads_assets_with_and_without_a_snapshot() {
    let state = state();
    let node = TestNode::open(state.path());
    let module = |rest: &str| {
        let wasm = wat::parse_str(reactor(5, &format!("{READS_ASSET}{rest}"))).unwrap();
        with_section(wasm, "mayfly.asset/greeting", b"hello world")
    };
    let report = node.deploy_wasm("kept", module(""), Settings::default()).await.unwrap();
    assert!(matches!(report.record.snapshot, Snapshot::Taken { .. }));
    assert_eq!(node.get("/kept").await, (200, "world".into()));

    let stuck = "(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))";
    let report = node.deploy_wasm("plain", module(stuck), Settings::default()).await.unwrap();
    let Snapshot::Refused { reason } = report.record.snapshot else { panic!("{report:?}") };
    assert!(reason.contains("table.set"), "{reason}");
    assert_eq!(node.get("/plain").await, (200, "world".into()), "init runs with the request");

    drop(node);
    let node = TestNode::open(state.path());
    node.publisher.restore().await.unwrap();
    assert_eq!(node.get("/plain").await, (200, "world".into()), "and after a restart");
}

#[tokio::test]
async fn the_same_answer_with_and_without_a_snapshot() {
    let state = state();
    let node = TestNode::open(state.path());
    // A checksum over work that init did in memory; the clock and randomness stay out of it.
    let work = r#"
        (func (export "mayfly_init") (local $i i32) (local $x i32)
            (local.set $x (i32.const 12345))
            (loop $next
                (local.set $x (i32.mul (i32.add (local.get $x) (local.get $i)) (i32.const 1103515245)))
                (i32.store (i32.mul (local.get $i) (i32.const 4))
                    (i32.or (i32.and (local.get $x) (i32.const 0x0f0f0f0f)) (i32.const 0x40404040)))
                (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 250)))))"#;
    let stuck = "(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))";
    node.deploy("snapshot", &reactor(1000, work), Settings::default()).await.unwrap();
    node.deploy("plain", &reactor(1000, &format!("{work}{stuck}")), Settings::default())
        .await
        .unwrap();
    let (snapshot, plain) = (node.get("/snapshot").await, node.get("/plain").await);
    assert_eq!((snapshot.0, snapshot.1.len()), (200, 1000));
    assert_eq!(snapshot, plain);
}

/// Writes `from init` to stderr and goes on with something else.
fn logging(then: &str) -> String {
    reactor(
        0,
        &format!(
            r#"(data (i32.const 16) "from init\n") (data (i32.const 8) "\10\00\00\00\0a\00\00\00")
            (func (export "mayfly_init") (local $i i32)
                (drop (call $fd_write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 0)))
                {then})"#
        ),
    )
}

async fn fails(then: &str, settings: Settings, message: &str) {
    let state = state();
    let node = TestNode::open(state.path());
    let error = node.deploy("f", &logging(then), settings).await.unwrap_err();
    assert!(error.to_string().contains("deploy failed at preinit: "), "{error}");
    assert!(error.to_string().contains(message), "{error}");
    assert!(error.to_string().contains("from init"), "its last log line: {error}");
    assert_eq!((error.status(), error.log()), (422, Some("from init\n")));
    assert_eq!(node.get("/f").await.0, 404);
}

#[tokio::test]
async fn what_init_writes_is_in_the_report() {
    let state = state();
    let node = TestNode::open(state.path());
    let report = node.deploy("f", &logging(""), Settings::default()).await.unwrap();
    assert_eq!(report.init_log, "from init\n");
}

#[tokio::test]
async fn a_log_flood_is_cut_and_does_not_fail_init() {
    let state = state();
    let node = TestNode::open(state.path());
    let flood = r#"(loop $more
        (if (call $fd_write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 0)) (then unreachable))
        (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000))))"#;
    let report = node.deploy("f", &logging(flood), Settings::default()).await.unwrap();
    assert!(report.init_log.len() < 70_000, "{}", report.init_log.len());
    assert!(report.init_log.ends_with("more bytes were dropped]"));
}

#[tokio::test]
async fn a_trap_in_init_fails_the_deploy() {
    // What it says itself stands for all else.
    fails("unreachable", Settings::default(), "deploy failed at preinit: init failed: from init")
        .await;
    let state = state();
    let node = TestNode::open(state.path());
    let error = node.deploy("f", &logging("unreachable"), Settings::default()).await.unwrap_err();
    assert_eq!(error.hint(), None);
    let silent = reactor(0, r#"(func (export "mayfly_init") unreachable)"#);
    let error = node.deploy("f", &silent, Settings::default()).await.unwrap_err();
    assert!(error.to_string().contains("init failed: it ended itself: a panic"), "{error}");
    assert!(error.hint().unwrap().contains("no files"), "{error}");
}

#[tokio::test]
async fn an_exit_in_init_fails_the_deploy() {
    fails("(call $exit (i32.const 3))", Settings::default(), "exit code 3").await;
}

#[tokio::test]
async fn a_loop_in_init_ends_at_its_limit() {
    fails("(loop $on (br $on))", limits(&["init=300ms"]), "init reached its limit of 300ms").await;
}

#[tokio::test]
async fn memory_is_limited_in_init() {
    let grow =
        "(loop $on (br_if $on (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    fails(grow, limits(&["memory=4MiB"]), "init reached the memory limit of 4").await;
}

#[tokio::test]
async fn a_request_import_in_init_is_named() {
    let call = "(drop (call $start (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))";
    fails(call, Settings::default(), "init calls mayfly_http_v1::response_start").await;
}

#[tokio::test]
async fn an_init_that_waits_runs_with_each_request_instead() {
    let state = state();
    let node = TestNode::open(state.path());
    let wait = "(drop (call $poll (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))";
    let report = node.deploy("f", &logging(wait), Settings::default()).await.unwrap();
    let Snapshot::Refused { reason } = report.record.snapshot else { panic!("{report:?}") };
    assert!(reason.contains("wasi_snapshot_preview1::poll_oneoff"), "{reason}");
    assert_eq!(node.get("/f").await.0, 200);
}

#[tokio::test]
async fn randomness_in_init_is_a_constant_and_fresh_after_a_restore() {
    let state = state();
    let node = TestNode::open(state.path());
    let frozen = r#"
        (func (export "mayfly_init") (drop (call $random (i32.const 2048) (i32.const 8))))
        (func (export "mayfly_seed_probe") (result i64) (i64.load (i32.const 2048)))"#;
    let error = node.deploy("f", &reactor(0, frozen), Settings::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("two instances of the snapshot hash alike: `mayfly_seed_probe` gave"),
        "{text}"
    );
    assert!(error.hint().unwrap().contains("seeds"));
    let again = node.deploy("f", &reactor(0, frozen), Settings::default()).await.unwrap_err();
    assert_eq!(text, again.to_string(), "the same constant each time");

    let drawn = r#"
        (func (export "mayfly_init"))
        (func (export "mayfly_seed_probe") (result i64)
            (drop (call $random (i32.const 2048) (i32.const 8))) (i64.load (i32.const 2048)))"#;
    node.deploy("f", &reactor(0, drawn), Settings::default()).await.unwrap();
}
