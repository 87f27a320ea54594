//! `mayfly check`: looks at a file without a node.

use std::path::PathBuf;

use clap::Args;
use mayfly_core::Limits;
use mayfly_core::limits::node;
use mayfly_core::units::human_size;
use mayfly_observe::logs::escape;
use mayfly_runtime::check::{self, Report, Unfit};
use serde_json::json;

use super::model::{self, ModelArgs, Seen};
use super::script::{self, ScriptArgs};
use super::{Failure, Printing, code, output};

/// Say what a file is, whether it can be deployed, and what to change if not. Needs no node.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The file.
    path: PathBuf,
    /// A limit that a deploy would set, as in memory=256MiB; may be repeated.
    #[arg(long, short, value_name = "KEY=VALUE")]
    limit: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    script: ScriptArgs,
    /// Write the module that a deploy of a script would upload.
    #[arg(long, value_name = "FILE", help_heading = "Scripts")]
    write: Option<PathBuf>,
    #[command(flatten)]
    printing: Printing,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let shown = self.path.display().to_string();
        let mut limits = Limits::default();
        for limit in &self.limit {
            limits.set(limit).map_err(|why| Failure::new(code::USAGE, why))?;
        }
        self.model.fit(&self.path)?;
        if script::is_script(&self.path) {
            return self.script(&shown);
        }
        let file = self.read()?;
        if model::is_model(&self.path) {
            return self.model(&shown, &file);
        }
        match check::check(&file.into(), &limits) {
            Ok(report) if self.printing.json() => output::json(&json!(report)),
            Ok(report) => show(&shown, &report),
            Err(Unfit { why, hint }) => {
                if self.printing.json() {
                    output::json(&json!({ "why": why, "hint": hint }))?;
                }
                Err(Failure::new(code::FAILED, format!("{shown}: {why}\nhint: {hint}")))
            }
        }
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let name = self.path.display();
        let failed = |why: &dyn std::fmt::Display| {
            Failure::new(code::FAILED, format!("cannot read {name}: {why}"))
        };
        let size = std::fs::metadata(&self.path).map_err(|why| failed(&why))?.len();
        if size > node::PACKAGE_BYTES {
            return Err(failed(&format_args!("it has {}, too much to deploy", human_size(size))));
        }
        std::fs::read(&self.path).map_err(|why| failed(&why))
    }

    fn script(&self, shown: &str) -> Result<(), Failure> {
        let packed = match self.script.pack(&self.path) {
            Ok(packed) => packed,
            Err(failure) => {
                if self.printing.json() {
                    output::json(&json!({ "kind": "script", "why": failure.text }))?;
                }
                return Err(failure);
            }
        };
        if let Some(to) = &self.write {
            std::fs::write(to, &packed.wasm).map_err(|why| {
                Failure::new(code::FAILED, format!("cannot write {}: {why}", to.display()))
            })?;
        }
        if self.printing.json() {
            return output::json(&json!({ "kind": "script", "files": packed.files }));
        }
        output::line(format_args!("{shown}: a script"))?;
        for (name, bytes) in &packed.files {
            let name = escape(name.as_bytes());
            output::line(format_args!("  file       {name} ({})", human_size(*bytes)))?;
        }
        output::line(format_args!(
            "nothing here speaks against it: `mayfly deploy {shown}` runs its top level"
        ))
    }

    fn model(&self, shown: &str, file: &[u8]) -> Result<(), Failure> {
        let seen = self.model.check(&self.path, file);
        let Seen { inputs, nodes, notes } = match seen {
            Ok(seen) => seen,
            Err(failure) => {
                if self.printing.json() {
                    output::json(&json!({ "kind": "onnx", "why": failure.text }))?;
                }
                return Err(failure);
            }
        };
        if self.printing.json() {
            return output::json(&json!({
                "kind": "onnx", "inputs": inputs, "nodes": nodes, "notes": notes, "not_seen": NOT_SEEN,
            }));
        }
        output::line(format_args!("{shown}: an ONNX model, {}", human_size(file.len() as u64)))?;
        for input in inputs {
            output::line(format_args!("  input      {input}"))?;
        }
        output::line(format_args!("  nodes      {nodes}"))?;
        for note in notes {
            output::line(format_args!("  note       {note}"))?;
        }
        output::line(format_args!("  not seen   {NOT_SEEN}"))?;
        let same = if self.model.given() { ", with the same options," } else { "" };
        output::line(format_args!(
            "nothing here speaks against it: `mayfly deploy {shown}`{same} tries the rest"
        ))
    }
}

/// What of a model only its init shows.
const NOT_SEEN: &str = "whether shapes and types between nodes fit, what operators are asked for by their attributes, and \
                        the memory and time that its init takes: a deploy shows these";

fn show(shown: &str, report: &Report) -> Result<(), Failure> {
    let Report { kind, abi, file_bytes, code_bytes, memory_bytes, image_bytes, .. } = report;
    output::line(format_args!("{shown}: can be deployed, as a {kind}"))?;
    output::line(format_args!("  abi        {abi}"))?;
    output::line(format_args!(
        "  size       {}, {} of code",
        human_size(*file_bytes),
        human_size(*code_bytes)
    ))?;
    output::line(format_args!(
        "  memory     {} at start, {} of it from the file",
        human_size(*memory_bytes),
        human_size(*image_bytes)
    ))?;
    output::line(format_args!("  snapshot   {}", report.snapshot))?;
    for (name, bytes) in &report.assets {
        output::line(format_args!(
            "  asset      {} ({})",
            escape(name.as_bytes()),
            human_size(*bytes)
        ))?;
    }
    for (word, names) in [("imports", &report.imports), ("exports", &report.exports)] {
        let names: Vec<_> = names.iter().map(|name| escape(name.as_bytes())).collect();
        let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        output::line(format_args!("  {word:<10} {names}"))?;
    }
    for note in &report.notes {
        output::line(format_args!("  note       {note}"))?;
    }
    Ok(())
}
