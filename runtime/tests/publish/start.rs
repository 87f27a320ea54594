//! Start functions: they run whenever an instance is made, so also when publish tries a module.

use mayfly_runtime::catalog::{Catalog, Entry};
use mayfly_runtime::child::Children;
use mayfly_runtime::engine::{Engine, EngineConfig, EngineError};
use mayfly_runtime::publish::{PublishErrorKind, Stage};
use mayfly_runtime::revision::Settings;
use mayfly_runtime::sandbox::Sandbox;
use wasmtime::Store;

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
    assert!(error.hint().contains("do not wait"), "{}", error.hint());
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
async fn full(state: &std::path::Path) -> (TestNode, Store<Sandbox>) {
    let config = EngineConfig { slots: Some(1), ..EngineConfig::default() };
    let engine = Engine::new(&config).unwrap();
    let node = TestNode::open_as(state, Children::of(MAYFLY), engine, Catalog::default());
    node.deploy("f", &says("f"), Settings::default()).await.unwrap();
    let Some(Entry::Ready(revision)) = node.catalog.load().get("f").cloned() else { panic!() };
    let sandbox = Sandbox::rehearsal(revision.clone(), node.node.logs.clone());
    let mut store = Store::new(node.node.engine.wasmtime(), sandbox);
    store.limiter(Sandbox::limiter);
    revision.module.pre.instantiate_async(&mut store).await.unwrap();
    (node, store)
}

#[tokio::test]
async fn a_full_pool_is_not_the_modules_fault() {
    let state = state();
    let (node, held) = full(state.path()).await;
    let error = node.deploy("g", &says("g"), Settings::default()).await.unwrap_err();
    assert!(matches!(error.kind, PublishErrorKind::Engine(EngineError::PoolFull)), "{error}");
    assert_eq!((error.status(), error.retry_after_s()), (503, Some(10)));
    assert!(error.may_pass());
    drop(held);
    node.deploy("g", &says("g"), Settings::default()).await.unwrap();
}

#[tokio::test]
async fn a_deploy_waits_for_a_slot() {
    let state = state();
    let (node, held) = full(state.path()).await;
    // The code is there already, so that the deploy is at its last stage at once.
    let f = says("f");
    let deploy = node.deploy("g", &f, Settings::default());
    let (deployed, ()) = tokio::join!(deploy, async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        drop(held);
    });
    deployed.unwrap();
}
