//! `GlobalLpPool`: (sum of |x|^p)^(1/p) over all of an image.
//!
//! tract divides the sum by the number of elements, and takes the power of negative numbers.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::math::{abs, mul, pow, sqrt};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_hir::internal::*;

use super::{Built, scalar};

#[derive(Debug, Clone)]
struct GlobalLpPool {
    p: i64,
}

pub(super) fn global_lp_pool(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let p = node.attribute.iter().find(|attribute| attribute.name == "p").map_or(2, |p| p.i);
    ensure!(p > 0, "{}: p = {p}, and it is to be 1 or more", super::called(node));
    Ok((expand(GlobalLpPool { p }), vec![]))
}

impl Expansion for GlobalLpPool {
    fn name(&self) -> StaticName {
        "GlobalLpPool".into()
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
        s.given(&inputs[0].shape, move |s, mut shape| {
            shape.iter_mut().skip(2).for_each(|size| *size = 1.to_dim());
            s.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let axes: TVec<usize> = (2..model.outlet_fact(inputs[0])?.rank()).collect();
        let sum = Reduce::new(axes, Reducer::Sum);
        let size = model.wire_node(format!("{prefix}.size"), abs(), inputs)?[0];
        let power = match self.p {
            1 => size,
            2 => model.wire_node(format!("{prefix}.square"), mul(), &[size, size])?[0],
            p => {
                #[expect(clippy::cast_precision_loss, reason = "an exponent is a small number")]
                let p = scalar(model, &format!("{prefix}.p"), size, p as f32)?;
                model.wire_node(format!("{prefix}.power"), pow(), &[size, p])?[0]
            }
        };
        let total = model.wire_node(format!("{prefix}.sum"), sum, &[power])?[0];
        match self.p {
            1 => Ok(tvec!(total)),
            2 => model.wire_node(prefix, sqrt(), &[total]),
            p => {
                #[expect(clippy::cast_precision_loss, reason = "an exponent is a small number")]
                let root = scalar(model, &format!("{prefix}.root"), total, (p as f32).recip())?;
                model.wire_node(prefix, pow(), &[total, root])
            }
        }
    }
}
