//! Every kind of cold start of the same functions, as `definitions` has them.

use std::time::Instant;

use super::Bench;
use super::micro::clock_us;
use crate::definitions::Rung;
use crate::guests::Guest;
use crate::micro::{Kept, Micro, Prepared};
use crate::process::drop_from_page_cache;
use crate::record::{Series, Unit};

const SMALL: [&str; 2] = ["hello", "hello-command"];
const MODELS: [&str; 2] = ["classify", "resnet18"];
/// Starts of one rung of a model in one round at most: its init alone takes a good part of a second.
const MODEL_STARTS: usize = 3;

/// Runs it.
///
/// # Errors
/// When the in-process node cannot be made.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let micro = Micro::start(bench.binary.as_deref())?;
    let names = SMALL.iter().chain(MODELS.iter().filter(|_| bench.plan.models));
    for name in names.copied().collect::<Vec<_>>() {
        let measured = bench.guests.get(name).and_then(|guest| {
            in_process(bench, &micro, &guest)?;
            processes(bench, &guest)
        });
        if let Err(why) = measured {
            bench.run.skip(format!("ladder/{name}"), format!("{why:#}"));
        }
    }
    peers(bench);
    Ok(())
}

fn add(bench: &mut Bench, guest: &str, rung: Rung, overhead: f64, samples: Vec<f64>) {
    let case = format!("{guest}/{}", rung.name());
    let subject = if rung == Rung::Reused { "harness" } else { "mayfly" };
    let series = Series::new("ladder", &case, subject, "start", Unit::Us);
    bench.run.add(series.with_overhead(overhead).round(samples));
}

fn in_process(bench: &mut Bench, micro: &Micro, guest: &Guest) -> anyhow::Result<()> {
    let clock = clock_us();
    let model = MODELS.contains(&guest.name.as_str());
    // Compiling a model's code takes tens of seconds: once is what the ladder needs.
    let compiles = if model { 1 } else { bench.plan.rounds };
    let mut made = None;
    for _ in 0..compiles {
        let began = Instant::now();
        // Validation, and the assets' way out of the module, are the first of what is not there yet.
        let prepared = micro.prepare(guest)?;
        let compiled = micro.compile(&prepared)?;
        micro.route_on_demand(&prepared, &compiled)?;
        micro.answer(Micro::plain_name(&prepared), guest)?;
        let us = began.elapsed().as_secs_f64() * 1e6;
        add(bench, &guest.name, Rung::Jit, clock, vec![us]);
        made = Some((prepared, compiled));
    }
    let Some((prepared, module)) = made else { return Ok(()) };
    let plain = Micro::plain_name(&prepared).to_owned();
    let artifact = micro.keep(&prepared)?;
    micro.publish(guest)?;
    for _ in 0..bench.plan.rounds {
        bench.control();
        rung(bench, guest, Rung::AotLoad, clock, || aot_load(micro, &prepared, &artifact, guest))?;
        micro.route_on_demand(&prepared, &module)?;
        rung(bench, guest, Rung::AotHit, clock, || micro.answer(&plain, guest))?;
        micro.route_artifact(&prepared, &artifact)?;
        rung(bench, guest, Rung::Pooled, clock, || micro.answer(&plain, guest))?;
        rung(bench, guest, Rung::PooledSnapshot, clock, || micro.answer(&guest.name, guest))?;
        // A command module's instance ends with its answer: there is nothing to reuse.
        if guest.name != "hello-command" {
            let samples = micro.reused(&guest.name, guest, bench.plan.starts)?;
            add(bench, &guest.name, Rung::Reused, clock, samples);
        }
    }
    Ok(())
}

fn aot_load(
    micro: &Micro,
    prepared: &Prepared,
    artifact: &Kept,
    guest: &Guest,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    micro.route_artifact(prepared, artifact)?;
    micro.answer(Micro::plain_name(prepared), guest)?;
    Ok(began.elapsed().as_secs_f64() * 1e6)
}

/// Samples one rung in one round: as often as planned, for as long as planned, once at least.
fn rung(
    bench: &mut Bench,
    guest: &Guest,
    rung: Rung,
    clock: f64,
    mut start: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    let slow = MODELS.contains(&guest.name.as_str()) && rung != Rung::PooledSnapshot;
    let most = if slow { MODEL_STARTS } else { bench.plan.starts };
    // The first of a rung finds caches and slots as the rung before left them: some microseconds, nothing to a model's init.
    if !slow {
        start()?;
    }
    let (began, mut samples) = (Instant::now(), Vec::new());
    while samples.len() < most && (samples.is_empty() || began.elapsed() < bench.plan.rung) {
        samples.push(start()?);
    }
    add(bench, &guest.name, rung, clock, samples);
    Ok(())
}

/// Node-cold and disk-cold: whole processes.
fn processes(bench: &mut Bench, guest: &Guest) -> anyhow::Result<()> {
    let mayfly = bench.install()?;
    mayfly.deploy_all(std::slice::from_ref(guest))?;
    let spec = mayfly.spec(1, &format!("/{}{}", guest.name, guest.cheap.path), guest.cheap.status);
    spec.start(&[])?;
    for _ in 0..bench.plan.process_starts {
        bench.control();
        let us = |server: crate::server::Server| server.first_answer.as_secs_f64() * 1e6;
        add(bench, &guest.name, Rung::NodeCold, 0.0, vec![us(spec.start(&[])?)]);
        drop_from_page_cache(mayfly.state())?;
        drop_from_page_cache(mayfly.binary())?;
        add(bench, &guest.name, Rung::DiskCold, 0.0, vec![us(spec.start(&[])?)]);
    }
    Ok(())
}

/// What a process start costs that serves the same bytes: the same clock, on other runtimes.
fn peers(bench: &mut Bench) {
    for i in 0..bench.peers.len() {
        let peer = &bench.peers[i];
        if !peer.serves("hello") {
            continue;
        }
        let (name, spec) = (peer.name.clone(), peer.spec("hello", None));
        for _ in 0..bench.plan.process_starts.max(1) {
            match spec.start(&[]) {
                Ok(server) => {
                    let us = server.first_answer.as_secs_f64() * 1e6;
                    let series = Series::new("ladder", "hello/node-cold", &name, "start", Unit::Us);
                    bench.run.add(series.round(vec![us]));
                }
                Err(why) => {
                    bench.run.skip(format!("ladder/{name}"), format!("{why:#}"));
                    break;
                }
            }
        }
    }
}
