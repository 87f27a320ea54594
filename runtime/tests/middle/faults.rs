//! Every guest of `functions/faults`, and how the host must end it.

use std::time::{Duration, Instant};

use http::StatusCode;

use crate::harness::{Harness, Reply, body_of, get, post};

/// What must come of one guest.
struct Case {
    guest: &'static str,
    limits: &'static [&'static str],
    status: u16,
    /// The outcome's label, "answered", "broken" (cut off after its head), or "refused" at deploy.
    outcome: &'static str,
}

const fn case(
    guest: &'static str,
    limits: &'static [&'static str],
    status: u16,
    outcome: &'static str,
) -> Case {
    Case { guest, limits, status, outcome }
}

/// The list that proves that each guest has a test: `every_guest_is_listed` compares it with the folder.
const CASES: &[Case] = &[
    case("answers", &[], 200, "answered"),
    case("loops", &["wall=200ms"], 504, "wall-limit"),
    case("loops-in-start", &[], 422, "refused"),
    case("loops-after-head", &["wall=200ms"], 200, "broken"),
    case("recurses", &[], 502, "stack-overflow"),
    case("traps", &[], 502, "trap"),
    case("traps-after-head", &[], 200, "broken"),
    case("divides-by-zero", &[], 502, "trap"),
    case("reads-out-of-bounds", &[], 502, "trap"),
    case("reads-behind-its-end", &[], 502, "trap"),
    case("reads-far-outside", &[], 502, "trap"),
    case("uses-up-its-own-stack", &[], 502, "trap"),
    case("calls-null", &[], 502, "trap"),
    case("grows-and-dies", &["memory=4MiB"], 502, "memory-limit"),
    case("grows-and-copes", &["memory=4MiB"], 200, "answered"),
    case("grows-its-table", &[], 200, "answered"),
    case("fills-its-memory", &["cpu=200ms"], 504, "cpu-limit"),
    case("sleeps", &["wall=200ms"], 504, "wall-limit"),
    case("naps", &[], 200, "answered"),
    case("polls-a-million", &[], 502, "trap"),
    case("says-nothing", &[], 502, "no-response"),
    case("writes-before-head", &[], 502, "no-response"),
    case("starts-twice", &[], 200, "answered"),
    case("status-0", &[], 502, "bad-response"),
    case("status-101", &[], 502, "bad-response"),
    case("status-600", &[], 502, "bad-response"),
    case("status-65535", &[], 502, "bad-response"),
    case("splits-its-head", &[], 502, "bad-response"),
    case("frames-its-body", &[], 200, "answered"),
    case("declares-too-much", &[], 502, "bad-response"),
    case("declares-too-little", &[], 200, "answered"),
    case("sends-40000-headers", &[], 502, "bad-response"),
    case("sends-a-huge-head", &[], 502, "bad-response"),
    case("points-outside", &[], 502, "trap"),
    case("answers-too-much", &["response-body=1MiB"], 200, "broken"),
    case("answers-64-mib-at-once", &["response-body=1MiB"], 200, "broken"),
    case("ignores-its-body", &[], 200, "answered"),
    case("counts-its-body", &[], 200, "answered"),
    case("floods-its-log", &[], 200, "answered"),
    case("floods-its-log-with-empty-lines", &[], 200, "answered"),
    case("forges-a-log-line", &[], 200, "answered"),
    case("draws-too-much", &[], 200, "answered"),
    case("writes-a-gibibyte", &[], 502, "trap"),
    case("exits-3", &[], 502, "exit-code"),
    case("exits-255", &[], 502, "exit-code"),
    case("exits-0-silently", &[], 502, "no-response"),
    case("cgi-answers", &[], 200, "answered"),
    case("cgi-answers-and-exits-3", &[], 200, "answered"),
    case("cgi-without-head", &[], 502, "bad-response"),
    case("cgi-unfinished-head", &[], 502, "bad-response"),
    case("cgi-bad-status", &[], 502, "bad-response"),
    case("cgi-endless-head", &[], 502, "bad-response"),
];

#[test]
fn every_guest_is_listed() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/faults");
    let mut found: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut listed: Vec<String> = CASES.iter().map(|case| case.guest.to_owned()).collect();
    found.sort();
    listed.sort();
    assert_eq!(found, listed);
}

#[test]
fn each_guest_ends_in_its_own_outcome_and_leaves_its_slot() {
    let harness = Harness::get();
    let (slots, mut wrong) = (harness.node.free_slots(), Vec::new());
    harness.run(async {
        for case in CASES {
            let name = format!("fault-{}", case.guest);
            if case.outcome == "refused" {
                let error =
                    harness.try_deploy_guest(&name, case.guest, case.limits).await.unwrap_err();
                assert_eq!(error.status(), case.status, "{error}");
                continue;
            }
            harness.deploy_guest(&name, case.guest, case.limits).await;
            let reply = get(harness, &format!("/{name}")).await;
            let label = outcome(&reply);
            if (reply.status.as_u16(), label.as_str()) != (case.status, case.outcome) {
                wrong.push(format!(
                    "{}: {} {label}, {}",
                    case.guest,
                    reply.status,
                    body_of(&reply)
                ));
            }
            harness.remove(&name).await;
        }
        harness.settled(slots).await;
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// "answered", "broken" (cut off after the head), or the label in a problem body.
fn outcome(reply: &Reply) -> String {
    if reply.broken {
        return "broken".into();
    }
    let body = body_of(reply);
    match body.split("urn:mayfly:outcome:").nth(1) {
        Some(rest) => rest.split('"').next().unwrap_or_default().to_owned(),
        None => "answered".into(),
    }
}

#[test]
fn no_public_body_tells_what_a_guest_did() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("secretive", "traps", &[]).await;
        let body = body_of(&get(harness, "/secretive").await);
        for inside in ["unreachable", "wasm", "backtrace", ".rs"] {
            assert!(!body.contains(inside), "{body}");
        }
        assert!(body.contains("request_id"), "{body}");
    });
}

#[test]
fn a_limit_is_kept_to_its_tenth_and_fifty_milliseconds() {
    let harness = Harness::get();
    harness.run(async {
        for guest in ["loops", "sleeps"] {
            let name = format!("timed-{guest}");
            harness.deploy_guest(&name, guest, &["wall=500ms"]).await;
            let began = Instant::now();
            let reply = get(harness, &format!("/{name}")).await;
            assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
            // Only the lower bound is a matter of right and wrong; the upper one is the bench's to watch.
            assert!(
                began.elapsed() >= Duration::from_millis(500),
                "{guest}: {:?}",
                began.elapsed()
            );
        }
    });
}

#[test]
fn a_guest_owns_no_framing() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("framer", "frames-its-body", &[]).await;
        let reply = get(harness, "/framer").await;
        assert_eq!(body_of(&reply), "ok");
        assert!(!reply.headers.contains_key("transfer-encoding"));
        assert!(!reply.headers.contains_key("content-length"), "the length is hyper's to set");
    });
}

#[test]
fn a_body_over_its_limit_is_413_whether_or_not_it_says_so() {
    let harness = Harness::get();
    harness.run(async {
        let limits = &["request-body=1KiB"];
        harness.deploy_guest("counter", "counts-its-body", limits).await;
        for (bytes, declared, status) in
            [(1024, true, 200), (1024, false, 200), (1025, true, 413), (1025, false, 413)]
        {
            let reply = post(harness, "/counter", vec![b'x'; bytes], declared).await;
            assert_eq!(reply.status.as_u16(), status, "{bytes} bytes, declared: {declared}");
        }
        // Ignoring a body of any size is the guest's right.
        harness.deploy_guest("ignorer", "ignores-its-body", limits).await;
        assert_eq!(post(harness, "/ignorer", vec![b'x'; 1025], false).await.status, StatusCode::OK);
    });
}

#[test]
fn a_log_flood_is_cut_and_cannot_forge_lines() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("flood", "floods-its-log", &["log=64KiB"]).await;
        assert_eq!(get(harness, "/flood").await.status, StatusCode::OK);
        let text = harness.log_of("flood");
        assert!(text.len() < 70 << 10, "{} bytes", text.len());
        // 64 bytes of each are its cost, and one its own.
        harness.deploy_guest("empty", "floods-its-log-with-empty-lines", &["log=1KiB"]).await;
        assert_eq!(get(harness, "/empty").await.status, StatusCode::OK);
        let text = harness.log_of("empty");
        assert!((10..20).contains(&text.lines().count()), "{text}");
        harness.deploy_guest("forger", "forges-a-log-line", &[]).await;
        assert_eq!(get(harness, "/forger").await.status, StatusCode::OK);
        let text = harness.log_of("forger");
        assert!(!text.contains(['\x1b', '\r', '\0']), "{text:?}");
    });
}

#[test]
fn a_function_runs_no_more_often_at_once_than_it_may() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("narrow", "naps", &["concurrency=2"]).await;
        let replies =
            tokio::join!(get(harness, "/narrow"), get(harness, "/narrow"), get(harness, "/narrow"));
        let mut statuses =
            [replies.0.status, replies.1.status, replies.2.status].map(|s| s.as_u16());
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 429]);
        assert_eq!(
            get(harness, "/narrow").await.status,
            StatusCode::OK,
            "its places are free again"
        );
    });
}

#[test]
fn ten_thousand_traps_cost_no_slot() {
    let harness = Harness::get();
    let slots = harness.node.free_slots();
    harness.run(async {
        harness.deploy_guest("trapper", "traps", &[]).await;
        harness.deploy_guest("bystander", "answers", &[]).await;
        for _ in 0..5_000 {
            assert_eq!(get(harness, "/trapper").await.status, StatusCode::BAD_GATEWAY);
            assert_eq!(get(harness, "/bystander").await.status, StatusCode::OK);
        }
        harness.settled(slots).await;
    });
}

#[test]
fn a_thousand_overflows_and_refusals_end_one_guest_each() {
    let harness = Harness::get();
    let slots = harness.node.free_slots();
    harness.run(async {
        harness.deploy_guest("overflows", "recurses", &[]).await;
        harness.deploy_guest("wants-more", "grows-and-dies", &["memory=4MiB"]).await;
        for (name, expected) in [("overflows", "stack-overflow"), ("wants-more", "memory-limit")] {
            for _ in 0..1_000 {
                let reply = get(harness, &format!("/{name}")).await;
                assert_eq!(outcome(&reply), expected);
            }
        }
        harness.settled(slots).await;
    });
}

#[test]
fn a_client_that_leaves_ends_its_guest() {
    let harness = Harness::get();
    let slots = harness.node.free_slots();
    harness.run(async {
        for guest in ["loops", "sleeps", "answers-too-much"] {
            let name = format!("left-{guest}");
            harness.deploy_guest(&name, guest, &["wall=30s", "response-body=1GiB"]).await;
            let path = format!("/{name}");
            // The response, or its head alone, is dropped where a client would have closed its connection.
            let left =
                tokio::time::timeout(Duration::from_millis(100), harness.head_only(&path)).await;
            drop(left);
            harness.settled(slots).await;
        }
    });
}
