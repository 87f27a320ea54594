//! The stock runner that models are packed into: where it is, of which build, and which operators it has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mayfly_abi::{EXPORT_TENSORS_V1, RUNNER_CONFIG, SECTION_OPERATORS, SECTION_RUNNER};
use wasmparser::{Parser, Payload};

use super::super::{Failure, code};
use super::onnx::{Node, Onnx};
use super::read;

/// Its file.
pub(super) const NAME: &str = "runner.wasm";
/// Before a domain in its list.
const DOMAIN: &str = "domain ";
/// Nodes that are named in a refusal; the rest are counted.
const LISTED: usize = 20;

/// A runner that this build knows how to use.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) wasm: Vec<u8>,
    /// Operators that it says it has; nothing if it does not say.
    operators: Option<Operators>,
}

#[derive(Debug)]
struct Operators {
    domains: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Operators {
    fn read(list: &str) -> Self {
        let (domains, names): (Vec<_>, _) = list.lines().partition(|line| line.starts_with(DOMAIN));
        let domains = domains.iter().filter_map(|line| line.strip_prefix(DOMAIN));
        Self {
            domains: domains.map(str::to_owned).collect(),
            names: names.into_iter().map(str::to_owned).collect(),
        }
    }

    fn have(&self, node: &Node) -> bool {
        // Somebody else's may have any name, and be another one.
        let ours = node.domain.is_empty() || self.domains.contains(&node.domain);
        ours && self.names.contains(&node.operator)
    }
}

impl Runner {
    /// The one that was named, else the one that came with this binary.
    ///
    /// # Errors
    /// Where it was looked for, or why it cannot be used.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, Failure> {
        if let Some(path) = named {
            return Self::load(path, read(path)?);
        }
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
        let places = beside.map_or_else(Vec::<PathBuf>::new, |dir| {
            vec![dir.join(NAME), dir.join("../share/mayfly").join(NAME)]
        });
        if let Some(found) = places.iter().find(|path| path.is_file()) {
            return Self::load(found, read(found)?);
        }
        let places: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
        Err(failed(format!(
            "a model needs the stock runner, which was not found in {}\nhint: `make guests` builds it; name it with --runner or \
             MAYFLY_RUNNER",
            places.join(", ")
        )))
    }

    fn load(path: &Path, wasm: Vec<u8>) -> Result<Self, Failure> {
        let (mut is_runner, mut version, mut operators) = (false, None, None);
        for payload in Parser::new(0).parse_all(&wasm).map_while(Result::ok) {
            match payload {
                Payload::ExportSection(exports) => {
                    let mut names = exports.into_iter().map_while(Result::ok);
                    is_runner |= names.any(|export| export.name == EXPORT_TENSORS_V1);
                }
                Payload::CustomSection(section) if section.name() == SECTION_RUNNER => {
                    version = section.data().try_into().ok().map(u32::from_le_bytes);
                }
                Payload::CustomSection(section) if section.name() == SECTION_OPERATORS => {
                    let list = String::from_utf8_lossy(section.data());
                    operators = Some(Operators::read(&list));
                }
                _ => {}
            }
        }
        let path = path.display();
        if !is_runner {
            return Err(failed(format!(
                "{path} is no runner: it does not export `{EXPORT_TENSORS_V1}`\nhint: `make guests` builds {NAME}"
            )));
        }
        if version != Some(RUNNER_CONFIG) {
            let its = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
            return Err(failed(format!(
                "{path} is of another build than this mayfly: the version of its configuration is {its}, not \
                 {RUNNER_CONFIG}\nhint: `make guests` builds it anew; where Mayfly was installed, install binary and \
                 {NAME} together"
            )));
        }
        Ok(Self { wasm, operators })
    }

    /// Looks for nodes whose operators it does not have, and gives the words for them. What it does not say of itself
    /// nobody knows before it runs.
    pub(super) fn lacks(&self, onnx: &Onnx) -> Option<String> {
        let known = self.operators.as_ref()?;
        let unknown: Vec<_> = onnx.nodes.iter().filter(|node| !known.have(node)).collect();
        let shown: Vec<_> = unknown.iter().take(LISTED).map(|node| describe(node)).collect();
        let more = match unknown.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!unknown.is_empty())
            .then(|| format!("operators that are not supported: {}{more}", shown.join(", ")))
    }

    /// Whether it says which operators it has.
    pub(super) fn lists_operators(&self) -> bool {
        self.operators.is_some()
    }
}

/// `name (domain.Operator)`
fn describe(node: &Node) -> String {
    let domain = if node.domain.is_empty() { "" } else { "." };
    let words = format!("{} ({}{domain}{})", node.name, node.domain, node.operator);
    mayfly_observe::logs::escape(words.as_bytes()).to_string()
}

fn failed(why: String) -> Failure {
    Failure::new(code::FAILED, why)
}
