//! The parts of one sandbox's life, and what the whole invocation costs without a socket.

use super::Bench;
use crate::micro::Micro;
use crate::process;
use crate::record::{Series, Unit};

const GUESTS: [&str; 3] = ["hello", "hello-command", "classify"];
/// Requests whose faults are counted at once: the counter itself is read from a file.
const FAULTS_OVER: u32 = 50;

/// Runs it.
///
/// # Errors
/// When the in-process node cannot be made.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let micro = Micro::start(bench.binary.as_deref())?;
    for name in GUESTS {
        if name == "classify" && !bench.plan.models {
            continue;
        }
        if let Err(why) = guest(bench, &micro, name) {
            bench.run.skip(format!("micro/{name}"), format!("{why:#}"));
        }
    }
    Ok(())
}

fn guest(bench: &mut Bench, micro: &Micro, name: &str) -> anyhow::Result<()> {
    let guest = bench.guests.get(name)?;
    micro.publish(&guest)?;
    // The first lives map each slot's memory.
    for _ in 0..20.min(bench.plan.starts) {
        micro.life(name, &guest, false)?;
        micro.answer(name, &guest)?;
    }
    let clock = clock_us();
    for _ in 0..bench.plan.rounds {
        bench.control();
        let (mut lives, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..bench.plan.starts {
            lives.push(micro.life(name, &guest, false)?);
            whole.push(micro.answer(name, &guest)?);
        }
        let part = |figure: &str, of: fn(&crate::micro::Life) -> f64| {
            Series::new("micro", name, "mayfly", figure, Unit::Us)
                .with_overhead(clock)
                .round(lives.iter().map(of).collect())
        };
        bench.run.add(part("instantiate", |l| l.instantiate));
        bench.run.add(part("call", |l| l.call));
        bench.run.add(part("reset", |l| l.reset));
        bench.run.add(part("life", |l| l.instantiate + l.call + l.reset));
        let series = Series::new("micro", name, "mayfly", "invocation", Unit::Us);
        bench.run.add(series.with_overhead(clock).round(whole));
        let before = process::own_minor_faults();
        for _ in 0..FAULTS_OVER {
            micro.answer(name, &guest)?;
        }
        let faults = (process::own_minor_faults() - before) as f64 / f64::from(FAULTS_OVER);
        let count = |figure: &str, x: f64| {
            Series::new("micro", name, "mayfly", figure, Unit::Count).round(vec![x])
        };
        bench.run.add(count("minor_faults", faults));
        let (pages, runs) = micro.life(name, &guest, true)?.private;
        bench.run.add(count("private_pages", pages as f64));
        bench.run.add(count("private_runs", runs as f64));
    }
    Ok(())
}

/// What reading the clock twice adds to a sample.
#[must_use]
pub fn clock_us() -> f64 {
    let samples: Vec<f64> = (0..1_000)
        .map(|_| {
            let began = std::time::Instant::now();
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    crate::stats::median(&samples)
}
