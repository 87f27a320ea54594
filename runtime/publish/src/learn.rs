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
use mayfly_host::catalog::Entry;
use mayfly_host::engine::trim::Thrift;
use mayfly_host::revision::{Due, Revision};
use mayfly_oip::{InputShapes, Shapes};
use serde_json::{Value, json};
use tokio::sync::Notify;
use wasm_encoder::{CustomSection, Module, RawSection};
use wasmparser::{CustomSectionReader, Parser, Payload};

use super::error::{PublishError, Stage};
use super::flow::Wanted;
use super::{Publisher, Shared, blocking, give_back};

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
        let thrift = Thrift::begin();
        match self.shared.learn(revision, shapes, due).await {
            Ok(Learned::Done(())) => tracing::info!(%function, shapes = ?met, "made ready"),
            Ok(Learned::Known) => revision.met.is_hopeless(met),
            Ok(Learned::NoRunner) => revision.met.give_up(),
            Err(error) => {
                revision.met.failed();
                tracing::warn!(%function, shapes = ?met, "cannot be made ready: {error}");
            }
        }
        give_back(thrift);
    }
}

fn due(revision: &Revision, pause: Duration) -> Option<(Shapes, Due)> {
    let shapes = revision.model.get()?.shapes.clone()?;
    let due = revision.met.due(pause)?;
    Some((shapes, due))
}

impl Shared {
    fn all_due(&self, pause: Duration) -> Vec<(Arc<Revision>, Shapes, Due)> {
        let view = self.catalog.load();
        let ready = view.entries().filter_map(|entry| match entry {
            Entry::Ready(revision) => Some(revision),
            Entry::Loading(_) | Entry::Preparing(_) => None,
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
    ) -> Result<Learned<()>, PublishError> {
        let (store, digest) = (self.store.clone(), revision.record.wasm);
        let (shapes, wanted, used) = (shapes.ready.clone(), due.shapes.clone(), due.used);
        let package = blocking(Stage::Validate, move || {
            let Ok(wasm) = store.read_wasm(digest) else { return Ok(Learned::NoRunner) };
            let last_used = |met: &InputShapes| {
                let at = shapes.iter().position(|ready| ready == met);
                at.map_or(0, |at| used[at])
            };
            Ok(rewrite(&wasm, |config| add(config, &wanted, last_used)))
        });
        let wasm = match package.await? {
            Learned::Done(wasm) => wasm,
            Learned::Known => return Ok(Learned::Known),
            Learned::NoRunner => return Ok(Learned::NoRunner),
        };
        let wanted = Wanted::Learned { revision: revision.clone(), wasm: wasm.into() };
        self.publish(wanted, &|_| ()).await.map(|_| Learned::Done(()))
    }
}

/// What came of a step of learning.
#[derive(Debug, PartialEq, Eq)]
enum Learned<T> {
    Done(T),
    /// The shape is in the configuration already, and the model has refused it.
    Known,
    /// It is nothing that could learn.
    NoRunner,
}

/// A package with its configuration as `change` makes it, which says whether there was anything to change, or nothing if
/// this is no configuration of a runner.
fn rewrite(wasm: &Bytes, change: impl Fn(&mut Value) -> Option<bool>) -> Learned<Vec<u8>> {
    let Some(mut config) = config_of(wasm) else { return Learned::NoRunner };
    match change(&mut config) {
        None => return Learned::NoRunner,
        Some(false) => return Learned::Known,
        Some(true) => {}
    }
    let config = config.to_string();
    let fits = config.len() <= limits::RUNNER_CONFIG_BYTES;
    let package = fits.then(|| with_config(wasm, config.as_bytes())).flatten();
    package.map_or(Learned::NoRunner, Learned::Done)
}

/// The configuration of a package that the stock runner is in.
fn config_of(wasm: &[u8]) -> Option<Value> {
    let (mut is_runner, mut found) = (false, None);
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(Payload::CustomSection(section)) = payload else { continue };
        is_runner |= section.name() == SECTION_RUNNER;
        // Read in this process, a hundred bytes of memory for each of some JSON.
        if is_config(&section) && section.data().len() <= limits::RUNNER_CONFIG_BYTES {
            found = Some(section.data());
        }
    }
    serde_json::from_slice(found.filter(|_| is_runner)?).ok()
}

/// The package, section by section, with another configuration.
fn with_config(wasm: &[u8], config: &[u8]) -> Option<Vec<u8>> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.ok()?;
        // Nothing, of a function's body: its section has come whole.
        let Some((id, range)) = payload.as_section() else { continue };
        match &payload {
            Payload::CustomSection(section) if is_config(section) => {
                let name = section.name().into();
                module.section(&CustomSection { name, data: config.into() });
            }
            _ => {
                module.section(&RawSection { id, data: wasm.get(range)? });
            }
        }
    }
    Some(module.finish())
}

fn is_config(section: &CustomSectionReader<'_>) -> bool {
    section.name().strip_prefix(ASSET_SECTION_PREFIX) == Some(CONFIG)
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
    use wasm_encoder::Section as _;

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
            Learned::Done(package) => package,
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
        assert_eq!(learn(&long, 59), Learned::Known);
        let large = format!(
            r#"{{"dims":{{}},"shapes":{{}},"z":"{}"}}"#,
            "z".repeat(limits::RUNNER_CONFIG_BYTES)
        );
        for other in ["{}", "[]", "no json", r#"{"dims":{},"shapes":{},"met":7}"#, &large] {
            assert_eq!(learn(&with(other), 5), Learned::NoRunner);
        }
        // A function of somebody's own is left alone, whatever its asset is called.
        let own = wasm.slice(..wasm.len() - "mayfly.runner".len() - 3);
        assert_eq!(learn(&own, 5), Learned::NoRunner);
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
