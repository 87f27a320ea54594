//! What a node does when its functions want more memory than it has: a process of its own, because the budget is the
//! process's, and one test after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../middle/harness.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod harness;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mayfly_core::record::Settings;
use mayfly_host::catalog::Entry;
use mayfly_host::engine::EngineConfig;
use mayfly_host::revision::Revision;

use harness::{Harness, body_of, get};

const MIB: u64 = 1 << 20;
/// What functions may have beside the test's own.
const ROOM: u64 = 192 * MIB;
/// Until a test gives up on something that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

static ONE_AFTER_THE_OTHER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn node() -> &'static Harness {
    static HARNESS: OnceLock<Harness> = OnceLock::new();
    HARNESS.get_or_init(|| {
        let budget = used() + ROOM;
        let harness = Harness::start(&EngineConfig {
            slots: Some(32),
            memory_budget: Some(budget),
            ..EngineConfig::default()
        });
        harness.run(async {
            harness.deploy_guest("bystander", "answers", &[]).await;
        });
        harness
    })
}

/// RssAnon and RssShmem of this process.
fn used() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (kib("RssAnon:") + kib("RssShmem:")) << 10
}

/// A guest that grows its memory by `grown` MiB from `initial` MiB, touches `touched` MiB page by page, naps for a
/// while, and answers.
fn hog(initial: u64, grown: u64, touched: u64, nap_ms: u64) -> String {
    let (pages, more, end) = (initial * 16, grown * 16, touched * MIB);
    format!(
        r#"(module
    (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") {pages} 4096)
    (data (i32.const 0) "\c8\00\00\00")
    (func (export "mayfly_abi_1"))
    (func (export "mayfly_handle") (local $at i32)
        (if (i32.eq (memory.grow (i32.const {more})) (i32.const -1)) (then unreachable))
        (local.set $at (i32.const 65536))
        (loop $touch
            (if (i32.lt_u (local.get $at) (i32.const {end})) (then
                (i32.store8 (local.get $at) (i32.const 1))
                (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                (br $touch))))
        (i32.store (i32.const 2064) (i32.const 1))
        (i64.store (i32.const 2072) (i64.const {nap_ms}000000))
        (drop (call $poll (i32.const 2048) (i32.const 3072) (i32.const 1) (i32.const 4000)))
        (drop (call $start (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0)))))"#
    )
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.limits.set("wall=300s").unwrap();
    settings.limits.set("memory=256MiB").unwrap();
    settings
}

fn revision(harness: &Harness, name: &str) -> Arc<Revision> {
    match harness.node.catalog.load().get(name) {
        Some(Entry::Ready(revision)) => revision.clone(),
        _ => panic!("{name} is not ready"),
    }
}

/// How a request ends: its status, or the kind of problem that it says.
async fn end(harness: &Harness, path: &str) -> String {
    let reply = get(harness, path).await;
    match body_of(&reply).split_once("urn:mayfly:outcome:") {
        Some((_, rest)) => rest.split('"').next().unwrap().to_owned(),
        None => reply.status.as_str().to_owned(),
    }
}

/// How so many requests at once end, while the bystander is served all the time.
async fn ends(harness: &Harness, paths: &[&str]) -> BTreeMap<String, usize> {
    let mut all = tokio::task::JoinSet::new();
    let local = tokio::task::LocalSet::new();
    let counted = local.run_until(async {
        for path in paths {
            let (harness, path) = (node(), (*path).to_owned());
            all.spawn_local(async move { end(harness, &path).await });
        }
        let mut ends = BTreeMap::new();
        loop {
            tokio::select! {
                one = all.join_next() => match one {
                    Some(one) => *ends.entry(one.unwrap()).or_insert(0) += 1,
                    None => break,
                },
                () = tokio::time::sleep(Duration::from_millis(5)) => {
                    assert_eq!(end(harness, "/bystander").await, "200", "the bystander was refused");
                }
            }
        }
        ends
    });
    counted.await
}

/// Waits until every slot is free again, and nothing is held that was taken.
async fn recovered(harness: &Harness, slots: usize) {
    harness.settled(slots).await;
    let deadline = Instant::now() + PATIENCE;
    while harness.node.refuses_everybody() {
        assert!(Instant::now() < deadline, "it refuses everybody");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn the_greediest_are_ended_and_others_are_served() {
    let harness = node();
    harness.run(async {
        let _alone = ONE_AFTER_THE_OTHER.lock().await;
        let slots = harness.node.free_slots();
        // They say nothing of what they will take, nap with what they have, and want twice what there is.
        harness.deploy_wat("takes", &hog(1, 23, 24, 2_000), settings()).await;
        harness.deploy_wat("modest", &hog(4, 0, 4, 2_000), settings()).await;
        let mut paths = vec!["/takes"; 16];
        paths.push("/modest");
        let ended = ends(harness, &paths).await;
        // The modest one holds 4 MiB in one instance, which is less than any of the others does.
        let pressed = ended.get("memory-pressure").copied().unwrap_or(0);
        let answered = ended.get("200").copied().unwrap_or(0);
        assert!(pressed >= 4 && answered >= 1, "{ended:?}");
        assert_eq!(pressed + answered, 17, "{ended:?}");
        assert_eq!(end(harness, "/modest").await, "200");
        recovered(harness, slots).await;
        // What they were seen to hold is promised to the next ones before they take it: they wait, or are refused.
        assert!(revision(harness, "takes").tenant.usage.claim() > 12 * MIB);
        assert_eq!(end(harness, "/takes").await, "200");
        let log = harness.log_of("takes");
        assert!(log.contains("memory-pressure"), "{log}");
        for name in ["takes", "modest"] {
            harness.remove(name).await;
        }
        recovered(harness, slots).await;
    });
}

#[test]
fn a_guest_that_naps_is_ended_as_well() {
    let harness = node();
    harness.run(async {
        let _alone = ONE_AFTER_THE_OTHER.lock().await;
        let slots = harness.node.free_slots();
        harness.deploy_wat("naps", &hog(1, 63, 64, 120_000), settings()).await;
        harness.deploy_wat("more", &hog(1, 63, 64, 10), settings()).await;
        // Two naps hold most of what there is, and will for two minutes. Another function, which holds less than both,
        // wants more: one of the naps ends for it.
        let mut all = tokio::task::JoinSet::new();
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                for _ in 0..2 {
                    all.spawn_local(end(node(), "/naps"));
                }
                let (deadline, before) = (Instant::now() + PATIENCE, used());
                while used() < before + 120 * MIB {
                    assert!(Instant::now() < deadline, "they do not take it");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                while all.len() == 2 {
                    assert!(Instant::now() < deadline, "no nap was ended");
                    let other = end(harness, "/more").await;
                    assert!(
                        ["200", "memory-pressure", "memory-full"].contains(&&*other),
                        "{other}"
                    );
                    if let Some(one) = all.try_join_next() {
                        assert_eq!(one.unwrap(), "memory-pressure");
                    }
                }
                all.shutdown().await;
            })
            .await;
        for name in ["naps", "more"] {
            harness.remove(name).await;
        }
        recovered(harness, slots).await;
    });
}

#[test]
fn what_a_fresh_instance_can_touch_is_promised_before_it_does() {
    let harness = node();
    harness.run(async {
        let _alone = ONE_AFTER_THE_OTHER.lock().await;
        let slots = harness.node.free_slots();
        // Five of them could touch more than there is. That they touch little is not known of them yet.
        harness.deploy_wat("wide", &hog(96, 0, 1, 3_000), settings()).await;
        let ended = ends(harness, &["/wide"; 5]).await;
        assert!(ended.get("memory-full").is_some_and(|refused| *refused >= 2), "{ended:?}");
        assert!(ended.contains_key("200"), "{ended:?}");
        assert!(!ended.contains_key("memory-pressure"), "{ended:?}");
        let wide = revision(harness, "wide");
        let deadline = Instant::now() + PATIENCE;
        while wide.tenant.in_flight.load(Ordering::Relaxed) > 0 {
            assert!(Instant::now() < deadline, "it is still there");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Now it is: all of them fit.
        assert!(wide.tenant.usage.claim() < 8 * MIB, "{:?}", wide.tenant.usage);
        assert_eq!(ends(harness, &["/wide"; 5]).await, BTreeMap::from([("200".into(), 5)]));
        harness.remove("wide").await;
        recovered(harness, slots).await;
    });
}

#[test]
fn one_that_wants_more_than_there_is_runs_alone() {
    let harness = node();
    harness.run(async {
        let _alone = ONE_AFTER_THE_OTHER.lock().await;
        let slots = harness.node.free_slots();
        let mut limits = settings();
        limits.limits.set("memory=2GiB").unwrap();
        harness.deploy_wat("huge", &hog(255, 1, 8, 1), limits).await;
        assert_eq!(ends(harness, &["/huge"]).await, BTreeMap::from([("200".into(), 1)]));
        harness.remove("huge").await;
        recovered(harness, slots).await;
    });
}

#[test]
fn who_waits_is_served_as_soon_as_its_function_holds_few() {
    let harness = node();
    harness.run(async {
        let _alone = ONE_AFTER_THE_OTHER.lock().await;
        let slots = harness.node.free_slots();
        harness.deploy_wat("sleeps", &hog(1, 0, 1, 120_000), settings()).await;
        harness.deploy_wat("burst", &hog(1, 0, 1, 200), settings()).await;
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                // Every slot that is not kept for modest functions, and some that wait.
                let mut greedy = tokio::task::JoinSet::new();
                for _ in 0..slots {
                    greedy.spawn_local(end(node(), "/sleeps"));
                }
                while harness.node.free_slots() > slots / 4 {
                    tokio::task::yield_now().await;
                }
                // One too many to be modest: it has what is kept for them once another of its function has ended, and is
                // refused if it has to wait for a sleeper.
                let paths = vec!["/burst"; slots / 8 + 1];
                let ended = ends(harness, &paths).await;
                assert_eq!(ended, BTreeMap::from([("200".into(), paths.len())]));
                greedy.shutdown().await;
            })
            .await;
        for name in ["sleeps", "burst"] {
            harness.remove(name).await;
        }
        recovered(harness, slots).await;
    });
}
