//! An axis from its end to its start.

use tract_onnx::tract_core::internal::*;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flip(pub usize);

impl Op for Flip {
    fn name(&self) -> StaticName {
        "MayflyFlip".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Flip {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let size = input.shape()[self.0];
        if size < 2 {
            return Ok(tvec!(input));
        }
        let parts = (0..size).rev().map(|i| input.slice(self.0, i, i + 1));
        let parts = parts.collect::<TractResult<Vec<_>>>()?;
        Ok(tvec!(Tensor::stack_tensors(self.0, &parts)?.into_tvalue()))
    }
}

impl TypedOp for Flip {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}
