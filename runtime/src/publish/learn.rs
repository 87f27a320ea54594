//! A model that learns: a shape that requests had and that nothing was ready for is made ready behind them.
//!
//! The stock runner reads from its asset `config.json` which shapes plans are made for. To one more of them it is
//! published anew, in place of the same revision and under its number: what it answers stays as it was, but for the time
//! that it takes. Any other function with open shapes is left alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mayfly_abi::{ASSET_SECTION_PREFIX, SECTION_RUNNER};
use mayfly_core::limits::node as limits;
use mayfly_oip::{InputShapes, Shapes};
use serde_json::{Value, json};
use tokio::sync::Notify;
use wasm_encoder::{CustomSection, Section as _};

use super::error::{PublishError, Stage};
use super::flow::Wanted;
use super::{Publisher, Shared, blocking};
use crate::catalog::Entry;
use crate::revision::{Due, Revision};

/// The asset of the stock runner, and what in it lists shapes that were met.
const CONFIG: &str = "config.json";
const MET: &str = "met";

impl Publisher {
    /// Makes ready what requests ask for again and again, one shape at a time, until the node ends. Between two it rests
    /// as long as the last one took: deploys go on beside it.
    pub async fn learn(&self, met: Arc<Notify>, pause: Duration) {
        loop {
            met.notified().await;
            // One of each model at a time, and until there is none: a word that comes meanwhile is kept once only.
            loop {
                let due = self.shared.all_due(pause);
                if due.is_empty() {
                    break;
                }
                for (revision, shapes, due) in due {
                    let began = Instant::now();
                    self.learn_one(&revision, &shapes, &due).await;
                    tokio::time::sleep(began.elapsed()).await;
                }
            }
        }
    }

    async fn learn_one(&self, revision: &Arc<Revision>, shapes: &Shapes, due: &Due) {
        let (function, met) = (&revision.record.function, &due.shapes);
        match self.shared.learn(revision, shapes, due).await {
            Ok(Learned::Published) => tracing::info!(%function, shapes = ?met, "made ready"),
            Ok(Learned::Known) => revision.met.is_hopeless(met),
            Ok(Learned::NoRunner) => revision.met.give_up(),
            Err(error) => {
                revision.met.failed();
                tracing::warn!(%function, shapes = ?met, "cannot be made ready: {error}");
            }
        }
    }
}

fn due(revision: &Revision, pause: Duration) -> Option<(Shapes, Due)> {
    let shapes = revision.model.get()?.shapes.clone()?;
    let due = revision.met.due(shapes.others, pause)?;
    Some((shapes, due))
}

impl Shared {
    fn all_due(&self, pause: Duration) -> Vec<(Arc<Revision>, Shapes, Due)> {
        let view = self.catalog.load();
        let ready = view.iter().filter_map(|(_, entry)| match entry {
            Entry::Ready(revision) => Some(revision),
            Entry::Preparing(_) => None,
        });
        let due =
            |revision: &Arc<Revision>| due(revision, pause).map(|(s, d)| (revision.clone(), s, d));
        ready.filter_map(due).collect()
    }

    /// Publishes a revision anew with one more shape.
    async fn learn(
        &self,
        revision: &Arc<Revision>,
        shapes: &Shapes,
        due: &Due,
    ) -> Result<Learned, PublishError> {
        let (store, digest) = (self.store.clone(), revision.record.wasm);
        let (shapes, wanted, used) = (shapes.ready.clone(), due.shapes.clone(), due.used);
        let package = blocking(Stage::Validate, move || {
            let Ok(wasm) = store.read_wasm(digest) else { return Ok(Rewritten::NoRunner) };
            let last_used = |met: &InputShapes| {
                let at = shapes.iter().position(|ready| ready == met);
                at.map_or(0, |at| used[at])
            };
            Ok(rewrite(&wasm, |config| add(config, &wanted, last_used)))
        });
        let wasm = match package.await? {
            Rewritten::Package(wasm) => wasm,
            Rewritten::Known => return Ok(Learned::Known),
            Rewritten::NoRunner => return Ok(Learned::NoRunner),
        };
        let wanted = Wanted::Learned { revision: revision.clone(), wasm: wasm.into() };
        self.publish(wanted, &|_| ()).await.map(|_| Learned::Published)
    }
}

/// What came of learning.
enum Learned {
    Published,
    /// The shape is in the configuration already, and the model has refused it.
    Known,
    /// It is nothing that could learn.
    NoRunner,
}

/// A package after a look at its configuration.
#[derive(Debug, PartialEq, Eq)]
enum Rewritten {
    Package(Vec<u8>),
    Known,
    NoRunner,
}

/// A package whose configuration is changed, unless `change` says that there is nothing to change, or nothing that it could
/// change.
fn rewrite(wasm: &Bytes, change: impl Fn(&mut Value) -> Option<bool>) -> Rewritten {
    match rewritten(wasm, change) {
        Some(Some(package)) => Rewritten::Package(package),
        Some(None) => Rewritten::Known,
        None => Rewritten::NoRunner,
    }
}

fn rewritten(wasm: &Bytes, change: impl Fn(&mut Value) -> Option<bool>) -> Option<Option<Vec<u8>>> {
    let name = format!("{ASSET_SECTION_PREFIX}{CONFIG}");
    let (mut is_runner, mut found) = (false, None);
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        let Ok(wasmparser::Payload::CustomSection(section)) = payload else { continue };
        is_runner |= section.name() == SECTION_RUNNER;
        // Read in this process, a hundred bytes of memory for each of some JSON.
        if section.name() == name && section.data().len() <= limits::RUNNER_CONFIG_BYTES {
            found = Some((section.range(), section.data()));
        }
    }
    let (content, data) = found.filter(|_| is_runner)?;
    let mut config: Value = serde_json::from_slice(data).ok()?;
    if !change(&mut config)? {
        return Some(None);
    }
    // Before its content a section has its kind and its length, which an encoder may write longer than it need be.
    let head = 1 + leb_bytes(content.end - content.start);
    let start = content.start.checked_sub(head)?;
    if wasm[start] != 0 {
        return None;
    }
    let data = config.to_string().into_bytes();
    if data.len() > limits::RUNNER_CONFIG_BYTES {
        return None;
    }
    let mut out = wasm[..start].to_vec();
    CustomSection { name: name.into(), data: data.into() }.append_to(&mut out);
    out.extend_from_slice(&wasm[content.end..]);
    Some(Some(out))
}

/// Bytes of a number in LEB128, as an encoder writes it that wastes none.
fn leb_bytes(number: usize) -> usize {
    let bits = (usize::BITS - number.leading_zeros()).max(1) as usize;
    bits.div_ceil(7)
}

/// Adds a shape in place of the one that was not asked for the longest; false if it is in it, nothing if this is no
/// runner's configuration.
fn add(
    config: &mut Value,
    wanted: &InputShapes,
    last_used: impl Fn(&InputShapes) -> u32,
) -> Option<bool> {
    let config = config.as_object_mut()?;
    if !config.contains_key("dims") || !config.contains_key("shapes") {
        return None;
    }
    let met = config.entry(MET).or_insert_with(|| json!([]));
    let mut known: Vec<InputShapes> = serde_json::from_value(met.clone()).ok()?;
    if known.contains(wanted) {
        return Some(false);
    }
    if known.len() >= limits::LEARNED_SHAPES {
        let oldest = (0..known.len()).min_by_key(|&at| last_used(&known[at]));
        oldest.map(|oldest| known.remove(oldest));
    }
    known.push(wanted.clone());
    *met = json!(known);
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(size: u64) -> InputShapes {
        [("x".to_owned(), vec![1, size])].into()
    }

    fn with(config: &str) -> Bytes {
        let mut wasm = wat::parse_str("(module (func (export \"f\")))").unwrap();
        for (name, data) in [
            ("mayfly.asset/config.json", config),
            ("mayfly.asset/model.onnx", "m"),
            ("mayfly.runner", ""),
        ] {
            CustomSection { name: name.into(), data: data.as_bytes().into() }.append_to(&mut wasm);
        }
        wasm.into()
    }

    fn config(wasm: &[u8]) -> Value {
        let sections =
            wasmparser::Parser::new(0).parse_all(wasm).filter_map(|payload| {
                match payload.unwrap() {
                    wasmparser::Payload::CustomSection(section) => {
                        Some((section.name(), section.data()))
                    }
                    _ => None,
                }
            });
        let sections: Vec<_> = sections.collect();
        assert_eq!(sections[1], ("mayfly.asset/model.onnx", &b"m"[..]));
        serde_json::from_slice(sections[0].1).unwrap()
    }

    #[test]
    fn a_runner_is_told_of_one_more_shape_and_nothing_else_changes() {
        let wasm = with(r#"{"dims":{},"shapes":{},"labels":false}"#);
        let learn = |wasm: &Bytes, size| rewrite(wasm, |config| add(config, &shapes(size), |_| 0));
        let package = |rewritten| match rewritten {
            Rewritten::Package(package) => package,
            other => panic!("{other:?}"),
        };
        let learned = package(learn(&wasm, 5));
        let told = config(&learned);
        assert_eq!(
            told,
            json!({"dims": {}, "shapes": {}, "labels": false, "met": [{"x": [1, 5]}]})
        );
        // Longer than a length of one byte can say.
        let mut long: Bytes = learned.into();
        for size in 6..60 {
            long = package(learn(&long, size)).into();
        }
        assert_eq!(config(&long)["met"].as_array().unwrap().len(), limits::LEARNED_SHAPES);
        assert_eq!(learn(&long, 59), Rewritten::Known);
        let large = format!(
            r#"{{"dims":{{}},"shapes":{{}},"z":"{}"}}"#,
            "z".repeat(limits::RUNNER_CONFIG_BYTES)
        );
        for other in ["{}", "[]", "no json", r#"{"dims":{},"shapes":{},"met":7}"#, &large] {
            assert_eq!(learn(&with(other), 5), Rewritten::NoRunner);
        }
        // A function of somebody's own is left alone, whatever its asset is called.
        let own = wasm.slice(..wasm.len() - "mayfly.runner".len() - 3);
        assert_eq!(learn(&own, 5), Rewritten::NoRunner);
    }

    #[test]
    fn the_shape_that_was_not_asked_for_the_longest_is_forgotten() {
        let mut config = json!({"dims": {}, "shapes": {}});
        for size in 0..limits::LEARNED_SHAPES as u64 {
            assert_eq!(add(&mut config, &shapes(size), |_| 0), Some(true));
        }
        let last_used = |met: &InputShapes| if met["x"][1] == 3 { 1 } else { 7 };
        assert_eq!(add(&mut config, &shapes(99), last_used), Some(true));
        let known: Vec<InputShapes> = serde_json::from_value(config["met"].clone()).unwrap();
        assert!(!known.contains(&shapes(3)) && known.contains(&shapes(99)), "{known:?}");
    }
}
