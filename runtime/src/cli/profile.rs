//! `mayfly profile`.

mod folded;
mod pprof;
mod svg;
mod table;
mod tree;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Method;
use mayfly_admin::profile::{Frame, Kind, Profile as Taken};
use mayfly_core::FunctionName;
use mayfly_core::units::{UnitError, format_duration, parse_duration};
use mayfly_observe::logs::escape;

use super::{Connection, Failure, Printing, client, code, output};

/// Say where a function's time goes, sampled while it serves: a table, a flamegraph, or a file for other programs.
#[derive(Debug, Args)]
pub(crate) struct Profile {
    /// The function.
    name: FunctionName,
    /// For how long; what is seen are the requests that it serves meanwhile.
    #[arg(long = "for", value_name = "TIME", value_parser = time, default_value = "10s")]
    time: Duration,
    /// Write a file in place of the table: a flamegraph as .svg, a line for each stack as .folded, or .pprof.
    #[arg(long = "write", short = 'o', value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

fn time(text: &str) -> Result<Duration, UnitError> {
    parse_duration(text)
}

impl Profile {
    pub(super) async fn run(self) -> Result<(), Failure> {
        // Before the wait, not behind it.
        let form = self.file.as_deref().map(Form::of).transpose()?;
        let time = format_duration(self.time);
        let path = format!("/v1/functions/{}/profile?for={time}", self.name);
        let admin = self.connection.open()?;
        let answer = admin.send(Method::POST, &path, "application/json", Bytes::new()).await?;
        let answer = client::json(answer.into_body()).await?;
        if self.printing.json() {
            output::json(&answer)?;
        }
        let taken: Taken = serde_json::from_value(answer).map_err(|why| {
            let hint = "is the node of another version than this program?";
            Failure::new(code::FAILED, format!("the profile cannot be read: {why}\nhint: {hint}"))
        })?;
        if let (Some(file), Some(form)) = (&self.file, form)
            && taken.samples > 0
        {
            let bytes = form.write(&taken)?;
            std::fs::write(file, bytes).map_err(|why| {
                Failure::new(code::FAILED, format!("cannot write {}: {why}", file.display()))
            })?;
        }
        if self.printing.json() {
            return Ok(());
        }
        if taken.samples == 0 {
            return Err(nothing(&taken));
        }
        match &self.file {
            None => output::line(table::of(&taken)),
            Some(file) => {
                let (head, stacks) = (table::head(&taken), taken.stacks.len());
                output::line(format!("{head}\n{} has {stacks} stacks", file.display()))
            }
        }
    }
}

/// Why a profile is empty.
fn nothing(taken: &Taken) -> Failure {
    let (name, time) = (&taken.function, output::time(taken.took_us));
    let (why, hint) = match taken.invocations {
        0 => (
            format!("'{name}' was not called within {time}"),
            "send it requests while it is profiled".to_owned(),
        ),
        calls => (
            format!(
                "{calls} invocations of '{name}' took {} together: no sample fell into them, of which there is one each {}",
                output::time(taken.call_us),
                output::time(taken.sample_us)
            ),
            "send more requests, or profile for longer: --for 60s".to_owned(),
        ),
    };
    Failure::new(code::FAILED, format!("{why}\nhint: {hint}"))
}

/// What a file is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Svg,
    Folded,
    Pprof,
}

impl Form {
    /// By the name's end.
    fn of(file: &Path) -> Result<Self, Failure> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match name.trim_end_matches(".gz").rsplit_once('.') {
            Some((_, "svg")) => Ok(Self::Svg),
            Some((_, "folded")) => Ok(Self::Folded),
            Some((_, "pprof" | "pb")) => Ok(Self::Pprof),
            _ => Err(Failure::new(
                code::USAGE,
                format!(
                    "'{}' does not say what to write\nhint: end it in .svg, .folded or .pprof",
                    escape(file.to_string_lossy().as_bytes())
                ),
            )),
        }
    }

    fn write(self, taken: &Taken) -> Result<Vec<u8>, Failure> {
        Ok(match self {
            Self::Svg => svg::of(taken).into_bytes(),
            Self::Folded => folded::of(taken).into_bytes(),
            Self::Pprof => pprof::of(taken)?,
        })
    }
}

/// A frame in words. What is not a function of the module's says so; what a module calls `[host]` is its own matter, and
/// told apart by its colour and in the other forms.
fn label(frame: &Frame) -> String {
    let name = escape(frame.name.as_bytes());
    match frame.kind {
        Kind::Function => name,
        Kind::Host => format!("[host] {name}"),
        Kind::Kernel => format!("[kernel] {name}"),
        Kind::Mayfly => format!("[mayfly] {name}"),
        Kind::Instruction | Kind::Rest => format!("[{name}]"),
    }
}

/// A stack's frames, the outermost first; one that the node does not name is left out.
fn frames<'t>(taken: &'t Taken, indices: &'t [usize]) -> impl Iterator<Item = &'t Frame> {
    indices.iter().filter_map(|index| taken.frames.get(*index))
}

#[cfg(test)]
mod tests;
