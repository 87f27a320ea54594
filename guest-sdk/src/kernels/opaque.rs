//! Something that tract must not look through.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::nn::Softmax;
use tract_onnx::tract_core::ops::quant::DequantizeLinearF32;

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

/// Hides each softmax of a quantised model from what reads it.
///
/// tract 0.23.9 makes one table of 256 entries of everything between two quantisations whose axes are its input's. Those
/// of a softmax are, and each of its numbers depends on all of its row all the same: every class got 1.
pub(super) fn hide_softmax(model: &mut TypedModel) -> TractResult<()> {
    if !model.nodes.iter().any(|node| node.op_is::<DequantizeLinearF32>()) {
        return Ok(());
    }
    let found = model.nodes.iter().filter(|node| node.op_is::<Softmax>());
    for id in found.map(|node| node.id).collect::<Vec<_>>() {
        let input = model.node(id).inputs[0];
        let name = format!("{}.opaque", model.node(id).name);
        let mut patch = TypedModelPatch::default();
        let tap = patch.tap_model(model, input)?;
        let hidden = patch.wire_node(&name, Opaque, &[tap])?;
        let softmax =
            patch.wire_node(model.node(id).name.clone(), model.node(id).op.clone(), &hidden)?;
        patch.shunt_outside(model, id.into(), softmax[0])?;
        patch.apply(model)?;
    }
    model.compact()
}
