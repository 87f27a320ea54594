//! Start functions: they run whenever an instance is made, so also when publish tries a module.

use mayfly_core::record::{Settings, StageTime};
use mayfly_host::catalog::{Catalog, Entry};
use mayfly_host::engine::memory::Hosted;
use mayfly_host::engine::{Engine, EngineConfig, EngineError};
use mayfly_host::sandbox::Sandbox;
use mayfly_publish::child::Children;
use mayfly_publish::{PublishError, PublishErrorKind, PublishReport, PublishRequest, Stage};
use tokio::task::JoinHandle;

use crate::node::{MAYFLY, TestNode, name, reactor, says, state};

/// Sleeps on the monotonic clock for 1e16 ns: 115 days.
const SLEEPS: &str = r#"
    (data (i32.const 80) "\01") (data (i32.const 88) "\00\00\c1\6f\f2\86\23\00")
    (func $sleep (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 192))))
    (start $sleep)"#;

#[tokio::test]
async fn one_that_sleeps_fails_its_deploy_and_holds_up_no_other() {
    let state = state();
    let node = TestNode::open(state.path());
    let error = node.deploy("f", &reactor(0, SLEEPS), Settings::default()).await.unwrap_err();
    assert!(matches!(error.kind, PublishErrorKind::Engine(EngineError::StartTimeout)), "{error}");
    assert_eq!((error.status(), error.stage), (422, Stage::Activate));
    assert!(error.to_string().contains("did not end within 2s"), "{error}");
    assert!(error.hint().unwrap().contains("do not wait"), "{:?}", error.hint());
    node.deploy("g", &says("g"), Settings::default()).await.unwrap();
    assert!(node.publisher.remove(&name("g")).await.unwrap());
}

/// Two pages of environment, which only a real request has, make its start function give a kernel a descriptor that
/// leaves memory.
const REFUSED_BY_A_KERNEL: &str = r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get"
        (func $sizes (param i32 i32) (result i32)))
    (import "mayfly_kernels_v1" "gemm" (func $gemm (param i32)))
    (memory (export "memory") 1)
    (func $s
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (if (i32.gt_u (i32.load (i32.const 4)) (i32.const 2000))
            (then (call $gemm (i32.const -4)))))
    (start $s)
    (func (export "_start")))"#;

#[tokio::test]
async fn one_that_a_host_function_refuses_is_no_fault_of_the_node() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", REFUSED_BY_A_KERNEL, Settings::default()).await.unwrap();
    let long = "x".repeat(3000);
    let (status, text) = node.get(&format!("/f/{long}")).await;
    assert_eq!(status, 502, "{text}");
}

/// A node whose pool has one slot, with a function, and that slot taken.
async fn full(state: &std::path::Path) -> (TestNode, Hosted<Sandbox>) {
    let config = EngineConfig { slots: Some(1), ..EngineConfig::default() };
    let engine = Engine::new(&config).unwrap();
    let node = TestNode::open_as(state, Children::of(MAYFLY), engine, Catalog::default());
    node.deploy("f", &says("f"), Settings::default()).await.unwrap();
    let Some(Entry::Ready(revision)) = node.catalog.load().get("f").cloned() else { panic!() };
    let sandbox = Sandbox::rehearsal(revision.terms.clone(), node.node.logs.clone());
    let mut store = revision.module.host(sandbox).unwrap();
    store.instantiate(&revision.module.pre).await.unwrap();
    (node, store)
}

#[tokio::test]
async fn a_deploy_needs_no_slot_that_serves() {
    let state = state();
    let (node, held) = full(state.path()).await;
    node.deploy("g", &says("g"), Settings::default()).await.unwrap();
    drop(held);
}

/// Neither sleeps nor ends.
const LOOPS: &str = "(func $for_ever (loop $again (br $again))) (start $for_ever)";

/// Waits in the host again and again, a millisecond each time.
const NAPS: &str = r#"
    (data (i32.const 80) "\01") (data (i32.const 88) "\40\42\0f")
    (func $naps (loop $again
        (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 192)))
        (br $again)))
    (start $naps)"#;

/// A deploy of `h` that has written its files and tries its module.
async fn being_tried(
    node: &TestNode,
    start: &str,
) -> JoinHandle<Result<PublishReport, PublishError>> {
    let (stored, tried) = tokio::sync::oneshot::channel();
    let stored = std::sync::Mutex::new(Some(stored));
    let wasm = wat::parse_str(reactor(0, start)).unwrap().into();
    let request = PublishRequest { name: name("h"), wasm, change: Settings::default().into() };
    let publisher = node.publisher.clone();
    let trial = tokio::spawn(async move {
        let progress = move |stage: &StageTime| {
            if stage.stage == "store" {
                stored.lock().unwrap().take().map(|stored| stored.send(()));
            }
        };
        publisher.publish(request, progress).await
    });
    tried.await.unwrap();
    trial
}

#[tokio::test]
async fn others_deploy_and_remove_while_a_start_function_does_its_worst() {
    for hostile in [LOOPS, SLEEPS, NAPS] {
        let state = state();
        let node = TestNode::open(state.path());
        node.deploy("f", &says("f"), Settings::default()).await.unwrap();
        let trial = being_tried(&node, hostile).await;
        // Of a module that is compiled already, so that nothing but the trial could take long; and the removals sweep.
        let mut others = 0;
        while !trial.is_finished() {
            node.deploy("g", &says("f"), Settings::default()).await.unwrap();
            assert!(node.publisher.remove(&name("g")).await.unwrap());
            others += 1;
        }
        assert!(others > 1, "all others waited for the trial");
        let error = trial.await.unwrap().unwrap_err();
        assert!(
            matches!(error.kind, PublishErrorKind::Engine(EngineError::StartTimeout)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_a_publish_has_written_is_there_when_its_trial_ends() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", &says("f"), Settings::default()).await.unwrap();
    // Half a second of naps: its files are there, and no row yet.
    let naps = NAPS.replace("(func $naps", "(global $n (mut i32) (i32.const 300)) (func $naps").replace(
        "(br $again)",
        "(global.set $n (i32.sub (global.get $n) (i32.const 1))) (br_if $again (global.get $n))",
    );
    let trial = being_tried(&node, &naps).await;
    while !trial.is_finished() {
        node.deploy("g", &says("f"), Settings::default()).await.unwrap();
        assert!(node.publisher.remove(&name("g")).await.unwrap());
    }
    let report = trial.await.unwrap().unwrap();
    drop(node);
    let node = TestNode::open(state.path());
    let restored = node.publisher.restore().await.unwrap();
    assert_eq!((restored.ready, restored.preparing), (2, 0), "{:?}", report.record.artifact);
}
