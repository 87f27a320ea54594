//! One function, hello, as each language's toolchain makes it: what it weighs, starts in and holds.
//!
//! They do not do quite the same work: the Rust ones answer with a fixed text, the others read a variable first, as
//! `functions/hello-*` have it. What differs by far more is the language's runtime, which starts with each request.

use super::Bench;
use super::micro::clock_us;
use crate::guests::Guest;
use crate::micro::Micro;
use crate::record::{Series, Unit};

/// A page of memory, in bytes.
const PAGE: u64 = 4096;
/// An instance is interrupted by the engine's next tick, where it is called without an invocation: then it is rebuilt.
const TRIES: usize = 10;

/// Runs it.
///
/// # Errors
/// When the in-process node cannot be made.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let micro = Micro::start(bench.binary.as_deref())?;
    let mut guests = Vec::new();
    for name in ["hello", "hello-command"] {
        guests.push(bench.guests.get(name)?);
    }
    for name in ["hello-c", "hello-go", "hello-zig", "hello-assemblyscript"] {
        match bench.guests.language(name) {
            Ok(guest) => guests.push(guest),
            Err(why) if bench.plan.languages => {
                bench.run.skip(format!("languages/{name}"), format!("{why:#}"));
            }
            Err(_) => {}
        }
    }
    guests.retain(|guest| {
        let published = weigh(bench, &micro, guest);
        if let Err(why) = &published {
            bench.run.skip(format!("languages/{}", guest.name), format!("{why:#}"));
        }
        published.is_ok()
    });
    let clock = clock_us();
    for round in 0..bench.plan.rounds {
        bench.control();
        for i in 0..guests.len() {
            // Each goes first as often as the others.
            let guest = &guests[(i + round) % guests.len()];
            if let Err(why) = measure(bench, &micro, guest, clock) {
                bench.run.skip(format!("languages/{}", guest.name), format!("{why:#}"));
            }
        }
    }
    Ok(())
}

fn weigh(bench: &mut Bench, micro: &Micro, guest: &Guest) -> anyhow::Result<()> {
    let record = micro.publish(guest)?.record;
    let bytes = |figure: &str, value: u64| {
        Series::new("languages", &guest.name, "mayfly", figure, Unit::Bytes)
            .round(vec![value as f64])
    };
    bench.run.add(bytes("file_size", record.wasm_bytes));
    bench.run.add(bytes("artifact_size", record.artifact_bytes));
    // The first lives map each slot's memory.
    for _ in 0..20.min(bench.plan.starts) {
        micro.answer(&guest.name, guest)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, micro: &Micro, guest: &Guest, clock: f64) -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for _ in 0..bench.plan.starts {
        samples.push(micro.answer(&guest.name, guest)?);
    }
    let series = Series::new("languages", &guest.name, "mayfly", "cold_start", Unit::Us);
    bench.run.add(series.with_overhead(clock).round(samples));
    let mut life = micro.life(&guest.name, guest, true);
    for _ in 1..TRIES {
        if life.is_err() {
            life = micro.life(&guest.name, guest, true);
        }
    }
    let pages = life?.private.0;
    let series = Series::new("languages", &guest.name, "mayfly", "dirty_memory", Unit::Bytes);
    bench.run.add(series.round(vec![(pages * PAGE) as f64]));
    Ok(())
}
