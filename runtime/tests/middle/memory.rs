//! What a request costs its instance's memory, and when that is made good.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use mayfly_core::record::{Settings, Snapshot};
use mayfly_host::catalog::Entry;
use mayfly_host::revision::Revision;

use crate::harness::Harness;

/// Init fills 2 MiB of "weights" from 64 KiB on, and says so. A request writes to three pages far apart and one of them
/// again, reads the weights' first and last byte, and answers both.
const GUEST: &str = r#"(module
    (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 64)
    (func (export "mayfly_abi_1"))
    (func (export "mayfly_init")
        (i32.store8 (i32.const 0) (i32.const 200))
        (memory.fill (i32.const 65536) (i32.const 7) (i32.const 2097152)))
    (func (export "mayfly_weight_bytes") (result i64) (i64.const 2097152))
    (func (export "mayfly_handle")
        (i32.store8 (i32.const 3000000) (i32.load8_u (i32.const 65536)))
        (i32.store8 (i32.const 3000001) (i32.load8_u (i32.const 2162687)))
        (i32.store8 (i32.const 3200000) (i32.const 1))
        (i32.store8 (i32.const 1000000) (i32.const 1))
        (drop (call $start (i32.const 0) (i32.const 4) (i32.const 3000000) (i32.const 2)))))"#;

fn revision(harness: &Harness, name: &str) -> Arc<Revision> {
    match harness.node.catalog.load().get(name) {
        Some(Entry::Ready(revision)) => revision.clone(),
        other => panic!("{name} is not ready: {}", other.is_some()),
    }
}

/// Waits until every instance of it is gone and its slot reset.
async fn reset(revision: &Revision) {
    while revision.tenant.in_flight.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_revision_knows_its_image_and_what_a_request_dirties() {
    let harness = Harness::get();
    harness.run(async {
        let report = harness.deploy_wat("dirties", GUEST, Settings::default()).await;
        let Snapshot::Taken { image_bytes, image, weight_bytes, .. } = report.record.snapshot
        else {
            panic!("{report:?}")
        };
        assert_eq!((image_bytes, weight_bytes), (4096 + (2 << 20), Some(2 << 20)));
        assert_eq!(image, [[0, 65536 + (2 << 20)]]);
        assert_eq!(revision(harness, "dirties").tenant.footprint.seen(), None, "nothing ran yet");
        for requests in 1..=2 {
            let response = harness.head_only("/dirties").await;
            assert_eq!(response.status(), StatusCode::OK);
            drop(response);
            reset(&revision(harness, "dirties")).await;
            let Some(seen) = revision(harness, "dirties").tenant.footprint.seen() else { return };
            assert_eq!(seen.requests, requests);
            // Three, and what a reset writes over: the lowest 64 pages of a slot that was used before are its own.
            assert!((3..=3 + 64).contains(&seen.last.dirty), "{seen:?}");
            assert!((3..=4).contains(&seen.last.runs), "{seen:?}");
            // Two bytes of it were read, and the page written was one of the image's.
            assert!(seen.last.shared >= 2, "copy-on-write does not apply: {seen:?}");
        }
        harness.remove("dirties").await;
    });
}

#[test]
fn the_response_is_out_before_a_large_instance_is_reset() {
    let harness = Harness::get();
    harness.run(async {
        let mut settings = Settings::default();
        settings.limits.set("concurrency=1").unwrap();
        harness.deploy_wat("large", GUEST, settings).await;
        let revision = revision(harness, "large");
        // One thread: nothing else has run since the response was made, so the instance is still there. Who has its
        // answer may ask again, even of a function that serves one request at once.
        for instances in 1..=2 {
            let response = harness.head_only("/large").await;
            assert_eq!(response.status(), StatusCode::OK);
            // By the second answer the first instance may have been taken down, on a thread of its own.
            assert!((1..=instances).contains(&revision.tenant.in_flight.load(Ordering::Relaxed)));
            drop(response);
        }
        reset(&revision).await;
        harness.remove("large").await;
    });
}

/// Faults of this thread so far that needed no disk: `minflt` of `/proc/thread-self/stat`.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // The second field is a name in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// What each of so many requests, one after the other, faults on until its response is there. A guest that finds a page
/// other than it should be traps.
async fn faults_of(harness: &Harness, name: &str, requests: usize) -> Vec<u64> {
    let (revision, path) = (revision(harness, name), format!("/{name}"));
    let mut during = Vec::new();
    for _ in 0..requests {
        let before = faults();
        let response = harness.head_only(&path).await;
        during.push(faults() - before);
        assert_eq!(response.status(), StatusCode::OK);
        drop(response);
        reset(&revision).await;
    }
    during
}

/// Reads every page of the weights, and says in a header's place whether they were as init left them.
const READS_ALL: &str = r#"(module
    (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1024)
    (func (export "mayfly_abi_1"))
    (func (export "mayfly_init")
        (i32.store8 (i32.const 0) (i32.const 200))
        (memory.fill (i32.const 65536) (i32.const 7) (i32.const 33554432)))
    (func (export "mayfly_handle") (local $at i32)
        (local.set $at (i32.const 65536))
        (loop $next
            (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 7)) (then unreachable))
            (local.set $at (i32.add (local.get $at) (i32.const 4096)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 33619968))))
        (drop (call $start (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0)))))"#;

#[test]
fn a_request_faults_on_no_page_of_the_weights_that_the_one_before_it_read() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("reads-all", READS_ALL, Settings::default()).await;
        let during = faults_of(harness, "reads-all", 24).await;
        // 8,192 pages of weights: 512 faults if the kernel maps 16 at once. Its first requests have them, until it is known
        // that it writes to nothing: eight that write nothing might be trials, and two more are looked at.
        assert!(during[12..].iter().all(|faults| *faults < 64), "{during:?}");
        harness.remove("reads-all").await;
    });
}

/// Fills 2 MiB, after which no page of it may hold anything of an earlier request.
const FILLS: &str = r#"(module
    (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 64)
    (func (export "mayfly_abi_1"))
    (data (i32.const 0) "\c8\00\00\00")
    (func (export "mayfly_handle") (local $at i32)
        (local.set $at (i32.const 1048576))
        (loop $next
            (if (i32.load8_u (local.get $at)) (then unreachable))
            (local.set $at (i32.add (local.get $at) (i32.const 4096)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 3145728))))
        (memory.fill (i32.const 1048576) (i32.const 7) (i32.const 2097152))
        (drop (call $start (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0)))))"#;

#[test]
fn a_request_faults_on_few_of_the_pages_that_the_ones_before_it_wrote() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("fills", FILLS, Settings::default()).await;
        let during = faults_of(harness, "fills", 8).await;
        // 512 pages. Not by the first request's faults: one that overruns its tick goes on on another thread.
        let written =
            revision(harness, "fills").tenant.footprint.seen().map(|seen| seen.most.dirty);
        assert!(written.is_none_or(|pages| pages >= 512), "{written:?}");
        let least = during.iter().min().copied().unwrap();
        assert!(least < 64, "{during:?}");
        harness.remove("fills").await;
    });
}
