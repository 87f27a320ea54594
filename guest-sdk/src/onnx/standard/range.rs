//! `Range` of floats. tract rounds its ends and its step to whole numbers: a step of a half ends the instance.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

use super::{Built, called, taken_over};

/// Numbers that a range may have; more are no model's, and take all memory.
const LONGEST: f64 = 16_777_216.0;

#[derive(Debug, Clone)]
struct Range {
    tracts: Box<dyn Expansion>,
    node: String,
}

pub(super) fn range(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (tracts, more) = taken_over(context, node)?;
    Ok((expand(Range { tracts, node: called(node) }), more))
}

impl Range {
    /// The numbers, of known ends.
    fn numbers(&self, [start, end, step]: [&Tensor; 3]) -> TractResult<Tensor> {
        let datum = start.datum_type();
        let [first, last, by] = [start, end, step].map(|end| end.cast_to_scalar::<f64>());
        let (first, last, by) = (first?, last?, by?);
        let count = ((last - first) / by).ceil();
        let known = count.is_finite() && count < LONGEST;
        ensure!(known, "{}: from {first} to {last} by {by} are too many", self.node);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "looked at")]
        let count = count.max(0.0) as usize;
        // As ONNX Runtime does it, in the type itself: one step is added to the number before.
        if datum == f32::datum_type() {
            let (start, step) = (start.cast_to_scalar::<f32>()?, step.cast_to_scalar::<f32>()?);
            return Ok(tensor1(&sums(start, step, count)));
        }
        Ok(tensor1(&sums(first, by, count)).cast_to_dt(datum)?.into_owned())
    }
}

fn sums<T: Copy + std::ops::Add<Output = T>>(start: T, step: T, count: usize) -> Vec<T> {
    std::iter::successors(Some(start), |number| Some(*number + step)).take(count).collect()
}

impl Expansion for Range {
    fn name(&self) -> StaticName {
        "Range".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 3)?;
        check_output_arity(outputs, 1)?;
        s.given(&inputs[0].datum_type, move |s, datum| {
            if !datum.is_float() {
                return self.tracts.rules(s, inputs, outputs);
            }
            s.equals(&outputs[0].datum_type, datum)?;
            s.equals(&outputs[0].rank, 1)?;
            let [start, end, step] = [0, 1, 2].map(|i| &inputs[i].value);
            s.given_3(start, end, step, move |s, start, end, step| {
                let count = self.numbers([&start, &end, &step])?.len();
                s.equals(&outputs[0].shape[0], count.to_dim())
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        if !model.outlet_fact(inputs[0])?.datum_type.is_float() {
            return self.tracts.wire(prefix, model, inputs);
        }
        let ends = inputs.iter().map(|&end| Ok(model.outlet_fact(end)?.konst.clone()));
        let ends = ends.collect::<TractResult<Option<Vec<_>>>>()?;
        let Some([start, end, step]) = ends.as_deref() else {
            // tract knows by itself how long one of whole steps is.
            let fraction = |end: OutletId| {
                let end =
                    model.outlet_fact(end)?.konst.as_ref().map(|end| end.cast_to_scalar::<f64>());
                Ok::<_, TractError>(end.transpose()?.is_some_and(|end| end.fract() != 0.0))
            };
            ensure!(
                !fraction(inputs[0])? && !fraction(inputs[2])?,
                "{}: a range by fractions whose end comes with the request is not supported; make it a constant, or \
                 count in int64 and multiply the result",
                self.node
            );
            return self.tracts.wire(prefix, model, inputs);
        };
        Ok(tvec!(model.add_const(prefix, self.numbers([start, end, step])?)?))
    }
}
