//! Chains of element-wise operators as one pass over memory.

use mayfly_kernels::map::{self, INPUTS, Input, Program, WORK_MAX};
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::internal::*;

use super::call;
use super::conv::floats;

/// A program over the elements of its inputs, stretched to a common shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Map {
    pub program: Program,
    /// The operators that it stands for, in order.
    pub names: String,
}

// A NaN among the constants would make a program differ from itself, which costs a missed comparison and no more.
impl Eq for Map {}

/// How an operand is stretched: element `i` of the result sees its element `i / repeat % period`. Nothing if its axes
/// are not one stretch. `length` multiplies sizes.
pub(super) fn stretch<D: PartialEq>(
    operand: &[D],
    shape: &[D],
    one: &D,
    length: impl Fn(&[D]) -> usize,
) -> Option<(usize, usize)> {
    if operand.len() != shape.len() {
        return None;
    }
    let wide = |i: &usize| operand[*i] != *one;
    let (Some(first), Some(last)) = ((0..shape.len()).find(wide), (0..shape.len()).rfind(wide))
    else {
        return Some((length(shape).max(1), 1));
    };
    let whole = (first..=last).all(|i| operand[i] == shape[i]);
    whole.then(|| (length(&shape[last + 1..]), length(&shape[first..=last])))
}

impl Op for Map {
    fn name(&self) -> StaticName {
        "MayflyMap".into()
    }
    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![self.names.clone()])
    }
    fn validation(&self) -> Validation {
        Validation::Rounding
    }
    op_as_typed_op!();
}

impl EvalOp for Map {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let shape = {
            let shapes: TVec<&[usize]> = inputs.iter().map(|input| input.shape()).collect();
            multi_broadcast(&shapes)?
        };
        let reusable = |input: &TValue| input.shape() == &*shape && input.is_exclusive();
        let own = inputs.iter().position(reusable);
        // A value that nobody else will read gives its memory to the result.
        let mut output = match own {
            Some(i) => {
                core::mem::replace(&mut inputs[i], tensor0(0f32).into_tvalue()).into_tensor()
            }
            None => Tensor::zero::<f32>(&shape)?,
        };
        let mut operands = [Input { data: None, repeat: 1, period: 1 }; INPUTS];
        for (i, (input, operand)) in inputs.iter().zip(&mut operands).enumerate() {
            if own == Some(i) {
                continue;
            }
            let product = |sizes: &[usize]| sizes.iter().product();
            let stretched = stretch(input.shape(), &shape, &1, product);
            let (repeat, period) = stretched.context("an operand with axes apart")?;
            *operand = Input { data: Some(floats(input)?), repeat, period };
        }
        {
            let mut plain = output.try_as_plain_ram_mut()?;
            self.run(operands, inputs.len(), plain.as_slice_mut::<f32>()?)?;
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl Map {
    /// As many calls as the cap on a call's work asks for.
    fn run(
        &self,
        inputs: [Input<'_>; INPUTS],
        given: usize,
        output: &mut [f32],
    ) -> TractResult<()> {
        let work = (self.program.steps().len() + given).max(1) as u64;
        let most = usize::try_from(WORK_MAX / work).unwrap_or(usize::MAX);
        call::with_scratch(map::SCRATCH, |scratch| {
            for (i, output) in output.chunks_mut(most).enumerate() {
                let program = self.program.clone();
                let first = i * most;
                call::map(&mut map::Map { program, inputs, given, first, output, scratch })?;
            }
            Ok(())
        })
    }
}

impl TypedOp for Map {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shapes: TVec<TVec<TDim>> = inputs.iter().map(|fact| fact.shape.to_tvec()).collect();
        Ok(tvec!(f32::datum_type().fact(multi_broadcast(&shapes)?)))
    }
    as_op!();
}
