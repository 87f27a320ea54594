//! Matrix products: sums over shared axes, with bias, residual and clamp in the same pass.

use std::ops::Range;

use mayfly_kernels::{Epilogue, Gemm, LEFT_ROWS, Left, RIGHT_COLS, Right, SCRATCH_GEMM};
use tract_onnx::tract_core::internal::*;

use super::call::{self, TILE_ROWS};
use super::conv::floats;

/// Weights known at load, packed as the left (`m` x `k`) or right (`k` x `n`) operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weights {
    pub packed: Arc<Tensor>,
    pub shape: TVec<usize>,
}

/// `c = a x b`, the axes being named as in Einstein's notation. The left operand has the output's rows, the right
/// one its columns, which are consecutive in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Product {
    /// Names of the axes of the left and right operand and of the output.
    pub left: TVec<char>,
    pub right: TVec<char>,
    pub out: TVec<char>,
    /// At most one operand is known; it is no input then.
    pub weights: Option<(Side, Weights)>,
    /// The order of the inputs when both are given: whether the left operand comes second.
    pub swapped: bool,
    pub row_bias: Option<Arc<Tensor>>,
    pub col_bias: Option<Arc<Tensor>>,
    /// The last input is added to the result.
    pub residual: bool,
    /// Bounds of the result, as bits: floats have no equality.
    pub bounds: [u32; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// An axis as three operands see it: its length and its stride in left, right and output (0 where it is not).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Walk {
    len: usize,
    left: usize,
    right: usize,
    out: usize,
}

/// The sizes of one evaluation.
struct Sizes {
    m: Walk,
    n: Walk,
    k: Walk,
    /// Products to do one after the other, outermost first.
    loops: TVec<Walk>,
    shape: TVec<usize>,
}

fn strides(shape: &[usize]) -> TVec<usize> {
    let mut strides: TVec<usize> = tvec!(1; shape.len());
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Merges axes that are one in memory; `walks` is ordered outermost first.
fn merge(walks: impl IntoIterator<Item = Walk>) -> TVec<Walk> {
    let mut merged: TVec<Walk> = tvec!();
    for inner in walks.into_iter().filter(|walk| walk.len != 1) {
        if let Some(outer) = merged.last_mut() {
            let follows = |outer: usize, stride: usize| outer == stride * inner.len;
            if follows(outer.left, inner.left)
                && follows(outer.right, inner.right)
                && follows(outer.out, inner.out)
            {
                *outer = Walk { len: outer.len * inner.len, ..inner };
                continue;
            }
        }
        merged.push(inner);
    }
    merged
}

impl Product {
    fn sizes(&self, left: &[usize], right: &[usize]) -> TractResult<Sizes> {
        let length = |axis: &char| {
            let find = |axes: &[char], shape: &[usize]| {
                axes.iter().position(|a| a == axis).map(|i| shape[i])
            };
            match (find(&self.left, left), find(&self.right, right)) {
                (Some(a), Some(b)) if a != b => {
                    bail!("axis {axis} is {a} long on one side, {b} on the other")
                }
                (Some(len), _) | (None, Some(len)) => Ok(len),
                (None, None) => Ok(1),
            }
        };
        let shape: TVec<usize> = self.out.iter().map(length).collect::<TractResult<_>>()?;
        let (ls, rs, os) = (strides(left), strides(right), strides(&shape));
        let stride = |axes: &[char], strides: &[usize], axis: &char| {
            axes.iter().position(|a| a == axis).map_or(0, |i| strides[i])
        };
        let walk = |axis: &char| -> TractResult<Walk> {
            Ok(Walk {
                len: length(axis)?,
                left: stride(&self.left, &ls, axis),
                right: stride(&self.right, &rs, axis),
                out: stride(&self.out, &os, axis),
            })
        };
        let select = |from: &[char], keep: &dyn Fn(&char) -> bool| {
            from.iter().filter(|a| keep(a)).map(walk).collect::<TractResult<TVec<Walk>>>()
        };
        let on_left = |a: &char| self.left.contains(a);
        let on_right = |a: &char| self.right.contains(a);
        let in_out = |a: &char| self.out.contains(a);
        let mut rows = merge(select(&self.out, &|a| on_left(a) && !on_right(a))?);
        let mut cols = merge(select(&self.out, &|a| on_right(a) && !on_left(a))?);
        let both = merge(select(&self.out, &|a| on_left(a) && on_right(a))?);
        let sums = merge(select(&self.left, &|a| on_right(a) && !in_out(a))?);
        let one = Walk { len: 1, left: 1, right: 1, out: 1 };
        ensure!(sums.len() <= 1, "the axes summed over are not one stretch of memory");
        let n = cols.pop().unwrap_or(one);
        ensure!(n.out == 1, "columns are not consecutive in the output");
        let m = rows.pop().unwrap_or(Walk { out: n.len, ..one });
        let k = sums.first().copied().unwrap_or(one);
        let loops = both.into_iter().chain(rows).chain(cols).collect();
        Ok(Sizes { m, n, k, loops, shape })
    }

    /// Whether operands of these shapes can be walked without copies.
    pub(super) fn can_walk(&self, left: &[usize], right: &[usize]) -> bool {
        self.sizes(left, right).is_ok_and(|sizes| {
            // Packed weights are one stretch: nothing may loop over them.
            let side = self.weights.as_ref().map(|(side, _)| *side);
            sizes.loops.iter().all(|walk| match side {
                Some(Side::Left) => walk.left == 0,
                Some(Side::Right) => walk.right == 0,
                None => true,
            })
        })
    }

    fn operands<'a>(&'a self, inputs: &'a [TValue]) -> TractResult<[(&'a [f32], &'a [usize]); 2]> {
        let given = |i: usize| -> TractResult<(&'a [f32], &'a [usize])> {
            Ok((floats(&inputs[i])?, inputs[i].shape()))
        };
        let known = |w: &'a Weights| -> TractResult<(&'a [f32], &'a [usize])> {
            Ok((floats(&w.packed)?, &w.shape))
        };
        Ok(match &self.weights {
            Some((Side::Left, w)) => [known(w)?, given(0)?],
            Some((Side::Right, w)) => [given(0)?, known(w)?],
            None if self.swapped => [given(1)?, given(0)?],
            None => [given(0)?, given(1)?],
        })
    }
}

/// What stays the same over the loops of one evaluation.
struct Run<'a> {
    product: &'a Product,
    sizes: &'a Sizes,
    left: &'a [f32],
    right: &'a [f32],
    row_bias: Option<&'a [f32]>,
    col_bias: Option<&'a [f32]>,
    add: Option<&'a [f32]>,
}

/// What one call computes of a product, and the part of its sums.
struct Block {
    rows: Range<usize>,
    cols: Range<usize>,
    depth: Range<usize>,
}

impl Run<'_> {
    /// Products along `loops`, the innermost one as a batch of one call where the operands allow.
    fn walk(&self, loops: &[Walk], at: [usize; 3], out: &mut [f32]) -> TractResult<()> {
        let one = Walk { len: 1, left: 0, right: 0, out: 0 };
        match loops {
            [] => self.call(one, at, out),
            [batch] if self.product.weights.is_none() => self.call(*batch, at, out),
            [outer, inner @ ..] => {
                for i in 0..outer.len {
                    let at =
                        [at[0] + i * outer.left, at[1] + i * outer.right, at[2] + i * outer.out];
                    self.walk(inner, at, out)?;
                }
                Ok(())
            }
        }
    }

    /// One batch, in as many calls as the caps on a call ask for.
    fn call(&self, batch: Walk, at: [usize; 3], out: &mut [f32]) -> TractResult<()> {
        let Sizes { m, n, k, .. } = *self.sizes;
        if call::fits([m.len, n.len, k.len, batch.len]) {
            let all = Block { rows: 0..m.len, cols: 0..n.len, depth: 0..k.len };
            return self.gemm(batch, at, all, None, out);
        }
        // As many products at a time as fit, or one of them in blocks.
        let (rows, cols, count) = if k.len > call::DEPTH_MAX {
            (LEFT_ROWS, RIGHT_COLS, 1)
        } else if call::fits([m.len, n.len, k.len, 1]) {
            (m.len, n.len, call::batch_max([m.len, n.len, k.len]))
        } else {
            let rows = call::columns_max(RIGHT_COLS, k.len) / TILE_ROWS * TILE_ROWS;
            let rows = m.len.min(rows.max(TILE_ROWS));
            (rows, call::columns_max(rows, k.len), 1)
        };
        for i in (0..batch.len).step_by(count) {
            let at = [at[0] + i * batch.left, at[1] + i * batch.right, at[2] + i * batch.out];
            let batch = Walk { len: count.min(batch.len - i), ..batch };
            for (row, col) in call::blocks([m.len, rows], [n.len, cols]) {
                let (rows, cols) = (row..(row + rows).min(m.len), col..(col + cols).min(n.len));
                if k.len > call::DEPTH_MAX {
                    self.deep(at, &rows, &cols, out)?;
                } else {
                    self.gemm(batch, at, Block { rows, cols, depth: 0..k.len }, None, out)?;
                }
            }
        }
        Ok(())
    }

    /// A tile of a product whose sums are too long for one call: a slice of them at a time, each added to what the one
    /// before it left.
    fn deep(
        &self,
        at: [usize; 3],
        rows: &Range<usize>,
        cols: &Range<usize>,
        out: &mut [f32],
    ) -> TractResult<()> {
        let Sizes { m, k, .. } = *self.sizes;
        let one = Walk { len: 1, left: 0, right: 0, out: 0 };
        for from in (0..k.len).step_by(call::DEPTH_MAX) {
            let depth = from..(from + call::DEPTH_MAX).min(k.len);
            let mut sums = [0.0; LEFT_ROWS * RIGHT_COLS];
            for (to, row) in sums.chunks_exact_mut(RIGHT_COLS).zip(rows.clone()) {
                let from = &out[at[2] + row * m.out..][cols.clone()];
                to[..cols.len()].copy_from_slice(from);
            }
            let block = Block { rows: rows.clone(), cols: cols.clone(), depth };
            self.gemm(one, at, block, (from > 0).then_some(&sums[..]), out)?;
        }
        Ok(())
    }

    /// One call; `sums` are those of the depth before the block's.
    fn gemm(
        &self,
        batch: Walk,
        [left_at, right_at, out_at]: [usize; 3],
        Block { rows, cols, depth }: Block,
        sums: Option<&[f32]>,
        out: &mut [f32],
    ) -> TractResult<()> {
        let Sizes { m, n, k, .. } = *self.sizes;
        let side = self.product.weights.as_ref().map(|(side, _)| *side);
        let left = if side == Some(Side::Left) {
            let at = rows.start * k.len + depth.start * LEFT_ROWS;
            Left::Packed { data: &self.left[at..], batch: 0 }
        } else {
            let data = &self.left[left_at + rows.start * m.left + depth.start * k.left..];
            Left::Strided { data, row: m.left, col: k.left, batch: batch.left }
        };
        let right = if side == Some(Side::Right) {
            let at = cols.start * k.len + depth.start * RIGHT_COLS;
            Right::Packed { data: &self.right[at..], batch: 0 }
        } else {
            let data = &self.right[right_at + cols.start * n.right + depth.start * k.right..];
            Right::Strided { data, row: k.right, col: n.right, batch: batch.right }
        };
        let start = out_at + rows.start * m.out + cols.start;
        let mut epilogue = Epilogue::default();
        if let Some(sums) = sums {
            (epilogue.add, epilogue.add_row) = (Some(sums), RIGHT_COLS);
        } else {
            epilogue.row_bias = self.row_bias.map(|bias| &bias[rows.clone()]);
            epilogue.col_bias = self.col_bias.map(|bias| &bias[cols.clone()]);
            epilogue.add = self.add.map(|add| &add[start..]);
            (epilogue.add_row, epilogue.add_batch) = (m.out, batch.out);
        }
        if depth.end == k.len {
            [epilogue.lo, epilogue.hi] = self.product.bounds.map(f32::from_bits);
        }
        call::with_scratch(SCRATCH_GEMM, |scratch| {
            let mut gemm = Gemm {
                m: rows.len(),
                n: cols.len(),
                k: depth.len(),
                batch: batch.len,
                left,
                right,
                c: &mut out[start..],
                c_row: m.out,
                c_batch: batch.out,
                epilogue,
                scratch,
            };
            Ok(call::gemm(&mut gemm)?)
        })
    }
}

impl Op for Product {
    fn name(&self) -> StaticName {
        "MayflyProduct".into()
    }
    fn info(&self) -> TractResult<Vec<String>> {
        let name = |axes: &[char]| axes.iter().collect::<String>();
        let (l, r, o) = (name(&self.left), name(&self.right), name(&self.out));
        let known = self.weights.as_ref().map(|(side, _)| *side);
        Ok(vec![format!("{l},{r}->{o} known:{known:?} residual:{}", self.residual)])
    }
    fn validation(&self) -> Validation {
        Validation::Rounding
    }
    op_as_typed_op!();
}

impl EvalOp for Product {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let [(left, left_shape), (right, right_shape)] = self.operands(&inputs)?;
        let sizes = self.sizes(left_shape, right_shape)?;
        let mut output = Tensor::zero::<f32>(&sizes.shape)?;
        let add = match inputs.last() {
            Some(last) if self.residual => Some(floats(last)?),
            _ => None,
        };
        let run = Run {
            product: self,
            sizes: &sizes,
            left,
            right,
            row_bias: self.row_bias.as_deref().map(floats).transpose()?,
            col_bias: self.col_bias.as_deref().map(floats).transpose()?,
            add,
        };
        if sizes.k.len > 0 && output.len() > 0 {
            let mut plain = output.try_as_plain_ram_mut()?;
            run.walk(&sizes.loops, [0; 3], plain.as_slice_mut::<f32>()?)?;
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Product {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let known = |w: &Weights| -> TVec<TDim> { w.shape.iter().map(|d| d.to_dim()).collect() };
        let given = |i: usize| -> TVec<TDim> { inputs[i].shape.iter().cloned().collect() };
        let (left, right) = match &self.weights {
            Some((Side::Left, w)) => (known(w), given(0)),
            Some((Side::Right, w)) => (given(0), known(w)),
            None if self.swapped => (given(1), given(0)),
            None => (given(0), given(1)),
        };
        let dim = |axis: &char| {
            let find = |axes: &[char], dims: &[TDim]| {
                axes.iter().position(|a| a == axis).map(|i| dims[i].clone())
            };
            find(&self.left, &left).or_else(|| find(&self.right, &right)).unwrap_or(1.to_dim())
        };
        let shape: TVec<TDim> = self.out.iter().map(dim).collect();
        Ok(tvec!(f32::datum_type().fact(shape)))
    }
    as_op!();
}
