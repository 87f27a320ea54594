//! How much is measured: four sizes of the same scenarios.

use std::time::{Duration, SystemTime};

use crate::machine::Machine;
use crate::record::{Run, SCHEMA};

/// Sizes of everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `smoke`, `quick`, `core` or `full`.
    pub size: &'static str,
    /// Turns of each interleaved comparison; each is a process life of its own.
    pub rounds: usize,
    /// How long a load is measured in one round.
    pub load: Duration,
    /// How long it is warmed up before.
    pub warm_up: Duration,
    /// How long each program is loaded before the first of it is measured: V8 compiles what is hot for up to a second.
    pub settle: Duration,
    /// In-process starts of one rung per round, at most.
    pub starts: usize,
    /// Time for the starts of one rung of one guest in one round, at most (one start is always made).
    pub rung: Duration,
    /// Process starts of the node-cold rungs.
    pub process_starts: usize,
    /// Functions on one node.
    pub functions: &'static [usize],
    /// Megabytes of image.
    pub images: &'static [u64],
    /// Requests under way at once, for their memory.
    pub in_flight: usize,
    /// Whether models are measured.
    pub models: bool,
    /// Whether functions in other languages than Rust are missed where they are not built.
    pub languages: bool,
    /// Whether the peers that were installed are measured.
    pub peers: bool,
}

impl Plan {
    /// Everything once, as a test.
    #[must_use]
    pub fn smoke() -> Self {
        Self {
            size: "smoke",
            rounds: 1,
            // A busy machine may give a process no turn for tens of milliseconds.
            load: Duration::from_millis(200),
            warm_up: Duration::from_millis(10),
            settle: Duration::from_millis(10),
            starts: 2,
            rung: Duration::from_millis(200),
            process_starts: 1,
            functions: &[1, 2],
            images: &[0, 1],
            in_flight: 2,
            models: false,
            languages: false,
            peers: false,
        }
    }

    /// One minute.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            size: "quick",
            rounds: 6,
            load: Duration::from_millis(250),
            warm_up: Duration::from_millis(100),
            settle: Duration::from_millis(200),
            starts: 200,
            rung: Duration::from_millis(150),
            process_starts: 6,
            functions: &[1, 10],
            images: &[0, 1],
            in_flight: 32,
            models: false,
            languages: false,
            peers: false,
        }
    }

    /// At most ten minutes on two cores: the report that is quoted.
    #[must_use]
    pub fn core() -> Self {
        Self {
            size: "core",
            rounds: 6,
            load: Duration::from_millis(800),
            warm_up: Duration::from_millis(200),
            settle: Duration::from_millis(1_500),
            starts: 500,
            rung: Duration::from_millis(400),
            process_starts: 6,
            functions: &[1, 10, 100],
            images: &[0, 1, 45, 100],
            in_flight: 64,
            models: true,
            languages: true,
            peers: true,
        }
    }

    /// All of it.
    #[must_use]
    pub fn full() -> Self {
        Self {
            size: "full",
            rounds: 10,
            load: Duration::from_secs(2),
            starts: 1_000,
            rung: Duration::from_secs(3),
            process_starts: 20,
            functions: &[1, 10, 100, 1_000],
            in_flight: 128,
            ..Self::core()
        }
    }

    /// An empty record of this size, made now on this machine.
    #[must_use]
    pub fn new_run(&self, command: Vec<String>) -> Run {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Run {
            schema: SCHEMA.into(),
            size: self.size.into(),
            command,
            started_unix_s: started.map_or(0, |d| d.as_secs()),
            took_s: 0.0,
            machine: Machine::probe(),
            build: None,
            subjects: Vec::new(),
            series: Vec::new(),
            warnings: Vec::new(),
            skipped: Vec::new(),
        }
    }
}
