//! Logarithms of sums of powers, from the largest number down. tract takes the logarithm of what has become 0 or infinity
//! by then: from a difference of 104 on `LogSoftmax` was -inf.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cast::{cast, wire_cast};
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::math::{add, exp, ln, max, min, sub};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

use super::{Built, around, called, scalar};

/// Along which axes.
#[derive(Debug, Clone)]
enum Along {
    /// `LogSoftmax`: this one, and until operator set 12 those behind it.
    Softmax { axis: i64, rest: bool },
    /// `ReduceLogSumExp`: these, or all; of an input, if it has one. Without any, nothing is done if so said.
    Reduce { axes: Vec<i64>, keep: bool, none: bool },
}

#[derive(Debug, Clone)]
struct LogSumExp {
    along: Along,
    node: String,
}

pub(super) fn log_softmax(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let rest = context.onnx_operator_set_version < 13;
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis");
    let axis = axis.map_or(if rest { 1 } else { -1 }, |axis| axis.i);
    let it = LogSumExp { along: Along::Softmax { axis, rest }, node: called(node) };
    around(context, node, move |_, prefix, model, inputs| it.wire(prefix, model, inputs))
}

pub(super) fn reduce_log_sum_exp(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let along = Along::Reduce {
        axes: attribute("axes").map_or_else(Vec::new, |axes| axes.ints.clone()),
        keep: attribute("keepdims").is_none_or(|keep| keep.i != 0),
        none: attribute("noop_with_empty_axes").is_some_and(|none| none.i != 0),
    };
    let it = LogSumExp { along, node: called(node) };
    around(context, node, move |_, prefix, model, inputs| it.wire(prefix, model, inputs))
}

impl LogSumExp {
    fn axes(&self, rank: usize, given: Option<&Tensor>) -> TractResult<TVec<usize>> {
        let whole = i64::try_from(rank)?;
        let place = |axis: i64| usize::try_from(if axis < 0 { axis + whole } else { axis });
        let listed =
            |axes: &[i64]| axes.iter().map(|&axis| place(axis)).collect::<Result<TVec<_>, _>>();
        let mut axes = match (&self.along, given) {
            (Along::Softmax { axis, rest: true }, _) => (place(*axis)?..rank).collect(),
            (Along::Softmax { axis, .. }, _) => tvec!(place(*axis)?),
            (_, Some(given)) => {
                listed(given.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?)?
            }
            (Along::Reduce { axes, .. }, _) => listed(axes)?,
        };
        if axes.is_empty() && matches!(self.along, Along::Reduce { none: false, .. }) {
            axes = (0..rank).collect();
        }
        axes.sort_unstable();
        ensure!(axes.iter().all(|&axis| axis < rank), "{}: it has no such axis", self.node);
        Ok(axes)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        let (mut x, rank, datum) = (inputs[0], fact.rank(), fact.datum_type);
        ensure!(
            datum.is_float(),
            "{}: it is not supported for whole numbers; put a Cast to float before it and one back behind it",
            self.node
        );
        ensure!(
            fact.shape.iter().next_back().is_none_or(|size| *size != 0.to_dim()),
            "{}: its input has a last dimension of 0, which is not supported; give it one element or more with --input",
            self.node
        );
        let given = match inputs.get(1) {
            Some(&axes) => Some(model.outlet_fact(axes)?.konst.clone().with_context(|| {
                format!("{}: its axes come with the request; make them a constant", self.node)
            })?),
            None => None,
        };
        let axes = self.axes(rank, given.as_deref())?;
        let named = |what: &str| format!("{prefix}.{what}");
        // Of f16 too, as ONNX Runtime has it.
        let wide = if datum == DatumType::F64 { DatumType::F64 } else { DatumType::F32 };
        x = wire_cast(named("wide"), model, &[x], wide)?[0];
        let largest = Reduce::new(axes.clone(), Reducer::Max);
        let largest = model.wire_node(named("largest"), largest, &[x])?[0];
        // Infinity less infinity is no number.
        let (low, high) = match wide {
            DatumType::F64 => (f64::MIN, f64::MAX),
            _ => (f64::from(f32::MIN), f64::from(f32::MAX)),
        };
        let low = scalar(model, &named("low"), x, low)?;
        let high = scalar(model, &named("high"), x, high)?;
        let above = model.wire_node(named("above"), max(), &[largest, low])?[0];
        let base = model.wire_node(named("base"), min(), &[above, high])?[0];
        let less = model.wire_node(named("less"), sub(), &[x, base])?[0];
        let powers = model.wire_node(named("powers"), exp(), &[less])?;
        let sum = Reduce::new(axes.clone(), Reducer::Sum);
        let sum = model.wire_node(named("sum"), sum, &powers)?;
        let log = model.wire_node(named("log"), ln(), &sum)?[0];
        let Along::Reduce { keep, .. } = self.along else {
            let logs = model.wire_node(named("logs"), sub(), &[less, log])?;
            return model.wire_node(prefix, cast(datum), &logs);
        };
        let mut wire = model.wire_node(named("total"), add(), &[base, log])?;
        for axis in axes.iter().rev().filter(|_| !keep) {
            wire = model.wire_node(named(&format!("without.{axis}")), AxisOp::Rm(*axis), &wire)?;
        }
        model.wire_node(prefix, cast(datum), &wire)
    }
}
