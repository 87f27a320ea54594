//! What a file is, whether Mayfly can run it, and what to change if it cannot: `mayfly check`.
//!
//! The verdict is [`mayfly_publish::validate`]'s own, so that what passes here passes a deploy; beside it stands what a
//! person wants to know before.

use bytes::Bytes;
use mayfly_core::Limits;
use mayfly_core::record::Abi;
use mayfly_core::units::human_size;
use mayfly_host::imports::WASI;
use mayfly_publish::validate::{self, Inspection};
use serde::Serialize;
use wasmparser::{ExternalKind, Parser, Payload};

/// Imports, exports and assets that are shown by name; what is over is counted.
const SHOWN: usize = 200;
/// Code from which starting up can be expected to take a while: a language's runtime comes with it.
const LARGE_CODE: u64 = 1 << 20;

/// A file that can be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `command`, `reactor` or `model`.
    pub kind: &'static str,
    /// How a request reaches it, in words.
    pub abi: &'static str,
    /// Length of the file, in bytes.
    pub file_bytes: u64,
    /// Bytes of its code section.
    pub code_bytes: u64,
    /// Bytes of names and debug information, which nothing here needs.
    pub debug_bytes: u64,
    /// Memory it starts with, in bytes.
    pub memory_bytes: u64,
    /// Bytes of it that data segments fill.
    pub image_bytes: u64,
    /// Functions it imports, as `module::name`.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Assets it carries, with their length in bytes.
    pub assets: Vec<(String, u64)>,
    /// Whether a snapshot is possible and worthwhile, in words.
    pub snapshot: String,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// A file that cannot be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfit {
    /// Why.
    pub why: String,
    /// What to change.
    pub hint: String,
}

/// Looks at a file.
///
/// # Errors
/// [`Unfit`] says why it cannot be deployed and what to do about it.
pub fn check(file: &Bytes, limits: &Limits) -> Result<Report, Unfit> {
    let unfit = |refusal: validate::Refusal| {
        let hint = component_hint(file).unwrap_or_else(|| refusal.hint());
        Unfit { why: refusal.to_string(), hint }
    };
    validate::validate(file, limits).map_err(unfit)?;
    let found = validate::check(file, limits).map_err(unfit)?;
    Ok(report(file, &found))
}

fn report(file: &[u8], found: &Inspection) -> Report {
    let sections = Sections::read(file);
    let model = sections.exports.iter().any(|name| name == mayfly_abi::EXPORT_TENSORS_V1);
    let (kind, abi) = match (found.abi, model) {
        (Abi::Command, _) => {
            ("command", "CGI/1.1: a fresh instance for each request, on stdin and stdout")
        }
        (Abi::Reactor, false) => {
            ("reactor", "the SDK's: `mayfly_handle` for each request, streamed")
        }
        (Abi::Reactor, true) => {
            ("model", "the SDK's, and tensor frames for the Open Inference Protocol")
        }
    };
    let snapshot = snapshot(found, sections.code_bytes);
    let notes = sections.notes();
    Report {
        kind,
        abi,
        file_bytes: file.len() as u64,
        code_bytes: sections.code_bytes,
        debug_bytes: sections.debug_bytes,
        memory_bytes: found.memory_bytes,
        image_bytes: found.image_bytes,
        imports: capped(sections.imports),
        exports: capped(sections.exports),
        assets: found
            .assets
            .iter()
            .map(|(name, range)| (name.clone(), range.len() as u64))
            .collect(),
        snapshot,
        notes,
    }
}

fn snapshot(found: &Inspection, code_bytes: u64) -> String {
    let obstacles = found.obstacles.join(", ");
    match (found.init, found.obstacles.is_empty()) {
        (Some(init), true) => format!("taken at deploy, after `{init}`"),
        (Some(init), false) => {
            format!("not possible: it uses {obstacles}; `{init}` runs for each request")
        }
        (None, false) => format!("not possible: it uses {obstacles}"),
        (None, true) => {
            let worth = if code_bytes >= LARGE_CODE {
                "worthwhile if it starts slowly: `mayfly serve --server-timing` shows what a request's call takes"
            } else {
                "hardly worthwhile: it is small and starts quickly"
            };
            let export = match found.abi {
                Abi::Command => mayfly_abi::EXPORT_INIT_WIZER,
                Abi::Reactor => mayfly_abi::EXPORT_INIT,
            };
            format!("none: there is no export `{export}`; {worth}")
        }
    }
}

/// Each name once: a module may import a function by several types of its own.
fn capped(names: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut names: Vec<_> = names.into_iter().filter(|name| seen.insert(name.clone())).collect();
    let over = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    if over > 0 {
        names.push(format!("and {over} more"));
    }
    names
}

/// What stands in the sections of a module that is valid.
#[derive(Default)]
struct Sections {
    imports: Vec<String>,
    exports: Vec<String>,
    code_bytes: u64,
    debug_bytes: u64,
}

impl Sections {
    fn read(wasm: &[u8]) -> Self {
        let mut sections = Self::default();
        // It was valid a moment ago, so that what is read here is all of it.
        for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
            match payload {
                Payload::ImportSection(section) => {
                    let imports = section.into_imports().map_while(Result::ok);
                    let names = imports.map(|import| format!("{}::{}", import.module, import.name));
                    sections.imports.extend(names);
                }
                Payload::ExportSection(section) => {
                    let exports = section.into_iter().map_while(Result::ok);
                    let functions = exports.filter(|export| {
                        matches!(export.kind, ExternalKind::Func | ExternalKind::Memory)
                    });
                    sections.exports.extend(functions.map(|export| export.name.to_owned()));
                }
                Payload::CodeSectionStart { size, .. } => sections.code_bytes = u64::from(size),
                Payload::CustomSection(section)
                    if section.name() == "name" || section.name().starts_with(".debug_") =>
                {
                    sections.debug_bytes += section.data().len() as u64;
                }
                _ => {}
            }
        }
        sections
    }

    fn notes(&self) -> Vec<String> {
        let imports = |name: &str| self.imports.contains(&format!("{WASI}::{name}"));
        let mut notes = Vec::new();
        if imports("path_open") {
            notes.push(
                "it may open files: no directory is open here, so each attempt fails; carry files as assets, or in the \
                 program"
                    .to_owned(),
            );
        }
        if ["sock_accept", "sock_recv", "sock_send"].iter().any(|name| imports(name)) {
            notes.push("it may use sockets: there are none here, so each attempt fails".to_owned());
        }
        if self.debug_bytes > 100 << 10 {
            let size = human_size(self.debug_bytes);
            notes.push(format!("{size} of it are names and debug information: strip them"));
        }
        notes
    }
}

/// The way out for a component, by what it was made for.
fn component_hint(file: &[u8]) -> Option<String> {
    if !matches!(file, [0, b'a', b's', b'm', _, _, 1, 0, ..]) {
        return None;
    }
    let mut names = Vec::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(file).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentExportSection(section) if depth == 0 => {
                let exports = section.into_iter().map_while(Result::ok);
                names.extend(exports.map(|export| export.name.name.to_owned()));
            }
            _ => {}
        }
    }
    let exports = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    Some(if exports("wasi:http/") {
        "it serves wasi:http, and Mayfly runs core modules: build for wasm32-wasip1, as a program that speaks CGI \
         (docs/languages.md) or with the crate `mayfly`"
            .to_owned()
    } else if exports("wasi:cli/run") {
        "it is a command built for wasip2: build the same source for wasm32-wasip1 (GOOS=wasip1, --target \
         wasm32-wasip1, -target wasm32-wasi), without `wasm-tools component new`"
            .to_owned()
    } else {
        let shown: Vec<_> = names.iter().take(10).map(String::as_str).collect();
        format!(
            "Mayfly runs core modules for wasm32-wasip1; this component exports {}",
            if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(wat: &str) -> Result<Report, Unfit> {
        check(&wat::parse_str(wat).unwrap().into(), &Limits::default())
    }

    const COMMAND: &str = r#"(module
        (import "wasi_snapshot_preview1" "path_open"
            (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (memory (export "memory") 2)
        (data (i32.const 0) "x")
        (func (export "_start")) INIT)"#;

    #[test]
    fn a_command_is_described() {
        let report = checked(&COMMAND.replace("INIT", "")).unwrap();
        assert_eq!(
            (report.kind, report.memory_bytes, report.image_bytes),
            ("command", 128 << 10, 4096)
        );
        assert_eq!(report.imports, ["wasi_snapshot_preview1::path_open"]);
        assert_eq!(report.exports, ["memory", "_start"]);
        assert!(
            report.snapshot.contains("export `wizer-initialize`; hardly worthwhile"),
            "{report:?}"
        );
        assert!(report.notes[0].contains("no directory is open"), "{report:?}");
    }

    #[test]
    fn an_init_is_a_snapshot_unless_something_stands_in_its_way() {
        let with = |init: &str| checked(&COMMAND.replace("INIT", init)).unwrap().snapshot;
        let init = r#"(func (export "wizer-initialize"))"#;
        assert_eq!(with(init), "taken at deploy, after `wizer-initialize`");
        let table = "(table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))";
        assert!(
            with(&format!("{init} {table}"))
                .starts_with("not possible: it uses table.grow; `wizer")
        );
    }

    #[test]
    fn a_model_is_told_by_its_mark() {
        let names = ["mayfly_abi_1", "mayfly_handle", "mayfly_tensors_1"];
        let functions: String =
            names.iter().map(|name| format!("(func (export \"{name}\"))")).collect();
        let report =
            checked(&format!("(module (memory (export \"memory\") 1) {functions})")).unwrap();
        assert_eq!(report.kind, "model");
    }

    #[test]
    fn a_component_is_told_the_way_out() {
        let export = |name: &str| {
            format!(
                r#"(component (component $c) (instance $i (instantiate $c)) (export "{name}" (instance $i)))"#
            )
        };
        for (name, expected) in [
            ("wasi:http/incoming-handler@0.2.0", "it serves wasi:http"),
            ("wasi:cli/run@0.2.3", "build the same source for wasm32-wasip1"),
            ("a:b/c", "exports a:b/c"),
        ] {
            let unfit = checked(&export(name)).unwrap_err();
            assert!(unfit.why.contains("a WebAssembly component"), "{unfit:?}");
            assert!(unfit.hint.contains(expected), "{unfit:?}");
        }
    }

    #[test]
    fn other_files_are_named() {
        for (file, expected) in [
            (&b"\x7fELF\x02\x01\x01\0"[..], "native code"),
            (b"PK\x03\x04", "zip archive"),
            (b"<!doctype html>", "HTML"),
            (b"", "empty file"),
        ] {
            let unfit = check(&Bytes::from_static(file), &Limits::default()).unwrap_err();
            assert!(unfit.why.contains(expected) && !unfit.hint.is_empty(), "{unfit:?}");
        }
    }
}
