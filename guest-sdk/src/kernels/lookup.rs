//! Rows looked up in a table that is stored small: only they are converted, not the table.
//!
//! A quantised embedding is a table of bytes, cast, scaled, and gathered from. tract converts the whole table at each
//! run (11.7 million entries of MiniLM's, for 16 rows); the other order gives the same numbers.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;

/// Something done to each entry of a table.
enum Stage<'a> {
    Cast(&'a Cast),
    /// With a known operand, the first or the second: one number, one for each row, or one for each column.
    Binary(&'a TypedBinOp, Arc<Tensor>, usize),
}

/// Moves what is done to each entry of a known table behind the look-up.
pub(super) fn lookup(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    let Some(gather) = node.op_as::<Gather>() else { return Ok(None) };
    if gather.output_type.is_some() || gather.axis != 0 || node.inputs.len() != 2 {
        return Ok(None);
    }
    let (mut table, mut stages) = (node.inputs[0], Vec::new());
    while model.outlet_fact(table)?.konst.is_none() {
        let maker = model.node(table.node);
        let shared = maker.outputs[0].successors.len() != 1 || model.outputs.contains(&table);
        let Some((stage, input)) = stage(model, maker)?.filter(|_| !shared) else {
            return Ok(None);
        };
        stages.push(stage);
        table = input;
    }
    if stages.is_empty() {
        return Ok(None);
    }
    let mut patch = TypedModelPatch::default();
    let taps = patch.taps(model, &[table, node.inputs[1]])?;
    let mut wire = patch.wire_node(format!("{}.rows", node.name), gather.clone(), &taps)?[0];
    for (i, stage) in stages.into_iter().rev().enumerate() {
        let name = format!("{}.rows.{i}", node.name);
        wire = match stage {
            Stage::Cast(cast) => patch.wire_node(name, cast.clone(), &[wire])?[0],
            Stage::Binary(op, known, at) => {
                let name = format!("{name}.operand");
                let per_row = known.shape()[0] > 1;
                let mut known = known.into_tensor();
                if !per_row {
                    let mut shape = vec![1; model.outlet_fact(node.inputs[1])?.rank()];
                    shape.extend(&known.shape()[1..]);
                    known.set_shape(&shape)?;
                }
                let mut known = patch.add_const(&*name, known)?;
                if per_row {
                    let name = format!("{name}.rows");
                    known = patch.wire_node(name, gather.clone(), &[known, taps[1]])?[0];
                }
                let operands = if at == 0 { [known, wire] } else { [wire, known] };
                patch.wire_node(name, op.clone(), &operands)?[0]
            }
        };
    }
    patch.shunt_outside(model, OutletId::new(node.id, 0), wire)?;
    Ok(Some(patch))
}

fn stage<'a>(
    model: &TypedModel,
    node: &'a TypedNode,
) -> TractResult<Option<(Stage<'a>, OutletId)>> {
    if let Some(cast) = node.op_as::<Cast>() {
        return Ok(Some((Stage::Cast(cast), node.inputs[0])));
    }
    let Some(op) = node.op_as::<TypedBinOp>() else { return Ok(None) };
    let rows = node.outputs[0].fact.shape.first().cloned();
    for at in 0..2 {
        let Some(known) = model.outlet_fact(node.inputs[at])?.konst.clone() else { continue };
        let Some(&first) = known.shape().first() else { continue };
        if first == 1 || Some(first.to_dim()) == rows {
            return Ok(Some((Stage::Binary(op, known, at), node.inputs[1 - at])));
        }
    }
    Ok(None)
}
