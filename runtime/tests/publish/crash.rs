//! A process that dies in the middle of a publish, and a disk that is full: the function answers with its old
//! revision or its new one, never with neither, and what was acknowledged is there.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use mayfly_core::record::Settings;
use mayfly_publish::Restored;

use crate::node::{TestNode, files, says, state};

/// Every point at which `artifact::fault` can strike.
const STEPS: [&str; 12] = [
    "wasm-half-written",
    "wasm-written",
    "wasm-flushed",
    "wasm-renamed",
    "wasm-done",
    "cwasm-half-written",
    "cwasm-written",
    "cwasm-flushed",
    "cwasm-renamed",
    "cwasm-done",
    "row-written",
    "row-committed",
];

/// Runs [`second_deploy`] in a process of its own.
fn deploy_elsewhere(state: &Path, fail_at: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::second_deploy", "--ignored", "--nocapture"])
        .env("MAYFLY_TEST_STATE", state)
        .env("MAYFLY_FAIL_AT", fail_at)
        .output()
        .unwrap()
}

#[tokio::test]
#[ignore = "run by the other tests of this file, in a process that is killed"]
async fn second_deploy() {
    let state = std::env::var("MAYFLY_TEST_STATE").unwrap();
    let node = TestNode::open(Path::new(&state));
    node.publisher.restore().await.unwrap();
    match node.deploy("f", &says("new"), Settings::default()).await {
        Ok(_) => println!("deployed"),
        Err(error) => println!("refused with {}: {error}", error.status()),
    }
    println!("answers {}", node.get("/f").await.1);
}

async fn with_one_deployed() -> tempfile::TempDir {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", &says("old"), Settings::default()).await.unwrap();
    state
}

/// What a start finds.
async fn answer_after(state: &Path) -> String {
    let node = TestNode::open(state);
    assert_eq!(
        node.publisher.restore().await.unwrap(),
        Restored { ready: 1, loading: 0, preparing: 0 }
    );
    assert_eq!(node.compiles(), 0);
    for folder in ["artifacts", "wasm"] {
        assert_eq!(files(state, folder).len(), node.publisher_history(), "{folder} is swept");
    }
    node.get("/f").await.1
}

impl TestNode {
    fn publisher_history(&self) -> usize {
        self.publisher.history(&crate::node::name("f")).unwrap().len()
    }
}

#[tokio::test]
async fn killed_at_any_step_a_publish_leaves_old_or_new() {
    for step in STEPS {
        let state = with_one_deployed().await;
        let output = deploy_elsewhere(state.path(), step);
        assert_eq!(output.status.signal(), Some(9), "{step}: {output:?}");
        let expected = if step == "row-committed" { "new" } else { "old" };
        assert_eq!(answer_after(state.path()).await, expected, "{step}");
        let output = deploy_elsewhere(state.path(), "");
        assert!(String::from_utf8_lossy(&output.stdout).contains("answers new"), "{output:?}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_the_deploy_and_changes_nothing() {
    for step in STEPS.iter().filter(|step| **step != "row-committed") {
        let state = with_one_deployed().await;
        let output = deploy_elsewhere(state.path(), &format!("{step}:full"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("refused with 507"), "{step}: {text}");
        assert!(text.contains("answers old"), "{step}: {text}");
        assert_eq!(answer_after(state.path()).await, "old", "{step}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there() {
    let state = with_one_deployed().await;
    let output = deploy_elsewhere(state.path(), "");
    assert!(String::from_utf8_lossy(&output.stdout).contains("deployed"), "{output:?}");
    assert_eq!(answer_after(state.path()).await, "new");
}
