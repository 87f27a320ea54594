//! Every scenario at size 1, with the binary as users get it.

use std::path::Path;
use std::process::Command;

use mayfly_bench::record::Run;

#[test]
fn every_scenario_runs_and_leaves_figures() {
    let bench = Path::new(env!("CARGO_BIN_EXE_mayfly-bench"));
    if !bench.with_file_name("mayfly").is_file()
        || mayfly_bench::guests::Guests::find(None, std::path::Path::new("")).is_err()
    {
        eprintln!(
            "SKIPPED: no mayfly binary or no guests beside the harness; `make build guests` makes them"
        );
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(bench);
    command.args(["run", "--size", "smoke", "--name", "smoke", "--out"]).arg(out.path());
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let run = Run::read(&out.path().join("smoke.json")).unwrap();
    assert!(run.skipped.is_empty(), "{:?}\n{said}", run.skipped);
    for (scenario, ..) in mayfly_bench::scenarios::ALL {
        let samples = run.series.iter().filter(|s| s.scenario == scenario);
        let seen: u64 = samples.flat_map(|s| &s.rounds).map(|r| r.seen).sum();
        assert!(seen > 0, "{scenario} left nothing");
    }
    assert!(run.build.is_some_and(|build| build.binary.len() == 16));
    // A slot costs nothing before it is used, and its hot pages and its stack from then on.
    let bytes = |id: &str| run.series.iter().find(|s| s.id() == id).unwrap().rounds[0].samples[0];
    let unused = bytes("density/slots/mayfly/pss_per_slot");
    assert!(unused < 10_000.0, "{unused} bytes of a slot that was never used");
    let used = bytes("density/idle-slot/echo/mayfly/pss_per_slot");
    assert!(used > 10_000.0, "{used} bytes of a slot that was used");
    let page = std::fs::read_to_string(out.path().join("smoke.html")).unwrap();
    assert!(page.contains("The cold-start ladder of hello"));
    // The same record compares as the same.
    let record = out.path().join("smoke.json");
    let same = Command::new(bench).arg("compare").arg(&record).arg(&record).status().unwrap();
    assert!(same.success());
}
