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
        let rounds = if models.contains(name) { 1 } else { bench.plan.rounds.min(6) };
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
    let node = mayfly.start_empty(&[])?;
    let began = Instant::now();
    let report = mayfly.deploy(&node, &guest)?;
    let wall = began.elapsed().as_secs_f64() * 1e6;
    let series = |figure: &str| Series::new("deploy", name, "mayfly", figure, Unit::Us);
    bench.run.add(series("total").round(vec![wall]));
    let find = |key: &str| report.pointer(&format!("/revision/{key}"));
    let stages = find("stages").and_then(serde_json::Value::as_array);
    for (figure, us) in numbered(stages.map_or(&[], Vec::as_slice)) {
        bench.run.add(series(&figure).round(vec![us]));
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

/// The stages with their times. A stage that runs again has a number the second time: code is compiled before init and
/// after it, and the two have nothing in common.
fn numbered(stages: &[serde_json::Value]) -> Vec<(String, f64)> {
    let mut out: Vec<(String, f64)> = Vec::new();
    for stage in stages {
        let (Some(name), Some(us)) = (stage["stage"].as_str(), stage["us"].as_f64()) else {
            continue;
        };
        let again = |n: &usize| out.iter().any(|(known, _)| *known == figure(name, *n));
        let number = (1..).find(|n| !again(n)).unwrap_or(1);
        out.push((figure(name, number), us));
    }
    out
}

fn figure(stage: &str, number: usize) -> String {
    if number == 1 { stage.into() } else { format!("{stage}_{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_runs_twice_is_two_figures() {
        let stages: Vec<serde_json::Value> = ["validate", "compile", "preinit", "compile"]
            .iter()
            .enumerate()
            .map(|(i, stage)| serde_json::json!({"stage": stage, "us": i}))
            .collect();
        let named: Vec<(String, f64)> = numbered(&stages);
        let expected = [("validate", 0.0), ("compile", 1.0), ("preinit", 2.0), ("compile_2", 3.0)];
        assert_eq!(named, expected.map(|(name, us)| (name.to_owned(), us)));
    }
}
