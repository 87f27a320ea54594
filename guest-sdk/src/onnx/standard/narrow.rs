//! Whole numbers of a request beside a size: tract makes sizes of them by way of 32 bits.

use tract_onnx::tract_core::internal::*;

/// Lets numbers of 32 bits pass, and ends the run with words on others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Narrow {
    /// How errors call the node that reads them.
    pub(super) label: String,
}

impl Narrow {
    /// Whether a number may be one of more bits, and is looked at here: where there is a size beside it, and nothing is
    /// known of it yet.
    pub(super) fn is_needed(fact: &TypedFact, beside: &[DatumType]) -> bool {
        let wide = matches!(fact.datum_type, DatumType::I64 | DatumType::U32 | DatumType::U64);
        wide && fact.konst.is_none() && beside.contains(&DatumType::TDim)
    }
}

impl Op for Narrow {
    fn name(&self) -> StaticName {
        "MayflyNarrow".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Narrow {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let numbers = inputs[0].cast_to::<i64>()?;
        let plain = numbers.try_as_plain_ram()?;
        let beyond =
            plain.as_slice::<i64>()?.iter().find(|number| i32::try_from(**number).is_err());
        if let Some(number) = beyond {
            bail!(
                "{}: beside a size of a tensor it is given {number}, which has more than 32 bits and is not supported; \
                 give it a smaller one",
                self.label
            );
        }
        Ok(inputs)
    }
}

impl TypedOp for Narrow {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].clone()))
    }

    as_op!();
}
