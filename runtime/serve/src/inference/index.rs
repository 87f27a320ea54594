//! What is said of all models at once.

use std::sync::Arc;

use mayfly_core::limits::node as limits;
use mayfly_host::catalog::{Entry, View};
use mayfly_host::revision::Revision;
use serde_json::{Value, json};

use super::is_model;
use super::refusal::Refusal;
use crate::node::Node;

/// Triton's repository index: the models that answer, by name. What is being rebuilt is not known to be a model.
pub(super) fn index(node: &Node) -> Result<Value, Refusal> {
    allowed(node)?;
    let entry = |model: &&Revision| {
        let record = &model.record;
        json!({"name": record.function, "version": record.number.to_string(), "state": "READY", "reason": ""})
    };
    Ok(models(&node.catalog.load())?.iter().map(entry).collect())
}

/// The statistics of one model, or of all of them.
pub(super) fn stats(node: &Node, one: Option<Arc<Revision>>) -> Result<Value, Refusal> {
    let entry = |model: &Revision| {
        let record = &model.record;
        model.tally.stats().to_json(record.function.as_str(), &record.number.to_string())
    };
    let all: Vec<_> = match one {
        Some(model) => vec![entry(&model)],
        None => {
            allowed(node)?;
            models(&node.catalog.load())?.into_iter().map(entry).collect()
        }
    };
    Ok(json!({ "model_stats": all }))
}

fn allowed(node: &Node) -> Result<(), Refusal> {
    match node.lists_models {
        true => Ok(()),
        false => Err(Refusal::new(403, "this node does not list its models (gateway.list-models)")),
    }
}

/// Ten thousand of them would be a worker's for a tenth of a second.
fn models(view: &View) -> Result<Vec<&Revision>, Refusal> {
    let serving = view.iter().flat_map(|(_, function)| {
        function.entries().filter(|entry| function.serves(entry.record().number))
    });
    let ready = serving.filter_map(|entry| match entry {
        Entry::Ready(revision) => Some(&**revision),
        Entry::Loading(_) | Entry::Preparing(_) => None,
    });
    let mut models: Vec<_> = ready.filter(|revision| is_model(revision)).collect();
    if models.len() > limits::MODELS_LISTED {
        let most = limits::MODELS_LISTED;
        return Err(Refusal::new(400, format!("there are more than {most} models: ask for one")));
    }
    models.sort_unstable_by_key(|model| (model.record.function.as_str(), model.record.number));
    Ok(models)
}
