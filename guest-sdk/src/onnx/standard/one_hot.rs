//! `OneHot`. An index beyond its axis is no element's, so all of its row is off; tract ends the run.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Slice;

use super::{Built, around, called};

pub(super) fn one_hot(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map_or(-1, |a| a.i);
    let label = called(node);
    around(context, node, move |tracts, prefix, model, inputs| {
        let Some(depth) = model.outlet_fact(inputs[1])?.konst.clone() else {
            bail!("{}: its depth comes with the request; make it a constant", label);
        };
        let depth = depth.cast_to::<i64>()?;
        let depth = *depth.try_as_plain_ram()?.as_slice::<i64>()?.first().context("no depth")?;
        let depth = usize::try_from(depth).with_context(|| format!("{}: its depth", label))?;
        let rank = i64::try_from(model.outlet_fact(inputs[0])?.rank())? + 1;
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis })?;
        // One place more, for those that have none, and without it again.
        let deeper = tensor0(i64::try_from(depth + 1)?);
        let deeper = model.add_const(format!("{prefix}.depth"), deeper)?;
        let placed = model.wire_node(format!("{prefix}.placed"), Placed(depth), &inputs[..1])?[0];
        let wider = tracts.wire(&format!("{prefix}.wider"), model, &[placed, deeper, inputs[2]])?;
        model.wire_node(prefix, Slice::new(axis, 0, depth), &wider)
    })
}

/// Indices from the start of an axis of this size; its size where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed(usize);

impl Op for Placed {
    fn name(&self) -> StaticName {
        "MayflyPlaced".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Placed {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let indices = inputs[0].cast_to::<i64>()?;
        let size = i64::try_from(self.0)?;
        let place = |&index: &i64| match index {
            0.. if index < size => index,
            ..0 if index >= -size => index + size,
            _ => size,
        };
        let placed: Vec<i64> =
            indices.try_as_plain_ram()?.as_slice::<i64>()?.iter().map(place).collect();
        Ok(tvec!(tensor1(&placed).into_shape(inputs[0].shape())?.into_tvalue()))
    }
}

impl TypedOp for Placed {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(i64::datum_type().fact(inputs[0].shape.clone())))
    }

    as_op!();
}
