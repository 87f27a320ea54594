//! Indices that come with a request, looked at before anything is looked up by them.
//!
//! tract 0.23.9 counts on them. One beyond its axis panics, unless the row that it leads to is in the tensor all the same,
//! and in a guest it is cut to 32 bits: an id of 2^32 was answered with the row of id 0.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{
    Gather, GatherElements, GatherNd, ScatterElements, ScatterNd,
};

/// Gives on indices, those from an axis' end as those from its start that they stand for, and refuses others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checked {
    /// For messages.
    name: String,
    first: usize,
    /// Whether the indices' last axis has one for each axis of the data from `first` on, or all are of the axis `first`.
    each: bool,
    /// The sizes of those axes, if they are known; else the data are the second input.
    sizes: Option<TVec<i64>>,
}

impl Op for Checked {
    fn name(&self) -> StaticName {
        "MayflyIndices".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Checked {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let sizes = match &self.sizes {
            Some(sizes) => sizes.clone(),
            None => inputs[1].shape()[self.first..]
                .iter()
                .map(|size| Ok(i64::try_from(*size)?))
                .collect::<TractResult<_>>()?,
        };
        let mut indices = inputs.swap_remove(0).into_tensor();
        let columns = if self.each { indices.shape().last().copied().unwrap_or(1) } else { 1 };
        ensure!(
            columns <= sizes.len(),
            "{}: {columns} indices for {} axes",
            self.name,
            sizes.len()
        );
        let short = indices.datum_type() == i32::datum_type();
        let mut view = indices.try_as_plain_ram_mut()?;
        if short {
            let all = view.as_slice_mut::<i32>()?.iter_mut().enumerate();
            for (i, index) in all {
                let found = self.resolve(i64::from(*index), sizes[i % columns], i % columns)?;
                *index = i32::try_from(found)?;
            }
        } else {
            let all = view.as_slice_mut::<i64>()?.iter_mut().enumerate();
            for (i, index) in all {
                *index = self.resolve(*index, sizes[i % columns], i % columns)?;
            }
        }
        Ok(tvec!(indices.into_tvalue()))
    }
}

impl Checked {
    fn resolve(&self, index: i64, size: i64, column: usize) -> TractResult<i64> {
        let found = if index < 0 { index.saturating_add(size) } else { index };
        ensure!(
            (0..size).contains(&found),
            "{}: the index {index} is outside of the {size} entries of axis {}",
            self.name,
            self.first + column
        );
        Ok(found)
    }
}

impl TypedOp for Checked {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }
    as_op!();
}

/// Puts a look at its indices before a node that reads or writes by them, unless they are constants.
pub(super) fn check(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    let (first, each) = if let Some(op) = node.op_as::<Gather>() {
        (op.axis, false)
    } else if let Some(op) = node.op_as::<GatherElements>() {
        (op.axis, false)
    } else if let Some(op) = node.op_as::<ScatterElements>() {
        (op.axis, false)
    } else if let Some(op) = node.op_as::<GatherNd>() {
        (op.batch_dims, true)
    } else if node.op_is::<ScatterNd>() {
        (0, true)
    } else {
        return Ok(None);
    };
    let (data, indices) = (model.outlet_fact(node.inputs[0])?, model.outlet_fact(node.inputs[1])?);
    let whole = [i64::datum_type(), i32::datum_type()].contains(&indices.datum_type);
    let checked = model.node(node.inputs[1].node).op_is::<Checked>();
    if indices.konst.is_some() || !whole || checked || data.is_exotic() || data.rank() <= first {
        return Ok(None);
    }
    let sizes = data.shape.iter().skip(first).map(|size| size.to_i64().ok());
    let op = Checked { name: node.name.clone(), first, each, sizes: sizes.collect() };
    let mut patch = TypedModelPatch::default();
    let mut taps = patch.taps(model, &node.inputs)?;
    let inputs = if op.sizes.is_some() { tvec!(taps[1]) } else { tvec!(taps[1], taps[0]) };
    taps[1] = patch.wire_node(format!("{}.indices", node.name), op, &inputs)?[0];
    let outputs = patch.wire_node(&node.name, node.op.clone(), &taps)?;
    for (slot, output) in outputs.into_iter().enumerate() {
        patch.shunt_outside(model, OutletId::new(node.id, slot), output)?;
    }
    Ok(Some(patch))
}
