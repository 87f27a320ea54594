//! The modules that come with Mayfly, and that models and scripts are packed into as assets: where they are, whether they
//! are of this build, and how something is put into them.

use std::path::{Path, PathBuf};

use mayfly_core::limits::node;
use mayfly_core::units::{format_size, human_size};
use wasm_encoder::{CustomSection, Section as _};
use wasmparser::{Parser, Payload};

use super::{Failure, code};

/// A module that something is packed into.
#[derive(Debug)]
pub(super) struct Stock {
    /// Its file.
    pub(super) file: &'static str,
    /// Who needs it.
    pub(super) user: &'static str,
    /// The option and the variable that name another.
    pub(super) option: &'static str,
    /// What it exports, and what others do not.
    pub(super) export: &'static str,
    /// The section with the version of what is packed into it, and that version.
    pub(super) section: &'static str,
    pub(super) version: u32,
    /// What builds it.
    pub(super) build: &'static str,
}

impl Stock {
    /// The one that was named, else the one that came with this binary.
    ///
    /// # Errors
    /// Where it was looked for, or why it cannot be used.
    pub(super) fn find(&self, named: Option<&Path>) -> Result<Vec<u8>, Failure> {
        let Self { file, user, option, build, .. } = self;
        if let Some(path) = named {
            return self.load(path);
        }
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
        let places = beside.map_or_else(Vec::<PathBuf>::new, |dir| {
            vec![dir.join(file), dir.join("../share/mayfly").join(file)]
        });
        if let Some(found) = places.iter().find(|path| path.is_file()) {
            return self.load(found);
        }
        let places: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
        Err(failed(format!(
            "{user} needs {file}, which was not found in {}\nhint: `{build}` builds it; name it with {option}",
            places.join(", ")
        )))
    }

    fn load(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        let Self { file, export, section, version, build, .. } = self;
        let wasm = read(path)?;
        let (mut is_one, mut said) = (false, None);
        for payload in Parser::new(0).parse_all(&wasm).map_while(Result::ok) {
            match payload {
                Payload::ExportSection(exports) => {
                    let mut exports = exports.into_iter().map_while(Result::ok);
                    is_one |= exports.any(|own| own.name == *export);
                }
                Payload::CustomSection(own) if own.name() == *section => {
                    said = Some(own.data().to_vec());
                }
                _ => {}
            }
        }
        let path = path.display();
        if !is_one {
            return Err(failed(format!(
                "{path} is no runner: it does not export `{export}`\nhint: `{build}` builds {file}"
            )));
        }
        let said = said.and_then(|said| said.try_into().ok().map(u32::from_le_bytes));
        if said == Some(*version) {
            return Ok(wasm);
        }
        let its = said.map_or_else(|| "none".to_owned(), |version| version.to_string());
        Err(failed(format!(
            "{path} is of another build than this mayfly: the version of its configuration is {its}, not \
             {version}\nhint: `{build}` builds it anew; where Mayfly was installed, install binary and {file} together"
        )))
    }
}

/// The module with these assets in it; `path` is what they are of.
///
/// # Errors
/// When that is more than can be deployed.
pub(super) fn put_together<'a>(
    path: &Path,
    mut wasm: Vec<u8>,
    assets: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Vec<u8>, Failure> {
    for (name, data) in assets {
        let name = format!("{}{name}", mayfly_abi::ASSET_SECTION_PREFIX);
        CustomSection { name: name.into(), data: data.into() }.append_to(&mut wasm);
    }
    let size = wasm.len() as u64;
    if size > node::PACKAGE_BYTES {
        let (size, most) = (human_size(size), format_size(node::PACKAGE_BYTES));
        let why = format!(
            "{}: with the runner it has {size}, and a module has at most {most} (PACKAGE_BYTES)",
            path.display()
        );
        return Err(failed(why));
    }
    Ok(wasm)
}

/// A file's bytes.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|why| failed(format!("cannot read {}: {why}", path.display())))
}

fn failed(why: String) -> Failure {
    Failure::new(code::FAILED, why)
}
