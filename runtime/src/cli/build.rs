//! `mayfly build`.

use std::path::{Path, PathBuf};

use clap::Args;
use mayfly_core::units::human_size;
use mayfly_runtime::dev::command::CommandError;
use mayfly_runtime::dev::project::{BuildError, Built, Project};
use mayfly_runtime::dev::toolchain::{self, Toolchain};

use super::script::ScriptArgs;
use super::{Failure, code, output};

/// Build a function as its function.toml says, and see whether the result can be deployed. Needs no node.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The function's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl Build {
    pub(super) fn run(self) -> Result<(), Failure> {
        let project = open(&self.dir)?;
        let built = build(&project)?;
        let shown = project.output();
        let shown = shown.display();
        match built {
            Built::Module(bytes, report) => {
                let size = human_size(bytes.len() as u64);
                output::line(format_args!("{shown}: {size}, can be deployed, as a {}", report.kind))
            }
            Built::Script => {
                let packed = ScriptArgs::default().pack(&project.output())?;
                let files = packed.files.iter().map(|(_, bytes)| bytes).sum();
                output::line(format_args!("{shown}: a script, {}", human_size(files)))
            }
            Built::Model(bytes) => {
                let size = human_size(bytes.len() as u64);
                output::line(format_args!(
                    "{shown}: an ONNX model, {size}; `mayfly check` looks into it"
                ))
            }
        }
    }
}

/// A function's directory.
///
/// # Errors
/// With the code for usage when there is no function: it is the directory that is wrong.
pub(super) fn open(dir: &Path) -> Result<Project, Failure> {
    use mayfly_runtime::dev::manifest::ManifestError;

    Project::open(dir).map_err(|why| {
        let code = match why {
            ManifestError::Missing { .. } => code::USAGE,
            ManifestError::Read { .. } => code::FAILED,
            ManifestError::Wrong { .. } => code::CONFIG,
        };
        Failure::new(code, why)
    })
}

/// Builds it in the foreground, and reads what came of it.
///
/// # Errors
/// Why there is nothing to deploy, and what to do.
pub(super) fn build(project: &Project) -> Result<Built, Failure> {
    if let Some(task) = project.build() {
        let program = task.program();
        let done = match task.run() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(BuildError::of(&task, status)),
            Err(why) => Err(why.into()),
        };
        done.map_err(|why| Failure::new(code::FAILED, explain(&why, &program, &project.dir)))?;
    }
    project.built().map_err(|why| Failure::new(code::FAILED, why))
}

/// A build's failure, with what its toolchain lacks if that is why.
pub(super) fn explain(why: &BuildError, program: &str, dir: &Path) -> String {
    if matches!(why, BuildError::Output { .. }) {
        return why.to_string();
    }
    let toolchain = Toolchain::of(program);
    // A shell's command may begin with anything: the one program that is missing is not known.
    let missing = toolchain.and_then(|toolchain| toolchain.look(&toolchain::ask(dir)).err());
    let hint = match (missing, why) {
        (Some(missing), _) => format!("\nhint: {}: {}", missing.what, missing.fix),
        (None, BuildError::Command(CommandError::NotFound { .. })) => {
            "\nhint: install it, or change command, below [build] in function.toml".to_owned()
        }
        (None, _) => String::new(),
    };
    format!("{why}{hint}")
}
