//! Functions of one number.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::math::{abs, add, div, exp, ln, max, min, mul, neg, sub};
use tract_onnx::tract_hir::internal::*;

use super::{Built, scalar};

/// One of them, with its `alpha`.
#[derive(Debug, Clone)]
enum Activation {
    Celu(f32),
    Softplus,
}

/// tract forgets to multiply by alpha: 0.135 had the lowest result -1.
pub(super) fn celu(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let alpha = node.attribute.iter().find(|attribute| attribute.name == "alpha");
    Ok((expand(Activation::Celu(alpha.map_or(1.0, |alpha| alpha.f))), vec![]))
}

/// tract computes `ln(exp(x) + 1)`, which is infinite from 89 on.
pub(super) fn softplus(_: &ParsingContext<'_>, _: &NodeProto) -> Built {
    Ok((expand(Activation::Softplus), vec![]))
}

impl Expansion for Activation {
    fn name(&self) -> StaticName {
        match self {
            Activation::Celu(_) => "Celu",
            Activation::Softplus => "Softplus",
        }
        .into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let x = inputs[0];
        let zero = scalar(model, &format!("{prefix}.zero"), x, 0.0)?;
        let one = scalar(model, &format!("{prefix}.one"), x, 1.0)?;
        let above = model.wire_node(format!("{prefix}.above"), max(), &[x, zero])?[0];
        let below = match self {
            // alpha * (exp(x / alpha) - 1), where that is negative
            Activation::Celu(alpha) => {
                let alpha = scalar(model, &format!("{prefix}.alpha"), x, *alpha)?;
                let scaled = model.wire_node(format!("{prefix}.scaled"), div(), &[x, alpha])?;
                let exp = model.wire_node(format!("{prefix}.exp"), exp(), &scaled)?[0];
                let less = model.wire_node(format!("{prefix}.less"), sub(), &[exp, one])?[0];
                let part = model.wire_node(format!("{prefix}.part"), mul(), &[alpha, less])?[0];
                model.wire_node(format!("{prefix}.below"), min(), &[part, zero])?[0]
            }
            // ln(1 + exp(-|x|)), which never is more than ln(2)
            Activation::Softplus => {
                let size = model.wire_node(format!("{prefix}.size"), abs(), &[x])?;
                let negative = model.wire_node(format!("{prefix}.negative"), neg(), &size)?;
                let exp = model.wire_node(format!("{prefix}.exp"), exp(), &negative)?[0];
                let more = model.wire_node(format!("{prefix}.more"), add(), &[exp, one])?;
                model.wire_node(format!("{prefix}.below"), ln(), &more)?[0]
            }
        };
        model.wire_node(prefix, add(), &[above, below])
    }
}
