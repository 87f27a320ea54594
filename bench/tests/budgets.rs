//! The regression gate: what one request costs in counts, against `budgets.toml`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is how to fail, also in its helpers")]

use std::collections::BTreeMap;
use std::path::Path;

use mayfly_bench::guests::{Guest, Guests};
use mayfly_bench::micro::Micro;
use mayfly_bench::process::own_minor_faults;

const REQUESTS: u32 = 200;

fn budgets() -> BTreeMap<String, BTreeMap<String, f64>> {
    let text = include_str!("../budgets.toml");
    let table: toml::Table = toml::from_str(text).unwrap();
    let number =
        |v: &toml::Value| v.as_float().or_else(|| v.as_integer().map(|i| i as f64)).unwrap();
    let numbers = |t: &toml::Value| {
        t.as_table().unwrap().iter().map(|(k, v)| (k.clone(), number(v))).collect()
    };
    table.iter().map(|(name, t)| (name.clone(), numbers(t))).collect()
}

fn counts(micro: &Micro, guest: &Guest) -> BTreeMap<&'static str, f64> {
    let name = guest.name.as_str();
    micro.publish(guest).unwrap();
    // Warm: each slot's memory is mapped by the first requests in it.
    for _ in 0..100 {
        micro.answer(name, guest).unwrap();
    }
    let before = own_minor_faults();
    for _ in 0..REQUESTS {
        micro.answer(name, guest).unwrap();
    }
    let faults = own_minor_faults() - before;
    let allocated = allocation_counter::measure(|| {
        for _ in 0..REQUESTS {
            micro.answer(name, guest).unwrap();
        }
    });
    let (pages, runs) = micro.life(name, guest, true).unwrap().private;
    let each = |n: u64| n as f64 / f64::from(REQUESTS);
    BTreeMap::from([
        ("minor_faults", each(faults)),
        ("allocations", each(allocated.count_total)),
        ("allocated_bytes", each(allocated.bytes_total)),
        ("private_pages", pages as f64),
        ("private_runs", runs as f64),
        ("wasm_bytes", guest.wasm.len() as f64),
    ])
}

#[test]
fn a_request_costs_no_more_than_its_budget() {
    let Ok(guests) = Guests::find(None, std::path::Path::new("")) else {
        eprintln!("SKIPPED: no built guests; run `make guests`");
        return;
    };
    // Publish's children are those of the harness, whose main knows their verbs.
    let micro = Micro::start(Some(Path::new(env!("CARGO_BIN_EXE_mayfly-bench")))).unwrap();
    let budgets = budgets();
    let mut over = Vec::new();
    for name in ["hello", "hello-command"] {
        let guest = guests.get(name).unwrap();
        for (count, value) in counts(&micro, &guest) {
            let budget = budgets[name][count];
            println!("{name} {count}: {value} of {budget}");
            if value > budget {
                over.push(format!("{name}: {count} is {value}, budget {budget}"));
            }
        }
    }
    assert!(over.is_empty(), "over bench/budgets.toml:\n{}", over.join("\n"));
}

/// Instructions are the same on a busy machine, but counting them takes a machine that can: valgrind must be there, and
/// must give the engine its address space and know the kernel's newer calls (3.24 does, Debian 12's 3.19 does not).
#[test]
fn an_invocation_takes_no_more_instructions_than_its_budget() {
    // Those of a build without optimisation say nothing.
    if cfg!(debug_assertions) {
        eprintln!("SKIPPED: instructions are counted in release builds: `make budgets`");
        return;
    }
    let (few, many) = (200, 1_200);
    let (Some(few_count), Some(many_count)) = (instructions(few), instructions(many)) else {
        eprintln!(
            "SKIPPED: valgrind is not installed, or cannot run the engine here; instructions were not counted"
        );
        return;
    };
    let each = (many_count - few_count) as f64 / f64::from(many - few);
    let budget = budgets()["instructions"]["hello"];
    println!("hello instructions: {each:.0} of {budget}");
    assert!(each <= budget, "hello takes {each:.0} instructions, budget {budget}");
}

/// Callgrind counts each byte of a `rep movsb` as an instruction, and glibc copies and wipes larger blocks with it on
/// some processors: without it, the count is of instructions and the same on all of them.
const NO_REP: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000";

/// Instructions of a process that answers `hello` so many times.
fn instructions(times: u32) -> Option<u64> {
    let out = tempfile::NamedTempFile::new().ok()?;
    let counted = std::process::Command::new("valgrind")
        .env("GLIBC_TUNABLES", NO_REP)
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.path().display()))
        .arg(env!("CARGO_BIN_EXE_mayfly-bench"))
        .args(["loop", "hello", "--times", &times.to_string()])
        .output()
        .ok()?;
    let summary = std::fs::read_to_string(out.path()).ok()?;
    let line = summary.lines().find_map(|line| line.strip_prefix("summary:"));
    line.filter(|_| counted.status.success())?.trim().parse().ok()
}
