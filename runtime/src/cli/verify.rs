//! `mayfly verify`: what this build promises, proved on this machine.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, Subcommand};
use mayfly_publish::child::Children;
use mayfly_runtime::verify::{IsolationPlan, IsolationReport, isolation};

use super::{Failure, Printing, code, output};

/// Prove on this machine what Mayfly promises; needs no running node.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// What to prove.
    #[command(subcommand)]
    what: What,
}

/// What to prove.
#[derive(Debug, Subcommand)]
enum What {
    /// No instance sees what another one left: memory, table, globals, output, environment, random numbers.
    Isolation(Isolation),
}

/// No instance sees what another one left.
#[derive(Debug, Args)]
struct Isolation {
    /// Instances to make, each of another module than the one before.
    #[arg(long, default_value_t = 10_000)]
    alternations: u64,
    /// Slots of the pool; with one, every instance follows another in the same memory.
    #[arg(long, default_value_t = 1)]
    slots: usize,
    /// Makes the order of instances; a failure prints it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A module with a snapshot whose instances must hash differently, as one made with the crate `mayfly`.
    #[arg(long, value_name = "WASM")]
    guest: Option<PathBuf>,
    /// Have the kernel move pages about meanwhile (needs root).
    #[arg(long)]
    compact: bool,
    /// How results are printed.
    #[command(flatten)]
    printing: Printing,
}

impl Verify {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Isolation(verb) => verb.run().await,
        }
    }
}

impl Isolation {
    async fn run(self) -> Result<(), Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::new(code::FAILED, why);
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path);
            bytes.map_err(|why| failed(&format_args!("cannot read {}: {why}", path.display())))
        };
        let guest = self.guest.as_ref().map(read).transpose()?.map(Into::into);
        let state = tempfile::tempdir()?;
        let plan = IsolationPlan {
            alternations: self.alternations,
            slots: self.slots,
            seed: self.seed,
            guest,
        };
        let compaction = Compaction::start(self.compact)?;
        let report = isolation(&plan, state.path(), Children::default()).await;
        let compactions = compaction.stop();
        let report = report.map_err(|error| failed(&error))?;
        if self.printing.json() {
            let text = serde_json::to_string(&report).map_err(|error| failed(&error))?;
            output::raw(format!("{text}\n").as_bytes())?;
        } else {
            output::raw(describe(&report, compactions).as_bytes())?;
        }
        if report.holds() {
            return Ok(());
        }
        let seed = report.seed;
        Err(Failure::new(
            code::FAILED,
            format_args!("isolation does not hold here; --seed {seed} shows it again"),
        ))
    }
}

fn describe(report: &IsolationReport, compactions: u64) -> String {
    let IsolationReport { alternations, trapped, hits, draws, repeats, slots, seed, .. } = report;
    let IsolationReport { hashes, hash_repeats, .. } = report;
    let mut text = format!(
        "{alternations} instances in {slots} slot(s), {trapped} trapped, {hits} hits; {draws} random draws, {repeats} repeats; {hashes} hashes of one key, {hash_repeats} repeats (seed {seed}, {compactions} compactions)\n"
    );
    for finding in &report.findings {
        text.push_str("  ");
        text.push_str(finding);
        text.push('\n');
    }
    text
}

/// Asks the kernel, again and again, to compact its memory: pages of guests move while they are in use.
struct Compaction {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Compaction {
    const EVERY: Duration = Duration::from_millis(20);

    fn start(wanted: bool) -> Result<Self, Failure> {
        let running = Self { stop: Arc::default(), count: Arc::default() };
        if !wanted {
            return Ok(running);
        }
        let path = "/proc/sys/vm/compact_memory";
        let mut file = std::fs::OpenOptions::new().write(true).open(path).map_err(|error| {
            Failure::new(code::FAILED, format_args!("--compact needs {path}: {error}; run as root"))
        })?;
        let (stop, count) = (running.stop.clone(), running.count.clone());
        std::thread::Builder::new().name("mayfly-compact".into()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if file.write_all(b"1").is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Self::EVERY);
            }
        })?;
        Ok(running)
    }

    fn stop(&self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.count.load(Ordering::Relaxed)
    }
}
