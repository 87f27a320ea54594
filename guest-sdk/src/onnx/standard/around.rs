//! An operator of tract's that is written otherwise: its name, outputs and rules are tract's.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

use super::{Built, called, tracts};

/// tract's operator of the node, with this `wire` in place of its own, which it is given.
pub(super) fn around<W>(context: &ParsingContext<'_>, node: &NodeProto, wire: W) -> Built
where
    W: Fn(&dyn Expansion, &str, &mut TypedModel, &[OutletId]) -> TractResult<TVec<OutletId>>,
    W: Clone + Send + Sync + 'static,
{
    let (tracts, more) = taken_over(context, node)?;
    Ok((expand(Around { tracts, wire }), more))
}

/// tract's operator of the node, as what can be wrapped.
pub(super) fn taken_over(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn Expansion>, Vec<String>)> {
    let (op, more) = tracts(&node.op_type, context, node)?;
    let Ok(op) = op.into_any().downcast::<Box<dyn Expansion>>() else {
        bail!("{}: tract's operator is none that can be wrapped", called(node));
    };
    Ok((*op, more))
}

#[derive(Clone)]
pub(super) struct Around<W> {
    pub(super) tracts: Box<dyn Expansion>,
    pub(super) wire: W,
}

impl<W> std::fmt::Debug for Around<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tracts.fmt(f)
    }
}

impl<W> Expansion for Around<W>
where
    W: Fn(&dyn Expansion, &str, &mut TypedModel, &[OutletId]) -> TractResult<TVec<OutletId>>,
    W: Clone + Send + Sync + 'static,
{
    fn name(&self) -> StaticName {
        (*self.tracts).name()
    }

    fn validation(&self) -> Validation {
        (*self.tracts).validation()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        (*self.tracts).info()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        (*self.tracts).nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        (*self.tracts).rules(s, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        (self.wire)(&*self.tracts, prefix, model, inputs)
    }
}
