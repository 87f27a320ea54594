//! One slice of a product: its operands packed piece by piece, then multiplied strip by strip.

use crate::gemm::{Block, Epilogue, Left, Right};
use crate::simd::Simd;
use crate::tile::{self, LeftGroup, Panels, RightGroup, Target};
use crate::{LEFT_ROWS, RIGHT_COLS, pack, pieces};

/// The part of the operands that one pass works on: `depth` of `k` from `from`, `cols` columns from `col`.
pub(crate) struct Slice {
    pub k: usize,
    pub from: usize,
    pub depth: usize,
    pub col: usize,
    pub cols: usize,
}

/// Right panels of one slice: panel `i` starts at `i * stride` groups.
pub(crate) struct RightPanels<'a> {
    groups: &'a [RightGroup],
    stride: usize,
}

/// Groups of the right operand that are packed in one piece: 1,024 floats, each of which may cost a page.
pub(crate) const PACKED_AT_ONCE: usize = 64;
/// Rows of the left operand that are packed in one piece: 1,152 floats.
pub(crate) const ROWS_AT_ONCE: usize = LEFT_ROWS / 2;

impl Slice {
    /// Packs the right operand's groups from `done` on, as many as are a piece; says what that costs, or that there are
    /// none left.
    #[inline(always)]
    pub(crate) fn pack_right(
        &self,
        right: Right<'_>,
        done: usize,
        scratch: &mut [f32],
    ) -> Option<u64> {
        // Panel by panel, each in pieces of its own.
        let pieces = self.depth.div_ceil(PACKED_AT_ONCE);
        let (panel, piece) = (done / PACKED_AT_ONCE / pieces, done / PACKED_AT_ONCE % pieces);
        if matches!(right, Right::Packed { .. }) || panel == self.cols.div_ceil(RIGHT_COLS) {
            return None;
        }
        let start = piece * PACKED_AT_ONCE;
        let depth = PACKED_AT_ONCE.min(self.depth - start);
        let (from, col) = (self.from + start, self.col + panel * RIGHT_COLS);
        let cols = RIGHT_COLS.min(self.cols - panel * RIGHT_COLS);
        let groups = scratch.as_chunks_mut::<RIGHT_COLS>().0;
        let groups = &mut groups[panel * self.depth + start..][..depth];
        Some(match right {
            Right::Strided { data, row, col: stride, .. } => {
                pack::right_strided(data, row, stride, from, depth, col, cols, groups);
                pieces::strided(depth * cols, row.min(stride)) + pieces::LINE * depth as u64
            }
            Right::Image(image) => {
                let runs = image.pack(from, depth, col, cols, groups);
                let stride = image.window.stride[1];
                pieces::strided(depth * cols, stride) + pieces::LINE * (depth * runs) as u64
            }
            Right::Packed { .. } => 0,
        })
    }

    /// Packs the left operand's rows from `done` on, as many as are a piece; says what that costs, or that there are none
    /// left.
    #[inline(always)]
    pub(crate) fn pack_left(
        &self,
        left: Left<'_>,
        row: usize,
        rows: usize,
        done: usize,
        scratch: &mut [f32],
    ) -> Option<u64> {
        let Left::Strided { data, row: row_stride, col, .. } = left else { return None };
        if done >= rows {
            return None;
        }
        let groups = scratch.as_chunks_mut::<LEFT_ROWS>().0;
        let groups = &mut groups[done / LEFT_ROWS * self.depth..][..self.depth];
        let data = &data[(row + done) * row_stride + self.from * col..];
        let rows = ROWS_AT_ONCE.min(rows - done);
        pack::left_strided(data, row_stride, col, done % LEFT_ROWS, rows, groups);
        Some(pieces::strided(self.depth * rows, col) + pieces::LINE * rows as u64)
    }

    /// The right operand's groups, which are packed by now.
    #[inline(always)]
    pub(crate) fn right<'a>(&self, right: Right<'a>, scratch: &'a [f32]) -> RightPanels<'a> {
        if let Right::Packed { data, .. } = right {
            let groups = data.as_chunks::<RIGHT_COLS>().0;
            let start = self.col / RIGHT_COLS * self.k + self.from;
            return RightPanels { groups: &groups[start..], stride: self.k };
        }
        let panels = self.cols.div_ceil(RIGHT_COLS);
        let groups = scratch.as_chunks::<RIGHT_COLS>().0;
        RightPanels { groups: &groups[..panels * self.depth], stride: self.depth }
    }

    /// The left operand's rows, which are packed by now.
    #[inline(always)]
    pub(crate) fn left<'a>(
        &self,
        left: Left<'a>,
        row: usize,
        rows: usize,
        scratch: &'a [f32],
    ) -> [&'a [LeftGroup]; 2] {
        let (groups, second) = match left {
            Left::Packed { data, .. } => {
                let start = row / LEFT_ROWS * self.k + self.from;
                (&data.as_chunks::<LEFT_ROWS>().0[start..], self.k)
            }
            Left::Strided { .. } => (scratch.as_chunks::<LEFT_ROWS>().0, self.depth),
        };
        let second = if rows > LEFT_ROWS { second } else { 0 };
        [&groups[..self.depth], &groups[second..second + self.depth]]
    }
}

/// All tiles of `rows` rows in one slice.
#[inline(always)]
pub(crate) fn strip<S: Simd>(
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
