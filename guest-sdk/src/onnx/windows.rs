//! Windows that are larger than what they slide over, and tensors of nothing that come of them.
//!
//! How far such a window goes is a division of a number below 0. ONNX Runtime rounds it towards 0, so that a pool answers
//! from the one place that there is, or refuses it. tract's formula for all sizes rounds down, to no place at all, and
//! what follows computes with nothing: minus infinity, NaN, or numbers that look like an answer.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TDim;
use tract_onnx::tract_core::ops::cnn::{Conv, MaxPool, PaddingSpec, PoolSpec, SumPool};

/// Refuses a model, all of whose sizes are known, in which a window does not fit, but for pools that reach over the end.
pub(super) fn check(model: &TypedModel) -> Result<()> {
    for node in model.nodes() {
        let (spec, name, pools) = if let Some(op) = node.op_as::<Conv>() {
            (&op.pool_spec, "Conv", false)
        } else if let Some(op) = node.op_as::<MaxPool>() {
            (&op.pool_spec, "MaxPool", true)
        } else if let Some(op) = node.op_as::<SumPool>() {
            (&op.pool_spec, "AveragePool", true)
        } else {
            continue;
        };
        let shape = &model.outlet_fact(node.inputs[0])?.shape;
        let Some(shape) = shape.as_concrete() else { continue };
        // Of nothing there is nothing, and no window.
        if shape.contains(&0) {
            continue;
        }
        for (axis, (window, over)) in extents(spec, shape)?.into_iter().enumerate() {
            let missing = window.saturating_sub(over);
            ensure!(
                missing == 0 || (pools && missing < spec.stride(axis)),
                "the {name} {:?}: its window of {window} is larger than what it slides over, which is {over} with its \
                 padding; ask with larger inputs",
                node.name
            );
        }
    }
    Ok(())
}

/// Of each axis: how many places a window takes, and how many there are.
fn extents(spec: &PoolSpec, shape: &[usize]) -> TractResult<Vec<(usize, usize)>> {
    let shape = spec.data_format.shape(shape)?;
    let axes = spec.kernel_shape.iter().zip(shape.hw_dims()).enumerate();
    Ok(axes
        .map(|(axis, (kernel, size))| {
            let window = (kernel.max(&1) - 1) * spec.dilation(axis) + 1;
            let padding = match &spec.padding {
                PaddingSpec::Explicit(before, after)
                | PaddingSpec::ExplicitOnnxPool(before, after, _) => before[axis] + after[axis],
                PaddingSpec::Valid => 0,
                // As much as it takes.
                PaddingSpec::SameUpper | PaddingSpec::SameLower => window,
            };
            (window, size + padding)
        })
        .collect())
}

/// The sizes within a model for any size, each once, that are more than one of its inputs': where one of them is below 1,
/// the model computes with nothing.
pub(super) fn sizes(model: &TypedModel) -> Vec<TDim> {
    let facts = model.nodes().iter().flat_map(|node| &node.outputs).map(|output| &output.fact);
    let mut seen = BTreeSet::new();
    let mut sizes = Vec::new();
    for size in facts.flat_map(|fact| fact.shape.iter()) {
        let plain = matches!(size, TDim::Sym(_)) || size.to_i64().is_ok();
        if !plain && seen.insert(size.to_string()) {
            sizes.push(size.clone());
        }
    }
    sizes
}
