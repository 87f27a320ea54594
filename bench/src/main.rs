//! `mayfly-bench`: measure, compare, render.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mayfly_publish::child::Verb as ChildVerb;
use mayfly_publish::child_main;

use mayfly_bench::guests::Guests;
use mayfly_bench::micro::Micro;
use mayfly_bench::plan::Plan;
use mayfly_bench::record::Run;
use mayfly_bench::scenarios::{ALL, Bench, Places};
use mayfly_bench::{compare, definitions, report};

/// Cold starts, throughput and density of Mayfly and its peers.
#[derive(Debug, Parser)]
#[command(name = "mayfly-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// Where `make bench-peers` puts models.
const MODELS: &str = "target/bench-peers/models";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure, and write the record and the reports.
    Run(Measure),
    /// Say whether two records differ; exits with 1 if they do.
    Compare {
        /// The record to compare with.
        a: PathBuf,
        /// The record that is judged.
        b: PathBuf,
        /// Show the figures that do not differ as well.
        #[arg(long)]
        all: bool,
    },
    /// Render a record anew.
    Report {
        /// The record.
        record: PathBuf,
        /// What to make of it.
        #[arg(long, value_enum, default_value_t = Form::Text)]
        form: Form,
    },
    /// Answer one function over and over inside this process, for profilers and instruction counters.
    Loop {
        /// One of `functions/`.
        function: String,
        /// How often.
        #[arg(long, default_value_t = 100_000)]
        times: u32,
        /// Then say `ready`, wait for a line, and answer once more between two `sched_yield`s.
        #[arg(long)]
        marked: bool,
        /// Where the built functions are [default: beside this program's target directory].
        #[arg(long)]
        guests: Option<PathBuf>,
    },
    /// Name the scenarios.
    List,
    /// Print what each kind of start means, as Markdown.
    Definitions,
}

#[derive(Debug, Args)]
struct Measure {
    /// How much is measured.
    #[arg(long, value_enum, default_value_t = Size::Core)]
    size: Size,
    /// Only these scenarios; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Where the record and the reports go.
    #[arg(long, default_value = "bench-results")]
    out: PathBuf,
    /// Base name of the files there.
    #[arg(long)]
    name: Option<String>,
    /// The mayfly binary [default: the one beside this program].
    #[arg(long)]
    mayfly: Option<PathBuf>,
    /// Where the built functions are [default: beside this program's target directory].
    #[arg(long)]
    guests: Option<PathBuf>,
    /// Where `make bench-peers` installed the peers.
    #[arg(long, default_value = "target/bench-peers")]
    peers: PathBuf,
    /// Where the models are, as ONNX files, for the peers that serve them.
    #[arg(long, default_value = MODELS)]
    models: PathBuf,
    /// Measure without the peers that are installed.
    #[arg(long)]
    no_peers: bool,
    /// Measure without the models: deploying one compiles tens of thousands of functions.
    #[arg(long)]
    no_models: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    /// Everything once; shows that it works.
    Smoke,
    /// One minute.
    Quick,
    /// At most ten minutes: the report that is quoted.
    Core,
    /// All of it, 1,000 functions included.
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A table for the terminal.
    Text,
    /// Markdown.
    Markdown,
    /// One page without anything to fetch.
    Html,
}

fn main() -> ExitCode {
    // The in-process level publishes, and publish starts children of this very binary.
    let verb = std::env::args().nth(1);
    if let Some(verb) = verb.as_deref().and_then(ChildVerb::from_argument) {
        child_main(verb);
    }
    match dispatch(Cli::parse().verb) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("mayfly-bench: {why:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(measure) => run(measure)?,
        Verb::Compare { a, b, all } => {
            let found = compare::compare(&Run::read(&a)?, &Run::read(&b)?);
            print!("{}", compare::table(&found, all));
            return Ok(ExitCode::from(u8::from(found.differs())));
        }
        Verb::Report { record, form } => {
            let run = Run::read(&record)?;
            let text = match form {
                Form::Text => report::terminal::render(&run),
                Form::Markdown => report::markdown::render(&run),
                Form::Html => report::html::render(&run),
            };
            print!("{text}");
        }
        Verb::Loop { function, times, marked, guests } => {
            let guest = Guests::find(guests.as_deref(), Path::new(MODELS))?.get(&function)?;
            let micro = Micro::start(Some(&std::env::current_exe()?))?;
            micro.publish(&guest)?;
            for _ in 0..times {
                micro.answer(&guest.name, &guest)?;
            }
            if marked {
                println!("ready");
                std::io::stdin().read_line(&mut String::new())?;
                std::thread::yield_now();
                micro.answer(&guest.name, &guest)?;
                std::thread::yield_now();
            }
        }
        Verb::List => {
            for (name, what, _) in ALL {
                println!("{name:<12}{what}");
            }
        }
        Verb::Definitions => print!("{}", definitions::markdown()),
    }
    Ok(ExitCode::SUCCESS)
}

fn run(measure: Measure) -> anyhow::Result<()> {
    let mut plan = match measure.size {
        Size::Smoke => Plan::smoke(),
        Size::Quick => Plan::quick(),
        Size::Core => Plan::core(),
        Size::Full => Plan::full(),
    };
    plan.peers &= !measure.no_peers;
    plan.models &= !measure.no_models;
    let absolute = |path: &Path| std::path::absolute(path);
    let places = Places {
        mayfly: measure.mayfly,
        guests: measure.guests,
        peers: absolute(&measure.peers)?,
        models: absolute(&measure.models)?,
    };
    std::fs::create_dir_all(&measure.out)?;
    let bench = Bench::new(plan, command(), &places)?;
    let (size, started) = (&bench.run.size, bench.run.started_unix_s);
    let name = measure.name.unwrap_or_else(|| format!("{size}-{started}"));
    let path = |extension: &str| measure.out.join(format!("{name}.{extension}"));
    let run = bench.measure(&measure.only, |run| run.write(&path("json")))?;
    print!("{}", report::terminal::render(&run));
    for (extension, text) in
        [("md", report::markdown::render(&run)), ("html", report::html::render(&run))]
    {
        std::fs::write(path(extension), text)
            .with_context(|| format!("{}", path(extension).display()))?;
    }
    println!("written: {}.json, .md, .html", measure.out.join(&name).display());
    Ok(())
}

/// The command as it can be repeated elsewhere: without the program's directory.
fn command() -> Vec<String> {
    std::iter::once("mayfly-bench".to_owned()).chain(std::env::args().skip(1)).collect()
}
