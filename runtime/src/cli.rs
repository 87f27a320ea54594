//! The command line: one file per verb. `serve` runs a node, `dev` and `test` one of their own in this process; the others
//! talk to one through its admin API, or need none.

mod bench;
mod build;
mod check;
mod client;
mod completions;
mod connector;
mod deploy;
mod deployment;
mod deployments;
mod dev;
mod diff;
mod doctor;
mod failure;
mod health;
mod inspect;
mod invoke;
mod list;
mod local;
mod logs;
mod model;
mod new;
mod output;
mod profile;
mod remove;
mod rollback;
mod rollout;
mod run;
mod script;
mod secret;
mod stock;
mod tag;
mod test;
mod traffic;
mod verify;
mod versions;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use mayfly_runtime::config::ConfigArgs;

pub(crate) use failure::{Failure, code};

/// A fresh, sandboxed wasm instance for every HTTP request.
///
/// Exit codes: 0 done, 1 refused or failed, 64 wrong usage, 69 the node cannot be reached, 77 no right token,
/// 78 wrong configuration.
#[derive(Debug, Parser)]
#[command(name = "mayfly", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a node: gateway and admin API.
    Serve(Serve),
    /// Make a directory with a function in it, ready to be built.
    New(new::New),
    /// Build a function as its function.toml says.
    Build(build::Build),
    /// Build functions and serve them on this machine; at each save, do so again.
    Dev(dev::Dev),
    /// Build a function and run its tests.
    Test(test::Test),
    /// Say what of toolchains, machine and node is missing, and how to mend it.
    Doctor(doctor::Doctor),
    /// Deploy a module, or a new version of it.
    Deploy(Box<deploy::Deploy>),
    /// Say what a file is, and whether it can be deployed.
    Check(check::Check),
    /// Run a command module once, on the caller's stdin and stdout; needs no running node.
    Run(run::Run),
    /// List the deployed functions.
    List(list::List),
    /// Show one function: limits, snapshot, times, history.
    Inspect(inspect::Inspect),
    /// Show a function's versions.
    Versions(versions::Versions),
    /// Show a function's deployments: which versions served, and why.
    Deployments(deployments::Deployments),
    /// Share a function's requests out among its versions.
    Traffic(traffic::Traffic),
    /// Give a version more and more requests, and none if it does worse.
    Rollout(rollout::Rollout),
    /// Serve a function as an earlier deployment did.
    Rollback(rollback::Rollback),
    /// Give a version a second name, for previews.
    Tag(tag::Tag),
    /// Set, list and remove secrets.
    Secret(secret::Secret),
    /// Show in what two versions differ.
    Diff(diff::Diff),
    /// Call a function through the gateway.
    Invoke(invoke::Invoke),
    /// Show a function's last log lines, and with -f those to come.
    Logs(logs::Logs),
    /// Say where a function's time goes, sampled while it serves: a table, a flamegraph, or for other programs.
    Profile(profile::Profile),
    /// Remove a function and its history.
    Remove(remove::Remove),
    /// Ask whether the node is ready; for container health checks.
    Health(health::Health),
    /// Prove on this machine what Mayfly promises; needs no running node.
    Verify(verify::Verify),
    /// Measure with `mayfly-bench`: cold starts, throughput, density; compare two runs.
    Bench(bench::Bench),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
}

/// Run a node.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Print the resolved configuration as TOML, and end.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// How to reach the node's admin API.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The admin API [default: admin.listen of the configuration, http://127.0.0.1:3001].
    #[arg(long, env = "MAYFLY_ADMIN", value_name = "URL", help_heading = "Node")]
    admin: Option<String>,
    /// Certificates to trust in place of the system's, as PEM; for a node behind TLS.
    #[arg(long, env = "MAYFLY_CA", value_name = "FILE", help_heading = "Node")]
    ca: Option<PathBuf>,
    /// Where the node keeps its state; the token is there [default: state-dir of the configuration].
    #[arg(long, env = "MAYFLY_STATE_DIR", value_name = "DIR", help_heading = "Node")]
    state_dir: Option<PathBuf>,
    /// A file with the token, instead of the state directory's.
    #[arg(long, env = "MAYFLY_TOKEN_FILE", value_name = "FILE", help_heading = "Node")]
    token_file: Option<PathBuf>,
    /// The token itself; by variable only, because others can read a command line.
    #[arg(long, env = "MAYFLY_TOKEN", hide = true, hide_env_values = true)]
    token: Option<String>,
}

/// How results are printed.
#[derive(Debug, Args)]
pub(crate) struct Printing {
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    output: Form,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Human,
    /// JSON, for programs.
    Json,
}

impl Printing {
    fn json(&self) -> bool {
        self.output == Form::Json
    }
}

impl Verb {
    /// Runs a verb that talks to a node; `serve` is none of these.
    ///
    /// # Errors
    /// [`Failure`] with the exit code.
    pub(crate) fn run(self) -> Result<(), Failure> {
        // They have a node's threads.
        match self {
            Self::Dev(verb) => return verb.run(),
            Self::Test(verb) => return verb.run(),
            _ => {}
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(code::FAILED, error))?;
        runtime.block_on(async {
            match self {
                Self::Serve(_) | Self::Dev(_) | Self::Test(_) => {
                    Err(Failure::new(code::FAILED, "what runs a node is no client's verb"))
                }
                Self::New(verb) => verb.run(),
                Self::Build(verb) => verb.run(),
                Self::Doctor(verb) => verb.run().await,
                Self::Deploy(verb) => verb.run().await,
                Self::Check(verb) => verb.run(),
                Self::Run(verb) => verb.run().await,
                Self::List(verb) => verb.run().await,
                Self::Inspect(verb) => verb.run().await,
                Self::Versions(verb) => verb.run().await,
                Self::Deployments(verb) => verb.run().await,
                Self::Traffic(verb) => verb.run().await,
                Self::Rollout(verb) => verb.run().await,
                Self::Rollback(verb) => verb.run().await,
                Self::Tag(verb) => verb.run().await,
                Self::Diff(verb) => verb.run().await,
                Self::Secret(verb) => verb.run().await,
                Self::Invoke(verb) => verb.run().await,
                Self::Logs(verb) => verb.run().await,
                Self::Profile(verb) => verb.run().await,
                Self::Remove(verb) => verb.run().await,
                Self::Health(verb) => verb.run().await,
                Self::Verify(verb) => verb.run().await,
                Self::Bench(verb) => verb.run(),
                Self::Completions(verb) => verb.run(),
            }
        })
    }
}

/// A line for each variable of this process that is nearly one of Mayfly's.
pub(crate) fn misspelt_variables(command: &clap::Command) -> Vec<String> {
    let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let known: Vec<_> = arguments.filter_map(|argument| argument.get_env()?.to_str()).collect();
    let given = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    mayfly_runtime::config::misspelt(given, &known)
}

#[cfg(test)]
mod tests;
