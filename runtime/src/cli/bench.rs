//! `mayfly bench`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;

use super::{Failure, code};

/// The harness is a program of its own, so that what serves does not carry it.
const HARNESS: &str = "mayfly-bench";

/// Measure with `mayfly-bench`, as in `mayfly bench run --size quick` or `mayfly bench compare A.json B.json`.
///
/// See docs/bench, and `mayfly bench help`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Bench {
    /// What `mayfly-bench` is told.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Bench {
    /// Becomes the harness; comes back only if that fails.
    pub(super) fn run(self) -> Result<(), Failure> {
        let beside = std::env::current_exe().ok().map(|own| own.with_file_name(HARNESS));
        let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| HARNESS.into());
        let why = Command::new(&program).args(self.arguments).exec();
        Err(Failure::new(
            code::FAILED,
            format!(
                "cannot start {}: {why}\nhint: build it with `cargo build --release -p mayfly-bench`, and leave it \
                 beside the mayfly binary",
                program.display()
            ),
        ))
    }
}
