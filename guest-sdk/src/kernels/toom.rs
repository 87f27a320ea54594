//! Convolutions along one axis with fewer multiplications: Winograd's F(4, r), by Toom and Cook's construction.
//!
//! Four outputs of an `r` tap filter take `r + 3` multiplications instead of `4 r`. The channels are last, so each of
//! the small transforms is a sum of whole rows, and what is left are `r + 3` matrix products.

use mayfly_kernels::{Epilogue, Gemm, Left, Right, SCRATCH_GEMM, clamp, pack};
use tract_onnx::tract_core::internal::*;

use super::call;
use super::conv::floats;

/// Outputs of a tile.
const OUT: usize = 4;
/// Tiles handled at a time: a multiple of every CPU's rows. With 512 channels the block takes 1.5 MiB.
const BLOCK: usize = 48;
/// Where the polynomials are evaluated, besides infinity: small numbers with small inverses lose the least.
const POINTS: [f64; 7] = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5];

/// Taps that [`Toom`] takes.
pub(super) fn takes(taps: usize) -> bool {
    matches!(taps, 3 | 5)
}

/// `[n][n]`: rows of powers of each point, the last one for infinity.
fn powers(n: usize, width: usize) -> Vec<Vec<f64>> {
    let mut rows: Vec<Vec<f64>> = POINTS[..n - 1]
        .iter()
        .map(|point| {
            (0..width)
                .scan(1.0, |power, _| Some(std::mem::replace(power, *power * point)))
                .collect()
        })
        .collect();
    rows.push((0..width).map(|i| if i + 1 == width { 1.0 } else { 0.0 }).collect());
    rows
}

/// The inverse of a matrix that has one, by elimination with the largest pivot.
fn inverse(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = a.len();
    for (i, row) in a.iter_mut().enumerate() {
        row.extend((0..n).map(|j| if i == j { 1.0 } else { 0.0 }));
    }
    for i in 0..n {
        let best = (i..n).max_by(|&x, &y| a[x][i].abs().total_cmp(&a[y][i].abs())).unwrap_or(i);
        a.swap(i, best);
        let pivot = a[i][i];
        a[i].iter_mut().for_each(|v| *v /= pivot);
        let row = a[i].clone();
        for (j, other) in a.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            debug_assert_ne!(i, j);
            let factor = other[i];
            other.iter_mut().zip(&row).for_each(|(v, r)| *v -= factor * r);
        }
    }
    a.into_iter().map(|row| row[n..].to_vec()).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to the weights' type is the point")]
fn narrow(v: f64) -> f32 {
    v as f32
}

/// A convolution of stride 1 over rows of channels: `[batch][width][channels]` to `[batch][width'][filters]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Toom {
    /// The axis that is convolved, counted from the end; those between it and the channels have length 1.
    pub axis: usize,
    pub taps: usize,
    pub channels: usize,
    pub filters: usize,
    /// Zeros before and after each image.
    pub pad: [usize; 2],
    /// `[taps + 3]` packed right operands of `channels` x `filters`.
    pub weights: Arc<Tensor>,
    pub bias: Arc<Tensor>,
    /// Bounds of the result, as bits: floats have no equality.
    pub bounds: [u32; 2],
}

/// Transforms weights `[filters][channels][taps]`, and packs them.
pub(super) fn pack_weights(data: &[f32], channels: usize, filters: usize, taps: usize) -> Tensor {
    let n = taps + OUT - 1;
    let evaluate = powers(n, taps);
    let len = pack::right_len(channels, filters);
    let mut packed = vec![0.0; n * len];
    let mut plain = vec![0.0f32; channels * filters];
    for (row, packed) in evaluate.iter().zip(packed.chunks_exact_mut(len)) {
        for (to, filter) in plain.iter_mut().zip(data.chunks_exact(taps)) {
            *to = narrow(row.iter().zip(filter).map(|(p, &w)| p * f64::from(w)).sum());
        }
        pack::right(&plain, channels, filters, 1, channels, packed);
    }
    tensor1(&packed)
}

/// `out[c] = sum over i of factors[i] * rows[i][c]`
fn combine<const N: usize>(rows: [&[f32]; N], factors: [f32; N], out: &mut [f32]) {
    let rows = rows.map(|row| &row[..out.len()]);
    for (c, out) in out.iter_mut().enumerate() {
        let mut sum = rows[0][c] * factors[0];
        for i in 1..N {
            sum += rows[i][c] * factors[i];
        }
        *out = sum;
    }
}

fn matrix<const N: usize>(rows: &[Vec<f64>]) -> Vec<[f32; N]> {
    rows.iter().map(|row| std::array::from_fn(|i| row.get(i).map_or(0.0, |&v| narrow(v)))).collect()
}

/// One image, with `N` points.
struct Pass<'a, const N: usize> {
    op: &'a Toom,
    input: &'a [f32],
    weights: &'a [f32],
    /// `[N][N]`, of inputs, and `[OUT][N]`, of products.
    forward: Vec<[f32; N]>,
    backward: Vec<[f32; N]>,
    zeros: Vec<f32>,
}

impl<const N: usize> Pass<'_, N> {
    fn row(&self, at: usize) -> &[f32] {
        let channels = self.op.channels;
        let row = at.checked_sub(self.op.pad[0]).and_then(|at| self.input.get(at * channels..));
        row.and_then(|row| row.get(..channels)).unwrap_or(&self.zeros)
    }

    fn image(&self, out: &mut [f32]) -> TractResult<()> {
        let Toom { channels, filters, .. } = *self.op;
        let tiles = (out.len() / filters).div_ceil(OUT);
        let (before, after) = (BLOCK * channels, BLOCK * filters);
        call::with_scratch(SCRATCH_GEMM + N * (before + after), |scratch| {
            let (scratch, rest) = scratch.split_at_mut(SCRATCH_GEMM);
            let (inputs, products) = rest.split_at_mut(N * before);
            for first in (0..tiles).step_by(BLOCK) {
                let count = BLOCK.min(tiles - first);
                for tile in 0..count {
                    let rows: [&[f32]; N] =
                        std::array::from_fn(|i| self.row((first + tile) * OUT + i));
                    for (i, factors) in self.forward.iter().enumerate() {
                        let to = &mut inputs[i * before + tile * channels..][..channels];
                        combine(rows, *factors, to);
                    }
                }
                self.multiply(count, inputs, products, scratch)?;
                let out = &mut out[first * OUT * filters..];
                self.finish(count, products, out);
            }
            Ok(())
        })
    }

    fn multiply(
        &self,
        count: usize,
        inputs: &[f32],
        products: &mut [f32],
        scratch: &mut [f32],
    ) -> TractResult<()> {
        let Toom { channels, filters, .. } = *self.op;
        let len = self.weights.len() / N;
        for i in 0..N {
            // Columns that stay within the caps of one call.
            let cols = call::columns_max(count, channels);
            for col in (0..filters).step_by(cols) {
                let left = &inputs[i * BLOCK * channels..];
                call::gemm(&mut Gemm {
                    m: count,
                    n: cols.min(filters - col),
                    k: channels,
                    batch: 1,
                    left: Left::Strided { data: left, row: channels, col: 1, batch: 0 },
                    right: Right::Packed {
                        data: &self.weights[i * len + col * channels..],
                        batch: 0,
                    },
                    c: &mut products[i * BLOCK * filters + col..],
                    c_row: filters,
                    c_batch: 0,
                    epilogue: Epilogue::default(),
                    scratch,
                })?;
            }
        }
        Ok(())
    }

    /// Rows of the result, as many as there are.
    fn finish(&self, count: usize, products: &[f32], out: &mut [f32]) {
        let filters = self.op.filters;
        let rows = out.chunks_exact_mut(filters).take(count * OUT);
        let [lo, hi] = self.op.bounds.map(f32::from_bits);
        let bias = floats(&self.op.bias).unwrap_or(&[]);
        for (at, out) in rows.enumerate() {
            let (tile, j) = (at / OUT, at % OUT);
            let rows: [&[f32]; N] =
                std::array::from_fn(|i| &products[(i * BLOCK + tile) * filters..][..filters]);
            combine(rows, self.backward[j], out);
            for (out, bias) in out.iter_mut().zip(bias) {
                *out = clamp(*out + bias, lo, hi);
            }
        }
    }
}

impl Toom {
    fn run<const N: usize>(&self, x: &[f32], width: usize, out: &mut [f32]) -> TractResult<()> {
        let inverse = inverse(powers(N, N));
        let transposed = |m: &[Vec<f64>], rows: usize| -> Vec<Vec<f64>> {
            (0..rows).map(|i| m.iter().map(|row| row[i]).collect()).collect()
        };
        let mut pass = Pass::<N> {
            op: self,
            input: &[],
            weights: floats(&self.weights)?,
            forward: matrix(&transposed(&inverse, N)),
            backward: matrix(&transposed(&powers(N, OUT), OUT)),
            zeros: vec![0.0; self.channels],
        };
        let after = (width + self.pad[0] + self.pad[1] + 1).saturating_sub(self.taps);
        let images = x.chunks_exact(width * self.channels);
        for (x, out) in images.zip(out.chunks_exact_mut((after * self.filters).max(1))) {
            pass.input = x;
            pass.image(out)?;
        }
        Ok(())
    }
}

impl Op for Toom {
    fn name(&self) -> StaticName {
        "MayflyToom".into()
    }
    fn validation(&self) -> Validation {
        Validation::Rounding
    }
    op_as_typed_op!();
}

impl EvalOp for Toom {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut shape: TVec<usize> = inputs[0].shape().into();
        let rank = shape.len();
        let width = shape[rank - self.axis];
        let padded = width + self.pad[0] + self.pad[1] + 1;
        shape[rank - self.axis] =
            padded.checked_sub(self.taps).context("an image shorter than its window")?;
        shape[rank - 1] = self.filters;
        let mut output = Tensor::zero::<f32>(&shape)?;
        if output.len() > 0 {
            let mut plain = output.try_as_plain_ram_mut()?;
            let out = plain.as_slice_mut::<f32>()?;
            match self.taps {
                3 => self.run::<6>(floats(&inputs[0])?, width, out)?,
                _ => self.run::<8>(floats(&inputs[0])?, width, out)?,
            }
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Toom {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        let rank = shape.len();
        let padding = self.pad[0] + self.pad[1] + 1;
        shape[rank - self.axis] = shape[rank - self.axis].clone() + padding - self.taps;
        shape[rank - 1] = self.filters.to_dim();
        Ok(tvec!(f32::datum_type().fact(shape)))
    }
    as_op!();
}
