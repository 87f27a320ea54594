//! What is measured. Each scenario adds its series to the run; one that fails is skipped with its error, and the others
//! go on.

pub mod density;
pub mod deploy;
pub mod figures;
pub mod ladder;
pub mod languages;
pub mod micro;
pub mod scaling;
pub mod throughput;

use std::path::PathBuf;
use std::time::Instant;

use crate::guests::Guests;
use crate::mayfly::Mayfly;
use crate::peers::{self, Peer};
use crate::plan::Plan;
use crate::record::Run;
use crate::warnings::Watch;

/// Everything that a scenario works with.
pub struct Bench {
    /// How much is measured.
    pub plan: Plan,
    /// What was measured so far.
    pub run: Run,
    /// The functions.
    pub guests: Guests,
    /// The binary under test; each scenario that needs a state directory of its own opens another.
    pub binary: Option<PathBuf>,
    /// Peers that are there.
    pub peers: Vec<Peer>,
    watch: Watch,
}

/// Where things are.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The mayfly binary, if not beside this program.
    pub mayfly: Option<PathBuf>,
    /// Built guests, if not beside this program.
    pub guests: Option<PathBuf>,
    /// Where `make bench-peers` installed.
    pub peers: PathBuf,
    /// Where the models' ONNX files are, for the peers that serve them.
    pub models: PathBuf,
}

type Scenario = fn(&mut Bench) -> anyhow::Result<()>;

/// Name, what it shows, and how it runs.
pub const ALL: [(&str, &str, Scenario); 9] = [
    ("micro", "parts of one sandbox's life, in process", micro::run),
    ("ladder", "every kind of cold start, from compiling to reuse", ladder::run),
    (
        "throughput",
        "requests per second and CPU per request on one core, and latency of one client",
        throughput::run,
    ),
    (
        "load",
        "latency under open-loop load of 0.5 and 1 times capacity, and what is answered at 2 times",
        throughput::run_open,
    ),
    (
        "density",
        "memory per idle function, per slot of the pool, per request under way on top of that",
        density::run,
    ),
    ("deploy", "deploy time by stage", deploy::run),
    ("scaling", "cores, image size, number of functions", scaling::run),
    ("languages", "hello in each language: size, start, memory", languages::run),
    ("figures", "sizes, and inference: latency, throughput and memory per core", figures::run),
];

impl Bench {
    /// Finds what is to be measured.
    ///
    /// # Errors
    /// When Mayfly or the functions are not built.
    pub fn new(plan: Plan, command: Vec<String>, places: &Places) -> anyhow::Result<Self> {
        let mut run = plan.new_run(command);
        let watch = Watch::start(&mut run);
        let mayfly = Mayfly::find(places.mayfly.as_deref())?;
        run.subjects.push(mayfly.subject());
        run.build = mayfly.build();
        let mut found = Vec::new();
        for (name, peer) in peers::all(&places.peers, &places.models) {
            match peer {
                // The ceiling is made of our own crates and is always there.
                Ok(peer) if plan.peers || name == "bare-hyper" => {
                    run.subjects.push(peer.subject());
                    found.push(peer);
                }
                Ok(_) => {}
                Err(why) if plan.peers => run.skip(format!("peer {name}"), format!("{why:#}")),
                Err(_) => {}
            }
        }
        let guests = Guests::find(places.guests.as_deref(), &places.models)?;
        let binary = Some(mayfly.binary().to_owned());
        Ok(Self { plan, run, guests, binary, peers: found, watch })
    }

    /// Runs the scenarios named, or all. `save` gets the record after each, so that a run that is cut short leaves what
    /// it has measured.
    ///
    /// # Errors
    /// When a name is unknown, or what `save` says.
    pub fn measure(
        mut self,
        only: &[String],
        save: impl Fn(&Run) -> anyhow::Result<()>,
    ) -> anyhow::Result<Run> {
        for name in only {
            let known = ALL.iter().any(|(known, ..)| known == name);
            anyhow::ensure!(known, "no scenario '{name}'; `mayfly-bench list` names them");
        }
        let began = Instant::now();
        for (name, what, scenario) in ALL {
            if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
                continue;
            }
            eprintln!("{:>6.1} s  {name}: {what}", began.elapsed().as_secs_f64());
            self.control();
            if let Err(why) = scenario(&mut self) {
                self.run.skip(format!("the rest of {name}"), format!("{why:#}"));
            }
            self.run.took_s = began.elapsed().as_secs_f64();
            save(&self.run)?;
        }
        self.control();
        self.run.took_s = began.elapsed().as_secs_f64();
        self.watch.finish(&mut self.run);
        save(&self.run)?;
        Ok(self.run)
    }

    /// A turn of the control series; scenarios call it once per round.
    pub fn control(&mut self) {
        self.watch.control(&mut self.run);
    }

    /// A fresh installation with an empty state directory.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn install(&self) -> anyhow::Result<Mayfly> {
        Mayfly::find(self.binary.as_deref())
    }
}
