//! `mayfly doctor`: what is missing, and the command that mends it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http::Method;
use mayfly_runtime::dev::listener;
use mayfly_runtime::dev::manifest::FILE;
use mayfly_runtime::dev::project::Project;
use mayfly_runtime::dev::toolchain::{self, Missing, Toolchain};
use rustix::process::{Resource, getrlimit};

use super::build::open;
use super::model::ModelArgs;
use super::script::ScriptArgs;
use super::{Connection, Failure, code, output};

/// Arenas of instances are laid out over holes of memory that only this Linux can give back as they need it.
const KERNEL: (u32, u32) = (5, 9);
/// Descriptors for a few hundred connections, and the files of as many functions.
const DESCRIPTORS: u64 = 4096;
/// The system's default, which a node of a thousand slots fits into.
const MAPPINGS: u64 = 65_530;

/// Say what of toolchains, machine and node is missing, and how to mend it; one line each.
///
/// In a function's directory, its toolchain has to be there; elsewhere those that are not are only named. Exit code 1 if
/// something is missing that has to be there.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A function's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

/// What there is to say of one thing.
enum Finding {
    Good(String),
    /// Worth knowing, and no fault.
    Note(String),
    Bad(Missing),
}

impl Finding {
    fn of(looked: Result<String, Missing>) -> Self {
        looked.map_or_else(Self::Bad, Self::Good)
    }
}

impl Doctor {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut findings = vec![
            ("mayfly", Finding::Good(env!("CARGO_PKG_VERSION").to_owned())),
            ("kernel", Finding::of(kernel(&read("/proc/sys/kernel/osrelease")))),
            ("files", Finding::of(descriptors(getrlimit(Resource::Nofile).current))),
            ("mappings", Finding::of(mappings(&read("/proc/sys/vm/max_map_count")))),
        ];
        let project = self.dir.join(FILE).is_file().then(|| open(&self.dir)).transpose()?;
        findings.extend(toolchains(project.as_ref(), &self.dir));
        findings.push(("runner", runner(project.as_ref())));
        findings.push(("scripts", script_runner(project.as_ref())));
        findings.extend([3000, 3001].map(|port| ("port", listening(port))));
        findings.push(("node", self.node().await));
        let mut bad = 0;
        for (what, finding) in &findings {
            let (word, words) = match finding {
                Finding::Good(words) => ("ok     ", words.clone()),
                Finding::Note(words) => ("-      ", words.clone()),
                Finding::Bad(Missing { what, fix }) => {
                    bad += 1;
                    ("MISSING", format!("{what}: {fix}"))
                }
            };
            output::line(format_args!(
                "{word}  {what:<14}  {}",
                words.lines().next().unwrap_or("")
            ))?;
        }
        if bad == 0 { Ok(()) } else { Err(Failure::new(code::FAILED, format!("{bad} missing"))) }
    }

    /// The node that the verbs would talk to.
    async fn node(&self) -> Finding {
        let words = |why: Failure| why.text.replace("\nhint: ", "; ");
        let node = match self.connection.open_without_token() {
            Ok(node) => node,
            Err(why) => return Finding::Note(words(why)),
        };
        if let Err(why) = node.send(Method::GET, "/readyz", "text/plain", Bytes::new()).await {
            return Finding::Note(words(why));
        }
        let answered = match self.connection.open() {
            Ok(node) => node.get("/v1/node").await.map(drop),
            Err(why) => Err(why),
        };
        match answered {
            Ok(()) => Finding::Good("it is ready, and takes this token".to_owned()),
            Err(why) => Finding::Note(format!("it is ready, and not for us: {}", words(why))),
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel(release: &str) -> Result<String, Missing> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let found = parts.next().and_then(Result::ok).zip(parts.next().and_then(Result::ok));
    match found {
        Some(found) if found >= KERNEL => Ok(format!("Linux {release}")),
        _ => Err(Missing {
            what: format!("the kernel is '{release}'"),
            fix: format!("Mayfly needs Linux {}.{} or later", KERNEL.0, KERNEL.1),
        }),
    }
}

fn descriptors(limit: Option<u64>) -> Result<String, Missing> {
    match limit {
        None => Ok("no limit of open files".to_owned()),
        Some(limit) if limit >= DESCRIPTORS => Ok(format!("{limit} may be open")),
        Some(limit) => Err(Missing {
            what: format!("{limit} files may be open, which is few for a node"),
            fix: "ulimit -n 65536, or LimitNOFILE= in its unit".to_owned(),
        }),
    }
}

fn mappings(text: &str) -> Result<String, Missing> {
    match text.parse::<u64>() {
        Ok(count) if count >= MAPPINGS => Ok(format!("{count} in one process")),
        Ok(count) => Err(Missing {
            what: format!("{count} mappings in one process are few for a node"),
            fix: format!("sysctl vm.max_map_count={MAPPINGS}"),
        }),
        // A kernel without the file has no such limit to raise.
        Err(_) => Ok("unknown here".to_owned()),
    }
}

/// The one that a function needs, or all of them, none of which has to be there.
fn toolchains(project: Option<&Project>, dir: &Path) -> Vec<(&'static str, Finding)> {
    let ask = toolchain::ask(dir);
    if let Some(project) = project {
        let program = project.build().map(|task| task.program());
        let needed = program.as_deref().and_then(Toolchain::of);
        return needed.map(|it| (it.name(), Finding::of(it.look(&ask)))).into_iter().collect();
    }
    let optional = |toolchain: Toolchain| match toolchain.look(&ask) {
        Ok(words) => Finding::Good(words),
        Err(Missing { what, fix }) => Finding::Note(format!("{what}: {fix}")),
    };
    Toolchain::ALL.into_iter().map(|toolchain| (toolchain.name(), optional(toolchain))).collect()
}

/// What models are packed into.
fn runner(project: Option<&Project>) -> Finding {
    let needed = project.is_some_and(Project::is_model);
    stock(needed, ModelArgs::default().runner_found(), "models can be deployed without code")
}

/// What scripts are packed into.
fn script_runner(project: Option<&Project>) -> Finding {
    let needed = project.is_some_and(Project::is_script);
    stock(needed, ScriptArgs::default().runner_found(), "JavaScript and TypeScript can be deployed")
}

fn stock(needed: bool, found: Result<(), Failure>, good: &str) -> Finding {
    match found {
        Ok(()) => Finding::Good(good.to_owned()),
        Err(why) => {
            let mut lines = why.text.lines();
            let what = lines.next().unwrap_or_default().to_owned();
            let fix = lines.next().unwrap_or_default().trim_start_matches("hint: ").to_owned();
            match needed {
                true => Finding::Bad(Missing { what, fix }),
                false => Finding::Note(format!("{what}: {fix}")),
            }
        }
    }
}

fn listening(port: u16) -> Finding {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match listener::on(port) {
        None => Finding::Good(format!("{address} is free")),
        Some(who) => Finding::Note(format!("{who} listens on {address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_judged_by_its_numbers() {
        assert_eq!(kernel("6.1.0-13-amd64").unwrap(), "Linux 6.1.0-13-amd64");
        assert!(kernel("5.4.0").unwrap_err().fix.contains("5.9"));
        assert!(kernel("").is_err());
        assert!(descriptors(Some(1024)).unwrap_err().fix.contains("ulimit -n"));
        assert!(descriptors(None).is_ok() && descriptors(Some(65_536)).is_ok());
        assert!(mappings("1000").unwrap_err().fix.contains("sysctl"));
        assert!(mappings("262144").is_ok() && mappings("").is_ok());
    }
}
