//! Names for functions of compiled code, from the module as it was uploaded: what is compiled has none, and other indices.
//!
//! A name section is a stranger's: it may be absent, broken, of any length, and its names may hold anything. What cannot
//! be read is left out; what is shown is cut and escaped.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Write as _};

use mayfly_core::limits::node::PROFILE_NAME_BYTES;
use mayfly_observe::logs::escape;
use wasmparser::{ExternalKind, KnownCustom, Name, Parser, Payload};

use super::guard::{Origin, Origins};

/// Where a module's names come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Its name section.
    Names,
    /// Its exports alone: a linker stripped the names.
    Exports,
    /// Nowhere: the module cannot be read.
    Nowhere,
}

/// A function, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Symbol {
    /// The module's own.
    Own(String),
    /// What the engine puts in place of an instruction.
    Instruction(&'static str),
    /// It only calls an import.
    Thunk,
}

/// Names of some of a module's functions.
#[derive(Debug)]
pub struct Symbols {
    /// Where they come from.
    pub source: Source,
    origins: Option<Origins>,
    names: HashMap<u32, String>,
    exports: HashMap<u32, String>,
    entry: Option<u32>,
}

impl Symbols {
    /// For these functions of the compiled code, and the export by which it is entered.
    #[must_use]
    pub fn of(upload: &[u8], compiled: &BTreeSet<u32>, entry: &str) -> Self {
        let mut symbols = Self {
            source: Source::Nowhere,
            origins: Origins::of(upload).ok(),
            names: HashMap::new(),
            exports: HashMap::new(),
            entry: None,
        };
        let Some(origins) = &symbols.origins else { return symbols };
        symbols.source = Source::Exports;
        let own = |index: &u32| match origins.origin(*index) {
            Origin::Own(index) => Some(index),
            Origin::Thunk(_) | Origin::Helper(_) | Origin::Unknown => None,
        };
        let (mut exports, mut names) = (HashMap::new(), HashMap::new());
        let mut wanted: BTreeSet<u32> = compiled.iter().filter_map(own).collect();
        for payload in Parser::new(0).parse_all(upload).map_while(Result::ok) {
            match payload {
                Payload::ExportSection(section) => {
                    for export in section.into_iter().map_while(Result::ok) {
                        if export.kind != ExternalKind::Func {
                            continue;
                        }
                        if export.name == entry {
                            symbols.entry = Some(export.index);
                            wanted.insert(export.index);
                        }
                        if wanted.contains(&export.index) {
                            exports.insert(export.index, export.name);
                        }
                    }
                }
                Payload::CustomSection(section) => {
                    let KnownCustom::Name(parts) = section.as_known() else { continue };
                    for name in parts.into_iter().map_while(Result::ok) {
                        let Name::Function(functions) = name else { continue };
                        symbols.source = Source::Names;
                        let known = functions.into_iter().map_while(Result::ok);
                        let known = known.filter(|name| wanted.contains(&name.index));
                        names.extend(known.map(|name| (name.index, name.name)));
                    }
                }
                _ => {}
            }
        }
        // Once for each function, however often a module names it: a name may take a millisecond.
        let shown = |(index, name): (u32, &str)| (index, shown(name));
        symbols.exports = exports.into_iter().map(shown).collect();
        symbols.names = names.into_iter().map(shown).collect();
        symbols
    }

    /// What a compiled function is.
    #[must_use]
    pub fn symbol(&self, compiled: u32) -> Symbol {
        let Some(origins) = &self.origins else { return Symbol::Own(format!("func[{compiled}]")) };
        match origins.origin(compiled) {
            Origin::Own(index) => Symbol::Own(self.name(index)),
            Origin::Thunk(_) => Symbol::Thunk,
            Origin::Helper(instruction) => Symbol::Instruction(instruction),
            // Code of another module than the upload, which a test rules out.
            Origin::Unknown => Symbol::Own(format!("unknown[{compiled}]")),
        }
    }

    /// The function by which requests enter.
    #[must_use]
    pub fn entry(&self) -> Option<String> {
        self.entry.map(|index| self.name(index))
    }

    /// By its index in the upload.
    fn name(&self, index: u32) -> String {
        let name = self.names.get(&index).or_else(|| self.exports.get(&index));
        name.cloned().unwrap_or_else(|| format!("func[{index}]"))
    }
}

/// A name as it may be shown: Rust's demangled, without a hash, cut, and with nothing in it that a terminal obeys.
fn shown(name: &str) -> String {
    let mut cut = Cut(String::new());
    // An error is an end, and not of the name's beginning.
    let _ = match rustc_demangle::try_demangle(name) {
        Ok(demangled) => write!(cut, "{demangled:#}"),
        Err(_) => cut.write_str(name),
    };
    escape(cut.0.as_bytes())
}

/// Takes `PROFILE_NAME_BYTES`, and nothing after that: a short name can stand for gigabytes.
struct Cut(String);

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = PROFILE_NAME_BYTES - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = r#"(module $m
        (import "a" "a" (func $imported))
        (memory 1)
        (func $_ZN4core3fmt5write17h0123456789abcdefE (call $imported))
        (func $plain (export "exported") (param i32)
            (memory.fill (local.get 0) (local.get 0) (local.get 0)))
        (func (export "mayfly_handle")))"#;

    fn symbols(wasm: &[u8]) -> Symbols {
        Symbols::of(wasm, &(0..10).collect(), "mayfly_handle")
    }

    fn own(name: &str) -> Symbol {
        Symbol::Own(name.into())
    }

    #[test]
    fn names_are_the_uploads_whatever_was_done_to_the_code() {
        let symbols = symbols(&wat::parse_str(MODULE).unwrap());
        assert_eq!(symbols.source, Source::Names);
        assert_eq!(symbols.symbol(1), own("core::fmt::write"));
        assert_eq!(symbols.symbol(2), own("plain"));
        assert_eq!(symbols.symbol(3), own("mayfly_handle"));
        assert_eq!(symbols.symbol(4), Symbol::Thunk);
        assert_eq!(symbols.symbol(5), Symbol::Instruction("memory.fill"));
        assert_eq!(symbols.entry().as_deref(), Some("mayfly_handle"));
    }

    #[test]
    fn without_names_there_are_exports_and_the_uploads_indices() {
        let named = MODULE.replace("$m", "").replace("$plain", "");
        let bare = named.replace("$_ZN4core3fmt5write17h0123456789abcdefE", "");
        let wasm =
            wat::parse_str(bare.replace("(func $imported)", "(func)").replace("$imported", "0"));
        let symbols = symbols(&wasm.unwrap());
        assert_eq!(symbols.source, Source::Exports);
        assert_eq!(symbols.symbol(1), own("func[1]"));
        assert_eq!(symbols.symbol(2), own("exported"));
    }

    #[test]
    fn a_name_is_cut_and_obeyed_by_nobody() {
        assert_eq!(shown("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(shown(&"é".repeat(1_000)), "é".repeat(PROFILE_NAME_BYTES / 2));
        // Doubles at each step: 27 bytes of it are a gigabyte.
        let bomb = format!("_RMC0{}", "TB2_".repeat(30) + &"B3_E".repeat(30));
        assert!(shown(&bomb).len() <= PROFILE_NAME_BYTES);
        assert!(symbols(b"\0asm").source == Source::Nowhere || symbols(b"\0asm").names.is_empty());
    }

    #[test]
    fn a_broken_name_section_gives_what_can_be_read() {
        let wasm = wat::parse_str(MODULE).unwrap();
        for cut in 1..200.min(wasm.len() - 8) {
            let symbols = symbols(&wasm[..wasm.len() - cut]);
            // Nothing else is promised.
            let _ = (symbols.symbol(1), symbols.symbol(1_000_000), symbols.entry());
        }
    }
}
