//! `mayfly run`: one run of a command module, without a node.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use mayfly_core::limits::node;
use mayfly_core::record::Settings;
use mayfly_core::units::human_size;
use mayfly_core::{Limits, Outcome};
use mayfly_observe::logs::escape;
use mayfly_publish::child::Children;
use mayfly_runtime::run::{self, End, Program};

use super::{Failure, code};

/// Exit codes for what is not the program's own, which has 0 to 125. As a shell has them: what cannot be run, and 128
/// plus the signal that would have ended a process so (SIGABRT, SIGALRM, SIGXCPU).
const NOT_RUN: u8 = 126;
const ABORTED: u8 = 134;
const OUT_OF_TIME: u8 = 142;
const OUT_OF_CPU: u8 = 152;

/// Run a command module once, as it would be run as a function. Needs no node.
///
/// It gets what a function gets (no directory, no socket, the same limits), but stdin, stdout and stderr are the
/// caller's, and its exit code is this program's. Exit codes that are not its own: 126 it cannot be run, 134 it trapped
/// or ran out of memory, 142 out of time, 152 out of CPU time.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A variable of its environment; may be repeated.
    #[arg(long, short, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// A limit, as in memory=256MiB: of wall, cpu, memory and table; may be repeated; see docs/limits.md.
    #[arg(long, short, value_name = "KEY=VALUE")]
    limit: Vec<String>,
    /// For tests of a function: longer limits (wall=10m, cpu=5m, memory=1GiB) where none are given; the module may be one
    /// with the SDK in it, whose calls of the host then trap.
    #[arg(long)]
    test: bool,
    /// The module, core WebAssembly for wasm32-wasip1 with `_start`, and behind it the program's own arguments, options
    /// among them.
    // One list: behind the file, nothing is looked at any more.
    #[arg(required = true, trailing_var_arg = true, value_names = ["FILE", "ARGS"])]
    command: Vec<OsString>,
}

/// Limits that a run has: the others are of requests, and of deploys.
const LIMITS: [&str; 4] = ["wall", "cpu", "memory", "table"];

/// What a suite may take to be compiled: Go's, of 4 MiB of code, takes a debug build of Mayfly more than the 2 minutes that
/// a deploy has.
const TEST_COMPILE: Duration = Duration::from_secs(540);

/// What tests have: a suite runs in one instance, and is compiled without optimisation.
const TEST_LIMITS: [&str; 3] = ["wall=10m", "cpu=5m", "memory=1GiB"];

impl Run {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let program = self.program()?;
        let shown = self.path().display();
        let file = self.read()?;
        let children = match self.test {
            true => Children::default().with_compile_cpu(TEST_COMPILE),
            false => Children::default(),
        };
        let end = run::run(&file.into(), &program, &children).await;
        let end = end.map_err(|error| {
            Failure::new(NOT_RUN, format!("{shown}: {error}\nhint: {}", error.hint()))
        })?;
        match end {
            End::Exit(0) => Ok(()),
            End::Exit(exit) => Err(Failure::new(u8::try_from(exit).unwrap_or(ABORTED), "")),
            End::Stopped(outcome) => Err(explain(&shown.to_string(), &outcome)),
        }
    }

    /// The module's file; clap wants one.
    fn path(&self) -> &Path {
        self.command.first().map_or(Path::new(""), Path::new)
    }

    fn program(&self) -> Result<Program, Failure> {
        let usage = |why: String| Failure::new(code::USAGE, why);
        let mut limits = Limits::default();
        let tests = if self.test { &TEST_LIMITS[..] } else { &[] };
        for limit in tests.iter().copied().chain(self.limit.iter().map(String::as_str)) {
            limits.set(limit).map_err(|why| usage(why.to_string()))?;
            let name = limit.split('=').next().unwrap_or_default().trim();
            if !LIMITS.contains(&name) {
                return Err(usage(format!(
                    "--limit {limit}: a run has no such limit, which is of requests or deploys; it has {}",
                    LIMITS.join(", ")
                )));
            }
        }
        let mut env = BTreeMap::new();
        for pair in &self.env {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| usage(format!("--env {pair}: write KEY=VALUE")))?;
            env.insert(name.to_owned(), value.to_owned());
        }
        // What a deploy would refuse is refused here.
        let settings = Settings { limits, env, ..Settings::default() };
        settings.check().map_err(|why| usage(why.to_string()))?;
        let name = self.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let own = self.command.iter().skip(1).map(|arg| {
            let text = arg.to_str().map(str::to_owned);
            text.ok_or_else(|| usage(format!("the argument {arg:?} is no UTF-8, which WASI's are")))
        });
        let args = std::iter::once(Ok(name)).chain(own).collect::<Result<_, _>>()?;
        Ok(Program { args, env: settings.env, limits: settings.limits })
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let name = self.path().display();
        let failed = |why: &dyn std::fmt::Display| {
            Failure::new(NOT_RUN, format!("cannot read {name}: {why}"))
        };
        let size = std::fs::metadata(self.path()).map_err(|why| failed(&why))?.len();
        if size > node::PACKAGE_BYTES {
            return Err(failed(&format_args!("it has {}, too much to run", human_size(size))));
        }
        std::fs::read(self.path()).map_err(|why| failed(&why))
    }
}

fn explain(shown: &str, outcome: &Outcome) -> Failure {
    let exit = match outcome {
        Outcome::WallLimit { .. } => OUT_OF_TIME,
        Outcome::CpuLimit { .. } => OUT_OF_CPU,
        _ => ABORTED,
    };
    let problem = outcome.problem("");
    // What a gateway keeps from clients is its author's to see.
    let why = outcome.log_detail().map(str::to_owned).or(problem.detail);
    let why = why.map_or_else(String::new, |why| format!(": {}", escape(why.as_bytes())));
    let hint = match outcome {
        Outcome::WallLimit { .. } | Outcome::CpuLimit { .. } | Outcome::MemoryLimit { .. } => {
            let hint = outcome.operator().unwrap_or_default();
            format!("\nhint: {}", hint.replace("deploy it again", "run it again"))
        }
        _ => String::new(),
    };
    Failure::new(exit, format!("{shown}: {}{why} ({}){hint}", problem.title, outcome.label()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Verb};
    use super::*;

    fn parse(line: &str) -> Run {
        match Cli::try_parse_from(line.split(' ')).map(|cli| cli.verb) {
            Ok(Verb::Run(run)) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_follows_the_file_is_the_programs() {
        let run = parse("mayfly run -e A=b=c --limit cpu=1s dir/x.wasm -v --env K=V -- -");
        let program = run.program().unwrap();
        assert_eq!(program.args, ["x.wasm", "-v", "--env", "K=V", "--", "-"]);
        assert_eq!(program.env["A"], "b=c");
        assert_eq!(program.limits.cpu_us, 1_000_000);
        // Options that Mayfly has as well, right behind the file.
        let run = parse("mayfly run x.wasm -l cpu=1s --help -e A=b");
        let program = run.program().unwrap();
        assert_eq!(program.args, ["x.wasm", "-l", "cpu=1s", "--help", "-e", "A=b"]);
        assert!(program.env.is_empty() && program.limits == Limits::default());
        let test = parse("mayfly run --test -l memory=2GiB x.wasm --test").program().unwrap();
        assert_eq!((test.limits.wall_us, test.limits.memory_bytes), (600_000_000, 2 << 30));
        assert_eq!(test.args, ["x.wasm", "--test"]);
        for wrong in [
            "mayfly run -e A x.wasm",
            "mayfly run -e =b x.wasm",
            "mayfly run -l cpu=x x.wasm",
            "mayfly run -l response-body=1KiB x.wasm",
            "mayfly run -l init=1s x.wasm",
        ] {
            assert_eq!(parse(wrong).program().unwrap_err().code, code::USAGE, "{wrong}");
        }
        for wrong in ["mayfly run", "mayfly run -e A=b", "mayfly run --nothing x.wasm"] {
            assert!(Cli::try_parse_from(wrong.split(' ')).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stop_is_told_in_words() {
        let failure = explain("x.wasm", &Outcome::Trap("wasm `unreachable`".into()));
        assert_eq!(failure.code, ABORTED);
        assert_eq!(failure.text, "x.wasm: The function failed: wasm `unreachable` (trap)");
        let failure = explain("x.wasm", &Outcome::CpuLimit { limit: "1s".into() });
        assert_eq!(failure.code, OUT_OF_CPU);
        assert!(
            failure.text.ends_with("raise it: run it again with `--limit cpu=...`"),
            "{}",
            failure.text
        );
    }
}
