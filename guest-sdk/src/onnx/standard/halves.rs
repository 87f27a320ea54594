//! Operators on f16 whose arithmetic is f32's, rounded once at the end, as ONNX Runtime has it: tract rounds each sum on
//! the way, and an `alpha` before it is used.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::*;

use super::{Built, around};

pub(super) fn in_f32(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    around(context, node, wire)
}

fn wire(
    tracts: &dyn Expansion,
    prefix: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    if model.outlet_fact(inputs[0])?.datum_type != DatumType::F16 {
        return tracts.wire(prefix, model, inputs);
    }
    let mut inputs: TVec<OutletId> = inputs.into();
    inputs[0] = model.wire_node(format!("{prefix}.wide"), cast(DatumType::F32), &inputs[..1])?[0];
    let wide = tracts.wire(&format!("{prefix}.in_f32"), model, &inputs)?;
    model.wire_node(prefix, cast(DatumType::F16), &wide)
}
