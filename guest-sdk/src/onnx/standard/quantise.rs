//! `QuantizeLinear` by division, as the standard has it. tract multiplies by the scale's reciprocal, which brings a
//! quotient near a half to the other whole number. And `DynamicQuantizeLinear` of zeros, whose scale is 1.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_hir::internal::*;

use super::{Built, taken_over};

#[derive(Debug, Clone)]
struct QuantizeLinear(Box<dyn Expansion>);

pub(super) fn quantize_linear(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (tracts, more) = taken_over(context, node)?;
    Ok((expand(QuantizeLinear(tracts)), more))
}

impl Expansion for QuantizeLinear {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.0.rules(s, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let scale = model.outlet_fact(inputs[1])?.konst.clone();
        let floats = model.outlet_fact(inputs[0])?.datum_type == f32::datum_type();
        let Some(scale) = scale.filter(|scale| scale.len() == 1 && floats) else {
            return self.0.wire(prefix, model, inputs);
        };
        // Divided first, and by one then, in one pass with what else a quantised model does to each number.
        let by = *scale.try_as_plain_ram()?.as_slice::<f32>()?.first().context("no scale")?;
        let divide = ElementWiseOp(Box::new(Divide(by.to_bits())), None);
        let mut inputs: TVec<OutletId> = inputs.into();
        inputs[0] = model.wire_node(format!("{prefix}.quotient"), divide, &inputs[..1])?[0];
        inputs[1] = model.add_const(format!("{prefix}.one"), tensor0(1f32))?;
        self.0.wire(prefix, model, &inputs)
    }
}

#[derive(Debug, Clone)]
struct DynamicQuantizeLinear(Box<dyn Expansion>);

pub(super) fn dynamic_quantize_linear(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (tracts, more) = taken_over(context, node)?;
    Ok((expand(DynamicQuantizeLinear(tracts)), more))
}

impl Expansion for DynamicQuantizeLinear {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        (*self.0).nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.0.rules(s, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut outputs = self.0.wire(prefix, model, inputs)?;
        let op = ElementWiseOp(Box::new(OneForZero), None);
        outputs[1] = model.wire_node(format!("{prefix}.scale"), op, &outputs[1..2])?[0];
        Ok(outputs)
    }
}

/// 1 where there is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OneForZero;

impl ElementWiseMiniOp for OneForZero {
    fn name(&self) -> String {
        "MayflyOneForZero".to_owned()
    }

    fn eval_in_place(&self, tensor: &mut Tensor, _: Option<DatumType>) -> TractResult<()> {
        let mut plain = tensor.try_as_plain_ram_mut()?;
        let zeros = plain.as_slice_mut::<f32>()?.iter_mut().filter(|number| **number == 0.0);
        zeros.for_each(|number| *number = 1.0);
        Ok(())
    }
}

/// By a number of these bits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Divide(u32);

impl ElementWiseMiniOp for Divide {
    fn name(&self) -> String {
        "MayflyDivide".to_owned()
    }

    fn eval_in_place(&self, tensor: &mut Tensor, _: Option<DatumType>) -> TractResult<()> {
        let by = f32::from_bits(self.0);
        let mut plain = tensor.try_as_plain_ram_mut()?;
        plain.as_slice_mut::<f32>()?.iter_mut().for_each(|number| *number /= by);
        Ok(())
    }
}
