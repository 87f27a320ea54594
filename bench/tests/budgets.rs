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

/// Instructions are the same on a busy machine, but counting them takes a machine that may trace its own processes.
#[test]
fn an_invocation_takes_no_more_instructions_than_its_budget() {
    // Those of a build without optimisation say nothing.
    if cfg!(debug_assertions) {
        eprintln!("SKIPPED: instructions are counted in release builds: `make budgets`");
        return;
    }
    for (name, budget) in &budgets()["instructions"] {
        match instructions(name) {
            Ok(count) => {
                println!("{name} instructions: {count} of {budget}");
                assert!(count <= *budget, "{name} takes {count} instructions, budget {budget}");
            }
            Err(why) => eprintln!("SKIPPED: instructions of {name} were not counted: {why}"),
        }
    }
}

/// Instructions of one answer in a process that has given two hundred.
fn instructions(name: &str) -> Result<f64, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.py");
    let counted = std::process::Command::new("python3")
        .args([script, env!("CARGO_BIN_EXE_mayfly-bench")])
        .args(["loop", name, "--times", "200", "--marked"])
        .output()
        .map_err(|error| format!("no python3: {error}"))?;
    let count = String::from_utf8_lossy(&counted.stdout).trim().parse();
    count.map_err(|_| String::from_utf8_lossy(&counted.stderr).into_owned())
}
