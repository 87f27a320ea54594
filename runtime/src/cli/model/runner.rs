//! The stock runner that models are packed into: where it is, of which build, and which operators it has.

use std::collections::BTreeSet;
use std::path::Path;

use mayfly_abi::{EXPORT_TENSORS_V1, RUNNER_CONFIG, SECTION_OPERATORS, SECTION_RUNNER};
use wasmparser::{Parser, Payload};

use super::super::Failure;
use super::super::stock::Stock;
use super::onnx::{Node, Onnx};

/// Where it is found, and how it is told apart.
const MODELS: Stock = Stock {
    file: "runner.wasm",
    user: "a model",
    option: "--runner or MAYFLY_RUNNER",
    export: EXPORT_TENSORS_V1,
    section: SECTION_RUNNER,
    version: RUNNER_CONFIG,
    build: "make guests",
};
/// Its file.
#[cfg(test)]
pub(super) const NAME: &str = MODELS.file;
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
        let wasm = MODELS.find(named)?;
        let operators =
            Parser::new(0).parse_all(&wasm).map_while(Result::ok).find_map(
                |payload| match payload {
                    Payload::CustomSection(section) if section.name() == SECTION_OPERATORS => {
                        Some(Operators::read(&String::from_utf8_lossy(section.data())))
                    }
                    _ => None,
                },
            );
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
