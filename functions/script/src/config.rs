//! What the deploy said: `script.json`. The other side is `runtime/src/cli/script`; a change of either raises
//! [`mayfly_abi::SCRIPT_CONFIG`].

use mayfly::anyhow::Context as _;
use mayfly::{Result, asset};
use serde::Deserialize;

/// The asset it lies in.
const CONFIG: &str = "script.json";

/// How a script was packed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The module that has the handler.
    pub(crate) entry: String,
    /// All modules, by the paths that the user knows them by; each is an asset of the name `file/PATH`.
    pub(crate) modules: Vec<Module>,
}

/// A file of the script's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Module {
    /// From the script's directory, with `/`.
    pub(crate) path: String,
    pub(crate) kind: Kind,
}

/// What is imported of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// What it exports.
    Script,
    /// Its value, as default.
    Json,
    /// Its text, as default.
    Text,
    /// Its bytes, an `ArrayBuffer`, as default.
    Bytes,
}

impl Config {
    pub(crate) fn load() -> Result<Self> {
        let text = String::from_utf8(asset(CONFIG)?)?;
        mayfly::Body::from(text).json().context("the script's configuration")
    }
}
