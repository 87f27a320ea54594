//! What `mayfly new` writes. Templates and SDKs are in the binary, so that a project needs neither this repository nor a
//! registry that has the crate: a Rust project gets the SDK's sources, others one file of their language.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, Read as _};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use mayfly_core::FunctionName;

/// Made by `build.rs`.
static PACK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pack.gz"));

/// Where a project has the Rust SDK's sources.
const VENDORED: &str = "vendor/mayfly";

/// A kind of project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// As in `-t`.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    sdk: Sdk,
}

/// The part of the SDKs that a project gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sdk {
    None,
    /// A file of `guest-sdk`, and where it goes.
    File(&'static str, &'static str),
    /// The Rust crate without models, and with them.
    Crate,
    Models,
}

/// All of them.
pub const TEMPLATES: &[Template] = &[
    Template {
        name: "rust",
        about: "Rust with the SDK: streams, and starts from a snapshot",
        sdk: Sdk::Crate,
    },
    Template {
        name: "rust-command",
        about: "Rust without an SDK: a program that speaks CGI",
        sdk: Sdk::None,
    },
    Template {
        name: "rust-model",
        about: "Rust with an ONNX model in its snapshot",
        sdk: Sdk::Models,
    },
    Template {
        name: "c",
        about: "C with a one-file SDK",
        sdk: Sdk::File("c/mayfly.h", "mayfly.h"),
    },
    Template {
        name: "go",
        about: "Go with a one-file SDK",
        sdk: Sdk::File("go/mayfly.go", "mayfly/mayfly.go"),
    },
    Template {
        name: "zig",
        about: "Zig with a one-file SDK",
        sdk: Sdk::File("zig/mayfly.zig", "mayfly.zig"),
    },
    Template {
        name: "assemblyscript",
        about: "AssemblyScript with a one-file SDK",
        sdk: Sdk::File("assemblyscript/mayfly.ts", "mayfly.ts"),
    },
    Template {
        name: "js",
        about: "JavaScript with the web's interface, and no toolchain",
        sdk: Sdk::None,
    },
    Template {
        name: "ts",
        about: "TypeScript with the web's interface, and no toolchain",
        sdk: Sdk::None,
    },
    Template {
        name: "python",
        about: "Python: a script that speaks CGI, for an interpreter",
        sdk: Sdk::None,
    },
    Template { name: "onnx", about: "an ONNX model and no code at all", sdk: Sdk::None },
];

impl Template {
    /// The one of this name.
    ///
    /// # Errors
    /// Which there are.
    pub fn named(name: &str) -> Result<Self, String> {
        TEMPLATES.iter().find(|template| template.name == name).copied().ok_or_else(|| {
            let names: Vec<_> = TEMPLATES.iter().map(|template| template.name).collect();
            format!("there is no template '{name}'; there are {}", names.join(", "))
        })
    }

    /// The files of a project, by their paths in it.
    ///
    /// # Errors
    /// When the pack is damaged, which a test rules out.
    pub fn files(&self, name: &FunctionName) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
        let pack = unpack()?;
        let mut files = BTreeMap::new();
        for (path, bytes) in below(&pack, &Path::new("templates").join(self.name)) {
            files.insert(path.to_owned(), filled_in(bytes, name));
        }
        match self.sdk {
            Sdk::None => {}
            Sdk::File(from, to) => {
                let path = Path::new("sdk/guest-sdk").join(from);
                let file = pack.get(&path).ok_or_else(|| lost(&path))?;
                files.insert(to.into(), file.clone());
            }
            Sdk::Crate | Sdk::Models => self.vendor(&pack, &mut files)?,
        }
        Ok(files)
    }

    /// The crate's sources, and manifests without what was left out.
    fn vendor(
        &self,
        pack: &BTreeMap<PathBuf, Vec<u8>>,
        files: &mut BTreeMap<PathBuf, Vec<u8>>,
    ) -> io::Result<()> {
        let models = self.sdk == Sdk::Models;
        let crates: &[&str] = match models {
            true => &["guest-sdk", "guest-sdk/abi", "guest-sdk/kernels", "guest-sdk/fft"],
            false => &["guest-sdk", "guest-sdk/abi"],
        };
        let to = Path::new(VENDORED);
        let root = table(pack, Path::new("sdk/Cargo.toml"))?;
        let mut used = BTreeSet::new();
        for dir in crates {
            let from = Path::new("sdk").join(dir);
            let manifest = from.join("Cargo.toml");
            let mut cargo = table(pack, &manifest)?;
            if !models {
                without_models(&mut cargo);
            }
            // Of tests and measurements, which are ours.
            ["example", "target", "dev-dependencies"]
                .iter()
                .for_each(|key| drop(cargo.remove(*key)));
            let dependencies = cargo.get("dependencies").and_then(toml::Value::as_table);
            used.extend(dependencies.into_iter().flat_map(toml::Table::keys).cloned());
            files.insert(to.join(dir).join("Cargo.toml"), cargo.to_string().into_bytes());
            for (path, bytes) in below(pack, &from.join("src")) {
                let is_of_models = ["onnx", "kernels", "image", "alloc"]
                    .iter()
                    .any(|part| path.starts_with(part) || path == Path::new(&format!("{part}.rs")));
                if models || !is_of_models {
                    files.insert(to.join(dir).join("src").join(path), bytes.clone());
                }
            }
        }
        let root = workspace(root, crates, &used).to_string();
        files.insert(to.join("Cargo.toml"), root.into_bytes());
        Ok(())
    }
}

fn lost(path: &Path) -> io::Error {
    io::Error::other(format!("{} is not in this build's templates", path.display()))
}

/// Every packed file by its name.
fn unpack() -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut pack = io::BufReader::new(GzDecoder::new(PACK));
    let mut files = BTreeMap::new();
    let mut line = String::new();
    while pack.read_line(&mut line)? > 0 {
        let (length, name) = line.trim_end().split_once(' ').unwrap_or_default();
        let length = length.parse().map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        pack.read_exact(&mut bytes)?;
        files.insert(name.into(), bytes);
        line.clear();
    }
    Ok(files)
}

fn below<'p>(
    pack: &'p BTreeMap<PathBuf, Vec<u8>>,
    dir: &'p Path,
) -> impl Iterator<Item = (&'p Path, &'p Vec<u8>)> {
    pack.iter().filter_map(move |(path, bytes)| Some((path.strip_prefix(dir).ok()?, bytes)))
}

/// A template's file for a function: its name, and as an identifier, stand in it in braces. A model is no text.
fn filled_in(bytes: &[u8], name: &FunctionName) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_owned() };
    let identifier = name.as_str().replace('-', "_");
    text.replace("{{name}}", name.as_str()).replace("{{crate}}", &identifier).into_bytes()
}

fn table(pack: &BTreeMap<PathBuf, Vec<u8>>, path: &Path) -> io::Result<toml::Table> {
    let bytes = pack.get(path).ok_or_else(|| lost(path))?;
    String::from_utf8_lossy(bytes).parse().map_err(io::Error::other)
}

/// Takes the features that need tract, kernels or pictures out of the SDK's manifest, and what only they ask for: Cargo
/// resolves optional dependencies as well, and these are some 120 crates.
fn without_models(cargo: &mut toml::Table) {
    let kept = ["default", "json"];
    if let Some(features) = cargo.get_mut("features").and_then(toml::Value::as_table_mut) {
        features.retain(|name, _| kept.contains(&name));
    }
    let asked: BTreeSet<_> = cargo
        .get("features")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten()
        .filter_map(|(_, list)| list.as_array())
        .flatten()
        .filter_map(|word| Some(word.as_str()?.trim_start_matches("dep:").to_owned()))
        .collect();
    if let Some(list) = cargo.get_mut("dependencies").and_then(toml::Value::as_table_mut) {
        list.retain(|name, value| {
            let optional = value.get("optional").and_then(toml::Value::as_bool).unwrap_or(false);
            !optional || asked.contains(name)
        });
    }
    // The sources still ask for the features.
    let lints = r#"rust = { unexpected_cfgs = "allow" }"#.parse::<toml::Table>();
    cargo.insert("lints".into(), toml::Value::Table(lints.unwrap_or_default()));
}

/// The workspace that the SDK's manifests inherit from, of these crates only.
fn workspace(mut root: toml::Table, crates: &[&str], used: &BTreeSet<String>) -> toml::Table {
    root.retain(|key, _| key == "workspace");
    if let Some(workspace) = root.get_mut("workspace").and_then(toml::Value::as_table_mut) {
        let members = crates.iter().map(|&dir| toml::Value::from(dir)).collect();
        workspace.insert("members".into(), toml::Value::Array(members));
        workspace.remove("default-members");
        if let Some(list) = workspace.get_mut("dependencies").and_then(toml::Value::as_table_mut) {
            list.retain(|name, _| used.contains(name));
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::manifest::{FILE, Manifest};

    fn files(template: &Template) -> BTreeMap<PathBuf, Vec<u8>> {
        template.files(&FunctionName::new("my-first").unwrap()).unwrap()
    }

    #[test]
    fn each_template_is_a_whole_project_with_its_name_filled_in() {
        for template in TEMPLATES {
            let files = files(template);
            let text = |path: &str| String::from_utf8(files[Path::new(path)].clone()).unwrap();
            let manifest = Manifest::parse(&text(FILE)).unwrap();
            assert_eq!(manifest.name.as_str(), "my-first", "{}", template.name);
            let cases = text("tests.toml");
            assert!(cases.contains("/my-first"), "{}: {cases}", template.name);
            assert!(text(".gitignore").contains("/.mayfly"), "{}", template.name);
            for (path, bytes) in &files {
                let text = String::from_utf8_lossy(bytes);
                let left = text.contains("{{name}}") || text.contains("{{crate}}");
                assert!(!left, "{}: {}", template.name, path.display());
            }
        }
        assert!(Template::named("cobol").unwrap_err().contains("rust-command, rust-model, c, go"));
    }

    #[test]
    fn the_vendored_sdk_has_what_its_manifests_ask_for_and_no_more() {
        for (name, at_most) in [("rust", 30), ("rust-model", 200)] {
            let files = files(&Template::named(name).unwrap());
            let root = &files[Path::new("vendor/mayfly/Cargo.toml")];
            let root: toml::Table = String::from_utf8_lossy(root).parse().unwrap();
            let list = root["workspace"]["dependencies"].as_table().unwrap();
            for (dependency, value) in list {
                let Some(path) = value.get("path").and_then(toml::Value::as_str) else { continue };
                let manifest = Path::new(VENDORED).join(path).join("Cargo.toml");
                assert!(files.contains_key(&manifest), "{name}: {dependency} at {path}");
            }
            assert!(files.len() < at_most, "{name}: {} files", files.len());
            let onnx = files.keys().any(|path| path.ends_with("onnx/load.rs"));
            assert_eq!(onnx, name == "rust-model");
        }
    }
}
