//! Functions that a start finds without code: what they keep while it is rebuilt, and what they leave to others.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::record::Settings;
use mayfly_host::catalog::{Entry, Failed};
use mayfly_publish::child::Children;
use mayfly_publish::{PublishErrorKind, Restored};

use crate::node::{MAYFLY, TestNode, files, name, says, state, until};

fn routed(route: &str) -> Settings {
    Settings { routes: vec![route.into()], ..Settings::default() }
}

/// Deploys functions that say their own names, then takes their code away.
async fn without_code(state: &Path, functions: &[&str]) {
    let node = TestNode::open(state);
    for function in functions {
        node.deploy(function, &says(function), routed(&format!("/at/{function}/...")))
            .await
            .unwrap();
    }
    drop(node);
    files(state, "artifacts").iter().for_each(|file| fs::remove_file(file).unwrap());
}

/// Why the last try failed, if there was one.
fn failed(node: &TestNode, function: &str) -> Option<Failed> {
    match node.catalog.load().get(function) {
        Some(Entry::Preparing(preparing)) => preparing.failed.clone(),
        _ => None,
    }
}

#[tokio::test]
async fn a_function_without_code_keeps_its_routes() {
    let state = state();
    without_code(state.path(), &["f"]).await;
    // Nor can it be made: it stays as it is.
    files(state.path(), "wasm").iter().for_each(|file| fs::remove_file(file).unwrap());
    let node = TestNode::open(state.path());
    assert_eq!(
        node.publisher.restore().await.unwrap(),
        Restored { ready: 0, loading: 0, preparing: 1 }
    );
    node.deploy("at", &says("another"), Settings::default()).await.unwrap();
    assert_eq!(node.get("/at/f/x").await.0, 503, "not the function that is called 'at'");
    assert_eq!(node.get("/at/g").await, (200, "another".into()));
    let error = node.deploy("g", &says("g"), routed("/at/f/...")).await.unwrap_err();
    assert!(matches!(error.kind, PublishErrorKind::RouteTaken { .. }), "{error}");
    until("it is given up", || failed(&node, "f").is_some_and(|failed| !failed.again)).await;
    assert_eq!(node.get("/at/f/x").await.0, 503);
    assert!(node.publisher.remove(&name("f")).await.unwrap());
    node.deploy("g", &says("g"), routed("/at/f/...")).await.unwrap();
    assert_eq!(node.get("/at/f/x").await, (200, "g".into()));
}

#[tokio::test]
async fn what_fails_for_a_cause_that_passes_is_tried_again() {
    let (state, programs) = (state(), tempfile::tempdir().unwrap());
    without_code(state.path(), &["f"]).await;
    let program = programs.path().join("mayfly");
    let node = TestNode::open_with(state.path(), Children::of(&program));
    node.publisher.restore().await.unwrap();
    until("a try has failed", || failed(&node, "f").is_some()).await;
    assert!(failed(&node, "f").is_some_and(|failed| failed.again), "{:?}", failed(&node, "f"));
    symlink(MAYFLY, &program).unwrap();
    node.ready("f").await;
    assert_eq!(node.get("/f").await, (200, "f".into()));
}

/// Children that do not begin before the file `go` is there.
fn held_up(dir: &Path) -> Children {
    let program = dir.join("waits");
    let go = dir.join("go");
    let script = format!(
        "#!/bin/sh\nwhile [ ! -e '{}' ]; do sleep 0.02; done\nexec '{MAYFLY}' \"$@\"\n",
        go.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    Children::of(program)
}

#[tokio::test]
async fn a_deploy_waits_for_one_function_without_code_at_most() {
    const STALE: [&str; 6] = ["a", "b", "c", "d", "e", "g"];
    let (state, scripts) = (state(), tempfile::tempdir().unwrap());
    without_code(state.path(), &STALE).await;
    let node = TestNode::open(state.path());
    node.deploy("good", &says("good"), Settings::default()).await.unwrap();
    drop(node);
    let node = TestNode::open_with(state.path(), held_up(scripts.path()));
    assert_eq!(
        node.publisher.restore().await.unwrap(),
        Restored { ready: 1, loading: 0, preparing: STALE.len() }
    );
    // One is being made, nobody knows which, and will not end. Code that is there already needs no child.
    let patience = Duration::from_secs(30);
    let mut deployed = Vec::new();
    let good = says("good");
    for function in ["new"].iter().chain(&STALE) {
        let deploy = node.deploy(function, &good, Settings::default());
        let wait = if deployed.is_empty() { patience } else { patience / 10 };
        if let Ok(done) = tokio::time::timeout(wait, deploy).await {
            done.unwrap();
            deployed.push(*function);
        }
    }
    assert!(deployed.len() >= STALE.len(), "only {deployed:?} could be deployed");
    assert_eq!(deployed[0], "new");
    fs::write(scripts.path().join("go"), "").unwrap();
    for function in STALE {
        node.ready(function).await;
    }
    // What was deployed meanwhile is not overwritten with what was there before.
    for function in deployed {
        assert_eq!(node.get(&format!("/{function}")).await, (200, "good".into()), "{function}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deploy_or_removal_during_a_start_counts() {
    const MANY: usize = 40;
    let state = state();
    let node = TestNode::open(state.path());
    for n in 0..MANY {
        node.deploy(&format!("f{n}"), &says("old"), Settings::default()).await.unwrap();
    }
    node.deploy("spare", &says("new"), Settings::default()).await.unwrap();
    drop(node);
    let node = Arc::new(TestNode::open(state.path()));
    let restoring = tokio::spawn({
        let node = node.clone();
        async move { node.publisher.restore().await.unwrap() }
    });
    let new = says("new");
    for n in 0..MANY / 2 {
        node.deploy(&format!("f{n}"), &new, Settings::default()).await.unwrap();
        let gone = name(&format!("f{}", MANY / 2 + n));
        assert!(node.publisher.remove(&gone).await.unwrap());
    }
    restoring.await.unwrap();
    let check = async |node: &TestNode| {
        for n in 0..MANY / 2 {
            assert_eq!(node.get(&format!("/f{n}")).await, (200, "new".into()), "f{n}");
            assert_eq!(node.get(&format!("/f{}", MANY / 2 + n)).await.0, 404);
        }
    };
    check(&node).await;
    let Ok(node) = Arc::try_unwrap(node) else { panic!("somebody still has the node") };
    drop(node);
    let node = TestNode::open(state.path());
    assert_eq!(
        node.publisher.restore().await.unwrap(),
        Restored { ready: MANY / 2 + 1, loading: 0, preparing: 0 }
    );
    check(&node).await;
}
