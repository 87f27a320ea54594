//! kill -9 at any moment: what serves afterwards is one revision, whole, and never older than what was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::node::{Node, module};

/// Kills in a run; `MAYFLY_SOAK=1` asks for the number that we promise.
fn kills() -> u64 {
    if std::env::var_os("MAYFLY_SOAK").is_some() { 50 } else { 5 }
}

#[test]
fn killed_at_any_moment_a_node_comes_back_with_one_whole_revision() {
    let mut node = Node::start(tempfile::tempdir().unwrap());
    let first = node.file("f.wasm", &module("revision 0000"));
    node.ok(&["deploy", &first]);
    let mut acknowledged = 0;
    for round in 1..=kills() {
        let body = format!("revision {round:04}");
        let file = node.file("f.wasm", &module(&body));
        let answered = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (node, answered, file) = (&node, &answered, file.as_str());
            scope.spawn(move || {
                let done = node.try_run(&["deploy", file]);
                answered.store(done, Ordering::SeqCst);
            });
            // Spread over the whole of a deploy, which takes some 100 to 400 ms in a debug build; no clock decides
            // anything here, it only varies where the blow falls.
            std::thread::sleep(Duration::from_millis(round * 37 % 400));
            node.kill();
        });
        if answered.load(Ordering::SeqCst) {
            acknowledged = round;
        }
        node = Node::start(node.into_dir());
        let (status, text) = node.get("/f");
        let serves: u64 =
            text.strip_prefix("revision ").and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
        assert_eq!(status, 200, "round {round}: {text}");
        assert!(
            (acknowledged..=round).contains(&serves),
            "round {round}: {text}, {acknowledged} was acknowledged"
        );
        // What it serves is now known to be there: it may not be older next time.
        acknowledged = serves;
    }
}

/// The deployments that a change may leave: the one before it, or the one that it makes.
fn may_serve(text: &str) -> bool {
    ["one", "two"].contains(&text)
}

/// What each version has, the newest first.
fn splits(deployment: &serde_json::Value) -> Vec<(u64, f64)> {
    let all = deployment["splits"].as_array().unwrap().iter();
    all.map(|s| (s["version"].as_u64().unwrap(), s["percent"].as_f64().unwrap())).collect()
}

/// The same as a switch asks for it.
fn asked(switch: &[&str]) -> Vec<(u64, f64)> {
    let parts = switch.iter().filter_map(|part| part.split_once('='));
    let mut all: Vec<_> = parts
        .map(|(version, percent)| (version.parse().unwrap(), percent.parse().unwrap()))
        .collect();
    all.sort_by_key(|(version, _): &(u64, f64)| std::cmp::Reverse(*version));
    all
}

/// Which version each tag names; its address has another port after a restart.
fn tags(deployment: &serde_json::Value) -> Vec<(&str, Option<u64>)> {
    let all = deployment["tags"].as_object().into_iter().flatten();
    all.map(|(tag, of)| (tag.as_str(), of["version"].as_u64())).collect()
}

#[test]
fn killed_in_a_switch_a_node_serves_the_deployment_before_or_after_it() {
    let mut node = Node::start(tempfile::tempdir().unwrap());
    let files = ["one", "two"].map(|body| node.file(&format!("{body}.wasm"), &module(body)));
    node.ok(&["deploy", &files[0], "--name", "f"]);
    node.ok(&["deploy", &files[1], "--name", "f", "--traffic", "0", "--tag", "next"]);
    let switches: &[&[&str]] = &[
        &["traffic", "f", "1=50", "2=50", "--sticky", "cookie"],
        &["rollback", "f"],
        &["traffic", "f", "2=100"],
        &["tag", "f", "1", "kept"],
        &["traffic", "f", "1=100", "2=0"],
        &["rollout", "f", "2", "--steps", "10,100", "--every", "1h"],
        &["deploy", &files[1], "--name", "f", "--traffic", "25"],
        &["traffic", "f", "1=100", "2=0"],
    ];
    let serving = |node: &Node| -> serde_json::Value {
        let text = node.ok(&["traffic", "f", "--output", "json"]);
        serde_json::from_str(&text).unwrap()
    };
    let mut rolling = false;
    // Four times as many as deploys: one takes a few milliseconds.
    for round in 0..4 * kills() {
        let switch = switches[usize::try_from(round).unwrap() % switches.len()];
        let before = serving(&node);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (node, done) = (&node, &done);
            scope.spawn(move || done.store(node.try_run(switch), Ordering::SeqCst));
            std::thread::sleep(Duration::from_millis(round * 7 % 60));
            node.kill();
        });
        node = Node::start(node.into_dir());
        let after = serving(&node);
        let (was, is) = (&before["generation"], &after["generation"]);
        let (was, is) = (was.as_u64().unwrap(), is.as_u64().unwrap());
        assert!(is == was || is == was + 1, "round {round}: {before} {after}");
        if is == was {
            // What is so already makes no deployment.
            let is_so = || match switch[0] {
                "tag" => tags(&after).contains(&("kept", Some(1))),
                _ => splits(&after) == asked(switch),
            };
            assert!(
                !done.load(Ordering::SeqCst) || is_so(),
                "round {round}: {switch:?} was acknowledged"
            );
            assert_eq!(before["splits"], after["splits"], "round {round}");
            assert_eq!(tags(&before), tags(&after), "round {round}");
        }
        // A rollout goes on after the restart, unless another switch has ended it.
        rolling = if is == was { rolling } else { switch[0] == "rollout" };
        assert_eq!(node.try_run(&["rollout", "f"]), rolling, "round {round}: {switch:?} {after}");
        let sum: f64 = after["splits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["percent"].as_f64().unwrap())
            .sum();
        assert!((sum - 100.0).abs() < 1e-9, "round {round}: {after}");
        for _ in 0..4 {
            let (status, text) = node.get("/f");
            assert!(status == 200 && may_serve(&text), "round {round}: {status} {text}");
        }
    }
}
