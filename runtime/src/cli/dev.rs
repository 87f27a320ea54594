//! `mayfly dev`: builds functions, serves them, and does so again at each save.

mod round;
mod tell;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;
use mayfly_runtime::dev::manifest::FILE;
use mayfly_runtime::dev::project::Project;
use tokio::signal::unix::{SignalKind, signal};

use super::build::open;
use super::local::{Local, address};
use super::{Failure, code, output};
use round::{Event, Round};

/// Builds that are ended with this process are waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Build functions and serve them on this machine; at each save, build and serve again.
///
/// A build that fails leaves the last good revision serving. Ports 3000 and 3001 are used if they are free, else others.
/// State is kept in .mayfly, beside the function. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// The functions' directories, or one that holds such directories.
    #[arg(default_value = ".")]
    dirs: Vec<PathBuf>,
    /// Where to serve [default: 127.0.0.1:3000, or another port].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the admin API listens [default: 127.0.0.1:3001, or another port].
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Look at the sources twice a second, for mounts from which no events come.
    #[arg(long)]
    poll: bool,
}

impl Dev {
    pub(super) fn run(self) -> Result<(), Failure> {
        let projects = projects(&self.dirs)?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (gateway, note) = address(self.listen, local(3000), "--listen")?;
        let (admin, other) = address(self.admin_listen, local(3001), "--admin-listen")?;
        for note in note.iter().chain(&other) {
            output::line(format_args!("note: {note}"))?;
        }
        let beside = if self.dirs.len() == 1 { &self.dirs[0] } else { Path::new(".") };
        let node = Arc::new(Local::start(&state(beside, "dev")?, gateway, admin)?);
        let (gateway, admin) = (node.gateway(), node.admin());
        output::line(format_args!("serving on {gateway}, admin API on {admin}; Ctrl-C ends it"))?;
        let several = projects.len() > 1;
        let mut rounds = Vec::new();
        for project in projects {
            let (send, events) = channel();
            let name = project.manifest.name.clone();
            let tell = tell::Tell::new(if several { Some(name) } else { None });
            let round = Round::new(project, node.clone(), tell, self.poll, (send.clone(), events))?;
            rounds.push((send, std::thread::spawn(move || round.run())));
        }
        let waited = node.runtime().block_on(ended());
        stop(rounds);
        if let Some(node) = Arc::into_inner(node) {
            node.stop();
        }
        waited
    }
}

/// Until somebody asks this process to end.
async fn ended() -> Result<(), Failure> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn stop(rounds: Vec<(Sender<Event>, std::thread::JoinHandle<()>)>) {
    for (send, _) in &rounds {
        // One that has ended by itself needs no telling.
        let _ = send.send(Event::Stop);
    }
    let until = Instant::now() + PATIENCE;
    while rounds.iter().any(|(_, round)| !round.is_finished()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The functions of these directories.
fn projects(dirs: &[PathBuf]) -> Result<Vec<Project>, Failure> {
    let mut projects: Vec<Project> = Vec::new();
    for dir in dirs {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut below: Vec<_> =
            entries.map(|entry| entry.path()).filter(|path| path.join(FILE).is_file()).collect();
        below.sort();
        if dir.join(FILE).is_file() || below.is_empty() {
            below = vec![dir.clone()];
        }
        for dir in below {
            let project = open(&dir)?;
            let name = &project.manifest.name;
            if let Some(other) = projects.iter().find(|other| other.manifest.name == *name) {
                return Err(Failure::new(
                    code::CONFIG,
                    format!(
                        "{} and {} are both called '{name}': change the name in one function.toml",
                        other.dir.display(),
                        project.dir.display()
                    ),
                ));
            }
            projects.push(project);
        }
    }
    Ok(projects)
}

/// Where a node's state is kept beside a function, out of sight of git.
pub(super) fn state(dir: &Path, what: &str) -> Result<PathBuf, Failure> {
    let hidden = dir.join(".mayfly");
    let made = std::fs::create_dir_all(&hidden).and_then(|()| {
        let ignored = hidden.join(".gitignore");
        if ignored.exists() { Ok(()) } else { std::fs::write(ignored, "*\n") }
    });
    made.map_err(|why| {
        Failure::new(code::FAILED, format!("cannot write into {}: {why}", hidden.display()))
    })?;
    Ok(hidden.join(what))
}
