//! `Mul`, `Div`, `Mod` and `Pow` of whole numbers, those that are sizes among them.
//!
//! tract makes a square of `x * x` and of `x ^ 2` and takes it in f32, which rounds from 2^24 on and ends at the type's
//! bounds; beside a size it takes the other operand for a positive one of 32 bits.

use std::borrow::Cow;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::BinMiniOp;
use tract_onnx::tract_core::ops::cast::{cast, wire_cast};
use tract_onnx::tract_core::ops::change_axes::wire_rank_broadcast;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_hir::internal::*;

use super::{Built, around, called};

/// What tract rewrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Product,
    Power,
}

pub(super) fn whole(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let op = match node.op_type.as_str() {
        "Mul" => Some(Whole::Product),
        "Pow" => Some(Whole::Power),
        _ => None,
    };
    let label = called(node);
    around(context, node, move |tracts, prefix, model, inputs| {
        let datums = [datum(model, inputs[0])?, datum(model, inputs[1])?];
        if datums.contains(&DatumType::TDim) && op != Some(Whole::Power) {
            return sizes(tracts, op, &label, prefix, model, inputs);
        }
        match op {
            Some(op) if datums.iter().all(|datum| is_whole(*datum)) => {
                op.wire(prefix, model, inputs)
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

/// Sizes that are known are plain numbers. Those that are open stay formulas, which tract multiplies and divides by small
/// positive numbers only.
fn sizes(
    tracts: &dyn Expansion,
    op: Option<Whole>,
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
    if known.iter().all(Option::is_some) {
        let wires = wire_cast(format!("{prefix}.numbers"), model, inputs, DatumType::I64)?;
        let name = format!("{prefix}.whole");
        let wires = match op {
            Some(op) => op.wire(&name, model, &wires)?,
            None => tracts.wire(&name, model, &wires)?,
        };
        return model.wire_node(prefix, cast(DatumType::TDim), &wires);
    }
    for operand in known.iter().flatten() {
        let numbers = operand.try_as_plain_ram()?.as_slice::<i64>()?.to_vec();
        let least = if op.is_some() { -i64::from(i32::MAX) } else { 1 };
        let fits = |number: &&i64| (least..=i64::from(i32::MAX)).contains(*number);
        if let Some(number) = numbers.iter().find(|number| !fits(number)) {
            bail!(
                "{label}: beside a size that is open, {number} is not supported, only {least} to 2147483647; fix the \
                 size at deploy with --dim or --input"
            );
        }
    }
    tracts.wire(prefix, model, inputs)
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
