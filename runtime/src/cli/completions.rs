//! `mayfly completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure, output};

/// Print a completion script for a shell, as in `mayfly completions bash > /etc/bash_completion.d/mayfly`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "mayfly", &mut script);
        output::raw(&script)
    }
}
