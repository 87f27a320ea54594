//! Operators on f16 whose arithmetic is f32's, rounded once at the end, as ONNX Runtime has it: tract rounds each sum on
//! the way, and an `alpha` before it is used. There is no f16 in wasm either: emulated, a product takes 60 times as long.

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
    for (at, input) in inputs.iter_mut().enumerate() {
        if model.outlet_fact(*input)?.datum_type == DatumType::F16 {
            let name = format!("{prefix}.wide-{at}");
            *input = model.wire_node(name, cast(DatumType::F32), &[*input])?[0];
        }
    }
    let wide = tracts.wire(&format!("{prefix}.in_f32"), model, &inputs)?;
    model.wire_node(prefix, cast(DatumType::F16), &wide)
}
