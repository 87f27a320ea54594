//! What a start does not load at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mayfly_core::record::Settings;
use mayfly_host::catalog::Entry;
use mayfly_publish::Restored;

use crate::node::{TestNode, files, name, says, state, until};

/// Deploys functions that say their names, and opens the directory anew without having loaded one.
async fn reopened(state: &Path, functions: &[&str]) -> TestNode {
    let node = TestNode::open(state);
    for function in functions {
        node.deploy(function, &says(function), Settings::default()).await.unwrap();
    }
    drop(node);
    TestNode::open_lazy(state)
}

fn is_loading(node: &TestNode, function: &str) -> bool {
    matches!(node.catalog.load().get(function), Some(Entry::Loading(_)))
}

#[tokio::test]
async fn who_asks_first_waits_and_is_answered() {
    let state = state();
    let node = reopened(state.path(), &["a", "b", "c"]).await;
    let restored = node.publisher.restore().await.unwrap();
    assert_eq!(restored, Restored { ready: 0, loading: 3, preparing: 0 });
    // The test's one thread has not let the background begin.
    assert!(["a", "b", "c"].iter().all(|function| is_loading(&node, function)));
    let answers = tokio::join!(node.get("/b"), node.get("/b/more"), node.get("/c"));
    assert_eq!(answers, ((200, "b".into()), (200, "b".into()), (200, "c".into())));
    until("the rest is loaded", || !node.catalog.load().is_loading()).await;
    assert_eq!(node.get("/a").await, (200, "a".into()));
    assert_eq!(node.compiles(), 0);
}

#[tokio::test]
async fn a_deploy_or_removal_before_it_is_loaded_counts() {
    let state = state();
    let node = reopened(state.path(), &["a", "b"]).await;
    node.publisher.restore().await.unwrap();
    let loading = |function| match node.catalog.load().get(function).cloned() {
        Some(Entry::Loading(loading)) => loading,
        other => panic!("{other:?}"),
    };
    let (a, b) = (loading("a"), loading("b"));
    node.deploy("a", &says("new"), Settings::default()).await.unwrap();
    assert!(node.publisher.remove(&name("b")).await.unwrap());
    tokio::join!(a.wait(), b.wait());
    assert_eq!(node.get("/a").await, (200, "new".into()));
    assert_eq!(node.get("/b").await.0, 404);
}

#[tokio::test]
async fn what_is_damaged_is_made_anew() {
    let state = state();
    let node = reopened(state.path(), &["a"]).await;
    let file = &files(state.path(), "artifacts")[0];
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o400)).unwrap();
    node.publisher.restore().await.unwrap();
    assert_eq!(node.get("/a").await.0, 503);
    node.ready("a").await;
    assert_eq!(node.get("/a").await, (200, "a".into()));
    assert_eq!((node.metrics.artifact_rejects.get(), node.compiles()), (1, 1));
}
