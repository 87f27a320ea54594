//! `mayfly new`.

use std::path::{Path, PathBuf};

use clap::Args;
use mayfly_core::FunctionName;
use mayfly_runtime::dev::template::{TEMPLATES, Template};
use mayfly_runtime::dev::toolchain::{self, Toolchain};

use super::{Failure, code, output};

/// Make a directory with a function in it, ready to be built.
///
/// All that it needs beside its language's own tools is in it: the SDK as well.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The function's name, and the directory's.
    name: Option<FunctionName>,
    /// What kind of function; `-t list` shows them.
    #[arg(long, short, default_value = "rust")]
    template: String,
    /// The directory [default: the function's name].
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl New {
    pub(super) fn run(self) -> Result<(), Failure> {
        let usage = |why: String| Failure::new(code::USAGE, why);
        if self.template == "list" {
            let rows: Vec<_> = TEMPLATES
                .iter()
                .map(|template| vec![template.name.to_owned(), template.about.to_owned()])
                .collect();
            return output::line(output::table(&["TEMPLATE", "IS"], &rows));
        }
        let template = Template::named(&self.template).map_err(usage)?;
        let Some(name) = self.name else {
            return Err(usage("name the function, as in `mayfly new hello`".into()));
        };
        let dir = self.dir.unwrap_or_else(|| name.as_str().into());
        let files = template.files(&name).map_err(|why| Failure::new(code::FAILED, why))?;
        may_be_written(&dir)?;
        for (path, bytes) in &files {
            write(&dir.join(path), bytes)?;
        }
        let shown = dir.display();
        output::line(format_args!("{name}: {} in {shown}, {} files", template.about, files.len()))?;
        output::line(format_args!("  cd {shown}\n  mayfly dev"))?;
        missing(&template, &dir)
    }
}

/// A directory that is there is somebody's.
fn may_be_written(dir: &Path) -> Result<(), Failure> {
    let shown = dir.display();
    let taken = |what: &str| {
        let why = format!(
            "{shown} {what}: nothing was written\nhint: take another name, or another directory with --dir"
        );
        Err(Failure::new(code::FAILED, why))
    };
    match std::fs::read_dir(dir).map(Iterator::count) {
        Ok(0) => Ok(()),
        Ok(_) => taken("is not empty"),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(why) if why.kind() == std::io::ErrorKind::NotADirectory => taken("is a file"),
        Err(why) => Err(Failure::new(code::FAILED, format!("cannot look into {shown}: {why}"))),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |why: std::io::Error| {
        Failure::new(code::FAILED, format!("cannot write {}: {why}", path.display()))
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, bytes).map_err(failed)
}

/// Says what its build will miss: better now than after the first save.
fn missing(template: &Template, dir: &Path) -> Result<(), Failure> {
    let named = Toolchain::ALL
        .into_iter()
        .find(|toolchain| template.name.split('-').next() == Some(toolchain.name()));
    let looked = named.map(|toolchain| toolchain.look(&toolchain::ask(dir)));
    let Some(Err(missing)) = looked else { return Ok(()) };
    output::line(format_args!("  before that: {}: {}", missing.what, missing.fix))
}
