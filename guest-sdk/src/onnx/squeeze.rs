//! `Squeeze` until operator set 12, where axes may be missing (all of size 1 are meant) and stand in any order; tract
//! demands them, and takes them in ascending order only.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::array::Squeeze;

/// Operator sets from here on give axes as an input.
const AXES_ARE_AN_INPUT: i64 = 13;

/// Teaches tract this `Squeeze`, beside its own for newer files.
pub(super) fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Squeeze", parse);
}

fn parse(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    if context.onnx_operator_set_version >= AXES_ARE_AN_INPUT {
        return super::standard::tracts("Squeeze", context, node);
    }
    let axes = node.attribute.iter().find(|attribute| attribute.name == "axes");
    let axes = axes.map(|axes| axes.ints.iter().map(|&axis| isize::try_from(axis)));
    let axes = axes.map(|axes| axes.collect::<Result<Vec<_>, _>>()).transpose()?;
    match axes {
        // Which come first depends on the rank where some count from the end.
        Some(mut axes)
            if axes.iter().all(|axis| *axis >= 0) || axes.iter().all(|axis| *axis < 0) =>
        {
            axes.sort_unstable();
            Ok((expand(Squeeze::new(Some(axes))), Vec::new()))
        }
        Some(axes) => bail!("axes {axes:?} count from both ends; name them all from one"),
        None => Ok((expand(Squeeze::new(None)), Vec::new())),
    }
}
