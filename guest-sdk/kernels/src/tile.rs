//! The register tile: the only loop where nearly all the time goes.

use crate::gemm::Block;
use crate::simd::Simd;
use crate::{LEFT_ROWS, RIGHT_COLS};

/// One group of a left panel: the same column of its rows.
pub(crate) type LeftGroup = [f32; LEFT_ROWS];
/// One group of a right panel: the same row of its columns.
pub(crate) type RightGroup = [f32; RIGHT_COLS];

/// Operands of one tile. The second panels are the first ones again where the tile needs only one.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub left: [&'a [LeftGroup]; 2],
    pub right: [&'a [RightGroup]; 2],
}

/// Where a tile's result goes: `rows` x `cols` of `c` from (`row`, `col`).
pub(crate) struct Target<'a, 'b> {
    pub block: &'a mut Block<'b>,
    pub row: usize,
    pub col: usize,
    /// The sum so far is in `c` already: a later slice of `k`.
    pub resume: bool,
    /// The sum is complete: apply the epilogue.
    pub finish: bool,
}

/// Runs the tile of `rows` rows (1 to `S::ROWS`) at column `offset` of the right panels.
#[inline(always)]
pub(crate) fn run<S: Simd>(s: S, rows: usize, offset: usize, p: Panels<'_>, t: Target<'_, '_>) {
    let vectors = (t.block.n - t.col).div_ceil(S::N).min(S::COLS);
    match (vectors, offset) {
        (1, 0) => by_rows::<S, 1, 0>(s, rows, p, t),
        (1, _) => by_rows::<S, 1, 8>(s, rows, p, t),
        (_, 0) => by_rows::<S, 2, 0>(s, rows, p, t),
        (_, _) => by_rows::<S, 2, 8>(s, rows, p, t),
    }
}

/// As [`run`], for rows 4 and 5 of a panel and all of the right panel's columns.
#[inline(always)]
pub(crate) fn run_low<S: Simd>(s: S, rows: usize, p: Panels<'_>, t: Target<'_, '_>) {
    let vectors = (t.block.n - t.col).div_ceil(S::N).min(4);
    match (vectors, rows) {
        (1, 5) => fixed::<S, 1, 1, 4, 0>(s, p, t),
        (2, 5) => fixed::<S, 1, 2, 4, 0>(s, p, t),
        (_, 5) => fixed::<S, 1, 4, 4, 0>(s, p, t),
        (1, _) => fixed::<S, 2, 1, 4, 0>(s, p, t),
        (2, _) => fixed::<S, 2, 2, 4, 0>(s, p, t),
        (_, _) => fixed::<S, 2, 4, 4, 0>(s, p, t),
    }
}

/// As [`run`], for one or two rows and all of the right panel's columns: with fewer accumulators, sums would wait for
/// each other.
#[inline(always)]
pub(crate) fn run_wide<S: Simd>(s: S, rows: usize, p: Panels<'_>, t: Target<'_, '_>) {
    let vectors = (t.block.n - t.col).div_ceil(S::N).min(4);
    match (vectors, rows) {
        (1, 1) => fixed::<S, 1, 1, 0, 0>(s, p, t),
        (2, 1) => fixed::<S, 1, 2, 0, 0>(s, p, t),
        (_, 1) => fixed::<S, 1, 4, 0, 0>(s, p, t),
        (1, _) => fixed::<S, 2, 1, 0, 0>(s, p, t),
        (2, _) => fixed::<S, 2, 2, 0, 0>(s, p, t),
        (_, _) => fixed::<S, 2, 4, 0, 0>(s, p, t),
    }
}

#[inline(always)]
fn by_rows<S: Simd, const C: usize, const OFFSET: usize>(
    s: S,
    rows: usize,
    p: Panels<'_>,
    t: Target<'_, '_>,
) {
    match rows {
        1 => fixed::<S, 1, C, 0, OFFSET>(s, p, t),
        2 => fixed::<S, 2, C, 0, OFFSET>(s, p, t),
        3 => fixed::<S, 3, C, 0, OFFSET>(s, p, t),
        4 => fixed::<S, 4, C, 0, OFFSET>(s, p, t),
        _ if S::SPLIT => {}
        5 => fixed::<S, 5, C, 0, OFFSET>(s, p, t),
        6 => fixed::<S, 6, C, 0, OFFSET>(s, p, t),
        _ if S::ROWS == LEFT_ROWS => {}
        7 => fixed::<S, 7, C, 0, OFFSET>(s, p, t),
        8 => fixed::<S, 8, C, 0, OFFSET>(s, p, t),
        9 => fixed::<S, 9, C, 0, OFFSET>(s, p, t),
        10 => fixed::<S, 10, C, 0, OFFSET>(s, p, t),
        11 => fixed::<S, 11, C, 0, OFFSET>(s, p, t),
        _ => fixed::<S, 12, C, 0, OFFSET>(s, p, t),
    }
}

/// `R` rows from `ROW` of the left panel by `C` vectors from column `OFFSET` of the right one.
// In wasm each tile is a function of its own: within a larger one, Cranelift spills the accumulators at every step.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn fixed<S: Simd, const R: usize, const C: usize, const ROW: usize, const OFFSET: usize>(
    s: S,
    p: Panels<'_>,
    t: Target<'_, '_>,
) {
    if S::N == RIGHT_COLS && OFFSET != 0 {
        return;
    }
    let mut acc = [[s.splat(0.0); C]; R];
    accumulate::<S, R, C, ROW, OFFSET>(s, p, &mut acc);
    if t.col + C * S::N <= t.block.n {
        store::<S, R, C>(s, acc, t);
    } else {
        store_ragged::<S, R, C>(s, acc, t);
    }
}

#[inline(always)]
fn accumulate<S: Simd, const R: usize, const C: usize, const ROW: usize, const OFFSET: usize>(
    s: S,
    p: Panels<'_>,
    acc: &mut [[S::V; C]; R],
) {
    let [l0, l1] = p.left;
    let [r0, r1] = p.right;
    if !S::SPLIT {
        for groups in l0.iter().zip(l1).zip(r0.iter().zip(r1)) {
            step::<S, R, C, ROW, OFFSET>(s, groups, acc);
        }
        return;
    }
    for (l0, r0) in l0.chunks(CHUNK).zip(r0.chunks(CHUNK)) {
        chunk::<S, R, C, ROW, OFFSET>(s, l0, r0, acc);
    }
}

/// Steps without a loop between them.
const CHUNK: usize = 32;

/// Up to [`CHUNK`] steps in wasm, in a function without a loop. Where a loop turns, a guest looks at its deadline and
/// may call out; Cranelift keeps what lives across that in memory, and an accumulator that goes through memory at each
/// step takes twice as long. The exit after each step keeps the steps in blocks of their own: in one block, LLVM turns
/// each accumulator's steps into one expression and loads everything before it.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn chunk<S: Simd, const R: usize, const C: usize, const ROW: usize, const OFFSET: usize>(
    s: S,
    left: &[LeftGroup],
    right: &[RightGroup],
    acc: &mut [[S::V; C]; R],
) {
    let mut sums = *acc;
    let mut groups = left.iter().zip(left).zip(right.iter().zip(right));
    if R == 1 {
        // Few sums would wait for each other: every other step adds to a second set.
        let mut odd = [[s.splat(0.0); C]; R];
        let _ = steps::<S, R, C, ROW, OFFSET>(s, &mut groups, &mut sums, Some(&mut odd));
        for (sums, odd) in sums.iter_mut().flatten().zip(odd.into_iter().flatten()) {
            *sums = s.add(*sums, odd);
        }
    } else {
        let _ = steps::<S, R, C, ROW, OFFSET>(s, &mut groups, &mut sums, None);
    }
    *acc = sums;
}

#[inline(always)]
fn steps<'a, S: Simd, const R: usize, const C: usize, const ROW: usize, const OFFSET: usize>(
    s: S,
    groups: &mut impl Iterator<Item = Groups<'a>>,
    even: &mut [[S::V; C]; R],
    mut odd: Option<&mut [[S::V; C]; R]>,
) -> Option<()> {
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    pair::<S, R, C, ROW, OFFSET>(s, groups, even, &mut odd)?;
    Some(())
}

#[inline(always)]
fn pair<'a, S: Simd, const R: usize, const C: usize, const ROW: usize, const OFFSET: usize>(
    s: S,
    groups: &mut impl Iterator<Item = Groups<'a>>,
    even: &mut [[S::V; C]; R],
    odd: &mut Option<&mut [[S::V; C]; R]>,
) -> Option<()> {
    step::<S, R, C, ROW, OFFSET>(s, groups.next()?, even);
    let groups = groups.next()?;
    match odd {
        Some(odd) => step::<S, R, C, ROW, OFFSET>(s, groups, odd),
        None => step::<S, R, C, ROW, OFFSET>(s, groups, even),
    }
    Some(())
}

/// One group of each panel.
type Groups<'a> = ((&'a LeftGroup, &'a LeftGroup), (&'a RightGroup, &'a RightGroup));

#[inline(always)]
fn step<S: Simd, const R: usize, const C: usize, const ROW: usize, const OFFSET: usize>(
    s: S,
    ((l0, l1), (r0, r1)): Groups<'_>,
    acc: &mut [[S::V; C]; R],
) {
    let right = [r0, r1];
    let mut b = [s.splat(0.0); C];
    for (c, b) in b.iter_mut().enumerate() {
        let at = OFFSET + c * S::N;
        *b = s.load(&right[at / RIGHT_COLS][at % RIGHT_COLS..]);
    }
    let a = [s.splats(l0), s.splats(l1)];
    for (r, acc) in acc.iter_mut().enumerate() {
        for (acc, b) in acc.iter_mut().zip(b) {
            let r = ROW + r;
            *acc = s.fma(a[r / LEFT_ROWS][r % LEFT_ROWS], b, *acc);
        }
    }
}

#[inline(always)]
fn store<S: Simd, const R: usize, const C: usize>(s: S, acc: [[S::V; C]; R], t: Target<'_, '_>) {
    let Target { block, row, col, resume, finish } = t;
    for (r, acc) in acc.into_iter().enumerate() {
        let start = block.base + (row + r) * block.row_stride + col;
        for (c, mut v) in acc.into_iter().enumerate() {
            let at = start + c * S::N;
            if resume {
                v = s.add(v, s.load(&block.c[at..]));
            }
            if finish {
                v = block.finish(s, v, row + r, col + c * S::N);
            }
            s.store(v, &mut block.c[at..]);
        }
    }
}

/// The last columns of a row, fewer than the tile has: through a buffer, one value at a time.
#[inline(always)]
fn store_ragged<S: Simd, const R: usize, const C: usize>(
    s: S,
    acc: [[S::V; C]; R],
    t: Target<'_, '_>,
) {
    let Target { block, row, col, resume, finish } = t;
    for (r, acc) in acc.into_iter().enumerate() {
        let mut buffer = [0.0f32; 32];
        for (c, v) in acc.into_iter().enumerate() {
            s.store(v, &mut buffer[c * S::N..(c + 1) * S::N]);
        }
        let start = block.base + (row + r) * block.row_stride + col;
        for (c, mut v) in buffer.into_iter().take(block.n - col).enumerate() {
            if resume {
                v += block.c[start + c];
            }
            block.c[start + c] = if finish { block.finish_one(v, row + r, col + c) } else { v };
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, mut v: S::V, row: usize, col: usize) -> S::V {
        let e = &self.epilogue;
        if let Some(bias) = e.row_bias {
            v = s.add(v, s.splat(bias[row]));
        }
        if let Some(bias) = e.col_bias {
            v = s.add(v, s.load(&bias[col..col + S::N]));
        }
        if let Some(add) = e.add {
            let start = self.add_base + row * e.add_row + col;
            v = s.add(v, s.load(&add[start..start + S::N]));
        }
        s.min(s.splat(e.hi), s.max(s.splat(e.lo), v))
    }

    #[inline(always)]
    fn finish_one(&self, mut v: f32, row: usize, col: usize) -> f32 {
        let e = &self.epilogue;
        if let Some(bias) = e.row_bias {
            v += bias[row];
        }
        if let Some(bias) = e.col_bias {
            v += bias[col];
        }
        if let Some(add) = e.add {
            v += add[self.add_base + row * e.add_row + col];
        }
        clamp(v, e.lo, e.hi)
    }
}

/// `v` within bounds; NaN stays NaN.
#[inline(always)]
pub fn clamp(v: f32, lo: f32, hi: f32) -> f32 {
    let v = if lo > v { lo } else { v };
    if hi < v { hi } else { v }
}
