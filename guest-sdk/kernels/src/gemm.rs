//! `c = clamp(a x b + biases + add)`: matrix products with their epilogue, convolutions among them.

use crate::check::{Refused, ensure, product, reaches};
use crate::pack::Image;
use crate::pieces::Pieces;
use crate::simd::Simd;
use crate::slice::{PACKED_AT_ONCE, ROWS_AT_ONCE, Slice, strip};
use crate::{FLOATS_MAX, LEFT_ROWS, MACS_MAX, RIGHT_COLS, SCRATCH_MIN, WORK_MAX, work};

/// Depth of a slice of `k`: 12 rows of it (18 KiB) stay in L1 while the right operand streams from L2.
const DEPTH: usize = 384;
/// Scratch floats set aside for a packed slice of the left operand.
const LEFT_SCRATCH: usize = 2 * LEFT_ROWS * DEPTH;
/// Columns handled before the left operand is streamed again: with `DEPTH` rows, 344 KiB of L2.
const COLS_MAX: usize = 224;
/// Packing reads in whatever order strides say, a cache miss at each float in the worst case.
const UNPACKED: &str = "gemm: an operand that is not packed is too large for one call";

/// The left operand, `m` x `k`.
#[derive(Debug, Clone, Copy)]
pub enum Left<'a> {
    /// Panels of [`LEFT_ROWS`] rows: `[m / 6][k][6]`, the last one filled up with anything.
    Packed { data: &'a [f32], batch: usize },
    /// Element (i, j) at `i * row + j * col`.
    Strided { data: &'a [f32], row: usize, col: usize, batch: usize },
}

/// The right operand, `k` x `n`.
#[derive(Debug, Clone, Copy)]
pub enum Right<'a> {
    /// Panels of [`RIGHT_COLS`] columns: `[n / 16][k][16]`, the last one filled up with anything.
    Packed { data: &'a [f32], batch: usize },
    /// Element (i, j) at `i * row + j * col`.
    Strided { data: &'a [f32], row: usize, col: usize, batch: usize },
    /// Row (c, ky, kx), column = output pixel: what a convolution multiplies its weights with.
    Image(Image<'a>),
}

/// What happens to a sum before it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a> {
    pub row_bias: Option<&'a [f32]>,
    pub col_bias: Option<&'a [f32]>,
    /// Added element by element: a residual. Element (i, j) at `i * add_row + j`.
    pub add: Option<&'a [f32]>,
    pub add_row: usize,
    pub add_batch: usize,
    /// Bounds of the result; infinite for none.
    pub lo: f32,
    pub hi: f32,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Epilogue {
            row_bias: None,
            col_bias: None,
            add: None,
            add_row: 0,
            add_batch: 0,
            lo: f32::NEG_INFINITY,
            hi: f32::INFINITY,
        }
    }
}

/// One matrix product, or `batch` of them with the same shape.
#[derive(Debug)]
pub struct Gemm<'a> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub batch: usize,
    pub left: Left<'a>,
    pub right: Right<'a>,
    pub c: &'a mut [f32],
    /// Element (i, j) of the result at `i * c_row + j`.
    pub c_row: usize,
    pub c_batch: usize,
    pub epilogue: Epilogue<'a>,
    /// At least [`SCRATCH_MIN`] floats unless both operands are packed.
    pub scratch: &'a mut [f32],
}

/// The result of one product of a batch, as tiles see it.
pub(crate) struct Block<'a> {
    pub c: &'a mut [f32],
    pub base: usize,
    pub row_stride: usize,
    pub n: usize,
    pub epilogue: Epilogue<'a>,
    pub add_base: usize,
}

impl Gemm<'_> {
    /// Proves every slice long enough for the sizes given.
    pub fn check(&self) -> Result<(), Refused> {
        let &Gemm { m, n, k, batch, .. } = self;
        product(&[m, n, k, batch], MACS_MAX, "gemm: a size is zero or the work passes the cap")?;
        product(&[m, n, batch], FLOATS_MAX, "gemm: too many results for one call")?;
        match self.left {
            Left::Packed { data, batch: step } => {
                let panel = (m.div_ceil(LEFT_ROWS) * LEFT_ROWS) as u64 * k as u64;
                reaches(
                    data.len(),
                    &[(batch, step)],
                    panel,
                    "gemm: packed left operand too short",
                )?;
            }
            Left::Strided { data, row, col, batch: step } => {
                product(&[m, k, batch], FLOATS_MAX, UNPACKED)?;
                let steps = [(m, row), (k, col), (batch, step)];
                reaches(data.len(), &steps, 1, "gemm: left operand too short")?;
            }
        }
        match self.right {
            Right::Packed { data, batch: step } => {
                let panel = (n.div_ceil(RIGHT_COLS) * RIGHT_COLS) as u64 * k as u64;
                reaches(
                    data.len(),
                    &[(batch, step)],
                    panel,
                    "gemm: packed right operand too short",
                )?;
            }
            Right::Strided { data, row, col, batch: step } => {
                product(&[k, n, batch], FLOATS_MAX, UNPACKED)?;
                let steps = [(k, row), (n, col), (batch, step)];
                reaches(data.len(), &steps, 1, "gemm: right operand too short")?;
            }
            Right::Image(image) => {
                product(&[k, n, batch], FLOATS_MAX, UNPACKED)?;
                image.check(k, n, batch)?;
            }
        }
        let bounded = work::gemm([m, n, k, batch]) <= WORK_MAX;
        ensure(bounded, "gemm: small products or tiles nearly empty pass the cap on work")?;
        self.check_output()
    }

    fn check_output(&self) -> Result<(), Refused> {
        let &Gemm { m, n, batch, .. } = self;
        let e = &self.epilogue;
        let steps = [(m, self.c_row), (batch, self.c_batch)];
        reaches(self.c.len(), &steps, n as u64, "gemm: result too short")?;
        ensure(e.row_bias.is_none_or(|b| b.len() >= m), "gemm: row bias too short")?;
        ensure(e.col_bias.is_none_or(|b| b.len() >= n), "gemm: column bias too short")?;
        if let Some(add) = e.add {
            let steps = [(m, e.add_row), (batch, e.add_batch)];
            reaches(add.len(), &steps, n as u64, "gemm: addend too short")?;
        }
        let packed = matches!((self.left, self.right), (Left::Packed { .. }, Right::Packed { .. }));
        ensure(packed || self.scratch.len() >= SCRATCH_MIN, "gemm: scratch too short")
    }
}

/// How far a product has come: which one of the batch, its column, the start of its slice of `k`, how many groups of
/// the right and rows of the left operand are packed, and its row.
#[derive(Debug, Default)]
pub struct At {
    index: usize,
    col: usize,
    from: usize,
    right: usize,
    left: usize,
    row: usize,
}

impl Pieces for Gemm<'_> {
    type At = At;

    #[inline(always)]
    fn go_on<S: Simd>(&mut self, s: S, at: &mut At, stop: &mut impl FnMut(u64) -> bool) -> bool {
        while at.index < self.batch {
            if !self.one(s, at, stop) {
                return false;
            }
            *at = At { index: at.index + 1, ..At::default() };
            if stop(work::PRODUCT) {
                return false;
            }
        }
        true
    }
}

impl Gemm<'_> {
    #[inline(always)]
    fn one<S: Simd>(&mut self, s: S, at: &mut At, stop: &mut impl FnMut(u64) -> bool) -> bool {
        let Gemm { m, n, k, .. } = *self;
        let right = self.right.at(at.index);
        let left = self.left.at(at.index);
        let (left_scratch, right_scratch) =
            self.scratch.split_at_mut(LEFT_SCRATCH.min(self.scratch.len()));
        let mut block = Block {
            c: &mut *self.c,
            base: at.index * self.c_batch,
            row_stride: self.c_row,
            n,
            epilogue: self.epilogue,
            add_base: at.index * self.epilogue.add_batch,
        };
        let depth_max = k.min(DEPTH);
        let fit = right_scratch.len() / (depth_max * RIGHT_COLS) * RIGHT_COLS;
        let step = if matches!(right, Right::Packed { .. }) { COLS_MAX } else { fit.min(COLS_MAX) };
        while at.col < n {
            let cols = step.min(n - at.col);
            while at.from < k {
                let depth = DEPTH.min(k - at.from);
                let slice = Slice { k, from: at.from, depth, col: at.col, cols };
                while let Some(cost) = slice.pack_right(right, at.right, right_scratch) {
                    at.right += PACKED_AT_ONCE;
                    if stop(cost) {
                        return false;
                    }
                }
                let panels = slice.right(right, right_scratch);
                while at.row < m {
                    let rows = S::ROWS.min(m - at.row);
                    while let Some(cost) =
                        slice.pack_left(left, at.row, rows, at.left, left_scratch)
                    {
                        at.left += ROWS_AT_ONCE;
                        if stop(cost) {
                            return false;
                        }
                    }
                    let left = slice.left(left, at.row, rows, left_scratch);
                    strip(s, rows, left, &panels, &slice, at.row, &mut block);
                    (at.row, at.left) = (at.row + S::ROWS, 0);
                    if stop(work::strip(rows, cols, depth)) {
                        return false;
                    }
                }
                (at.from, at.right, at.row) = (at.from + DEPTH, 0, 0);
            }
            (at.col, at.from) = (at.col + step, 0);
        }
        true
    }
}

impl<'a> Left<'a> {
    #[inline(always)]
    fn at(self, index: usize) -> Left<'a> {
        match self {
            Left::Packed { data, batch } => Left::Packed { data: &data[index * batch..], batch },
            Left::Strided { data, row, col, batch } => {
                Left::Strided { data: &data[index * batch..], row, col, batch }
            }
        }
    }
}

impl<'a> Right<'a> {
    #[inline(always)]
    fn at(self, index: usize) -> Right<'a> {
        match self {
            Right::Packed { data, batch } => Right::Packed { data: &data[index * batch..], batch },
            Right::Strided { data, row, col, batch } => {
                Right::Strided { data: &data[index * batch..], row, col, batch }
            }
            Right::Image(image) => Right::Image(image.at(index)),
        }
    }
}
