//! A function's directory: its file, its build, and what the build made.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mayfly_core::limits::{Limits, node};
use mayfly_core::units::{format_size, human_size};

use super::command::{CommandError, Task};
use super::manifest::{Manifest, ManifestError};
use crate::check::{self, Report};

/// A function's directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// Where it is.
    pub dir: PathBuf,
    /// What its file says.
    pub manifest: Manifest,
}

/// Why there is nothing to deploy.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The command did not run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The command failed; it has said why.
    #[error("the build failed: {program} ended with {how}")]
    Failed {
        /// What ran.
        program: String,
        /// With what code or signal.
        how: String,
    },
    /// The command succeeded, and its output is not where it should be.
    #[error("{why}\nhint: {hint}")]
    Output {
        /// What is there, or not.
        why: String,
        /// What to do.
        hint: String,
    },
}

/// What a build made.
#[derive(Debug)]
pub enum Built {
    /// A module that can be deployed.
    Module(Bytes, Box<Report>),
    /// A model, of which more is known when it is packed.
    Model(Vec<u8>),
    /// A script, which is read with what it imports when it is packed.
    Script,
}

/// Whether a file is a script, by its name.
#[must_use]
pub fn is_script(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    matches!(extension, "js" | "mjs" | "ts" | "mts" | "jsx" | "tsx" | "cjs" | "cts")
}

impl Project {
    /// Opens the directory.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn open(dir: &Path) -> Result<Self, ManifestError> {
        let manifest = Manifest::read(dir)?;
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Ok(Self { dir, manifest })
    }

    /// Its build, if it needs one.
    #[must_use]
    pub fn build(&self) -> Option<Task<'_>> {
        let build = &self.manifest.build;
        let command = build.command.as_deref()?;
        Some(Task { command, shell: build.shell, env: &build.env, dir: &self.dir })
    }

    /// Its tests in its own language, if it has any.
    #[must_use]
    pub fn tests(&self) -> Option<Task<'_>> {
        let test = &self.manifest.test;
        let command = test.command.as_deref()?;
        Some(Task { command, shell: test.shell, env: &test.env, dir: &self.dir })
    }

    /// Where the build leaves what is deployed.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.dir.join(&self.manifest.build.output)
    }

    /// Whether that is a model, by its name.
    #[must_use]
    pub fn is_model(&self) -> bool {
        let extension = self.manifest.build.output.extension();
        extension.is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
    }

    /// Whether that is a script, by its name.
    #[must_use]
    pub fn is_script(&self) -> bool {
        is_script(&self.manifest.build.output)
    }

    /// Reads what the build made, and sees whether it can be deployed.
    ///
    /// # Errors
    /// [`BuildError::Output`] in the words of `mayfly check`.
    pub fn built(&self) -> Result<Built, BuildError> {
        let path = self.output();
        let shown = path.display();
        let failed = |why: String, hint: String| BuildError::Output { why, hint };
        let size = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(why) => {
                let hint = match self.build() {
                    Some(_) => {
                        "output, below [build] in function.toml, names what the command writes"
                    }
                    None => {
                        "output, below [build] in function.toml, names it; without a command nothing makes it"
                    }
                };
                return Err(failed(format!("there is no {shown}: {why}"), hint.to_owned()));
            }
        };
        if size > node::PACKAGE_BYTES {
            let (size, most) = (human_size(size), format_size(node::PACKAGE_BYTES));
            let hint = "strip names and debug information, which nothing here reads".to_owned();
            return Err(failed(format!("{shown} has {size}; a module has at most {most}"), hint));
        }
        if self.is_script() {
            return Ok(Built::Script);
        }
        let bytes = std::fs::read(&path)
            .map_err(|why| failed(format!("cannot read {shown}: {why}"), "its mode?".into()))?;
        if self.is_model() {
            return Ok(Built::Model(bytes));
        }
        let mut limits = Limits::default();
        for limit in self.manifest.deploy.limits() {
            // They were checked with the file.
            let _ = limits.set(&limit);
        }
        let bytes = Bytes::from(bytes);
        match check::check(&bytes, &limits) {
            Ok(report) => Ok(Built::Module(bytes, Box::new(report))),
            Err(unfit) => Err(failed(format!("{shown}: {}", unfit.why), unfit.hint)),
        }
    }
}

impl BuildError {
    /// How a command ended that did not succeed.
    #[must_use]
    pub fn of(task: &Task<'_>, status: std::process::ExitStatus) -> Self {
        let how = match status.code() {
            Some(code) => format!("exit code {code}"),
            None => status.to_string(),
        };
        Self::Failed { program: task.program(), how }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(output: &[u8]) -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        let text = "name = \"f\"\n[build]\ncommand = \"cc\"\noutput = \"f.wasm\"\n";
        std::fs::write(dir.path().join("function.toml"), text).unwrap();
        if !output.is_empty() {
            std::fs::write(dir.path().join("f.wasm"), output).unwrap();
        }
        let project = Project::open(dir.path()).unwrap();
        (dir, project)
    }

    #[test]
    fn an_output_that_is_missing_or_a_component_is_told_so() {
        let (_dir, missing) = project(b"");
        let why = missing.built().unwrap_err().to_string();
        assert!(why.contains("there is no /") && why.contains("names what the command"), "{why}");
        let component = wat::parse_str("(component)").unwrap();
        let (_dir, component) = project(&component);
        let why = component.built().unwrap_err().to_string();
        assert!(why.contains("a WebAssembly component") && why.contains("hint: "), "{why}");
        let module = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
        let (_dir, good) = project(&wat::parse_str(module).unwrap());
        assert!(matches!(good.built(), Ok(Built::Module(..))));
    }
}
