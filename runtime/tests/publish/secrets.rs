//! Secrets: who has them, when, and what a restart or another key makes of them.

use std::fs;
use std::path::Path;

use mayfly_core::record::Settings;
use mayfly_publish::{PublishError, PublishReport, SecretsConfig};

use crate::node::{TestNode, name, reactor, state, until};

/// A command that answers its whole environment, `NAME=VALUE` with NUL between, and writes it to its log.
const TELLS: &str = r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (data (i32.const 0) "\00\10\00\00\1a\00\00\00\00\00\01\00")
    (data (i32.const 4096) "Content-Type: text/plain\0a\0a")
    (func (export "_start")
        (drop (call $sizes (i32.const 64) (i32.const 12)))
        (drop (call $environ (i32.const 131072) (i32.const 65536)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 80)))
        (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 80)))
        (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 80)))))"#;

fn with_secrets(names: &[&str]) -> Settings {
    let secrets = names.iter().map(|name| (*name).to_owned()).collect();
    Settings { secrets, ..Settings::default() }
}

impl TestNode {
    async fn tells(&self, secrets: &[&str]) -> Result<PublishReport, PublishError> {
        self.deploy("f", TELLS, with_secrets(secrets)).await
    }

    /// What a request sees of a variable.
    async fn sees(&self, variable: &str) -> Option<String> {
        let (_, all) = self.get("/f").await;
        let start = format!("{variable}=");
        all.split('\0').find_map(|pair| pair.strip_prefix(start.as_str()).map(str::to_owned))
    }

    fn log(&self, function: &str) -> String {
        assert!(self.node.logs.flush(std::time::Duration::from_secs(10)));
        let (entries, _) = self.node.logs.read(&name(function), 1_000, false).unwrap();
        entries.iter().map(|entry| entry.to_json()).collect()
    }
}

fn with_dir(state: &Path, dir: &Path) -> TestNode {
    TestNode::open_secret(state, SecretsConfig { dir: Some(dir.to_owned()), key_file: None })
}

#[tokio::test]
async fn a_request_has_the_secret_as_it_is_now_and_the_log_has_it_never() {
    let state = state();
    let node = TestNode::open(state.path());
    let missing = node.tells(&["API_KEY"]).await.unwrap_err();
    assert_eq!(
        (missing.status(), missing.kind.to_string().as_str()),
        (422, "the secret 'API_KEY' is not set")
    );
    node.publisher.set_secret("API_KEY", "first-value").await.unwrap();
    node.publisher.set_secret("OTHER", "not-for-f").await.unwrap();
    node.tells(&["API_KEY"]).await.unwrap();
    assert_eq!(node.sees("API_KEY").await.as_deref(), Some("first-value"));
    assert_eq!(node.sees("OTHER").await, None);
    node.publisher.set_secret("API_KEY", "second-value").await.unwrap();
    assert_eq!(node.sees("API_KEY").await.as_deref(), Some("second-value"));
    let log = node.log("f");
    assert!(
        log.contains("API_KEY=***")
            && !log.contains("first-value")
            && !log.contains("second-value"),
        "{log}"
    );
    // Neither is anywhere in the state directory.
    for file in walk(state.path()) {
        let bytes = fs::read(&file).unwrap();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!has(b"first-value") && !has(b"second-value"), "{}", file.display());
    }
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn init_sees_none() {
    let state = state();
    let node = TestNode::open(state.path());
    node.publisher.set_secret("API_KEY", "a-long-value").await.unwrap();
    // Init leaves at 0 how many variables it saw, as a digit.
    let rest = r#"(import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))"#;
    let wat = reactor(
        1,
        r#"(func (export "mayfly_init")
        (drop (call $sizes (i32.const 8) (i32.const 12)))
        (i32.store8 (i32.const 0) (i32.add (i32.const 48) (i32.load (i32.const 8)))))"#,
    );
    let wat = wat.replacen("(memory", &format!("{rest}(memory"), 1);
    node.deploy("f", &wat, with_secrets(&["API_KEY"])).await.unwrap();
    assert_eq!(node.get("/f").await, (200, "0".into()));
}

#[tokio::test]
async fn a_secret_in_use_stays_and_what_cannot_be_one_is_refused() {
    let state = state();
    let node = TestNode::open(state.path());
    node.publisher.set_secret("KEY", "value").await.unwrap();
    node.tells(&["KEY"]).await.unwrap();
    let error = node.publisher.remove_secret("KEY").await.unwrap_err();
    assert_eq!(
        (error.status(), error.kind.to_string().as_str()),
        (409, "the secret 'KEY' is named by f")
    );
    let listed = node.publisher.secrets();
    assert_eq!((listed.len(), &listed[0].users), (1, &vec!["f".to_owned()]));
    node.tells(&[]).await.unwrap();
    assert!(node.publisher.remove_secret("KEY").await.unwrap());
    assert!(!node.publisher.remove_secret("KEY").await.unwrap());
    let long = "x".repeat((64 << 10) + 1);
    for (name, value) in [("1A", "x"), ("", "x"), ("A", ""), ("A", "a\0b"), ("A", &long)] {
        let error = node.publisher.set_secret(name, value).await.unwrap_err();
        assert_eq!(error.status(), 422, "{name}");
    }
}

#[tokio::test]
async fn after_a_restart_it_is_there_and_under_another_key_its_function_waits_for_it() {
    let state = state();
    let node = TestNode::open(state.path());
    node.publisher.set_secret("KEY", "a-long-value").await.unwrap();
    node.tells(&["KEY"]).await.unwrap();
    drop(node);
    let node = TestNode::open(state.path());
    node.publisher.restore().await.unwrap();
    assert_eq!(node.sees("KEY").await.as_deref(), Some("a-long-value"));
    drop(node);
    fs::remove_file(state.path().join("secrets.key")).unwrap();
    let node = TestNode::open(state.path());
    node.publisher.restore().await.unwrap();
    let fault = node.publisher.secrets()[0].fault.clone().unwrap();
    assert!(fault.contains("secrets.key") && fault.contains("set it again"), "{fault}");
    assert_eq!(node.get("/f").await.0, 503);
    node.publisher.set_secret("KEY", "set-again").await.unwrap();
    node.ready("f").await;
    assert_eq!(node.sees("KEY").await.as_deref(), Some("set-again"));
    assert_eq!(node.compiles(), 0);
}

#[tokio::test]
async fn files_of_a_directory_go_first_and_are_followed() {
    let (state, dir) = (state(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("KEY"), "of-a-file\n").unwrap();
    let node = with_dir(state.path(), dir.path());
    node.publisher.restore().await.unwrap();
    node.tells(&["KEY"]).await.unwrap();
    assert_eq!(node.sees("KEY").await.as_deref(), Some("of-a-file"));
    let error = node.publisher.set_secret("KEY", "mine").await.unwrap_err();
    assert_eq!(error.status(), 409);
    let publisher = node.publisher.clone();
    let following = tokio::spawn(async move { publisher.follow_secrets().await });
    fs::write(dir.path().join("KEY"), "changed-file").unwrap();
    let seen = || {
        let view = node.catalog.load();
        let entry = view.get("f").unwrap();
        let mayfly_host::catalog::Entry::Ready(revision) = entry else { return false };
        revision.terms.secrets().is_some_and(|secrets| secrets[0].1 == "changed-file")
    };
    until("the file is read again", seen).await;
    assert_eq!(node.sees("KEY").await.as_deref(), Some("changed-file"));
    following.abort();
}

#[tokio::test]
async fn set_at_once_from_many_sides_memory_and_database_agree() {
    let state = state();
    let node = TestNode::open(state.path());
    let sets = (0..8).flat_map(|value| (0..10).map(move |name| (name, value)));
    let sets: Vec<_> = sets
        .map(|(name, value)| {
            let publisher = node.publisher.clone();
            tokio::spawn(async move {
                publisher.set_secret(&format!("S{name}"), &format!("value-{value}")).await.unwrap();
            })
        })
        .collect();
    for set in sets {
        set.await.unwrap();
    }
    let names: Vec<_> = (0..10).map(|name| format!("S{name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    node.tells(&names).await.unwrap();
    let mut before = Vec::new();
    for name in &names {
        before.push(node.sees(name).await.unwrap());
    }
    drop(node);
    let node = TestNode::open(state.path());
    node.publisher.restore().await.unwrap();
    for (name, before) in names.iter().zip(before) {
        assert_eq!(node.sees(name).await.unwrap(), before, "{name}");
    }
}

#[tokio::test]
async fn a_pipe_in_place_of_the_key_holds_no_start_up() {
    let state = state();
    let path = state.path().join("secrets.key");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    let opened = std::thread::spawn({
        let state = state.path().to_owned();
        move || std::panic::catch_unwind(|| TestNode::open(&state)).is_err()
    });
    assert!(opened.join().unwrap(), "it is no key");
}
