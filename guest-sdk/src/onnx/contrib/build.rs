//! Where the operators of a node are written, and tract's by short names.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Gather, MultiBroadcastTo, Range, Slice, TypedConcat};
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::change_axes::{wire_rank_broadcast, wire_with_rank_broadcast};
use tract_onnx::tract_core::ops::logic::Iff;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, Softmax};
use tract_onnx::tract_hir::internal::Expansion;
use tract_onnx::tract_hir::ops::matmul::MatMulInference;

use super::node::Node;

/// What a node makes, in the schema's order; nothing for what is not supported.
pub(super) type Outputs = TVec<Option<OutletId>>;

pub(super) fn one(output: OutletId) -> Outputs {
    tvec!(Some(output))
}

/// Where a node's operators are written.
pub(super) struct Build<'a> {
    pub(super) node: &'a Node,
    prefix: &'a str,
    pub(super) model: &'a mut TypedModel,
    inputs: &'a [OutletId],
    /// Only for the sizes: no input is known.
    pub(super) sizing: bool,
    count: usize,
    /// Some input is f16. The arithmetic is f32's, and outputs are f16 again.
    half: bool,
    /// Outputs that are f32 nevertheless.
    wide: TVec<OutletId>,
}

impl<'a> Build<'a> {
    pub(super) fn new(
        node: &'a Node,
        prefix: &'a str,
        model: &'a mut TypedModel,
        inputs: &'a [OutletId],
        sizing: bool,
    ) -> Self {
        Self { node, prefix, model, inputs, sizing, count: 0, half: false, wide: tvec!() }
    }

    /// The outputs that the file asks for.
    pub(super) fn finish(mut self, outputs: &Outputs) -> TractResult<TVec<OutletId>> {
        let node = self.node;
        let wanted = node.wanted().map(|i| {
            let output = outputs.get(i).copied().flatten();
            let output = output.with_context(|| {
                format!("its output {i} is not supported; leave it out of the model")
            })?;
            let narrow = self.half && !self.wide.contains(&output);
            if narrow && self.datum(output)? == DatumType::F32 {
                return self.cast(output, DatumType::F16);
            }
            Ok(output)
        });
        wanted.collect()
    }

    /// Keeps an output f32 where the inputs are f16.
    pub(super) fn keep(&mut self, output: OutletId) -> OutletId {
        self.wide.push(output);
        output
    }

    pub(super) fn optional(&mut self, place: usize) -> TractResult<Option<OutletId>> {
        let Some(slot) = self.node.slot(place) else { return Ok(None) };
        let input = *self.inputs.get(slot).context("it has fewer inputs than names")?;
        Ok(Some(match self.datum(input)? {
            DatumType::F16 => {
                self.half = true;
                self.cast(input, DatumType::F32)?
            }
            // Whole numbers that may be sizes are another type to tract.
            DatumType::TDim => self.cast(input, DatumType::I64)?,
            _ => input,
        }))
    }

    pub(super) fn input(&mut self, place: usize) -> TractResult<OutletId> {
        self.optional(place)?.with_context(|| format!("its input {place} is missing"))
    }

    /// Refuses an input that is there.
    pub(super) fn absent(&self, place: usize, what: &str, instead: &str) -> TractResult<()> {
        ensure!(
            self.node.slot(place).is_none(),
            "its input {place} ({what}) is not supported; {instead}"
        );
        Ok(())
    }

    pub(super) fn datum(&self, outlet: OutletId) -> TractResult<DatumType> {
        Ok(self.model.outlet_fact(outlet)?.datum_type)
    }

    pub(super) fn shape(&self, outlet: OutletId) -> TractResult<TVec<TDim>> {
        Ok(self.model.outlet_fact(outlet)?.shape.to_tvec())
    }

    pub(super) fn rank(&self, outlet: OutletId) -> TractResult<usize> {
        Ok(self.model.outlet_fact(outlet)?.rank())
    }

    /// The shape of an input that has `N` axes.
    pub(super) fn sized<const N: usize>(&self, outlet: OutletId) -> TractResult<[TDim; N]> {
        let shape = self.shape(outlet)?;
        let given = shape.to_vec();
        <[TDim; N]>::try_from(given)
            .map_err(|_| format_err!("it takes {N} axes where its input has the shape {shape:?}"))
    }

    pub(super) fn known(&self, outlet: OutletId) -> TractResult<Option<Arc<Tensor>>> {
        Ok(self.model.outlet_fact(outlet)?.konst.clone())
    }

    /// An axis, counted from the end if negative.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> TractResult<usize> {
        let from_end = usize::try_from(axis.unsigned_abs()).ok();
        let axis = if axis < 0 { from_end.and_then(|a| rank.checked_sub(a)) } else { from_end };
        axis.filter(|&axis| axis < rank)
            .with_context(|| format!("its axis is not one of the input's {rank}"))
    }

    fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{}.{}-{what}", self.prefix, self.count)
    }

    /// One operator of one output.
    pub(super) fn op(
        &mut self,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        Ok(self.ops(op, inputs)?[0])
    }

    pub(super) fn ops(
        &mut self,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let op = op.into();
        let name = self.name(&op.name());
        self.model.wire_node(name, op, inputs)
    }

    /// One of tract's operators that are several themselves.
    pub(super) fn expansion(
        &mut self,
        op: &dyn Expansion,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        let name = self.name(&op.name());
        Ok(op.wire(&name, self.model, inputs)?[0])
    }

    /// An operator of two operands, stretched to a common shape.
    fn binary(
        &mut self,
        op: impl Into<Box<dyn TypedOp>>,
        a: OutletId,
        b: OutletId,
    ) -> TractResult<OutletId> {
        let op = op.into();
        let name = self.name(&op.name());
        Ok(wire_with_rank_broadcast(name, self.model, op, &[a, b])?[0])
    }

    pub(super) fn add(&mut self, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.binary(math::add(), a, b)
    }

    pub(super) fn sub(&mut self, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.binary(math::sub(), a, b)
    }

    pub(super) fn mul(&mut self, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.binary(math::mul(), a, b)
    }

    pub(super) fn div(&mut self, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.binary(math::div(), a, b)
    }

    pub(super) fn max(&mut self, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.binary(math::max(), a, b)
    }

    pub(super) fn min(&mut self, a: OutletId, b: OutletId) -> TractResult<OutletId> {
        self.binary(math::min(), a, b)
    }

    /// One of tract's comparisons.
    pub(super) fn compare(
        &mut self,
        by: Box<dyn tract_onnx::tract_core::ops::binary::BinMiniOp>,
        a: OutletId,
        b: OutletId,
    ) -> TractResult<OutletId> {
        self.binary(tract_onnx::tract_core::ops::binary::TypedBinOp(by, None), a, b)
    }

    /// A number of the type of `like`.
    pub(super) fn scalar(&mut self, value: f32, like: OutletId) -> TractResult<OutletId> {
        let value = tensor0(value).cast_to_dt(self.datum(like)?)?.into_owned();
        self.constant(value)
    }

    pub(super) fn constant(&mut self, value: impl IntoArcTensor) -> TractResult<OutletId> {
        let name = self.name("constant");
        self.model.add_const(name, value)
    }

    /// `x` times a number; `x` itself if that is one.
    pub(super) fn times(&mut self, x: OutletId, factor: f32) -> TractResult<OutletId> {
        if factor.to_bits() == 1f32.to_bits() {
            return Ok(x);
        }
        let factor = self.scalar(factor, x)?;
        self.mul(x, factor)
    }

    pub(super) fn plus(&mut self, x: OutletId, addend: f32) -> TractResult<OutletId> {
        let addend = self.scalar(addend, x)?;
        self.add(x, addend)
    }

    pub(super) fn cast(&mut self, x: OutletId, to: DatumType) -> TractResult<OutletId> {
        if self.datum(x)? == to { Ok(x) } else { self.op(cast(to), &[x]) }
    }

    pub(super) fn choose(
        &mut self,
        condition: OutletId,
        yes: OutletId,
        no: OutletId,
    ) -> TractResult<OutletId> {
        let name = self.name("operands");
        let operands = wire_rank_broadcast(name, self.model, &[condition, yes, no])?;
        self.op(Iff, &operands)
    }

    /// `a x b` over the last two axes, the others stretched; of `b`'s transpose if `turned`.
    pub(super) fn matmul(
        &mut self,
        a: OutletId,
        b: OutletId,
        [a_trans, b_trans]: [bool; 2],
    ) -> TractResult<OutletId> {
        let op = MatMulInference { a_trans, b_trans, c_trans: false };
        // Checked here: `wire` takes what the solver has let pass.
        let shapes = [self.shape(a)?, self.shape(b)?];
        tract_onnx::tract_hir::ops::matmul::compute_shapes(
            shapes[0].clone(),
            shapes[1].clone(),
            a_trans,
            b_trans,
            false,
        )?;
        self.expansion(&op, &[a, b])
    }

    pub(super) fn softmax(&mut self, x: OutletId, axes: TVec<usize>) -> TractResult<OutletId> {
        self.op(Softmax { axes, ..Softmax::default() }, &[x])
    }

    pub(super) fn reduce(
        &mut self,
        x: OutletId,
        axes: TVec<usize>,
        reducer: Reducer,
    ) -> TractResult<OutletId> {
        self.op(Reduce { axes, reducer }, &[x])
    }

    /// The mean over axes, which stay.
    pub(super) fn mean(&mut self, x: OutletId, axes: TVec<usize>) -> TractResult<OutletId> {
        let shape = self.shape(x)?;
        let count: TDim = axes.iter().map(|&axis| shape[axis].clone()).product();
        let count = self.constant(tensor0(count))?;
        let datum = self.datum(x)?;
        let count = self.cast(count, datum)?;
        let sum = self.reduce(x, axes, Reducer::Sum)?;
        self.div(sum, count)
    }

    /// One axis as several.
    pub(super) fn split(
        &mut self,
        x: OutletId,
        axis: usize,
        into: TVec<TDim>,
    ) -> TractResult<OutletId> {
        let whole = self.shape(x)?[axis].clone();
        self.op(AxisOp::Reshape(axis, tvec!(whole), into), &[x])
    }

    /// `count` axes from `axis` on as one.
    pub(super) fn join(&mut self, x: OutletId, axis: usize, count: usize) -> TractResult<OutletId> {
        let parts: TVec<TDim> = self.shape(x)?[axis..axis + count].into();
        let whole = parts.iter().cloned().product();
        self.op(AxisOp::Reshape(axis, parts, tvec!(whole)), &[x])
    }

    pub(super) fn moved(&mut self, x: OutletId, from: usize, to: usize) -> TractResult<OutletId> {
        if from == to { Ok(x) } else { self.op(AxisOp::Move(from, to), &[x]) }
    }

    /// With an axis of one put in at `axis`.
    pub(super) fn unsqueeze(&mut self, x: OutletId, axis: usize) -> TractResult<OutletId> {
        self.op(AxisOp::Add(axis), &[x])
    }

    pub(super) fn squeeze(&mut self, x: OutletId, axis: usize) -> TractResult<OutletId> {
        self.op(AxisOp::Rm(axis), &[x])
    }

    pub(super) fn slice(
        &mut self,
        x: OutletId,
        axis: usize,
        start: impl ToDim,
        end: impl ToDim,
    ) -> TractResult<OutletId> {
        let (start, end) = (start.to_dim(), end.to_dim());
        if start == 0.to_dim() && self.shape(x)?[axis] == end {
            return Ok(x);
        }
        self.op(Slice::new(axis, start, end), &[x])
    }

    pub(super) fn concat(&mut self, parts: &[OutletId], axis: usize) -> TractResult<OutletId> {
        self.op(TypedConcat { axis }, parts)
    }

    pub(super) fn stretch(&mut self, x: OutletId, shape: TVec<TDim>) -> TractResult<OutletId> {
        self.op(MultiBroadcastTo { shape: shape.into() }, &[x])
    }

    /// Rows of a table.
    pub(super) fn rows(&mut self, table: OutletId, at: OutletId) -> TractResult<OutletId> {
        let at = self.cast(at, DatumType::I64)?;
        self.op(Gather { axis: 0, output_type: None }, &[table, at])
    }

    /// 0, 1, 2 and so on, as i64.
    pub(super) fn count_to(&mut self, end: &TDim) -> TractResult<OutletId> {
        if let Ok(end) = end.to_i64() {
            return self.constant(tensor1(&(0..end).collect::<Vec<i64>>()));
        }
        let ends = [0.to_dim(), end.clone(), 1.to_dim()];
        let ends = ends.map(|end| self.constant(tensor0(end)));
        let ends = ends.into_iter().collect::<TractResult<TVec<_>>>()?;
        self.op(Range::new(end.clone()), &ends)
    }
}
