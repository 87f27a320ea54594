//! What works on one channel at a time: depthwise convolutions and pooling.

mod rows;

use crate::check::{Refused, ensure, product};
use crate::pack::Window;
use crate::pieces::{self, Pieces};
use crate::simd::Simd;
use crate::{FLOATS_MAX, MACS_MAX, WORK_MAX, work};
use rows::{ACROSS, Out, Rows};

/// Taps of the largest window: 11x11 fits.
pub const TAPS_MAX: usize = 128;

/// How a window's values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaneOp {
    /// Weighted sum, weights `[channels][taps]`.
    Sum,
    /// The largest value inside the image; one that is NaN is passed over.
    Max,
}

/// A depthwise convolution or a pool over `channels` planes.
#[derive(Debug)]
pub struct Plane<'a> {
    pub op: PlaneOp,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub window: Window,
    pub out_height: usize,
    pub out_width: usize,
    /// `[channels][height][width]`.
    pub input: &'a [f32],
    /// `[channels][kernel height x kernel width]`; empty for [`PlaneOp::Max`].
    pub weights: &'a [f32],
    /// One for each channel.
    pub bias: Option<&'a [f32]>,
    pub lo: f32,
    pub hi: f32,
    /// `[channels][out_height][out_width]`.
    pub output: &'a mut [f32],
    /// At least [`scratch_len`] floats.
    pub scratch: &'a mut [f32],
}

/// One plane, padded and with its columns sorted by their remainder to the stride, so that every load is of
/// consecutive floats whatever the stride.
#[derive(Debug, Clone, Copy)]
struct Padded {
    rows: usize,
    phases: usize,
    /// Floats of one phase of one row.
    len: usize,
}

impl Padded {
    #[inline(always)]
    fn new(window: &Window, out_height: usize, out_width: usize) -> Padded {
        let reach = |axis: usize| (window.kernel[axis] - 1) * window.dilation[axis];
        let rows = (out_height - 1) * window.stride[0] + reach(0) + 1;
        // Whole vectors, of 16 lanes at most, may be loaded past the last column.
        let len = out_width.next_multiple_of(16) + reach(1) / window.stride[1] + 16;
        Padded { rows, phases: window.stride[1], len }
    }

    fn total(&self) -> Option<usize> {
        self.rows.checked_mul(self.phases)?.checked_mul(self.len)
    }
}

/// Scratch floats that a call of this shape needs.
pub fn scratch_len(window: &Window, out_height: usize, out_width: usize) -> Option<usize> {
    Padded::new(window, out_height, out_width).total()
}

/// Proves that one call may work on planes of these sizes, height before width, and gives the floats of all inputs and
/// of all outputs.
pub fn check_sizes(
    window: &Window,
    channels: usize,
    [height, width]: [usize; 2],
    out: [usize; 2],
) -> Result<[u64; 2], Refused> {
    let [kh, kw] = window.kernel;
    window.check()?;
    ensure(kh * kw <= TAPS_MAX, "plane: window has too many taps")?;
    let rule = "plane: a size is zero or the work passes the cap";
    let inputs = product(&[channels, height, width], FLOATS_MAX, rule)?;
    let outputs = product(&[channels, out[0], out[1]], FLOATS_MAX, rule)?;
    ensure(outputs * (kh * kw) as u64 <= MACS_MAX, rule)?;
    let padded = Padded::new(window, out[0], out[1]);
    let rule = "plane: padding passes the cap";
    let total = padded.total().ok_or(Refused(rule))?;
    ensure((total as u64).saturating_mul(channels as u64) <= MACS_MAX, rule)?;
    // No overflow: the total is a multiple of it.
    let rows = padded.rows * padded.phases;
    let bounded = work::plane(channels, rows, out, kh * kw) <= WORK_MAX;
    ensure(bounded, "plane: small planes or rows pass the cap on work")?;
    Ok([inputs, outputs])
}

impl Plane<'_> {
    /// Proves every slice long enough for the sizes given.
    pub fn check(&self) -> Result<(), Refused> {
        let [kh, kw] = self.window.kernel;
        let output = [self.out_height, self.out_width];
        let sizes = check_sizes(&self.window, self.channels, [self.height, self.width], output)?;
        let [plane, out] = sizes;
        ensure(self.input.len() as u64 >= plane, "plane: input too short")?;
        ensure(self.output.len() as u64 >= out, "plane: output too short")?;
        let weights = if self.op == PlaneOp::Sum { self.channels * kh * kw } else { 0 };
        ensure(self.weights.len() >= weights, "plane: weights too short")?;
        ensure(self.bias.is_none_or(|b| b.len() >= self.channels), "plane: bias too short")?;
        let padded = scratch_len(&self.window, self.out_height, self.out_width);
        let fits = padded.is_some_and(|len| len <= self.scratch.len());
        ensure(fits, "plane: scratch too short")
    }
}

/// How far a call has come: floats of the scratch that are filled, the channel, floats of its padded plane that are
/// made, its row and the place in the row.
#[derive(Debug, Default)]
pub struct At {
    filled: usize,
    channel: usize,
    row: usize,
    made: usize,
    y: usize,
    x: usize,
}

/// Floats filled, copied or computed in one piece.
const PIECE: usize = 32 << 10;

impl Pieces for Plane<'_> {
    type At = At;

    #[inline(always)]
    fn go_on<S: Simd>(&mut self, s: S, at: &mut At, stop: &mut impl FnMut(u64) -> bool) -> bool {
        let padded = Padded::new(&self.window, self.out_height, self.out_width);
        let mut offsets = [0usize; TAPS_MAX];
        let [kh, kw] = self.window.kernel;
        let taps = kh * kw;
        for (tap, offset) in offsets[..taps].iter_mut().enumerate() {
            let (y, x) = (tap / kw * self.window.dilation[0], tap % kw * self.window.dilation[1]);
            *offset = (y * padded.phases + x % padded.phases) * padded.len + x / padded.phases;
        }
        let fill = if self.op == PlaneOp::Sum { 0.0 } else { f32::NEG_INFINITY };
        // What is padding for one channel is so for all.
        let total = padded.rows * padded.phases * padded.len;
        while at.filled < total {
            let count = PIECE.min(total - at.filled);
            self.scratch[at.filled..][..count].fill(fill);
            at.filled += count;
            if stop(pieces::strided(count, 1)) {
                return false;
            }
        }
        while at.channel < self.channels {
            if !self.pad(&padded, at, stop) || !self.lines(s, &padded, &offsets[..taps], at, stop) {
                return false;
            }
            *at = At { filled: at.filled, channel: at.channel + 1, ..At::default() };
            if stop(work::PLANE) {
                return false;
            }
        }
        true
    }
}

impl Plane<'_> {
    /// Copies one plane into the scratch.
    #[inline(always)]
    fn pad(&mut self, padded: &Padded, at: &mut At, stop: &mut impl FnMut(u64) -> bool) -> bool {
        let plane = self.height * self.width;
        let input = &self.input[at.channel * plane..(at.channel + 1) * plane];
        let [top, left] = self.window.pad;
        let row_len = padded.phases * padded.len;
        let rows = padded.rows.saturating_sub(top).min(self.height);
        // Of elements far apart fewer.
        let most = PIECE / padded.phases.clamp(1, 16);
        while at.row < rows {
            let row = &input[at.row * self.width..][..self.width];
            let to = &mut self.scratch[(top + at.row) * row_len..][..row_len];
            if row_len <= PIECE
                && at.made == 0
                && let Some(copied) = spread_row(row, padded, left, to)
            {
                at.row += 1;
                if stop(pieces::strided(copied, padded.phases) + work::PLANE_ROW / 4) {
                    return false;
                }
                continue;
            }
            while at.made < row_len {
                let (phase, from) = (at.made / padded.len, at.made % padded.len);
                let count = (padded.len - from).min(most);
                let start = phase + from * padded.phases;
                let copied =
                    spread(row, padded.phases, start, left, &mut to[at.made..at.made + count]);
                at.made += count;
                if stop(pieces::strided(copied, padded.phases) + work::PLANE_ROW / 4) {
                    return false;
                }
            }
            (at.row, at.made) = (at.row + 1, 0);
        }
        true
    }

    /// Computes one plane's rows from the scratch.
    #[inline(always)]
    fn lines<S: Simd>(
        &mut self,
        s: S,
        padded: &Padded,
        offsets: &[usize],
        at: &mut At,
        stop: &mut impl FnMut(u64) -> bool,
    ) -> bool {
        let ones = [1.0f32; TAPS_MAX];
        let taps = offsets.len();
        let bias = self.bias.map_or(0.0, |bias| bias[at.channel]);
        let [height, width] = [self.out_height, self.out_width];
        // To the end of all planes: a vector may reach over its row, into what is written later.
        let output = &mut self.output[at.channel * height * width..self.channels * height * width];
        let step = self.window.stride[0] * padded.phases * padded.len;
        let bounds = (self.lo, self.hi);
        let reach = offsets.iter().copied().max().unwrap_or(0);
        let sum = self.op == PlaneOp::Sum;
        let weights = if sum { &self.weights[at.channel * taps..][..taps] } else { &ones[..taps] };
        let rows = rows::at_once(width.div_ceil(S::N), height);
        // Whole blocks of every CPU's vectors.
        let most = (PIECE / taps / rows).next_multiple_of(16 * ACROSS);
        while at.y < height {
            // The last ones are done once more rather than fewer at once.
            let y = at.y.min(height - rows);
            while at.x < width {
                let count = most.min(width - at.x);
                let from = &self.scratch[y * step + at.x..];
                let values = &mut output[y * width + at.x..];
                let mut out = Out { values, step: width, count, over: count == width };
                let lines = Rows { from, step, offsets, reach, weights, bias, bounds };
                if sum {
                    lines.write::<S, true>(s, rows, &mut out);
                } else {
                    lines.write::<S, false>(s, rows, &mut out);
                }
                at.x += count;
                let cost = work::line(count, taps) + pieces::strided(count, 1);
                if stop(cost * rows as u64) {
                    return false;
                }
            }
            (at.y, at.x) = (y + rows, 0);
        }
        true
    }
}

/// One row to its place in the padded plane, whole, with strides of one and two. Gives the number of floats, or nothing
/// for other strides.
#[inline(always)]
fn spread_row(row: &[f32], padded: &Padded, left: usize, to: &mut [f32]) -> Option<usize> {
    let (first, second) = to.split_at_mut(padded.len);
    match padded.phases {
        1 => {
            let to = first.get_mut(left..)?;
            let count = row.len().min(to.len());
            to[..count].copy_from_slice(&row[..count]);
            Some(count)
        }
        2 => {
            let at = left / 2;
            let (mut even, mut odd) = (first.get_mut(at..)?, second.get_mut(at..)?);
            let mut row = row;
            if left % 2 == 1 {
                // The first value is the second of its pair.
                let (value, rest) = row.split_first()?;
                *odd.first_mut()? = *value;
                (row, even, odd) = (rest, even.get_mut(1..)?, odd.get_mut(1..)?);
            }
            let (pairs, last) = row.as_chunks::<2>();
            let count = pairs.len().min(even.len()).min(odd.len());
            let (even_part, odd_part) = (&mut even[..count], &mut odd[..count]);
            for ((even, odd), pair) in even_part.iter_mut().zip(odd_part).zip(&pairs[..count]) {
                *even = pair[0];
                *odd = pair[1];
            }
            if let ([value], Some(to)) = (last, even.get_mut(pairs.len())) {
                *to = *value;
            }
            Some(row.len() + left % 2)
        }
        _ => None,
    }
}

/// `to[i] = row[i * stride + phase - left]`, where that is in the row; gives the number of those.
#[inline(always)]
fn spread(row: &[f32], stride: usize, phase: usize, left: usize, to: &mut [f32]) -> usize {
    let skip = left.saturating_sub(phase).div_ceil(stride).min(to.len());
    let row = row.get(skip * stride + phase - left.min(skip * stride + phase)..).unwrap_or(&[]);
    let body = &mut to[skip..];
    let count = row.len().div_ceil(stride).min(body.len());
    let body = &mut body[..count];
    match stride {
        1 => body.copy_from_slice(&row[..count]),
        2 => {
            let pairs = row.as_chunks::<2>().0;
            for (to, pair) in body.iter_mut().zip(pairs) {
                *to = pair[0];
            }
            if pairs.len() < count {
                body[count - 1] = row[(count - 1) * 2];
            }
        }
        _ => {
            for (to, &v) in body.iter_mut().zip(row.iter().step_by(stride)) {
                *to = v;
            }
        }
    }
    count
}
