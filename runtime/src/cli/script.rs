//! `mayfly deploy app.js`: packs a script, and the files that it imports, into the stock script runner.

mod bundle;
mod files;
mod imports;
mod lex;
mod strip;

use std::path::{Path, PathBuf};

use clap::Args;
use mayfly_abi::{EXPORT_HANDLE, SCRIPT_CONFIG, SECTION_SCRIPT};
use serde_json::json;

use super::stock::{self, Stock};
use super::{Failure, code};
use files::{File, Files, Missing};

/// Where it is found, and how it is told apart.
const SCRIPTS: Stock = Stock {
    file: "script.wasm",
    user: "a script",
    option: "--script-runner or MAYFLY_SCRIPT_RUNNER",
    export: EXPORT_HANDLE,
    section: SECTION_SCRIPT,
    version: SCRIPT_CONFIG,
    build: "make toolchain-c script-guest",
};
/// What a directory's script is called, without its extension, the first that is there.
const ENTRIES: &[&str] = &["index", "main", "app", "worker", "src/index", "src/main", "src/worker"];
/// Extensions of scripts.
const SCRIPT_EXTENSIONS: &[&str] = &["js", "mjs", "ts", "mts"];
/// Those that are refused, with a word on what to do.
const NEEDS_BUNDLER: &[&str] = &["jsx", "tsx", "cjs", "cts"];

/// What a script needs to be told beside its file.
#[derive(Debug, Default, Args)]
pub(crate) struct ScriptArgs {
    /// The stock script runner [default: script.wasm beside mayfly, or in ../share/mayfly].
    #[arg(long, value_name = "FILE", env = "MAYFLY_SCRIPT_RUNNER", help_heading = "Scripts")]
    script_runner: Option<PathBuf>,
}

/// A module that runs a script.
#[derive(Debug)]
pub(super) struct PackedScript {
    pub(super) wasm: Vec<u8>,
    /// What there is to say of it.
    pub(super) notes: Vec<String>,
    /// The files in it, with their sizes.
    pub(super) files: Vec<(String, u64)>,
}

/// Whether a path is a script's, by its name.
pub(super) fn is_script(path: &Path) -> bool {
    mayfly_runtime::dev::project::is_script(path)
}

/// The script of a directory, if there is one.
pub(super) fn entry_of(dir: &Path) -> Option<PathBuf> {
    let tried = ENTRIES.iter().flat_map(|name| {
        SCRIPT_EXTENSIONS.iter().map(move |extension| format!("{name}.{extension}"))
    });
    tried.map(|name| dir.join(name)).find(|path| path.is_file())
}

impl ScriptArgs {
    /// The runner with the script in it.
    ///
    /// # Errors
    /// What is wrong with the script, and where.
    pub(super) fn pack(&self, path: &Path) -> Result<PackedScript, Failure> {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if NEEDS_BUNDLER.contains(&extension) {
            return Err(Failure::new(
                code::FAILED,
                format!("{}: {}", path.display(), files::bundle_hint(extension)),
            ));
        }
        let Files { entry, all, notes } = match files::collect(path) {
            Ok(files) => files,
            Err(Missing::Other(why)) => return Err(why),
            Err(Missing::Package(why)) => {
                let esbuild = bundle::find(path).ok_or(why)?;
                files::bundled(path, bundle::run(&esbuild, path)?)
            }
        };
        let runner = SCRIPTS.find(self.script_runner.as_deref())?;
        let modules: Vec<_> = all
            .iter()
            .map(|File { path, kind, .. }| json!({ "path": path, "kind": kind }))
            .collect();
        let config = json!({ "entry": entry, "modules": modules }).to_string();
        let names: Vec<_> = all.iter().map(|file| format!("file/{}", file.path)).collect();
        let files =
            names.iter().zip(&all).map(|(name, file)| (name.as_str(), file.bytes.as_slice()));
        let wasm =
            stock::put_together(path, runner, files.chain([("script.json", config.as_bytes())]))?;
        let files = all.iter().map(|file| (file.path.clone(), file.bytes.len() as u64)).collect();
        Ok(PackedScript { wasm, notes, files })
    }

    /// Whether there is a runner to pack a script into.
    ///
    /// # Errors
    /// Where it was looked for, and what to do.
    pub(super) fn runner_found(&self) -> Result<(), Failure> {
        SCRIPTS.find(self.script_runner.as_deref()).map(drop)
    }
}
