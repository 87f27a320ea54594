//! The files of a script: its own, and what it imports.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Component, Path, PathBuf};

use mayfly_abi::limits::{ASSET_NAME_BYTES, ASSETS};
use mayfly_core::limits::node;

use super::super::stock::read;
use super::super::{Failure, code};
use super::imports::{self, Import};
use super::strip;

/// A file as it is packed.
#[derive(Debug)]
pub(super) struct File {
    /// From the directory that holds all of them.
    pub(super) path: String,
    pub(super) kind: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// Why a script's files are not all there.
#[derive(Debug)]
pub(super) enum Missing {
    /// It imports a package, which a bundler finds.
    Package(Failure),
    /// What no bundler mends.
    Other(Failure),
}

impl From<Failure> for Missing {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

/// A script and all that it imports.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) entry: String,
    pub(super) all: Vec<File>,
    pub(super) notes: Vec<String>,
}

/// What an import can have been meant as, in the order in which that is tried.
fn candidates(path: &Path) -> Vec<PathBuf> {
    let with = |extension: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(extension);
        PathBuf::from(name)
    };
    let mut all = vec![path.to_owned(), with(".js"), with(".mjs"), with(".ts"), with(".mts")];
    // TypeScript's own way to write the import of x.ts.
    if path.extension().is_some_and(|extension| extension == "js") {
        all.push(path.with_extension("ts"));
    }
    all.extend([path.join("index.js"), path.join("index.ts")]);
    all
}

/// What is imported of a file with this extension, and with `with { type: ... }` where that is said.
fn kind_of(path: &Path, said: Option<&str>) -> Result<&'static str, String> {
    match said {
        Some("json") => return Ok("json"),
        Some("text") => return Ok("text"),
        Some("bytes" | "buffer") => return Ok("bytes"),
        Some(other) => {
            return Err(format!(
                "there is no import with the type \"{other}\"; there are json, text and bytes"
            ));
        }
        None => {}
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    Ok(match extension {
        "js" | "mjs" | "ts" | "mts" => "script",
        "json" => "json",
        "txt" | "html" | "htm" | "css" | "md" | "sql" | "csv" | "svg" | "xml" => "text",
        "bin" | "png" | "jpg" | "jpeg" | "gif" | "webp" | "ico" => "bytes",
        "wasm" => return Err("WebAssembly cannot be imported by a script".to_owned()),
        other if super::NEEDS_BUNDLER.contains(&other) => return Err(bundle_hint(other)),
        other => {
            return Err(format!(
                "a file with the extension \"{other}\" is imported with {{ type: \"text\" }} or \"bytes\""
            ));
        }
    })
}

/// What to do with what has to be bundled.
pub(super) fn bundle_hint(extension: &str) -> String {
    let what = match extension {
        "jsx" | "tsx" => "JSX has to be made JavaScript first",
        _ => "CommonJS has to be made a module first",
    };
    format!(
        "{what}\nhint: esbuild FILE --bundle --format=esm --outfile=app.js, then mayfly deploy app.js"
    )
}

/// Reads a script and what it imports.
///
/// # Errors
/// Which file has what wrong, and where.
pub(super) fn collect(entry: &Path) -> Result<Files, Missing> {
    let absolute =
        std::path::absolute(entry).map(|path| plain(&path)).unwrap_or_else(|_| entry.to_owned());
    let mut found: BTreeMap<PathBuf, (&'static str, Vec<u8>)> = BTreeMap::new();
    let mut notes = Vec::new();
    let mut queue = VecDeque::from([(absolute.clone(), "script")]);
    let mut size = 0;
    while let Some((path, kind)) = queue.pop_front() {
        if found.contains_key(&path) {
            continue;
        }
        let mut bytes = read(&path)?;
        size += bytes.len() as u64;
        if size > node::PACKAGE_BYTES {
            return Err(failed(
                &path,
                "the script and its imports are larger than a module may be (PACKAGE_BYTES)",
            )
            .into());
        }
        if kind == "script" {
            let text = String::from_utf8(bytes).map_err(|_| failed(&path, "it is not UTF-8"))?;
            let is_typescript =
                path.extension().is_some_and(|extension| extension == "ts" || extension == "mts");
            let text = match is_typescript {
                true => strip::types(&text).map_err(|why| failed_at(&path, &text, &why))?,
                false => text,
            };
            for import in imports::of(&text).map_err(|why| failed_at(&path, &text, &why))? {
                let (target, kind) = resolve(&path, &text, &import)?;
                queue.push_back((target, kind));
            }
            bytes = text.into_bytes();
        }
        found.insert(path, (kind, bytes));
        if found.len() >= ASSETS {
            let why = format!(
                "a script has at most {} files\nhint: esbuild FILE --bundle --format=esm --outfile=app.js makes one of them",
                ASSETS - 1
            );
            return Err(failed(entry, &why).into());
        }
    }
    let root = common(found.keys());
    let name =
        |path: &Path| path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
    let entry = name(&absolute);
    let mut all = Vec::new();
    for (path, (kind, bytes)) in found {
        let own = name(&path);
        if own.len() + "file/".len() > ASSET_NAME_BYTES {
            return Err(failed(&path, "its path is longer than the name of an asset may be").into());
        }
        all.push(File { path: own, kind, bytes });
    }
    if all.len() > 1 {
        notes.push(format!("{} files: {}", all.len(), shown(&all)));
    }
    Ok(Files { entry, all, notes })
}

fn shown(all: &[File]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<_> = all.iter().take(SHOWN).map(|file| file.path.as_str()).collect();
    if all.len() > SHOWN {
        names.push("...");
    }
    names.join(", ")
}

fn resolve(from: &Path, text: &str, import: &Import) -> Result<(PathBuf, &'static str), Missing> {
    let wrong = |what: String| failed_at(from, text, &strip::Refused { at: import.at, why: what });
    let name = &import.name;
    if !name.starts_with("./") && !name.starts_with("../") {
        let hint = match name.split_once(':') {
            Some(("node" | "cloudflare", _)) => {
                "there are no built-in modules; docs/javascript.md lists what there is"
            }
            Some(("http" | "https" | "npm" | "jsr", _)) => {
                "nothing is fetched at a deploy: bundle it, as by esbuild --bundle"
            }
            _ => {
                let hint = "a package is found by esbuild, in node_modules or on the path: npm install --save-dev esbuild";
                let why = wrong(format!("cannot import \"{name}\"\nhint: {hint}"));
                return Err(Missing::Package(why));
            }
        };
        return Err(wrong(format!("cannot import \"{name}\"\nhint: {hint}")).into());
    }
    let wanted = plain(&from.parent().unwrap_or(Path::new("/")).join(name));
    let found = candidates(&wanted).into_iter().find(|path| path.is_file());
    let found = found.ok_or_else(|| wrong(format!("there is no file {}", wanted.display())))?;
    let kind = kind_of(&found, import.kind.as_deref())
        .map_err(|why| wrong(format!("cannot import \"{name}\": {why}")))?;
    Ok((found, kind))
}

/// A script whose imports a bundler has put into it.
pub(super) fn bundled(entry: &Path, bytes: Vec<u8>) -> Files {
    let path = entry.file_stem().unwrap_or_default().to_string_lossy().into_owned() + ".bundle.js";
    let notes = vec![format!(
        "it imports packages: esbuild has made {path} of it, whose lines errors have"
    )];
    Files { entry: path.clone(), all: vec![File { path, kind: "script", bytes }], notes }
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}

/// The directory that holds all of these files.
fn common<'p>(mut paths: impl Iterator<Item = &'p PathBuf>) -> PathBuf {
    let mut root = paths.next().and_then(|path| path.parent()).unwrap_or(Path::new("/")).to_owned();
    for path in paths {
        while !path.starts_with(&root) && root.pop() {}
    }
    root
}

fn failed(path: &Path, why: &str) -> Failure {
    Failure::new(code::FAILED, format!("{}: {why}", path.display()))
}

/// With the line and the column of what is wrong.
fn failed_at(path: &Path, text: &str, refused: &strip::Refused) -> Failure {
    let before = &text[..refused.at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Failure::new(code::FAILED, format!("{}:{line}:{column}: {}", path.display(), refused.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn what_a_script_imports_comes_with_it() {
        let dir = dir(&[
            (
                "src/app.ts",
                "import { a } from './lib.js';\nimport data from '../data.json';\nimport t from './t.txt';\nexport default { fetch: (): number => a + data + t };",
            ),
            ("src/lib.ts", "export const a: number = 1; const b = () => import('./late');"),
            ("src/late.js", "export default 1"),
            ("data.json", "{}"),
            ("src/t.txt", "words"),
            ("src/unused.js", "throw 1"),
        ]);
        let files = collect(&dir.path().join("src/app.ts")).unwrap();
        let names: Vec<_> = files.all.iter().map(|file| (file.path.as_str(), file.kind)).collect();
        assert_eq!(files.entry, "src/app.ts");
        assert_eq!(
            names,
            [
                ("data.json", "json"),
                ("src/app.ts", "script"),
                ("src/late.js", "script"),
                ("src/lib.ts", "script"),
                ("src/t.txt", "text")
            ]
        );
        let app = String::from_utf8(files.all[1].bytes.clone()).unwrap();
        assert!(app.contains("fetch: ()         => a + data + t"), "{app}");
    }

    #[test]
    fn what_cannot_be_imported_is_told_with_its_place() {
        for (text, expected) in [
            (
                "\n  import x from 'hono';",
                "app.js:2:17: cannot import \"hono\"\nhint: a package is found by esbuild",
            ),
            ("import x from './none.js';", "app.js:1:15: there is no file /"),
            ("import fs from 'node:fs'", "no built-in modules"),
            ("import v from './v.jsx'", "JSX has to be made JavaScript"),
            ("import v from './v.dat'", "imported with { type: \"text\" }"),
        ] {
            let dir = dir(&[("app.js", text), ("v.jsx", ""), ("v.dat", "")]);
            let (Missing::Package(why) | Missing::Other(why)) =
                collect(&dir.path().join("app.js")).unwrap_err();
            let why = why.text;
            assert!(why.contains(expected), "{why}");
        }
    }
}
