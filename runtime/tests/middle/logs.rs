//! Whose lines are whose, and who pays for a flood.

use std::time::Duration;

use http::StatusCode;
use mayfly_core::record::Settings;

use crate::harness::{Harness, get, read};
use crate::pauses::pauses;

#[test]
fn a_flood_beside_it_costs_a_function_no_line() {
    let harness = Harness::get();
    harness.run(async {
        let limits = ["log=1MiB", "concurrency=8"];
        harness.deploy_guest("loud", "floods-its-log-with-empty-lines", &limits).await;
        let quiet = pauses(200, Duration::ZERO);
        harness.deploy_wat("quiet", &quiet, Settings::default()).await;
        let flood = async {
            for _ in 0..25 {
                let loud = || get(harness, "/loud");
                tokio::join!(loud(), loud(), loud(), loud());
            }
        };
        let modest = async {
            for _ in 0..50 {
                assert_eq!(get(harness, "/quiet").await.status, StatusCode::OK);
            }
        };
        tokio::join!(flood, modest);
        let kept = harness.log_of("quiet").lines().filter(|line| line.ends_with("done")).count();
        assert_eq!(kept, 50);
        let metrics = harness.node.metrics.text();
        let lost =
            |name: &str| metrics.contains(&format!("logs_dropped_total{{faas_name=\"{name}\"}}"));
        assert!(lost("loud") && !lost("quiet"), "{metrics}");
    });
}

#[test]
fn a_late_line_of_a_removed_function_is_not_the_next_ones() {
    let harness = Harness::get();
    harness.run(async {
        let slow = pauses(200, Duration::from_millis(300));
        harness.deploy_wat("ghost", &slow, Settings::default()).await;
        let early = harness.head_only("/ghost").await;
        harness.remove("ghost").await;
        harness.deploy_wat("ghost", &slow, Settings::default()).await;
        // To its end: its line comes after the next function of its name is there.
        assert_eq!(read(early).await.body, b"one\ntwo\n");
        assert_eq!(harness.log_of("ghost"), "");
        assert_eq!(get(harness, "/ghost").await.status, StatusCode::OK);
        let log = harness.log_of("ghost");
        assert_eq!(log.lines().filter(|line| line.ends_with("done")).count(), 1, "{log}");
    });
}
