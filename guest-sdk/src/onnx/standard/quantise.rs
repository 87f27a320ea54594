//! `QuantizeLinear` by division, as the standard has it: tract multiplies by the scale's reciprocal, which brings a
//! quotient near a half to the other whole number, and adds the zero point to what is infinite. And
//! `DynamicQuantizeLinear` of zeros, whose scale is 1.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};

use super::{Built, around, called};

/// Beyond what any whole number of 16 bits is with its zero point, and small enough for sums in 32 bits.
const LARGEST_QUOTIENT: f32 = 1_048_576.0;

pub(super) fn quantize_linear(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map_or(1, |a| a.i);
    let node_name = called(node);
    around(context, node, move |tracts, prefix, model, inputs| {
        let Some(scale) = model.outlet_fact(inputs[1])?.konst.clone() else {
            bail!("{node_name}: its scale comes with the request; make it a constant");
        };
        not_empty(&node_name, model, inputs)?;
        let mut inputs: TVec<OutletId> = inputs.into();
        if model.outlet_fact(inputs[0])?.datum_type != f32::datum_type() {
            inputs[0] = model.wire_node(
                format!("{prefix}.floats"),
                cast(f32::datum_type()),
                &inputs[..1],
            )?[0];
        }
        // Divided first, and by one then; a single scale in one pass with what else a quantised model does to each number.
        let by: Vec<u32> =
            scale.try_as_plain_ram()?.as_slice::<f32>()?.iter().map(|by| by.to_bits()).collect();
        let divide: Box<dyn TypedOp> = match *by {
            [by] => Box::new(ElementWiseOp(Box::new(Divide(by)), None)),
            _ => {
                let fact = model.outlet_fact(inputs[0])?;
                let rank = i64::try_from(fact.rank())?;
                let axis = usize::try_from(if axis < 0 { axis + rank } else { axis })
                    .ok()
                    .filter(|axis| *axis < fact.rank())
                    .with_context(|| format!("{node_name}: its input has no axis {axis}"))?;
                Box::new(DivideAlong { by, axis })
            }
        };
        inputs[0] = model.wire_node(format!("{prefix}.quotient"), divide, &inputs[..1])?[0];
        let one = Tensor::from_shape(scale.shape(), &vec![1f32; scale.len()])?;
        inputs[1] = model.add_const(format!("{prefix}.one"), one)?;
        tracts.wire(prefix, model, &inputs)
    })
}

pub(super) fn dequantize_linear(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let node_name = called(node);
    around(context, node, move |tracts, prefix, model, inputs| {
        not_empty(&node_name, model, inputs)?;
        tracts.wire(prefix, model, inputs)
    })
}

/// tract looks at the first scale and the first zero point, and ends the instance where there is none.
fn not_empty(node: &str, model: &TypedModel, inputs: &[OutletId]) -> TractResult<()> {
    for &input in &inputs[1..] {
        let value = model.outlet_fact(input)?.konst.as_ref();
        ensure!(
            value.is_none_or(|value| value.len() > 0),
            "{node}: it is quantised along an axis of size 0, which is not supported; give that one element or more"
        );
    }
    Ok(())
}

pub(super) fn dynamic_quantize_linear(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    around(context, node, |tracts, prefix, model, inputs| {
        let mut outputs = tracts.wire(prefix, model, inputs)?;
        let op = ElementWiseOp(Box::new(OneForZero), None);
        outputs[1] = model.wire_node(format!("{prefix}.scale"), op, &outputs[1..2])?[0];
        Ok(outputs)
    })
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

fn quotient(number: f32, by: f32) -> f32 {
    (number / by).clamp(-LARGEST_QUOTIENT, LARGEST_QUOTIENT)
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
        plain.as_slice_mut::<f32>()?.iter_mut().for_each(|number| *number = quotient(*number, by));
        Ok(())
    }
}

/// By a number for each place on an axis, of these bits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DivideAlong {
    by: Vec<u32>,
    axis: usize,
}

impl Op for DivideAlong {
    fn name(&self) -> StaticName {
        "MayflyDivideAlong".into()
    }

    op_as_typed_op!();
}

impl EvalOp for DivideAlong {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut tensor = args_1!(inputs).into_tensor();
        let (size, places) = (tensor.shape()[self.axis], self.by.len());
        ensure!(size == places, "it has {places} scales for an axis of size {size}");
        let inner: usize = tensor.shape()[self.axis + 1..].iter().product();
        {
            let mut plain = tensor.try_as_plain_ram_mut()?;
            let rows = plain.as_slice_mut::<f32>()?.chunks_mut(inner.max(1));
            for (row, &by) in rows.zip(self.by.iter().cycle()) {
                let by = f32::from_bits(by);
                row.iter_mut().for_each(|number| *number = quotient(*number, by));
            }
        }
        Ok(tvec!(tensor.into_tvalue()))
    }
}

impl TypedOp for DivideAlong {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let size = &inputs[0].shape[self.axis];
        let places = self.by.len();
        ensure!(
            size.to_usize().unwrap_or(places) == places,
            "it has {places} scales for an axis of size {size}"
        );
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}
