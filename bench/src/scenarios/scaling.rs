//! How figures move with cores, with the size of the image, and with the number of functions on the node.

use super::Bench;
use crate::guests::{image, variant};
use crate::load::{Load, Pace};
use crate::mayfly::Mayfly;
use crate::micro::Micro;
use crate::process::{cores, own_minor_faults};
use crate::record::{Series, Unit};

/// Runs it.
///
/// # Errors
/// When Mayfly cannot be deployed to.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    images(bench)?;
    over_cores(bench)?;
    functions(bench)
}

/// A life above images of several sizes, in process: what a larger model costs each request.
fn images(bench: &mut Bench) -> anyhow::Result<()> {
    let micro = Micro::start(bench.binary.as_deref())?;
    for &mib in bench.plan.images {
        let guest = image(mib)?;
        micro.publish(&guest)?;
        for _ in 0..20.min(bench.plan.starts) {
            micro.life(&guest.name, &guest, false)?;
        }
        for _ in 0..bench.plan.rounds {
            let before = own_minor_faults();
            let lives: Vec<f64> = (0..bench.plan.starts)
                .map(|_| micro.life(&guest.name, &guest, false).map(|l| l.total()))
                .collect::<Result<_, _>>()?;
            let faults = (own_minor_faults() - before) as f64 / lives.len() as f64;
            let case = format!("image/{mib}");
            let series =
                |figure, unit| Series::new("scaling", &case, "mayfly", figure, unit).at(mib as f64);
            bench.run.add(series("life", Unit::Us).round(lives));
            bench.run.add(series("minor_faults", Unit::Count).round(vec![faults]));
        }
    }
    Ok(())
}

/// Workers on all cores; the client takes its share of them, so CPU per request is the figure, not requests per second.
fn over_cores(bench: &mut Bench) -> anyhow::Result<()> {
    let mayfly = bench.install()?;
    mayfly.deploy_all(&[bench.guests.get("hello")?])?;
    for workers in [1, bench.run.machine.cores.max(2)] {
        for _ in 0..bench.plan.rounds.min(6) {
            let on = if workers == 1 { cores().0 } else { Vec::new() };
            load(
                bench,
                &mayfly,
                &format!("cores/{workers}"),
                workers as f64,
                (workers, &on),
                "/hello",
            )?;
        }
    }
    Ok(())
}

/// The same load on one function among many.
fn functions(bench: &mut Bench) -> anyhow::Result<()> {
    let mayfly = bench.install()?;
    let hello = bench.guests.get("hello")?;
    let mut deployed = 0;
    for &wanted in bench.plan.functions {
        let more: Vec<_> = (deployed..wanted).map(|i| variant(&hello, i)).collect();
        mayfly.deploy_all(&more)?;
        deployed = wanted;
        let path = format!("/hello-{}", deployed / 2);
        for _ in 0..bench.plan.rounds.min(6) {
            let case = format!("functions/{deployed}");
            load(bench, &mayfly, &case, deployed as f64, (1, &cores().0), &path)?;
        }
    }
    Ok(())
}

fn load(
    bench: &mut Bench,
    mayfly: &Mayfly,
    case: &str,
    x: f64,
    (workers, on): (usize, &[usize]),
    path: &str,
) -> anyhow::Result<()> {
    bench.control();
    let server = mayfly.spec(workers, path, 200).start(on)?;
    let (warm_up, time) = (bench.plan.warm_up, bench.plan.load / 2);
    let load = Load { pace: Pace::Closed, connections: 16, warm_up, time, seed: 0 };
    let (measured, used) = super::throughput::measure(&server, load)?;
    anyhow::ensure!(measured.answered > 0, "no request was answered");
    let series = |figure: &str, unit| Series::new("scaling", case, "mayfly", figure, unit).at(x);
    bench.run.add(series("requests", Unit::PerS).round(vec![measured.per_second()]));
    bench.run.add(
        series("cpu_per_request", Unit::Us).round(vec![used.cpu_us / measured.answered as f64]),
    );
    Ok(())
}
