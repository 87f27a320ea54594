//! Mayfly as users have it: the binary, its state directory, its CLI.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::guests::Guest;
use crate::process::free_address;
use crate::record::{Build, Subject};
use crate::server::{Server, Spec};

/// One installation with a state directory of its own, which is removed with this value.
pub struct Mayfly {
    binary: PathBuf,
    state: tempfile::TempDir,
    work: tempfile::TempDir,
}

/// A running node.
pub struct Node {
    /// The gateway.
    pub server: Server,
    admin: SocketAddr,
}

impl Mayfly {
    /// The binary given, or the one beside this program.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(given: Option<&Path>) -> anyhow::Result<Self> {
        let binary = match given {
            Some(path) => path.to_owned(),
            None => {
                let own = std::env::current_exe()?;
                let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("mayfly"));
                let mut beside = beside.filter(|path| path.is_file());
                beside.next().context(
                    "no mayfly binary beside this one: run `make build`, or name it with --mayfly",
                )?
            }
        };
        anyhow::ensure!(binary.is_file(), "{} is not there", binary.display());
        Ok(Self { binary, state: tempfile::tempdir()?, work: tempfile::tempdir()? })
    }

    /// Where it keeps its functions.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// The binary.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// For the record.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let asked = Command::new(&self.binary).arg("--version").output();
        let version = asked.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        Subject {
            name: "mayfly".into(),
            what: "Mayfly: a fresh instance for every request, from a snapshot of the function after init".into(),
            version: version.unwrap_or_default(),
            command: "mayfly serve --state-dir DIR --gateway-listen ADDRESS --admin-listen ADDRESS --gateway-workers N --log-level error".into(),
        }
    }

    /// Which build it is, for the record; `None` if the binary cannot be read.
    #[must_use]
    pub fn build(&self) -> Option<Build> {
        let digest = mayfly_core::Digest::of(&std::fs::read(&self.binary).ok()?);
        let binary: String = digest.as_bytes()[..8].iter().map(|b| format!("{b:02x}")).collect();
        let git = |words: &[&str]| {
            let output =
                Command::new("git").args(words).output().ok().filter(|o| o.status.success());
            output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        };
        let mut commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
        if git(&["status", "--porcelain"]).is_some_and(|changed| !changed.is_empty()) {
            commit.push('+');
        }
        Some(Build { binary, commit })
    }

    /// What starts a node whose first answer is `path`'s.
    #[must_use]
    pub fn spec(&self, workers: usize, path: &str, status: u16) -> Spec {
        self.spec_with(workers, path, status, &[])
    }

    fn spec_with(&self, workers: usize, path: &str, status: u16, more: &[OsString]) -> Spec {
        let (binary, state) = (self.binary.clone(), self.state.path().to_owned());
        let (work, more) = (self.work.path().to_owned(), more.to_vec());
        let command = move |address: SocketAddr| {
            let mut command = Command::new(&binary);
            // Somewhere without a mayfly.toml.
            command.current_dir(&work).arg("serve").arg("--state-dir").arg(&state);
            command.args(["--gateway-listen", &address.to_string()]);
            command.args(["--gateway-workers", &workers.to_string(), "--log-level", "error"]);
            command.args(&more);
            if more.is_empty() {
                command.args(["--admin-listen", &free_address()?.to_string()]);
            }
            Ok(command)
        };
        let (name, path) = ("mayfly".into(), path.into());
        Spec { name, command: Box::new(command), path, body: None, status }
    }

    /// Starts a node on one worker that has no function yet, with more arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_empty(&self, arguments: &[String]) -> anyhow::Result<Node> {
        // Not `/`: a gateway without a function there answers it with its front page.
        self.start_with(1, &[], "/nobody", 404, arguments)
    }

    /// Starts a node on the given cores that can be deployed to. `path` must be answered with `status`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        &self,
        workers: usize,
        cores: &[usize],
        path: &str,
        status: u16,
    ) -> anyhow::Result<Node> {
        self.start_with(workers, cores, path, status, &[])
    }

    fn start_with(
        &self,
        workers: usize,
        cores: &[usize],
        path: &str,
        status: u16,
        arguments: &[String],
    ) -> anyhow::Result<Node> {
        let admin = free_address()?;
        let mut more: Vec<OsString> = vec!["--admin-listen".into(), admin.to_string().into()];
        more.extend(arguments.iter().map(OsString::from));
        let server = self.spec_with(workers, path, status, &more).start(cores)?;
        Ok(Node { server, admin })
    }

    /// Deploys a function with the CLI; what it says with `--output json`.
    ///
    /// # Errors
    /// With the CLI's own words.
    pub fn deploy(&self, node: &Node, guest: &Guest) -> anyhow::Result<Value> {
        let file = self.work.path().join("module.wasm");
        std::fs::write(&file, &guest.wasm)?;
        let mut command = Command::new(&self.binary);
        command.current_dir(self.work.path()).arg("deploy").arg(&file);
        command.args(["--name", &guest.name, "--limit", "memory=1GiB", "--output", "json"]);
        command.args(["--admin", &format!("http://{}", node.admin)]);
        command.arg("--state-dir").arg(self.state.path());
        let output = command.output()?;
        anyhow::ensure!(
            output.status.success(),
            "mayfly deploy {}: {}",
            guest.name,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("what `mayfly deploy --output json` wrote")
    }

    /// Deploys functions on a node that is started for that alone.
    ///
    /// # Errors
    /// As [`Mayfly::start`] and [`Mayfly::deploy`].
    pub fn deploy_all(&self, guests: &[Guest]) -> anyhow::Result<Vec<Value>> {
        let node = self.start_empty(&[])?;
        guests.iter().map(|guest| self.deploy(&node, guest)).collect()
    }
}
