//! `function.toml`: what a function is called, how it is built, and the settings that it is deployed with.
//!
//! Not `mayfly.toml`, which is a node's: one directory may have both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mayfly_core::FunctionName;
use mayfly_core::outbound::EdgeHeader;
use mayfly_core::record::Settings;
use serde::Deserialize;

/// The file's name.
pub const FILE: &str = "function.toml";

/// A function's directory, as its file describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// What it is deployed as.
    pub name: FunctionName,
    /// How it is built.
    pub build: Build,
    /// The settings of its deploys.
    #[serde(default)]
    pub deploy: Deploy,
    /// What a model is told beside its file.
    #[serde(default)]
    pub model: Model,
    /// Its tests.
    #[serde(default)]
    pub test: Tests,
}

/// How a function is built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Build {
    /// A program and its arguments; nothing for what needs no build, as a model.
    #[serde(default)]
    pub command: Option<String>,
    /// Whether the command is given to `sh -c`, for pipes and `&&`.
    #[serde(default)]
    pub shell: bool,
    /// Variables beside those of whoever builds.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The module or model that is deployed.
    pub output: PathBuf,
    /// Globs of what is watched; nothing for all that is not git-ignored.
    #[serde(default)]
    pub watch: Vec<String>,
}

/// The settings of a deploy, as `mayfly deploy` has them as flags.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Deploy {
    /// Paths of its own.
    pub routes: Option<Vec<String>>,
    /// Limits, each by its name.
    pub limits: Option<BTreeMap<String, String>>,
    /// Variables of the guest's environment.
    pub env: Option<BTreeMap<String, String>>,
    /// Secrets of the node that it gets as variables.
    pub secrets: Option<Vec<String>>,
    /// What it may call.
    pub outbound: Option<Vec<String>>,
    /// Headers that the node adds to its calls.
    pub outbound_headers: Option<Vec<CallHeader>>,
    /// A command module's arguments.
    pub args: Option<Vec<Argument>>,
    /// Whether a command gets a body without a length as it comes.
    pub stream_body: Option<bool>,
    /// Whether a command gets the header `Authorization`.
    pub pass_authorization: Option<bool>,
}

/// A header that the node adds to calls of an origin.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallHeader {
    /// As in `https://api.example.com`.
    pub origin: String,
    /// As in `Authorization: Bearer ${API_KEY}`.
    pub header: String,
}

/// An argument: text, or a file's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Argument {
    /// As it is.
    Text(String),
    /// What a file holds when it is deployed: a script for an interpreter.
    File {
        /// Where.
        file: PathBuf,
    },
}

/// What a model is told beside its file, as `mayfly deploy` has it as flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Model {
    /// Shapes of inputs, as in `x=1x3x224x224`.
    #[serde(default)]
    pub input: Vec<String>,
    /// Sizes of named dimensions, as in `batch=1`.
    #[serde(default)]
    pub dim: Vec<String>,
    /// What is taken off each colour.
    pub mean: Option<String>,
    /// What the difference is divided by.
    pub scale: Option<String>,
    /// `crop` or `stretch`.
    pub fit: Option<String>,
    /// `nchw` or `nhwc`.
    pub layout: Option<String>,
    /// A file with one line for each class.
    pub labels: Option<PathBuf>,
}

/// How a function is tested.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tests {
    /// Tests in the function's own language, run before the cases.
    pub command: Option<String>,
    /// Whether that is given to `sh -c`.
    pub shell: bool,
    /// Variables for it.
    pub env: BTreeMap<String, String>,
    /// The file with the cases.
    pub cases: PathBuf,
}

impl Default for Tests {
    fn default() -> Self {
        Self { command: None, shell: false, env: BTreeMap::new(), cases: "tests.toml".into() }
    }
}

/// Why there is no manifest. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not there.
    #[error("there is no {FILE} in {}{near}", dir.display())]
    Missing {
        /// Where it was looked for.
        dir: PathBuf,
        /// What to do, with the directories nearby that have one.
        near: String,
    },
    /// It cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// It says something that cannot be.
    #[error("{}: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, column and reason, or the key and what would be right.
        why: String,
    },
}

impl Manifest {
    /// Reads the file of a directory.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                return Err(ManifestError::Missing { dir: dir.to_owned(), near: near(dir) });
            }
            Err(why) => return Err(ManifestError::Read { path, why }),
        };
        let parsed = Self::parse(&text);
        parsed.map_err(|why| ManifestError::Wrong { path, why })
    }

    /// What the text of such a file says.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|why| why.to_string())?;
        let words = |key: &str, command: Option<&str>| match command.map(shlex::split) {
            Some(None) => Err(format!("{key}: a quotation mark is missing its other half")),
            Some(Some(words)) if words.is_empty() => {
                Err(format!("{key} is empty: leave it out if there is nothing to run"))
            }
            Some(Some(_)) | None => Ok(()),
        };
        words("build.command", manifest.build.command.as_deref())?;
        words("test.command", manifest.test.command.as_deref())?;
        let output = &manifest.build.output;
        if output.as_os_str().is_empty() || output.is_absolute() {
            return Err(format!(
                "build.output is '{}': write a path below the function's directory",
                output.display()
            ));
        }
        // What a deploy would refuse is refused here, before anything is built.
        manifest.deploy.settings(Settings::default(), Vec::new())?;
        Ok(manifest)
    }
}

impl Deploy {
    /// The settings that a deploy of nothing but this file has.
    ///
    /// # Errors
    /// The first that cannot be.
    pub fn settings(&self, base: Settings, args: Vec<String>) -> Result<Settings, String> {
        let mut settings = Settings { args, ..base };
        for limit in self.limits() {
            settings.limits.set(&limit).map_err(|why| format!("deploy.limits: {why}"))?;
        }
        settings.env.extend(self.env.clone().unwrap_or_default());
        settings.secrets.extend(self.secrets.clone().unwrap_or_default());
        settings.routes.extend(self.routes.clone().unwrap_or_default());
        settings.outbound.extend(self.outbound.clone().unwrap_or_default());
        for CallHeader { origin, header } in self.outbound_headers.iter().flatten() {
            let header = EdgeHeader::new(origin, header);
            settings.outbound_headers.push(header.map_err(|why| format!("deploy: {why}"))?);
        }
        settings.stream_body = self.stream_body.unwrap_or(settings.stream_body);
        settings.pass_authorization =
            self.pass_authorization.unwrap_or(settings.pass_authorization);
        settings.check().map_err(|why| format!("deploy: {why}"))?;
        Ok(settings)
    }

    /// The limits, each as `key=value`.
    #[must_use]
    pub fn limits(&self) -> Vec<String> {
        let limits = self.limits.iter().flatten();
        limits.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The arguments, with the files among them read.
    ///
    /// # Errors
    /// Which file cannot be read, and why.
    pub fn arguments(&self, dir: &Path) -> Result<Vec<String>, String> {
        let argument = |argument: &Argument| match argument {
            Argument::Text(text) => Ok(text.clone()),
            Argument::File { file } => std::fs::read_to_string(dir.join(file)).map_err(|why| {
                format!("deploy.args: cannot read {}: {why}", dir.join(file).display())
            }),
        };
        self.args.iter().flatten().map(argument).collect()
    }
}

/// What to do where there is no file: the directories above and below that have one are likely meant.
fn near(dir: &Path) -> String {
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    if let Some(above) = whole.ancestors().skip(1).find(|above| above.join(FILE).is_file()) {
        return format!("\nhint: {} has one: go there, or name it", above.display());
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut below: Vec<_> = entries
        .filter(|entry| entry.path().join(FILE).is_file())
        .map(|entry| dir.join(entry.file_name()).display().to_string())
        .collect();
    below.sort();
    below.truncate(5);
    if below.is_empty() {
        "\nhint: `mayfly new NAME -t TEMPLATE` makes a directory with one; in an old one, write it by hand \
         (docs/develop.md)"
            .to_owned()
    } else {
        format!("\nhint: it is in {}: go there, or name it", below.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        name = "hello"
        [build]
        command = "go build -ldflags='-s -w' -o hello.wasm"
        env = { GOOS = "wasip1" }
        output = "hello.wasm"
        watch = ["**/*.go"]
        [deploy]
        routes = ["/api/..."]
        outbound = ["https://api.example.com"]
        outbound-headers = [{ origin = "https://api.example.com", header = "X-Key: ${KEY}" }]
        limits = { memory = "64MiB" }
        env = { GREETING = "hi" }
        args = ["-c", { file = "main.py" }]
        [test]
        command = "go test"
    "#;

    #[test]
    fn a_whole_file_says_all_of_it() {
        let manifest = Manifest::parse(WHOLE).unwrap();
        let settings = manifest.deploy.settings(Settings::default(), vec!["-c".into()]).unwrap();
        assert_eq!(settings.limits.memory_bytes, 64 << 20);
        assert_eq!((settings.env["GREETING"].as_str(), settings.routes.len()), ("hi", 1));
        assert_eq!(settings.outbound, ["https://api.example.com"]);
        assert_eq!(settings.needed_secrets().collect::<Vec<_>>(), ["KEY"]);
        let dir = tempfile::tempdir().unwrap();
        let why = manifest.deploy.arguments(dir.path()).unwrap_err();
        assert!(why.contains("deploy.args: cannot read") && why.contains("main.py"), "{why}");
        std::fs::write(dir.path().join("main.py"), "print()").unwrap();
        assert_eq!(manifest.deploy.arguments(dir.path()).unwrap(), ["-c", "print()"]);
        assert_eq!(manifest.test.cases, Path::new("tests.toml"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let small = "name = \"f\"\n[build]\noutput = \"f.wasm\"\n";
        Manifest::parse(small).unwrap();
        for (text, expected) in [
            ("", "missing field `name`"),
            ("name = \"f\"", "missing field `build`"),
            ("name = \"Not A Name\"\n[build]\noutput = \"f\"", "name"),
            (
                &format!("{small}comand = \"x\""),
                "unknown field `comand`, expected one of `command`",
            ),
            (&format!("{small}command = \"\""), "build.command is empty"),
            (&format!("{small}command = \"a 'b\""), "a quotation mark"),
            (&format!("{small}[deploy]\nlimits = {{ memory = \"1XB\" }}"), "deploy.limits: "),
            (&format!("{small}[deploy]\nroutes = [\"api\"]"), "deploy: "),
            ("name = \"f\"\n[build]\noutput = \"/f.wasm\"", "below the function's directory"),
        ] {
            let why = Manifest::parse(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    #[test]
    fn a_wrong_directory_is_told_the_right_one() {
        let dir = tempfile::tempdir().unwrap();
        let why = |dir: &Path| Manifest::read(dir).unwrap_err().to_string();
        assert!(why(dir.path()).contains("`mayfly new NAME"), "{}", why(dir.path()));
        let project = dir.path().join("hello");
        std::fs::create_dir_all(project.join("src")).unwrap();
        std::fs::write(project.join(FILE), "").unwrap();
        assert!(why(dir.path()).contains("hello: go there"), "{}", why(dir.path()));
        assert!(why(&project.join("src")).contains("hello has one"));
        assert!(why(&project).contains("missing field"));
    }
}
