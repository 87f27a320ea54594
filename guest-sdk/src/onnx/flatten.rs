//! `Flatten` of inputs with several open sizes, which tract refuses even where it has nothing to do.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

/// Teaches tract this one, in place of its own.
pub(super) fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Flatten", build);
}

fn build(
    _: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    Ok((expand(Flatten { axis: node.get_attr_opt("axis")?.unwrap_or(1) }), Vec::new()))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Flatten {
    axis: i64,
}

impl Flatten {
    /// The dimensions before the axis as one, and those from it on.
    fn shape(&self, shape: &[TDim]) -> TractResult<TVec<TDim>> {
        let rank = i64::try_from(shape.len())?;
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis };
        let sides = usize::try_from(axis).ok().and_then(|axis| shape.split_at_checked(axis));
        let wrong = || format!("its axis {} is beyond the {rank} of its input", self.axis);
        let (outer, inner) = sides.with_context(wrong)?;
        Ok(tvec!(outer.iter().product::<TDim>(), inner.iter().product::<TDim>()))
    }
}

impl Expansion for Flatten {
    fn name(&self) -> StaticName {
        "Flatten".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.given(&inputs[0].shape, move |s, shape| s.equals(&outputs[0].shape, self.shape(&shape)?))
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let from = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let to = self.shape(&from)?;
        if from == to {
            return Ok(inputs.into());
        }
        model.wire_node(prefix, AxisOp::Reshape(0, from, to), inputs)
    }
}
