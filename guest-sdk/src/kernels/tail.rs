//! What follows a convolution or a product and can be done in the same pass: bias, residual and clamp.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;

/// The operations taken over from the nodes after an operator.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    /// Added per channel.
    pub bias: Option<Vec<f32>>,
    /// Added element by element.
    pub add: Option<OutletId>,
    pub lo: f32,
    pub hi: f32,
    /// The output that the fused operator stands for.
    pub end: OutletId,
}

impl Tail {
    /// As [`Tail::collect`], for operators that cannot add a residual.
    pub(super) fn without_residual(
        model: &TypedModel,
        node: &TypedNode,
        axis: Option<usize>,
    ) -> TractResult<Tail> {
        Tail::walk(model, node, axis, false)
    }

    /// Walks from `node` while each output has one reader that can be fused. `axis` is the channel's in the output;
    /// none forbids per-channel addends.
    pub(super) fn collect(
        model: &TypedModel,
        node: &TypedNode,
        axis: Option<usize>,
    ) -> TractResult<Tail> {
        Tail::walk(model, node, axis, true)
    }

    fn walk(
        model: &TypedModel,
        node: &TypedNode,
        axis: Option<usize>,
        residual: bool,
    ) -> TractResult<Tail> {
        let mut tail = Tail {
            bias: None,
            add: None,
            lo: f32::NEG_INFINITY,
            hi: f32::INFINITY,
            end: OutletId::new(node.id, 0),
        };
        while let Some(next) = single_reader(model, tail.end) {
            if !tail.take(model, next, axis, residual)? {
                break;
            }
            tail.end = OutletId::new(next.id, 0);
        }
        Ok(tail)
    }

    fn take(
        &mut self,
        model: &TypedModel,
        next: &TypedNode,
        axis: Option<usize>,
        residual: bool,
    ) -> TractResult<bool> {
        let Some(op) = next.op_as::<TypedBinOp>() else { return Ok(false) };
        if op.1.is_some() || next.inputs.len() != 2 {
            return Ok(false);
        }
        let other = if next.inputs[0] == self.end { next.inputs[1] } else { next.inputs[0] };
        if other == self.end {
            return Ok(false);
        }
        let fact = model.outlet_fact(other)?;
        let shape = &model.outlet_fact(self.end)?.shape;
        let clamped = self.lo > f32::NEG_INFINITY || self.hi < f32::INFINITY;
        let name = op.0.name();
        if let Some(value) = scalar(fact) {
            match name {
                // A bound above the other one would need them applied in the order given.
                "Max" if value <= self.hi => self.lo = self.lo.max(value),
                "Min" if value >= self.lo => self.hi = self.hi.min(value),
                _ => return Ok(false),
            }
            return Ok(next.outputs[0].fact.shape == *shape);
        }
        if name != "Add" || clamped || fact.datum_type != f32::datum_type() {
            return Ok(false);
        }
        if let (Some(konst), Some(axis)) = (&fact.konst, axis)
            && self.bias.is_none()
            && self.add.is_none()
            && per_channel(&fact.shape, shape, axis)
        {
            self.bias = Some(konst.try_as_plain_ram()?.as_slice::<f32>()?.to_vec());
            return Ok(next.outputs[0].fact.shape == *shape);
        }
        if residual && fact.shape == *shape && self.add.is_none() && fact.konst.is_none() {
            self.add = Some(other);
            return Ok(true);
        }
        Ok(false)
    }
}

/// The only reader of an output that is not also an output of the model.
fn single_reader(model: &TypedModel, outlet: OutletId) -> Option<&TypedNode> {
    let node = model.node(outlet.node);
    let readers = &node.outputs.get(outlet.slot)?.successors;
    if readers.len() != 1 || model.outputs.contains(&outlet) {
        return None;
    }
    Some(model.node(readers[0].node))
}

fn scalar(fact: &TypedFact) -> Option<f32> {
    let konst = fact.konst.as_ref()?;
    if konst.len() != 1 || konst.datum_type() != f32::datum_type() {
        return None;
    }
    konst.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.first().copied()
}

/// Whether `addend` is 1 on all axes but the channel's, where it is as long as `shape`.
fn per_channel(addend: &ShapeFact, shape: &ShapeFact, axis: usize) -> bool {
    addend.rank() == shape.rank()
        && addend
            .iter()
            .enumerate()
            .all(|(i, dim)| if i == axis { *dim == shape[axis] } else { *dim == 1.to_dim() })
}
