//! What a run leaves behind: every sample, and everything needed to judge it. Written as JSON; the schema is described
//! in `docs/bench/schema.md`.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// Names this format.
pub const SCHEMA: &str = "mayfly-bench/2";
/// Formats that can be read as well: 1 is 2 without `build`.
const READABLE: [&str; 2] = [SCHEMA, "mayfly-bench/1"];

/// Samples kept of one round at most; what is over is thinned evenly at random, and `seen` says from how many.
pub const SAMPLES_PER_ROUND: usize = 1_000;

/// One run of the harness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: String,
    /// `smoke`, `quick`, `core` or `full`.
    pub size: String,
    /// The command that was run.
    pub command: Vec<String>,
    /// Seconds since 1970.
    pub started_unix_s: u64,
    /// Wall time of the whole run, in seconds.
    pub took_s: f64,
    /// Where it ran.
    pub machine: Machine,
    /// Which build was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// What was measured.
    pub subjects: Vec<Subject>,
    /// Every figure.
    pub series: Vec<Series>,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
    /// What was not measured, and why.
    pub skipped: Vec<Skipped>,
}

/// Which build of Mayfly was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The first 16 digits of the SHA-256 of its binary.
    pub binary: String,
    /// Git commit of the directory that the harness ran in, with `+` if files differed from it; empty outside of one.
    pub commit: String,
}

/// A program under measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Short name, as series use it.
    pub name: String,
    /// What it is, in one sentence, and how its work differs from the others'.
    pub what: String,
    /// As the program states it.
    pub version: String,
    /// Exact command, with ports and directories as placeholders.
    pub command: String,
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// What.
    pub what: String,
    /// Why, and what to do about it.
    pub why: String,
}

/// The unit of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Microseconds.
    Us,
    /// Bytes.
    Bytes,
    /// Per second.
    PerS,
    /// A plain count.
    Count,
    /// A quotient, 1 = equal.
    Ratio,
}

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Small values.
    Lower,
    /// Large values.
    Higher,
    /// Neither: it describes.
    Neither,
}

/// The samples of one round: one process life, or one turn of an interleaved comparison.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// How many were measured.
    pub seen: u64,
    /// Those kept, rounded to five digits.
    pub samples: Vec<f64>,
}

impl Round {
    /// Keeps at most [`SAMPLES_PER_ROUND`] of the samples, chosen evenly at random.
    #[must_use]
    pub fn new(mut samples: Vec<f64>) -> Self {
        use rand::SeedableRng as _;
        use rand::seq::SliceRandom as _;
        let seen = samples.len() as u64;
        if samples.len() > SAMPLES_PER_ROUND {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seen);
            let (kept, _) = samples.partial_shuffle(&mut rng, SAMPLES_PER_ROUND);
            samples = kept.to_vec();
        }
        for sample in &mut samples {
            *sample = five_digits(*sample);
        }
        Self { seen, samples }
    }
}

fn five_digits(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() || x.fract() == 0.0 {
        return x;
    }
    // The text of a number, not its binary, is what a record holds: 12.345000001 costs twice the bytes of 12.345.
    let text = format!("{x:.4e}");
    text.parse().unwrap_or(x)
}

/// One figure of one subject, sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// As [`crate::scenarios::ALL`] names them, or `control`.
    pub scenario: String,
    /// What of it: a guest, a rung, a load factor.
    pub case: String,
    /// Name of the [`Subject`].
    pub subject: String,
    /// What was measured, as `latency` or `cpu_per_request`.
    pub figure: String,
    /// Its unit.
    pub unit: Unit,
    /// Which way is good.
    pub better: Better,
    /// Place on the horizontal axis, where the case is one of a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
    /// What our own client and clock cost in each sample, in the series' unit; *not* subtracted from `rounds`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overhead: f64,
    /// The samples.
    pub rounds: Vec<Round>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

impl Series {
    /// A series without samples.
    #[must_use]
    pub fn new(scenario: &str, case: &str, subject: &str, figure: &str, unit: Unit) -> Self {
        let better = match unit {
            Unit::PerS => Better::Higher,
            Unit::Us | Unit::Bytes | Unit::Count => Better::Lower,
            Unit::Ratio => Better::Neither,
        };
        let own = |s: &str| s.to_owned();
        Self {
            scenario: own(scenario),
            case: own(case),
            subject: own(subject),
            figure: own(figure),
            unit,
            better,
            x: None,
            overhead: 0.0,
            rounds: Vec::new(),
        }
    }

    /// Places it on the horizontal axis of its row.
    #[must_use]
    pub fn at(mut self, x: f64) -> Self {
        self.x = Some(x);
        self
    }

    /// Says what measuring costs.
    #[must_use]
    pub fn with_overhead(mut self, overhead: f64) -> Self {
        self.overhead = overhead;
        self
    }

    /// Adds a round.
    #[must_use]
    pub fn round(mut self, samples: Vec<f64>) -> Self {
        self.rounds.push(Round::new(samples));
        self
    }

    /// `scenario/case/subject/figure`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}/{}/{}", self.scenario, self.case, self.subject, self.figure)
    }

    /// The samples by round, our own cost taken off and never below zero.
    #[must_use]
    pub fn net(&self) -> Vec<Vec<f64>> {
        let net = |x: &f64| (x - self.overhead).max(0.0);
        let rounds = self.rounds.iter().filter(|r| !r.samples.is_empty());
        rounds.map(|r| r.samples.iter().map(net).collect()).collect()
    }
}

impl Run {
    /// Adds the rounds of a series to the one with the same id, or the series itself if there is none.
    pub fn add(&mut self, series: Series) {
        let id = series.id();
        match self.series.iter_mut().find(|s| s.id() == id) {
            Some(known) => known.rounds.extend(series.rounds),
            None => self.series.push(series),
        }
    }

    /// A series by scenario, case, subject and figure.
    #[must_use]
    pub fn get(&self, scenario: &str, case: &str, subject: &str, figure: &str) -> Option<&Series> {
        self.series.iter().find(|s| {
            s.scenario == scenario && s.case == case && s.subject == subject && s.figure == figure
        })
    }

    /// Notes a warning once.
    pub fn warn(&mut self, warning: impl Into<String>) {
        let warning = warning.into();
        if !self.warnings.contains(&warning) {
            eprintln!("warning: {warning}");
            self.warnings.push(warning);
        }
    }

    /// Notes that something was left out, and says so at once.
    pub fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let skipped = Skipped { what: what.into(), why: why.into() };
        if !self.skipped.iter().any(|known| known.what == skipped.what) {
            eprintln!("SKIPPED {}: {}", skipped.what, skipped.why);
            self.skipped.push(skipped);
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When it cannot be read, is not JSON of this schema, or is of another version.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let schema: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let found = schema.get("schema").and_then(serde_json::Value::as_str).unwrap_or("none");
        anyhow::ensure!(
            READABLE.contains(&found),
            "{}: its schema is '{found}', and this harness reads '{SCHEMA}'; use the mayfly-bench that wrote it",
            path.display()
        );
        serde_json::from_value(schema).with_context(|| format!("{}", path.display()))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string(self)?;
        std::fs::write(path, text).with_context(|| format!("{}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_thinned_and_rounded() {
        let round = Round::new((0..5_000).map(|i| f64::from(i) + 0.123_456_7).collect());
        assert_eq!((round.seen, round.samples.len()), (5_000, SAMPLES_PER_ROUND));
        assert_eq!(five_digits(1_234.567_89), 1_234.6);
        assert_eq!(five_digits(123_456_789.0), 123_456_789.0);
    }

    #[test]
    fn a_record_survives_its_file() {
        let mut run = crate::plan::Plan::smoke().new_run(Vec::new());
        run.add(
            Series::new("load", "hello", "mayfly", "latency", Unit::Us).at(0.5).round(vec![1.5]),
        );
        run.add(
            Series::new("load", "hello", "mayfly", "latency", Unit::Us).at(0.5).round(vec![2.5]),
        );
        assert_eq!(run.series.len(), 1);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        run.write(&path).unwrap();
        assert_eq!(Run::read(&path).unwrap(), run);
        let written = std::fs::read_to_string(&path).unwrap();
        // A record from before there was a `build`.
        std::fs::write(&path, written.replace(SCHEMA, "mayfly-bench/1")).unwrap();
        assert_eq!(Run::read(&path).unwrap().build, None);
        let build = Build { binary: "0123456789abcdef".into(), commit: "0123456789ab+".into() };
        run.build = Some(build);
        run.write(&path).unwrap();
        assert_eq!(Run::read(&path).unwrap(), run);
        let other = written.replace(SCHEMA, "mayfly-bench/0");
        std::fs::write(&path, other).unwrap();
        assert!(Run::read(&path).unwrap_err().to_string().contains("mayfly-bench/0"));
    }
}
