//! Not a test: how long a real module takes, stage by stage.
//! `MAYFLY_MEASURE=path.wasm cargo test --release --test publish measure -- --ignored --nocapture`

use std::time::Instant;

use mayfly_core::units::human_size;

use crate::node::{TestNode, limits, state, with_section};

#[tokio::test]
#[ignore = "needs MAYFLY_MEASURE"]
async fn measure() {
    let path = std::env::var("MAYFLY_MEASURE").unwrap();
    let wasm = std::fs::read(path).unwrap();
    let state = state();
    let node = TestNode::open(state.path());
    // The second upload differs in an unused asset: same code, everything else anew.
    let other = with_section(wasm.clone(), "mayfly.asset/unused", b"x");
    for (name, wasm) in [("first", wasm.clone()), ("second", other), ("third", wasm)] {
        let start = Instant::now();
        let settings = limits(&["memory=1GiB"]);
        let report = node
            .deploy_wasm(name, wasm, settings)
            .await
            .unwrap_or_else(|e| panic!("{}", e.with_hint()));
        println!(
            "{name}: {:?}, {} functions compiled, {} cached, reused {}, artifact {}, {:?}",
            start.elapsed(),
            report.functions_compiled,
            report.functions_cached,
            report.reused,
            human_size(report.record.artifact_bytes),
            report.record.snapshot,
        );
        for time in &report.record.stages {
            println!("    {:10} {:>10} us", time.stage, time.us);
        }
        print!("{}", report.init_log);
    }
    drop(node);
    let node = TestNode::open(state.path());
    let start = Instant::now();
    println!("restart: {:?} in {:?}", node.publisher.restore().await.unwrap(), start.elapsed());
}
