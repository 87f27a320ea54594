//! Something that tract must not look through.

use std::collections::HashSet;

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::nn::Softmax;
use tract_onnx::tract_core::ops::quant::{DequantizeLinearF32, QuantizeLinearI8, QuantizeLinearU8};

/// Gives on what it gets. It says of no axis where it goes, so that nothing is moved past it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Opaque;

impl Op for Opaque {
    fn name(&self) -> StaticName {
        "MayflyOpaque".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Opaque {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(inputs)
    }
}

impl TypedOp for Opaque {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    fn axes_mapping(
        &self,
        inputs: &[&TypedFact],
        outputs: &[&TypedFact],
    ) -> TractResult<AxesMapping> {
        AxesMapping::disconnected(inputs, outputs)
    }
    as_op!();
}

/// Hides from a quantised model's operators what tract 0.23.9 would make one table of 256 entries of, and must not.
///
/// It does so with everything between two quantisations whose axes are its input's. Those of a softmax are, and each of its
/// numbers depends on all of its row all the same: every class got 1. And the table has the type of its result on both
/// sides, which fails where the quantisations are of two types.
pub(super) fn hide_tables(model: &mut TypedModel) -> TractResult<()> {
    if !model.nodes.iter().any(|node| node.op_is::<DequantizeLinearF32>()) {
        return Ok(());
    }
    let mut found = Vec::new();
    for node in &model.nodes {
        let quantises = quantised_to(node).is_some_and(|to| of_another_type(model, node, to));
        if node.op_is::<Softmax>() || quantises {
            found.push(node.id);
        }
    }
    for id in found {
        hide(model, id)?;
    }
    model.compact()
}

/// The type that a node quantises to.
fn quantised_to(node: &TypedNode) -> Option<DatumType> {
    let op = &node.op_as::<ElementWiseOp>()?.0;
    let quantises = op.is::<QuantizeLinearU8>() || op.is::<QuantizeLinearI8>();
    quantises.then(|| node.outputs[0].fact.datum_type)
}

/// Whether what a quantisation reads was dequantised from another type than its own. By any way: operators on two of them
/// are one in the end, such as `Gelu`.
fn of_another_type(model: &TypedModel, node: &TypedNode, to: DatumType) -> bool {
    let (mut left, mut seen) = (node.inputs.clone(), HashSet::new());
    while let Some(outlet) = left.pop() {
        let node = model.node(outlet.node);
        if !seen.insert(node.id) {
            continue;
        }
        if !node.op_is::<DequantizeLinearF32>() {
            left.extend(&node.inputs);
        } else if model.outlet_fact(node.inputs[0]).is_ok_and(|fact| fact.datum_type != to) {
            return true;
        }
    }
    false
}

/// Puts an [`Opaque`] before what the node `id` reads.
fn hide(model: &mut TypedModel, id: usize) -> TractResult<()> {
    let node = model.node(id);
    let mut patch = TypedModelPatch::default();
    let tap = patch.tap_model(model, node.inputs[0])?;
    let hidden = patch.wire_node(format!("{}.opaque", node.name), Opaque, &[tap])?;
    let made = patch.wire_node(node.name.clone(), node.op.clone(), &hidden)?;
    patch.shunt_outside(model, id.into(), made[0])?;
    patch.apply(model)
}
