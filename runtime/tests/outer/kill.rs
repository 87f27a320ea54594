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
