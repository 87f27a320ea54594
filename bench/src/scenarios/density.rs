//! Memory: of an idle node, of each slot of its pool, of each idle function, of a slot that was used, of a request under
//! way. A slot is made when it is first used, so what a node has of them at its start should cost nothing.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use super::Bench;
use crate::guests::variant;
use crate::load::{Load, Pace};
use crate::mayfly::{Mayfly, Node};
use crate::process::Usage;
use crate::record::{Series, Unit};

/// For allocators and kernels to settle.
const SETTLE: Duration = Duration::from_millis(200);

/// Slots of two nodes that differ in nothing else. The larger is half of what `auto` gives a machine of 25 GB.
const SLOTS: (usize, usize) = (8, 264);

/// Runs it.
///
/// # Errors
/// When Mayfly cannot be deployed to.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    functions(bench)?;
    let empty = bench.install()?;
    let mayfly = bench.install()?;
    mayfly.deploy_all(&[bench.guests.get("hello")?, bench.guests.get("echo")?])?;
    for _ in 0..bench.plan.rounds {
        slots(bench, &empty)?;
        requests(bench, &mayfly)?;
    }
    Ok(())
}

fn usage(node: &Node) -> Usage {
    std::thread::sleep(SETTLE);
    node.server.process.usage()
}

fn bytes(case: &str, figure: &str, x: f64, value: u64) -> Series {
    Series::new("density", case, "mayfly", figure, Unit::Bytes).at(x).round(vec![value as f64])
}

/// A node that has been started with so many functions, none of which was called.
fn functions(bench: &mut Bench) -> anyhow::Result<()> {
    let mayfly = bench.install()?;
    let hello = bench.guests.get("hello")?;
    let empty = mayfly.start_empty(&[])?;
    let idle = usage(&empty);
    drop(empty);
    bench.run.add(bytes("functions/0", "pss", 0.0, idle.pss));
    let mut deployed = 0;
    for &wanted in bench.plan.functions {
        let more: Vec<_> = (deployed..wanted).map(|i| variant(&hello, i)).collect();
        mayfly.deploy_all(&more)?;
        deployed = wanted;
        for _ in 0..bench.plan.rounds {
            let node = mayfly.start_empty(&[])?;
            let now = usage(&node);
            let x = deployed as f64;
            let case = format!("functions/{deployed}");
            bench.run.add(bytes(&case, "pss", x, now.pss));
            bench.run.add(bytes(&case, "rss", x, now.rss));
            let each = now.pss.saturating_sub(idle.pss) / deployed as u64;
            bench.run.add(bytes(&case, "pss_per_function", x, each));
            let started = node.server.first_answer.as_secs_f64() * 1e6;
            let series = Series::new("density", &case, "mayfly", "node_start", Unit::Us).at(x);
            bench.run.add(series.round(vec![started]));
        }
    }
    Ok(())
}

/// What a slot of the pool costs a node that was just started, used or not.
fn slots(bench: &mut Bench, mayfly: &Mayfly) -> anyhow::Result<()> {
    let mut pss = [0; 2];
    for (pss, slots) in pss.iter_mut().zip([SLOTS.0, SLOTS.1]) {
        let argument = format!("--engine-slots={slots}");
        let node = mayfly.start_empty(&[argument])?;
        *pss = usage(&node).pss;
        bench.run.add(bytes(&format!("slots/{slots}"), "pss", slots as f64, *pss));
    }
    let each = pss[1].saturating_sub(pss[0]) / (SLOTS.1 - SLOTS.0) as u64;
    bench.run.add(bytes("slots", "pss_per_slot", 1.0, each));
    Ok(())
}

/// Requests whose bodies are on their way hold their instances: so many at once, then none.
fn requests(bench: &mut Bench, mayfly: &Mayfly) -> anyhow::Result<()> {
    let node = mayfly.start(1, &[], "/hello", 200)?;
    let before = usage(&node);
    let n = bench.plan.in_flight;
    let mut held = Vec::with_capacity(n);
    for _ in 0..n {
        let mut stream = TcpStream::connect(node.server.address)?;
        stream.write_all(b"POST /echo HTTP/1.1\r\nhost: bench\r\ncontent-length: 2\r\n\r\nx")?;
        held.push(stream);
    }
    let during = usage(&node);
    drop(held);
    let after = usage(&node);
    let each = |usage: &Usage| usage.pss.saturating_sub(before.pss) / n as u64;
    let x = n as f64;
    bench.run.add(bytes("in-flight/echo", "pss_per_request", x, each(&during)));
    bench.run.add(bytes("idle-slot/echo", "pss_per_slot", x, each(&after)));
    // A slot after a load of plain requests, one at a time: what a busy small node keeps.
    let load = Load {
        pace: Pace::Closed,
        connections: 1,
        warm_up: Duration::ZERO,
        time: bench.plan.load / 4,
        seed: 0,
    };
    super::throughput::measure(&node.server, load)?;
    let loaded = usage(&node);
    bench.run.add(bytes("node/after-load", "rss", 1.0, loaded.rss));
    bench.run.add(bytes("node/after-load", "peak", 1.0, loaded.peak));
    Ok(())
}
