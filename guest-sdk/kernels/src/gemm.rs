//! `c = clamp(a x b + biases + add)`: matrix products with their epilogue, convolutions among them.

use crate::check::{Refused, ensure, product, reaches};
use crate::pack::{self, Image};
use crate::simd::Simd;
use crate::tile::{self, LeftGroup, Panels, RightGroup, Target};
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

    /// Computes the product. Call [`Gemm::check`] first: what it refuses would panic here.
    #[inline(always)]
    pub fn run<S: Simd>(&mut self, s: S) {
        for index in 0..self.batch {
            self.run_one(s, index);
        }
    }

    #[inline(always)]
    fn run_one<S: Simd>(&mut self, s: S, index: usize) {
        let Gemm { m, n, k, .. } = *self;
        let right = self.right.at(index);
        let left = self.left.at(index);
        let (left_scratch, right_scratch) =
            self.scratch.split_at_mut(LEFT_SCRATCH.min(self.scratch.len()));
        let mut block = Block {
            c: &mut *self.c,
            base: index * self.c_batch,
            row_stride: self.c_row,
            n,
            epilogue: self.epilogue,
            add_base: index * self.epilogue.add_batch,
        };
        let depth_max = k.min(DEPTH);
        let fit = right_scratch.len() / (depth_max * RIGHT_COLS) * RIGHT_COLS;
        let step = if matches!(right, Right::Packed { .. }) { COLS_MAX } else { fit.min(COLS_MAX) };
        for col in (0..n).step_by(step) {
            let cols = step.min(n - col);
            for from in (0..k).step_by(DEPTH) {
                let depth = DEPTH.min(k - from);
                let slice = Slice { k, from, depth, col, cols };
                let panels = slice.right(right, right_scratch);
                for row in (0..m).step_by(S::ROWS) {
                    let rows = S::ROWS.min(m - row);
                    let left = slice.left(left, row, rows, left_scratch);
                    strip(s, rows, left, &panels, &slice, row, &mut block);
                }
            }
        }
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

/// The part of the operands that one pass works on: `depth` of `k` from `from`, `cols` columns from `col`.
struct Slice {
    k: usize,
    from: usize,
    depth: usize,
    col: usize,
    cols: usize,
}

/// Right panels of one slice: panel `i` starts at `i * stride` groups.
struct RightPanels<'a> {
    groups: &'a [RightGroup],
    stride: usize,
}

impl Slice {
    #[inline(always)]
    fn right<'a>(&self, right: Right<'a>, scratch: &'a mut [f32]) -> RightPanels<'a> {
        if let Right::Packed { data, .. } = right {
            let groups = data.as_chunks::<RIGHT_COLS>().0;
            let start = self.col / RIGHT_COLS * self.k + self.from;
            return RightPanels { groups: &groups[start..], stride: self.k };
        }
        let panels = self.cols.div_ceil(RIGHT_COLS);
        let groups = scratch.as_chunks_mut::<RIGHT_COLS>().0;
        let groups = &mut groups[..panels * self.depth];
        match right {
            Right::Strided { data, row, col, .. } => {
                pack::right_strided(
                    data, row, col, self.from, self.depth, self.col, self.cols, groups,
                );
            }
            Right::Image(image) => {
                image.pack(self.from, self.depth, self.col, self.cols, groups);
            }
            Right::Packed { .. } => {}
        }
        RightPanels { groups, stride: self.depth }
    }

    #[inline(always)]
    fn left<'a>(
        &self,
        left: Left<'a>,
        row: usize,
        rows: usize,
        scratch: &'a mut [f32],
    ) -> [&'a [LeftGroup]; 2] {
        let two = rows > LEFT_ROWS;
        let (groups, second) = match left {
            Left::Packed { data, .. } => {
                let start = row / LEFT_ROWS * self.k + self.from;
                (&data.as_chunks::<LEFT_ROWS>().0[start..], self.k)
            }
            Left::Strided { data, row: row_stride, col, .. } => {
                let groups = scratch.as_chunks_mut::<LEFT_ROWS>().0;
                let groups = &mut groups[..(1 + usize::from(two)) * self.depth];
                let data = &data[row * row_stride + self.from * col..];
                pack::left_strided(data, row_stride, col, rows, self.depth, groups);
                (&*groups, self.depth)
            }
        };
        let second = if two { second } else { 0 };
        [&groups[..self.depth], &groups[second..second + self.depth]]
    }
}

/// All tiles of `rows` rows in one slice.
#[inline(always)]
fn strip<S: Simd>(
    s: S,
    rows: usize,
    left: [&[LeftGroup]; 2],
    right: &RightPanels<'_>,
    slice: &Slice,
    row: usize,
    block: &mut Block<'_>,
) {
    let width = S::N * S::COLS;
    let (resume, finish) = (slice.from > 0, slice.from + slice.depth == slice.k);
    if S::SPLIT && rows <= 2 {
        for at in (0..slice.cols).step_by(RIGHT_COLS) {
            let panel = &right.groups[at / RIGHT_COLS * right.stride..][..slice.depth];
            let panels = Panels { left, right: [panel; 2] };
            let (block, col) = (&mut *block, slice.col + at);
            tile::run_wide(s, rows, panels, Target { block, row, col, resume, finish });
        }
        return;
    }
    for at in (0..slice.cols).step_by(width) {
        let first = at / RIGHT_COLS;
        let last = (at + width.min(slice.cols - at) - 1) / RIGHT_COLS;
        let panel = |i: usize| &right.groups[i * right.stride..][..slice.depth];
        let panels = Panels { left, right: [panel(first), panel(last)] };
        let col = slice.col + at;
        let block = &mut *block;
        let high = if S::SPLIT { rows.min(4) } else { rows };
        tile::run(s, high, at % RIGHT_COLS, panels, Target { block, row, col, resume, finish });
        if S::SPLIT && rows > 4 && at % RIGHT_COLS == 0 {
            tile::run_low(s, rows, panels, Target { block, row: row + 4, col, resume, finish });
        }
    }
}

/// `c[rows x cols] = left x right` without epilogue, both operands packed: the products inside Winograd.
#[inline(always)]
pub(crate) fn product_packed<S: Simd>(
    s: S,
    rows: usize,
    left: [&[LeftGroup]; 2],
    right: &[RightGroup],
    c: &mut [f32],
    cols: usize,
) {
    let depth = left[0].len();
    let slice = Slice { k: depth, from: 0, depth, col: 0, cols };
    let mut block =
        Block { c, base: 0, row_stride: cols, n: cols, epilogue: Epilogue::default(), add_base: 0 };
    let panels = RightPanels { groups: right, stride: depth };
    strip(s, rows, left, &panels, &slice, 0, &mut block);
}
