//! One core serves, another asks: how many answers a second, what each costs in CPU, and what clients see when they do
//! not wait for each other.

use std::time::Duration;

use anyhow::Context as _;
use rand::seq::SliceRandom as _;

use super::Bench;
use crate::guests::Guest;
use crate::load::{Load, Measured, Pace, generate};
use crate::mayfly::Mayfly;
use crate::process::{Spent, cores, pin};
use crate::record::{Better, Series, Unit};
use crate::server::{Server, Spec};
use crate::stats;

/// Connections of closed loops. Some programs answer most with few, some with many: the first round tries both, and the
/// better is used from then on.
const CONNECTIONS: [usize; 2] = [16, 64];
/// For open loops: more than are under way at any load that a server keeps up with.
const OPEN_CONNECTIONS: usize = 64;
/// Loads of open loops, in capacities.
const FACTORS: [f64; 3] = [0.5, 1.0, 2.0];
/// Part of a core that the generator may be busy before it is itself what is measured.
const CLIENT_BUSY: f64 = 0.9;

/// One competitor.
struct Entry {
    case: &'static str,
    subject: String,
    spec: Spec,
    /// What suits it best, once that is known.
    connections: Option<usize>,
}

/// What all must answer: equal work is checked by comparing bytes.
const HELLO: &[u8] = b"Hello from a fresh sandbox\n";

fn entries(bench: &Bench, mayfly: &Mayfly) -> anyhow::Result<Vec<Entry>> {
    let guests: Vec<Guest> = ["hello", "hello-command"]
        .iter()
        .map(|name| bench.guests.get(name))
        .collect::<Result<_, _>>()?;
    mayfly.deploy_all(&guests)?;
    let mut entries: Vec<Entry> = ["hello", "hello-command"]
        .map(|case| Entry {
            case,
            subject: "mayfly".into(),
            spec: mayfly.spec(1, &format!("/{case}"), 200),
            connections: None,
        })
        .into();
    for peer in bench.peers.iter().filter(|peer| peer.serves("hello")) {
        entries.push(Entry {
            case: "hello",
            subject: peer.name.clone(),
            spec: peer.spec("hello", None),
            connections: None,
        });
    }
    Ok(entries)
}

/// Closed loops: capacity, and the latency of a single client.
///
/// # Errors
/// When Mayfly cannot be deployed to.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let mayfly = bench.install()?;
    let mut entries = entries(bench, &mayfly)?;
    let mut rng = rand::rng();
    for _ in 0..bench.plan.rounds {
        // Interleaved, in an order that no drift can favour.
        entries.shuffle(&mut rng);
        bench.control();
        let mut broken = Vec::new();
        for entry in &mut entries {
            if let Err(why) = closed(bench, entry) {
                bench.run.skip(
                    format!("throughput/{}/{}", entry.case, entry.subject),
                    format!("{why:#}"),
                );
                broken.push((entry.case, entry.subject.clone()));
            }
        }
        entries.retain(|e| {
            !broken.iter().any(|(case, subject)| *case == e.case && *subject == e.subject)
        });
    }
    Ok(())
}

/// Starts a competitor on the server's core and checks that it does the work.
fn start(entry: &Entry) -> anyhow::Result<Server> {
    let server = entry.spec.start(&cores().0)?;
    anyhow::ensure!(
        server.answer.body == HELLO,
        "{} answers {:?}, which is not the same work",
        entry.subject,
        String::from_utf8_lossy(&server.answer.body)
    );
    Ok(server)
}

/// A load from the client's core, and what the server spent on it.
///
/// # Errors
/// When the server breaks off.
pub fn measure(server: &Server, load: Load) -> anyhow::Result<(Measured, Spent)> {
    let (request, process) = (&server.request, &server.process);
    let mut spent: Vec<Spent> = Vec::new();
    let measured = std::thread::scope(|scope| {
        let run = || {
            pin(&cores().1);
            generate(request, &load, || spent.push(process.spent()))
        };
        scope.spawn(run).join().unwrap_or_else(|_| anyhow::bail!("the load generator panicked"))
    })?;
    let [before, after] = spent[..] else { anyhow::bail!("the load was not measured") };
    let used = Spent {
        cpu_us: after.cpu_us - before.cpu_us,
        minor_faults: after.minor_faults.saturating_sub(before.minor_faults),
    };
    Ok((measured, used))
}

/// Loads a program until it is as fast as it gets: V8 compiles what is hot, caches fill.
fn settle(bench: &Bench, server: &Server) -> anyhow::Result<()> {
    let (pace, connections, warm_up) = (Pace::Closed, CONNECTIONS[0], bench.plan.settle);
    let load = Load { pace, connections, warm_up, time: Duration::from_millis(1), seed: 0 };
    measure(server, load).map(|_| ())
}

/// The closed loop on as many connections as suit the program best.
fn capacity(
    bench: &Bench,
    entry: &mut Entry,
    server: &Server,
) -> anyhow::Result<(Load, Measured, Spent)> {
    let (warm_up, time) = (bench.plan.warm_up, bench.plan.load);
    let mut best: Option<(Load, Measured, Spent)> = None;
    for connections in CONNECTIONS {
        if entry.connections.is_some_and(|known| known != connections) {
            continue;
        }
        let load = Load { pace: Pace::Closed, connections, warm_up, time, seed: 0 };
        let (measured, used) = measure(server, load)?;
        let before = best.as_ref().map_or(0.0, |(_, other, _)| other.per_second());
        if best.is_none() || measured.per_second() > before {
            best = Some((load, measured, used));
        }
    }
    let best = best.context("no closed loop was measured")?;
    entry.connections = Some(best.0.connections);
    anyhow::ensure!(best.1.answered > 0, "no request was answered");
    Ok(best)
}

fn closed(bench: &mut Bench, entry: &mut Entry) -> anyhow::Result<()> {
    let server = start(entry)?;
    settle(bench, &server)?;
    let (load, measured, used) = capacity(bench, entry, &server)?;
    let series =
        |figure: &str, unit| Series::new("throughput", entry.case, &entry.subject, figure, unit);
    let each = |x: f64| vec![x / measured.answered as f64];
    bench.run.add(series("requests", Unit::PerS).round(vec![measured.per_second()]));
    bench.run.add(series("cpu_per_request", Unit::Us).round(each(used.cpu_us)));
    bench.run.add(series("faults_per_request", Unit::Count).round(each(used.minor_faults as f64)));
    // No latency: where each connection waits for its answer it is connections over requests per second, nothing else.
    let mut connections = series("connections", Unit::Count);
    connections.better = Better::Neither;
    bench.run.add(connections.round(vec![load.connections as f64]));
    doubts(
        bench,
        entry,
        &measured,
        &used,
        "requests per second are too low; CPU per request is not affected",
    );
    let (warm_up, time) = (load.warm_up / 4, load.time / 4);
    let (measured, _) = measure(&server, Load { connections: 1, warm_up, time, ..load })?;
    let alone = Series::new(
        "throughput",
        &format!("{}/one-client", entry.case),
        &entry.subject,
        "latency",
        Unit::Us,
    );
    bench.run.add(alone.with_overhead(null_us()?).round(measured.latency_us));
    Ok(())
}

/// Says when the client was what was measured, and when the server answered with errors.
fn doubts(bench: &mut Bench, entry: &Entry, measured: &Measured, used: &Spent, effect: &str) {
    let server_busy = used.cpu_us / 1e6 / measured.seconds;
    if measured.generator_busy > CLIENT_BUSY && server_busy < CLIENT_BUSY {
        // Without the shares, which differ from round to round: it is said once.
        bench.run.warn(format!(
            "the client was saturated (over {:.0} % busy, the server was not) against {}: its {effect}",
            CLIENT_BUSY * 100.0,
            entry.subject
        ));
    }
    if measured.failed > 0 {
        bench.run.warn(format!(
            "{} of {} answers of {} were not 2xx",
            measured.failed, measured.answered, entry.subject
        ));
    }
}

/// What a request costs that nobody works on: generator, two system calls each side, loopback. Measured against a
/// thread on the server's core that never sleeps and never looks at what it reads.
fn null_us() -> anyhow::Result<f64> {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::sync::OnceLock;
    static NULL: OnceLock<f64> = OnceLock::new();
    if let Some(us) = NULL.get() {
        return Ok(*us);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        pin(&cores().0);
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(error) => return Err(error),
            }
        }
    });
    let request = crate::load::Request::new(address, "/", None);
    let time = Duration::from_millis(100);
    let load = Load { pace: Pace::Closed, connections: 1, warm_up: time / 4, time, seed: 0 };
    let measured = std::thread::spawn(move || {
        pin(&cores().1);
        generate(&request, &load, || {})
    });
    let measured =
        measured.join().unwrap_or_else(|_| anyhow::bail!("the load generator panicked"))?;
    // It ends with its connection; whether well or not tells nothing.
    let _ = server.join();
    Ok(*NULL.get_or_init(|| stats::median(&measured.latency_us)))
}

/// Open loops at fractions of the capacity that the closed loops found.
///
/// # Errors
/// When Mayfly cannot be deployed to.
pub fn run_open(bench: &mut Bench) -> anyhow::Result<()> {
    let mayfly = bench.install()?;
    let mut entries = entries(bench, &mayfly)?;
    entries.retain(|e| e.case == "hello");
    let mut rng = rand::rng();
    for round in 0..bench.plan.rounds {
        entries.shuffle(&mut rng);
        bench.control();
        for entry in &mut entries {
            if let Err(why) = open(bench, entry, round) {
                bench.run.skip(format!("load/{}", entry.subject), format!("{why:#}"));
            }
        }
    }
    Ok(())
}

/// Answers per second that the closed loops found, or, if they were not run, that one finds now.
fn known_capacity(bench: &Bench, entry: &mut Entry, server: &Server) -> anyhow::Result<f64> {
    if let Some(series) = bench.run.get("throughput", entry.case, &entry.subject, "requests") {
        let rounds: Vec<f64> = series.rounds.iter().flat_map(|r| r.samples.clone()).collect();
        return Ok(stats::median(&rounds));
    }
    Ok(capacity(bench, entry, server)?.1.per_second())
}

fn open(bench: &mut Bench, entry: &mut Entry, round: usize) -> anyhow::Result<()> {
    let server = start(entry)?;
    settle(bench, &server)?;
    let capacity = known_capacity(bench, entry, &server)?;
    anyhow::ensure!(capacity > 0.0, "its capacity is not known");
    for factor in FACTORS {
        let load = Load {
            pace: Pace::Open { per_second: capacity * factor },
            connections: OPEN_CONNECTIONS,
            warm_up: bench.plan.warm_up / 2,
            time: bench.plan.load / 2,
            seed: round as u64,
        };
        let (measured, used) = measure(&server, load)?;
        let case = format!("hello@{factor}");
        let series = |figure: &str, unit| {
            Series::new("load", &case, &entry.subject, figure, unit).at(factor)
        };
        // Beyond the capacity the queue, and with it the latency, is as long as the test.
        if factor <= 1.0 {
            bench.run.add(series("latency", Unit::Us).round(measured.latency_us.clone()));
        }
        bench.run.add(series("generator_lag", Unit::Us).round(measured.lag_us.clone()));
        bench.run.add(series("generator_busy", Unit::Ratio).round(vec![measured.generator_busy]));
        bench.run.add(series("answered", Unit::PerS).round(vec![measured.per_second()]));
        bench.run.add(series("failed", Unit::Count).round(vec![measured.failed as f64]));
        let due = load.time.as_secs_f64() * capacity * factor;
        let unfinished = measured.unfinished as f64 / due;
        let mut share = series("unfinished", Unit::Ratio);
        share.better = Better::Lower;
        bench.run.add(share.round(vec![unfinished]));
        let effect = format!("figures at {factor} x its capacity are the client's as well");
        doubts(bench, entry, &measured, &used, &effect);
    }
    Ok(())
}
