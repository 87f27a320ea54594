//! The figures that the project was asked to beat, line by line: sizes, and inference per core beside what direct
//! convolution would take at the rate of a plain matrix product. That is no limit: Winograd's convolutions do the same with
//! fewer multiplications.

use std::io::Cursor;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Bench;
use super::throughput::measure;
use crate::load::{Load, Pace};
use crate::process::{cores, on_cores};
use crate::record::{Series, Unit};
use crate::server::{Server, Spec};

/// The picture that is classified, sent as the JPEG that a phone would send.
const PICTURE: &[u8] = include_bytes!("../../../functions/classify/pictures/cat.png");
/// Models, and the multiply-adds of one inference in millions.
const MODELS: [(&str, f64); 2] = [("classify", 390.0), ("resnet18", 1_820.0)];
/// Side of the matrices of the product: three of them fill a megabyte, the second-level cache.
const MATRIX: usize = 288;

/// Runs it.
///
/// # Errors
/// When Mayfly cannot be deployed to.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    sizes(bench)?;
    if !bench.plan.models {
        return Ok(());
    }
    let gflops =
        on_cores(&cores().0, || (0..bench.plan.rounds).map(|_| arithmetic()).collect::<Vec<_>>());
    let rate = crate::stats::median(&gflops);
    let mut series = Series::new("figures", "matrix-product", "machine", "gflops", Unit::PerS);
    for x in gflops {
        series = series.round(vec![x * 1e9]);
    }
    bench.run.add(series);
    let picture = jpeg()?;
    for (model, macs_m) in MODELS {
        let direct = rate * 1e9 / (macs_m * 2e6);
        let series = Series::new("figures", model, "machine", "direct", Unit::PerS);
        bench.run.add(series.round(vec![direct]));
        if let Err(why) = inference(bench, model, &picture) {
            bench.run.skip(format!("figures/{model}"), format!("{why:#}"));
        }
    }
    Ok(())
}

fn sizes(bench: &mut Bench) -> anyhow::Result<()> {
    for name in ["hello", "hello-command", "classify", "resnet18"] {
        if let Ok(guest) = bench.guests.get(name) {
            let series = Series::new("figures", name, "mayfly", "file_size", Unit::Bytes);
            bench.run.add(series.round(vec![guest.wasm.len() as f64]));
        }
    }
    let mayfly = bench.install()?;
    let series = Series::new("figures", "binary", "mayfly", "file_size", Unit::Bytes);
    bench.run.add(series.round(vec![mayfly.binary().metadata()?.len() as f64]));
    // Line tables and symbols are for crash reports; what is shipped may go without.
    let stripped = tempfile::NamedTempFile::new()?;
    let strip = Command::new("strip").arg("-o").arg(stripped.path()).arg(mayfly.binary()).status();
    if strip.is_ok_and(|status| status.success()) {
        let series = Series::new("figures", "binary-stripped", "mayfly", "file_size", Unit::Bytes);
        bench.run.add(series.round(vec![stripped.path().metadata()?.len() as f64]));
    } else {
        bench.run.skip("figures/binary-stripped", "`strip` is not installed (binutils)");
    }
    Ok(())
}

/// Billions of f32 operations a second of one core in a good native matrix product.
fn arithmetic() -> f64 {
    let a = ndarray::Array2::<f32>::from_elem((MATRIX, MATRIX), 1.5);
    let b = ndarray::Array2::<f32>::from_elem((MATRIX, MATRIX), 0.5);
    let (began, mut products) = (Instant::now(), 0u32);
    while began.elapsed() < Duration::from_millis(100) {
        std::hint::black_box(a.dot(&b));
        products += 1;
    }
    let operations = f64::from(products) * 2.0 * (MATRIX as f64).powi(3);
    operations / began.elapsed().as_secs_f64() / 1e9
}

fn jpeg() -> anyhow::Result<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    let picture = image::load_from_memory(PICTURE)?.to_rgb8();
    picture.write_to(&mut out, image::ImageFormat::Jpeg)?;
    Ok(out.into_inner())
}

fn inference(bench: &mut Bench, model: &str, picture: &[u8]) -> anyhow::Result<()> {
    let mayfly = bench.install()?;
    mayfly.deploy_all(&[bench.guests.get(model)?])?;
    let body = || Some(("image/jpeg".to_owned(), picture.to_vec()));
    let mut entries = vec![(
        "mayfly".to_owned(),
        Spec { body: body(), ..mayfly.spec(1, &format!("/{model}"), 200) },
    )];
    for peer in bench.peers.iter().filter(|peer| peer.serves(model)) {
        entries.push((peer.name.clone(), peer.spec(model, body())));
    }
    let mut first = None;
    for round in 0..bench.plan.rounds.min(6) {
        bench.control();
        for i in 0..entries.len() {
            // Each goes first as often as the others.
            let (subject, spec) = &entries[(i + round) % entries.len()];
            let measured = spec.start(&cores().0).and_then(|server| {
                same_work(&mut first, subject, &server)?;
                one(bench, model, subject, &server)
            });
            if let Err(why) = measured {
                bench.run.skip(format!("figures/{model}/{subject}"), format!("{why:#}"));
            }
        }
    }
    Ok(())
}

/// Equal work: the first classes named, in their order. Scores differ in the last digits between arithmetic libraries,
/// and those of the last places, of a thousandth, by how each resizes a picture.
fn same_work(first: &mut Option<Vec<i64>>, subject: &str, server: &Server) -> anyhow::Result<()> {
    let answer: serde_json::Value =
        serde_json::from_slice(&server.answer.body).context("the answer is not JSON")?;
    let list =
        answer.as_array().or_else(|| answer.as_object()?.values().find_map(|v| v.as_array()));
    let classes: Vec<i64> = list
        .into_iter()
        .flatten()
        .filter_map(|guess| guess.get("index")?.as_i64())
        .take(3)
        .collect();
    anyhow::ensure!(!classes.is_empty(), "{subject} names no class");
    let expected = first.get_or_insert_with(|| classes.clone());
    anyhow::ensure!(
        *expected == classes,
        "{subject} names {classes:?}, not {expected:?}: not the same work"
    );
    Ok(())
}

fn one(bench: &mut Bench, model: &str, subject: &str, server: &Server) -> anyhow::Result<()> {
    let series = |figure: &str, unit| Series::new("figures", model, subject, figure, unit);
    bench
        .run
        .add(series("first_answer", Unit::Us).round(vec![server.first_answer.as_secs_f64() * 1e6]));
    let load = Load {
        pace: Pace::Closed,
        connections: 1,
        warm_up: Duration::from_millis(500),
        time: bench.plan.load.max(Duration::from_millis(500)) * 2,
        seed: 0,
    };
    let (measured, used) = measure(server, load)?;
    anyhow::ensure!(
        measured.answered > 0 && measured.failed == 0,
        "no request was answered in time"
    );
    let each = |x: f64| vec![x / measured.answered as f64];
    bench.run.add(series("requests", Unit::PerS).round(vec![measured.per_second()]));
    bench.run.add(series("latency", Unit::Us).round(measured.latency_us.clone()));
    bench.run.add(series("cpu_per_request", Unit::Us).round(each(used.cpu_us)));
    bench.run.add(series("faults_per_request", Unit::Count).round(each(used.minor_faults as f64)));
    let usage = server.process.usage();
    bench.run.add(series("peak", Unit::Bytes).round(vec![usage.peak as f64]));
    bench.run.add(series("anonymous", Unit::Bytes).round(vec![usage.anonymous as f64]));
    Ok(())
}
