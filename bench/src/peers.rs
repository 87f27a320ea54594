//! Other runtimes, measured in the same run. A peer is one file in `bench/peers/`: what it is, what it needs, how it is
//! started, and the files it is started with. Whatever is not installed is skipped, and the report says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Deserialize;

use crate::record::Subject;
use crate::server::Spec;

/// The peers that come with the harness.
const FILES: [(&str, &str); 6] = [
    ("bare-hyper", include_str!("../peers/bare-hyper.toml")),
    ("process-per-request", include_str!("../peers/process-per-request.toml")),
    ("wasmtime-serve", include_str!("../peers/wasmtime-serve.toml")),
    ("workerd", include_str!("../peers/workerd.toml")),
    ("onnxruntime", include_str!("../peers/onnxruntime.toml")),
    ("onnxruntime-web", include_str!("../peers/onnxruntime-web.toml")),
];

/// A peer's file. In `needs`, `command` and `version`, `{bin}` is where this program is, `{peers}` is where
/// `make bench-peers` installs, `{dir}` is where `files` are written, `{models}` is where models are, `{model}` is
/// the one to serve, and `{address}`, `{host}` and `{port}` say where to listen.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What it is, and how its work differs.
    pub what: String,
    /// `hello`, or the models that it can serve, one at a time.
    pub serves: Vec<String>,
    /// What is asked.
    pub path: String,
    /// Files that must be there.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables of its environment, beside ours.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Program and arguments that print its version.
    pub version: Vec<String>,
    /// Written before it starts, by name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// A peer that can be started.
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: File,
    dirs: Dirs,
    _dir: tempfile::TempDir,
}

#[derive(Debug, Clone)]
struct Dirs {
    bin: PathBuf,
    peers: PathBuf,
    models: PathBuf,
    dir: PathBuf,
}

impl Dirs {
    fn fill(&self, text: &str, address: Option<SocketAddr>) -> String {
        let mut text = text
            .replace("{bin}", &self.bin.to_string_lossy())
            .replace("{peers}", &self.peers.to_string_lossy())
            .replace("{models}", &self.models.to_string_lossy())
            .replace("{dir}", &self.dir.to_string_lossy());
        if let Some(address) = address {
            text = text
                .replace("{address}", &address.to_string())
                .replace("{host}", &address.ip().to_string())
                .replace("{port}", &address.port().to_string());
        }
        text
    }
}

/// Every peer that comes with the harness, ready or with the reason why it is not.
#[must_use]
pub fn all(installed: &Path, models: &Path) -> Vec<(&'static str, anyhow::Result<Peer>)> {
    FILES.iter().map(|(name, text)| (*name, Peer::open(name, text, installed, models))).collect()
}

impl Peer {
    fn open(name: &str, text: &str, installed: &Path, models: &Path) -> anyhow::Result<Self> {
        let file: File =
            toml::from_str(text).with_context(|| format!("bench/peers/{name}.toml"))?;
        let dir = tempfile::tempdir()?;
        let program = std::env::current_exe()?;
        // A test's program is one directory deeper than the binaries.
        let bin =
            program.ancestors().skip(1).take(2).find(|dir| dir.join("peer-bare-hyper").is_file());
        let dirs = Dirs {
            bin: bin.or(program.parent()).context("no directory")?.to_owned(),
            peers: installed.to_owned(),
            models: models.to_owned(),
            dir: dir.path().to_owned(),
        };
        for need in &file.needs {
            let path = dirs.fill(need, None);
            anyhow::ensure!(
                Path::new(&path).exists(),
                "{} is not there; `make bench-peers` installs the peers",
                Path::new(&path).file_name().unwrap_or_default().to_string_lossy()
            );
        }
        for (name, text) in &file.files {
            std::fs::write(dir.path().join(name), dirs.fill(text, None))?;
        }
        Ok(Self { name: name.into(), file, dirs, _dir: dir })
    }

    /// For the record.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let words: Vec<String> =
            self.file.version.iter().map(|w| self.dirs.fill(w, None)).collect();
        let asked =
            words.split_first().map(|(program, rest)| Command::new(program).args(rest).output());
        let version = match asked {
            Some(Ok(output)) => String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()
                .unwrap_or("")
                .trim()
                .to_owned(),
            _ => String::new(),
        };
        let command = self.file.command.join(" ");
        Subject { name: self.name.clone(), what: self.file.what.clone(), version, command }
    }

    /// Whether it can serve this function or model.
    #[must_use]
    pub fn serves(&self, what: &str) -> bool {
        self.file.serves.iter().any(|served| served == what)
    }

    /// What starts it to serve `what`. A peer that serves a model is posted `body`.
    #[must_use]
    pub fn spec(&self, what: &str, body: Option<(String, Vec<u8>)>) -> Spec {
        let (file, dirs, what) = (self.file.clone(), self.dirs.clone(), what.to_owned());
        let command = move |address: SocketAddr| {
            let words = file.command.iter().map(|word| word.replace("{model}", &what));
            let mut words = words.map(|word| dirs.fill(&word, Some(address)));
            let mut command = Command::new(words.next().context("an empty command")?);
            command.args(words).current_dir(&dirs.dir);
            command.envs(file.env.iter().map(|(k, v)| (k, dirs.fill(v, Some(address)))));
            Ok(command)
        };
        let (name, path) = (self.name.clone(), self.file.path.clone());
        Spec { name, command: Box::new(command), path, body, status: 200 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peers_file_can_be_read() {
        for (name, text) in FILES {
            let file: File = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!file.what.is_empty() && !file.command.is_empty(), "{name}");
        }
    }
}
