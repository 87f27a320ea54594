//! A restart answers at once; what is damaged is rebuilt.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mayfly_core::record::Settings;
use mayfly_publish::Restored;

use crate::node::{TestNode, files, name, reactor, says, state};

#[tokio::test]
async fn after_a_restart_everything_answers_without_compiling() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("a", &says("one"), Settings::default()).await.unwrap();
    node.deploy("a", &says("two"), Settings::default()).await.unwrap();
    let init = r#"(func (export "mayfly_init") (i32.store8 (i32.const 0) (i32.const 33)))"#;
    node.deploy("b", &reactor(1, init), Settings::default()).await.unwrap();
    drop(node);

    let node = TestNode::open(state.path());
    assert_eq!(
        node.publisher.restore().await.unwrap(),
        Restored { ready: 2, loading: 0, preparing: 0 }
    );
    assert_eq!(node.get("/a").await, (200, "two".into()));
    assert_eq!(node.get("/b").await, (200, "!".into()));
    assert_eq!(node.compiles(), 0);
    assert_eq!(node.publisher.history(&name("a")).unwrap().len(), 2);
    let report = node.deploy("a", &says("three"), Settings::default()).await.unwrap();
    assert_eq!((report.record.number, report.replaced), (3, Some(2)));
}

async fn damaged(damage: impl Fn(&Path)) -> u64 {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", &says("whole"), Settings::default()).await.unwrap();
    drop(node);
    damage(&files(state.path(), "artifacts")[0]);

    let node = TestNode::open(state.path());
    assert_eq!(
        node.publisher.restore().await.unwrap(),
        Restored { ready: 0, loading: 0, preparing: 1 }
    );
    assert_eq!(node.get("/f").await.0, 503);
    node.ready("f").await;
    assert_eq!(node.get("/f").await, (200, "whole".into()));
    let rejects = node.metrics.artifact_rejects.get();
    drop(node);
    let node = TestNode::open(state.path());
    assert_eq!(
        node.publisher.restore().await.unwrap(),
        Restored { ready: 1, loading: 0, preparing: 0 }
    );
    rejects
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
}

#[tokio::test]
async fn a_flipped_byte_is_noticed_and_the_code_made_anew() {
    let flip = |path: &Path| {
        rewrite(path, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x80;
        });
    };
    assert_eq!(damaged(flip).await, 1);
}

#[tokio::test]
async fn a_file_that_is_cut_or_gone_is_made_anew() {
    assert_eq!(damaged(|path| rewrite(path, |bytes| bytes.truncate(bytes.len() - 1))).await, 1);
    assert_eq!(damaged(|path| fs::remove_file(path).unwrap()).await, 1);
}

#[tokio::test]
async fn a_link_in_place_of_the_file_is_not_followed() {
    let link = |path: &Path| {
        let aside = path.with_extension("aside");
        fs::rename(path, &aside).unwrap();
        std::os::unix::fs::symlink(aside, path).unwrap();
    };
    assert_eq!(damaged(link).await, 1);
}

#[tokio::test]
async fn a_redeploy_of_damaged_code_makes_it_anew() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", &says("x"), Settings::default()).await.unwrap();
    rewrite(&files(state.path(), "artifacts")[0], |bytes| bytes[100] ^= 1);
    assert_eq!(node.get("/f").await, (200, "x".into()), "the file that was mapped is another one");
    let report = node.deploy("f", &says("x"), Settings::default()).await.unwrap();
    assert!(!report.reused);
    assert_eq!(node.metrics.artifact_rejects.get(), 1);
    assert_eq!(node.get("/f").await, (200, "x".into()));
}

#[tokio::test]
async fn without_the_upload_the_function_waits_for_a_new_deploy() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", &says("x"), Settings::default()).await.unwrap();
    drop(node);
    fs::remove_file(&files(state.path(), "artifacts")[0]).unwrap();
    fs::remove_file(&files(state.path(), "wasm")[0]).unwrap();
    let node = TestNode::open(state.path());
    assert_eq!(
        node.publisher.restore().await.unwrap(),
        Restored { ready: 0, loading: 0, preparing: 1 }
    );
    let report = node.deploy("f", &says("x"), Settings::default()).await.unwrap();
    assert_eq!(report.record.number, 2);
    assert_eq!(node.get("/f").await, (200, "x".into()));
}

#[tokio::test]
async fn one_process_at_a_time() {
    let state = state();
    let _node = TestNode::open(state.path());
    let second = std::panic::catch_unwind(|| TestNode::open(state.path()));
    let message = second.err().and_then(|panic| panic.downcast::<String>().ok());
    assert!(message.is_some_and(|text| text.contains("InUse")));
}
