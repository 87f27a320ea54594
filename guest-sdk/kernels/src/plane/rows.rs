//! Output rows of a padded plane, several at once: a sum waits for its last product, so eight vectors of them are under
//! way, which a row of 7 or 14 values does not have.

use crate::simd::Simd;

/// Vectors across a row handled at a time.
pub(super) const ACROSS: usize = 4;
/// Taps without a loop between them, in wasm.
const CHUNK: usize = 9;

/// Rows handled at once where each has so many vectors, and there are so many rows.
#[inline(always)]
pub(super) fn at_once(vectors: usize, rows: usize) -> usize {
    match vectors {
        1 if rows >= 7 => 7,
        1 | 2 if rows >= 4 => 4,
        _ if rows >= 2 => 2,
        _ => 1,
    }
}

/// Where windows lie in a padded plane, and what is done with them.
pub(super) struct Rows<'a> {
    /// From the first window of the first row on.
    pub from: &'a [f32],
    /// Floats between the windows of two rows.
    pub step: usize,
    /// From a window's place to each of its taps, and to the farthest.
    pub offsets: &'a [usize],
    pub reach: usize,
    /// One for each tap.
    pub weights: &'a [f32],
    pub bias: f32,
    pub bounds: (f32, f32),
}

/// Where results go.
pub(super) struct Out<'a> {
    /// From the first row's first value to the end of all that the call writes.
    pub values: &'a mut [f32],
    /// Floats between two rows.
    pub step: usize,
    /// Of each row.
    pub count: usize,
    /// Whether what comes behind a row's values is written later, and may be anything meanwhile.
    pub over: bool,
}

impl Rows<'_> {
    /// `rows` of them, as [`at_once`] says.
    #[inline(always)]
    pub(super) fn write<S: Simd, const SUM: bool>(&self, s: S, rows: usize, out: &mut Out<'_>) {
        let wide = ACROSS * S::N;
        // The last block first: it may write over the beginning of the next row.
        for x in (0..out.count.div_ceil(wide)).rev().map(|block| block * wide) {
            match (rows, (out.count - x).div_ceil(S::N)) {
                (7, _) => self.block::<S, SUM, 7, 1>(s, x, out),
                (4, 1) => self.block::<S, SUM, 4, 1>(s, x, out),
                (4, _) => self.block::<S, SUM, 4, 2>(s, x, out),
                (2, 1) => self.block::<S, SUM, 2, 1>(s, x, out),
                (2, 2) => self.block::<S, SUM, 2, 2>(s, x, out),
                (2, _) => self.block::<S, SUM, 2, ACROSS>(s, x, out),
                (_, 1) => self.block::<S, SUM, 1, 1>(s, x, out),
                (_, 2) => self.block::<S, SUM, 1, 2>(s, x, out),
                (..) => self.block::<S, SUM, 1, ACROSS>(s, x, out),
            }
        }
    }

    #[inline(always)]
    fn block<S: Simd, const SUM: bool, const R: usize, const C: usize>(
        &self,
        s: S,
        x: usize,
        out: &mut Out<'_>,
    ) {
        let start = if SUM { s.splat(self.bias) } else { s.splat(f32::NEG_INFINITY) };
        let mut acc = [[start; C]; R];
        let mut from = [self.from; R];
        for (row, from) in from.iter_mut().enumerate() {
            // All as long: one check for each tap is enough then.
            *from = &self.from[x + row * self.step..][..self.reach + C * S::N];
        }
        if S::SPLIT {
            for (offsets, weights) in self.offsets.chunks(CHUNK).zip(self.weights.chunks(CHUNK)) {
                taps::<S, SUM, R, C>(s, &from, offsets, weights, &mut acc);
            }
        } else {
            for at in self.offsets.iter().zip(self.weights) {
                tap::<S, SUM, R, C>(s, &from, at, &mut acc);
            }
        }
        let count = (out.count - x).min(C * S::N);
        for (row, acc) in acc.into_iter().enumerate() {
            let at = row * out.step + x;
            let room = if out.over { out.values.len() - at } else { count };
            let whole = room >= C * S::N;
            let to = &mut out.values[at..at + if whole { C * S::N } else { count }];
            finish(s, acc, self.bounds, to);
        }
    }
}

/// Up to [`CHUNK`] taps, in a function without a loop: see `tile::chunk`.
#[inline(never)]
fn taps<S: Simd, const SUM: bool, const R: usize, const C: usize>(
    s: S,
    from: &[&[f32]; R],
    offsets: &[usize],
    weights: &[f32],
    acc: &mut [[S::V; C]; R],
) {
    let mut sums = *acc;
    let mut taps = offsets.iter().zip(weights);
    let _ = nine::<S, SUM, R, C>(s, from, &mut taps, &mut sums);
    *acc = sums;
}

#[inline(always)]
fn nine<'a, S: Simd, const SUM: bool, const R: usize, const C: usize>(
    s: S,
    from: &[&[f32]; R],
    taps: &mut impl Iterator<Item = (&'a usize, &'a f32)>,
    acc: &mut [[S::V; C]; R],
) -> Option<()> {
    tap::<S, SUM, R, C>(s, from, taps.next()?, acc);
    tap::<S, SUM, R, C>(s, from, taps.next()?, acc);
    tap::<S, SUM, R, C>(s, from, taps.next()?, acc);
    tap::<S, SUM, R, C>(s, from, taps.next()?, acc);
    tap::<S, SUM, R, C>(s, from, taps.next()?, acc);
    tap::<S, SUM, R, C>(s, from, taps.next()?, acc);
    tap::<S, SUM, R, C>(s, from, taps.next()?, acc);
    tap::<S, SUM, R, C>(s, from, taps.next()?, acc);
    tap::<S, SUM, R, C>(s, from, taps.next()?, acc);
    Some(())
}

#[inline(always)]
fn tap<S: Simd, const SUM: bool, const R: usize, const C: usize>(
    s: S,
    from: &[&[f32]; R],
    (&offset, &weight): (&usize, &f32),
    acc: &mut [[S::V; C]; R],
) {
    let w = s.splat(weight);
    for (from, acc) in from.iter().zip(acc) {
        let x = &from[offset..][..C * S::N];
        for (i, acc) in acc.iter_mut().enumerate() {
            let x = s.load(&x[i * S::N..]);
            // The maximum so far is no NaN, and stays when x is one: so a NaN's place in the window does not matter.
            *acc = if SUM { s.fma(w, x, *acc) } else { s.max(x, *acc) };
        }
    }
}

#[inline(always)]
fn finish<S: Simd, const C: usize>(s: S, acc: [S::V; C], (lo, hi): (f32, f32), out: &mut [f32]) {
    let (low, high) = (s.splat(lo), s.splat(hi));
    let mut buffer = [0.0f32; 16 * ACROSS];
    let whole = out.len() == C * S::N;
    for (i, v) in acc.into_iter().enumerate() {
        let v = s.min(high, s.max(low, v));
        s.store(v, if whole { &mut out[i * S::N..] } else { &mut buffer[i * S::N..] });
    }
    if !whole {
        for (to, v) in out.iter_mut().zip(buffer) {
            *to = v;
        }
    }
}
