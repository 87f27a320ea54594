//! `Add`, `Sub`, `Mul`, `Div`, `Mod` and `Pow` of whole numbers, those that are sizes among them.
//!
//! tract makes a square of `x * x` and of `x ^ 2` and takes it in f32, which rounds from 2^24 on and ends at the type's
//! bounds; beside a size it takes the other operand for a positive one of 32 bits.

use std::borrow::Cow;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::BinMiniOp;
use tract_onnx::tract_core::ops::cast::wire_cast;
use tract_onnx::tract_core::ops::change_axes::wire_rank_broadcast;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_hir::internal::*;

use super::narrow::Narrow;
use super::{Built, around, called};

/// What tract rewrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Product,
    Power,
}

pub(super) fn whole(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let rewritten = match node.op_type.as_str() {
        "Mul" => Some(Whole::Product),
        "Pow" => Some(Whole::Power),
        _ => None,
    };
    let (op, label) = (node.op_type.clone(), called(node));
    around(context, node, move |tracts, prefix, model, inputs| {
        let datums = [datum(model, inputs[0])?, datum(model, inputs[1])?];
        let whole = |datum: &DatumType| is_whole(*datum) || *datum == DatumType::TDim;
        if datums.contains(&DatumType::TDim) && datums.iter().all(whole) {
            return sizes(tracts, &op, &label, prefix, model, inputs);
        }
        ensure!(
            !datums.contains(&DatumType::TDim) || op != "Pow",
            "{label}: a size and a fraction are not supported together; put a Cast to float before it"
        );
        match rewritten {
            Some(whole) if datums.iter().all(|datum| is_whole(*datum)) => {
                whole.wire(prefix, model, inputs)
            }
            _ => tracts.wire(prefix, model, inputs),
        }
    })
}

fn datum(model: &TypedModel, outlet: OutletId) -> TractResult<DatumType> {
    Ok(model.outlet_fact(outlet)?.datum_type)
}

fn is_whole(datum: DatumType) -> bool {
    datum.is_signed() || datum.is_unsigned()
}

/// Sizes that are known are plain numbers. Those that are open stay formulas, beside which tract takes numbers of 32 bits,
/// and divides by positive ones only.
fn sizes(
    tracts: &dyn Expansion,
    op: &str,
    label: &str,
    prefix: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let known = inputs.iter().map(|&input| {
        let value = model.outlet_fact(input)?.konst.clone();
        Ok(value.and_then(|value| value.cast_to::<i64>().ok().map(Cow::into_owned)))
    });
    let known = known.collect::<TractResult<Vec<_>>>()?;
    if let [Some(a), Some(b)] = &*known {
        let numbers = numbers(tracts, a, b)?;
        // Not by tract's own cast, which is by way of 32 bits.
        let plain = numbers.try_as_plain_ram()?.as_slice::<i64>()?;
        let sizes: Vec<TDim> = plain.iter().map(ToDim::to_dim).collect();
        let sizes = tensor1(&sizes).into_shape(numbers.shape())?;
        return Ok(tvec!(model.add_const(prefix, sizes)?));
    }
    ensure!(
        op != "Pow",
        "{label}: a power of a size that is open is not supported; fix the size at deploy with --dim or --input"
    );
    for (at, operand) in known.iter().enumerate() {
        let Some(operand) = operand else { continue };
        let divides = at == 1 && matches!(op, "Div" | "Mod");
        let range = if divides { 1 } else { i64::from(i32::MIN) }..=i64::from(i32::MAX);
        let plain = operand.try_as_plain_ram()?.as_slice::<i64>()?.to_vec();
        if let Some(number) = plain.iter().find(|number| !range.contains(*number)) {
            bail!(
                "{label}: beside a size that is open, {number} is not supported, only {} to {}; fix the size at deploy \
                 with --dim or --input",
                range.start(),
                range.end()
            );
        }
    }
    let mut inputs: TVec<OutletId> = inputs.into();
    let datums = [datum(model, inputs[0])?, datum(model, inputs[1])?];
    for (at, input) in inputs.iter_mut().enumerate() {
        if Narrow::is_needed(model.outlet_fact(*input)?, &datums) {
            let narrow = Narrow { label: label.to_owned() };
            *input = model.wire_node(format!("{prefix}.narrow.{at}"), narrow, &[*input])?[0];
        }
    }
    tracts.wire(prefix, model, &inputs)
}

/// What comes of two tensors of `i64`.
fn numbers(tracts: &dyn Expansion, a: &Tensor, b: &Tensor) -> TractResult<Tensor> {
    let mut apart = TypedModel::default();
    let a = apart.add_const("a", a.clone())?;
    let b = apart.add_const("b", b.clone())?;
    let outputs = tracts.wire("it", &mut apart, &[a, b])?;
    apart.select_output_outlets(&outputs)?;
    Ok(apart.into_runnable()?.run(tvec!())?.remove(0).into_tensor())
}

impl Whole {
    fn wire(
        self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let datum = datum(model, inputs[0])?;
        let wires = wire_rank_broadcast(prefix, model, inputs)?;
        let wires = wire_cast(prefix, model, &wires, datum)?;
        model.wire_node(prefix, self, &wires)
    }
}

impl Op for Whole {
    fn name(&self) -> StaticName {
        match self {
            Whole::Product => "MayflyWholeProduct",
            Whole::Power => "MayflyWholePower",
        }
        .into()
    }

    op_as_typed_op!();
}

impl EvalOp for Whole {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (a, b) = args_2!(inputs);
        let datum = a.datum_type();
        // Beyond the type, both begin again at its other end.
        let made = match self {
            Whole::Product => math::Mul.eval(a, b, datum),
            Whole::Power => math::Pow.eval(a, b, datum),
        };
        Ok(tvec!(made?.into_tvalue()))
    }
}

impl TypedOp for Whole {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = multi_broadcast(&[&inputs[0].shape, &inputs[1].shape])?;
        Ok(tvec!(inputs[0].datum_type.fact(&*shape)))
    }

    as_op!();
}
