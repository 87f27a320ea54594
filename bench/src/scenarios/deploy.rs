//! Deploy time by stage, as a user of the CLI sees it, with an empty cache.

use std::time::Instant;

use super::Bench;
use crate::record::{Series, Unit};

/// Runs it.
///
/// # Errors
/// When Mayfly cannot be deployed to.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let models: &[&str] = if bench.plan.models { &["classify", "resnet18"] } else { &[] };
    for name in ["hello", "hello-command"].iter().chain(models) {
        // A model's first deploy compiles all of tract: once is enough to see it.
        let rounds = if models.contains(name) { 1 } else { bench.plan.rounds.min(5) };
        for _ in 0..rounds {
            if let Err(why) = once(bench, name) {
                bench.run.skip(format!("deploy/{name}"), format!("{why:#}"));
                break;
            }
        }
    }
    Ok(())
}

fn once(bench: &mut Bench, name: &str) -> anyhow::Result<()> {
    let guest = bench.guests.get(name)?;
    let mayfly = bench.install()?;
    let node = mayfly.start(1, &[], "/", 404)?;
    let began = Instant::now();
    let report = mayfly.deploy(&node, &guest)?;
    let wall = began.elapsed().as_secs_f64() * 1e6;
    let series = |figure: &str| Series::new("deploy", name, "mayfly", figure, Unit::Us);
    bench.run.add(series("total").round(vec![wall]));
    let find = |key: &str| report.pointer(&format!("/revision/{key}"));
    for stage in find("stages").and_then(serde_json::Value::as_array).into_iter().flatten() {
        let (Some(stage), Some(us)) = (stage["stage"].as_str(), stage["us"].as_f64()) else {
            continue;
        };
        // A stage that ran twice (compile: before init, and after) counts twice in `total` and shows as two samples.
        bench.run.add(series(stage).round(vec![us]));
    }
    for (key, figure) in [("wasm_bytes", "wasm_size"), ("artifact_bytes", "artifact_size")] {
        if let Some(bytes) = find(key).and_then(serde_json::Value::as_f64) {
            bench
                .run
                .add(Series::new("deploy", name, "mayfly", figure, Unit::Bytes).round(vec![bytes]));
        }
    }
    Ok(())
}
