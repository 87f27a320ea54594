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

/// Hides from a quantised model's operators what tract 0.23.9 would make one table of 256 entries of, and must not.
///
/// It does so with everything between two quantisations whose axes are its input's. Those of a softmax are, and each of its
/// numbers depends on all of its row all the same: every class got 1. And the table has the type of its result on both
/// sides, which fails where the quantisations are of two types.
pub(super) fn hide_tables(model: &mut TypedModel) -> TractResult<()> {
    let mut found = TVec::new();
    for node in model.nodes.iter().filter(|node| node.op_is::<DequantizeLinearF32>()) {
        let Some(next) = model.single_succ(node.id)? else { continue };
        if ends_in_another_type(model, node)? {
            found.push((next.id, node.id));
        }
    }
    if model.nodes.iter().any(|node| node.op_is::<DequantizeLinearF32>()) {
        let softmaxes = model.nodes.iter().filter(|node| node.op_is::<Softmax>());
        found.extend(softmaxes.map(|node| (node.id, node.inputs[0].node)));
    }
    for (id, from) in found {
        hide(model, id, from)?;
    }
    model.compact()
}

/// Whether what follows a dequantisation, one after the other, is quantised again to bytes of the other sign.
fn ends_in_another_type(model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
    let bytes = [u8::datum_type(), i8::datum_type()];
    let from = model.outlet_fact(node.inputs[0])?.datum_type;
    let mut last = node;
    while let Some(next) = model.single_succ(last.id)? {
        let datum = next.outputs[0].fact.datum_type;
        if bytes.contains(&datum) {
            return Ok(datum != from);
        }
        last = next;
    }
    Ok(false)
}

/// Puts an [`Opaque`] before what the node `id` reads of the node `from`.
fn hide(model: &mut TypedModel, id: usize, from: usize) -> TractResult<()> {
    let node = model.node(id);
    let mut patch = TypedModelPatch::default();
    let mut inputs = patch.taps(model, &node.inputs)?;
    for (i, outlet) in node.inputs.iter().enumerate().filter(|(_, outlet)| outlet.node == from) {
        let name = format!("{}.opaque.{i}.{}", node.name, outlet.slot);
        inputs[i] = patch.wire_node(name, Opaque, &inputs[i..=i])?[0];
    }
    let made = patch.wire_node(node.name.clone(), node.op.clone(), &inputs)?;
    for (slot, outlet) in made.into_iter().enumerate() {
        patch.shunt_outside(model, OutletId::new(id, slot), outlet)?;
    }
    patch.apply(model)
}
