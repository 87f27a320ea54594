//! Packing: operands rearranged into the panels that tiles read from front to back.

use crate::check::{Refused, ensure, product, reaches};
use crate::tile::{LeftGroup, RightGroup};
use crate::{LEFT_ROWS, RIGHT_COLS};

/// Bound on strides, dilations, padding and kernel sides: far beyond any model, and keeps all positions in 64 bits.
pub const SIDE_MAX: usize = 1 << 15;

/// The sliding window of a convolution or a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above and columns left of the image that the window starts on.
    pub pad: [usize; 2],
}

impl Window {
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let sides = [self.kernel, self.stride, self.dilation];
        let positive = sides.iter().flatten().all(|&side| (1..=SIDE_MAX).contains(&side));
        let pad = self.pad.iter().all(|&pad| pad <= SIDE_MAX);
        ensure(positive && pad, "window: a side is zero or too large")
    }
}

/// The right operand of a convolution: images of `channels` planes, read through a window.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// `[batch][channels][height][width]`.
    pub data: &'a [f32],
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub window: Window,
    /// Width of the output, and the output pixel that column 0 stands for.
    pub out_width: usize,
    pub first: usize,
    /// Floats from one image of a batch to the next.
    pub batch: usize,
}

/// Neighbouring lanes of a panel that lie in one output row.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    lane: usize,
    len: usize,
    /// Where the window starts, in rows and columns of the padded image.
    y: usize,
    x: usize,
}

impl<'a> Image<'a> {
    pub(crate) fn check(&self, k: usize, n: usize, batch: usize) -> Result<(), Refused> {
        self.window.check()?;
        let [kh, kw] = self.window.kernel;
        let rule = "image: sizes do not fit its data";
        let plane = product(&[self.channels, self.height, self.width], 1 << 30, rule)?;
        reaches(self.data.len(), &[(batch, self.batch)], plane, rule)?;
        let depth = product(&[self.channels, kh, kw], 1 << 30, rule)?;
        ensure(depth == k as u64, "image: k is not channels x window")?;
        ensure(self.out_width > 0, "image: output has no width")?;
        let pixels = self.first as u64 + n as u64;
        let rows = pixels.div_ceil(self.out_width as u64) + kh as u64;
        let cols = (self.out_width + kw) as u64;
        // Positions in the padded image stay within 31 bits, whatever the machine's word.
        let last = rows.max(cols).saturating_mul(1 << 15);
        let small = pixels <= 1 << 30 && last <= 1 << 31;
        ensure(small, "image: too many output pixels")
    }

    #[inline(always)]
    pub(crate) fn at(self, index: usize) -> Image<'a> {
        Image { data: &self.data[index * self.batch..], ..self }
    }

    /// The runs that panel columns `col..col + lanes` fall into.
    #[inline(always)]
    fn runs(&self, col: usize, lanes: usize, runs: &mut [Run; RIGHT_COLS]) -> usize {
        let [sy, sx] = self.window.stride;
        let (mut lane, mut count) = (0, 0);
        while lane < lanes {
            let pixel = self.first + col + lane;
            let (oy, ox) = (pixel / self.out_width, pixel % self.out_width);
            let len = (self.out_width - ox).min(lanes - lane);
            runs[count] = Run { lane, len, y: oy * sy, x: ox * sx };
            (lane, count) = (lane + len, count + 1);
        }
        count
    }

    /// Packs rows `from..from + depth` and columns `col..col + cols`, a panel at most; says in how many runs they lie.
    #[inline(always)]
    pub(crate) fn pack(
        &self,
        from: usize,
        depth: usize,
        col: usize,
        cols: usize,
        groups: &mut [RightGroup],
    ) -> usize {
        let [kh, kw] = self.window.kernel;
        let [dy, dx] = self.window.dilation;
        let plane = self.height * self.width;
        let mut runs = [Run::default(); RIGHT_COLS];
        let count = self.runs(col, cols, &mut runs);
        let (mut channel, mut ky, mut kx) = (from / (kh * kw), from / kw % kh, from % kw);
        for group in &mut groups[..depth] {
            let data = &self.data[channel * plane..(channel + 1) * plane];
            for run in &runs[..count] {
                self.pack_run(data, run, ky * dy, kx * dx, group);
            }
            kx += 1;
            if kx == kw {
                (kx, ky) = (0, ky + 1);
            }
            if ky == kh {
                (ky, channel) = (0, channel + 1);
            }
        }
        count
    }

    #[inline(always)]
    fn pack_run(&self, plane: &[f32], run: &Run, ky: usize, kx: usize, group: &mut RightGroup) {
        let [top, left] = self.window.pad;
        let lanes = &mut group[run.lane..run.lane + run.len];
        let y = run.y + ky;
        if y < top || y - top >= self.height {
            lanes.fill(0.0);
            return;
        }
        let row = &plane[(y - top) * self.width..][..self.width];
        let stride = self.window.stride[1];
        let x = run.x + kx;
        let end = x + (run.len - 1) * stride;
        if x >= left && end - left < self.width {
            copy_inside(&row[x - left..], stride, lanes);
            return;
        }
        for (i, lane) in lanes.iter_mut().enumerate() {
            let x = x + i * stride;
            *lane = if x >= left { row.get(x - left).copied().unwrap_or(0.0) } else { 0.0 };
        }
    }
}

#[inline(always)]
fn copy_inside(row: &[f32], stride: usize, lanes: &mut [f32]) {
    // Fixed lengths become a few vector moves; anything else is a call, or a loop of single floats.
    const TWICE: usize = 2 * RIGHT_COLS - 1;
    let whole = lanes.first_chunk_mut::<RIGHT_COLS>();
    match (stride, whole, row.first_chunk::<RIGHT_COLS>(), row.first_chunk::<TWICE>()) {
        (1, Some(lanes), Some(row), _) => *lanes = *row,
        (2, Some(lanes), _, Some(row)) => {
            for (i, lane) in lanes.iter_mut().enumerate() {
                *lane = row[2 * i];
            }
        }
        _ => {
            for (lane, &v) in lanes.iter_mut().zip(row.iter().step_by(stride)) {
                *lane = v;
            }
        }
    }
}

/// Packs a strided right operand's rows `from..from + depth` and columns `col..col + cols`, a panel at most.
#[allow(clippy::too_many_arguments, reason = "two strides and two ranges, all of one matrix")]
#[inline(always)]
pub(crate) fn right_strided(
    data: &[f32],
    row: usize,
    stride: usize,
    from: usize,
    depth: usize,
    col: usize,
    cols: usize,
    groups: &mut [RightGroup],
) {
    let groups = &mut groups[..depth];
    let start = from * row + col * stride;
    if stride == 1 {
        for (k, group) in groups.iter_mut().enumerate() {
            let from = &data[start + k * row..];
            copy_inside(from, 1, &mut group[..cols]);
        }
    } else {
        for lane in 0..cols {
            let from = &data[start + lane * stride..];
            for (k, group) in groups.iter_mut().enumerate() {
                group[lane] = from[k * row];
            }
        }
    }
}

/// Packs `rows` rows of a strided left operand from row `first` of a panel on, `data` starting at the first of them.
#[inline(always)]
pub(crate) fn left_strided(
    data: &[f32],
    row: usize,
    col: usize,
    first: usize,
    rows: usize,
    groups: &mut [LeftGroup],
) {
    for r in 0..rows {
        let from = &data[r * row..];
        for (k, group) in groups.iter_mut().enumerate() {
            group[first + r] = from[k * col];
        }
    }
}

/// Floats of a packed left operand.
pub const fn left_len(m: usize, k: usize) -> usize {
    m.div_ceil(LEFT_ROWS) * LEFT_ROWS * k
}

/// Floats of a packed right operand.
pub const fn right_len(k: usize, n: usize) -> usize {
    n.div_ceil(RIGHT_COLS) * RIGHT_COLS * k
}

/// Packs a whole left operand, element (i, j) at `i * row + j * col` of `data`, into `out` of [`left_len`] floats.
pub fn left(data: &[f32], m: usize, k: usize, row: usize, col: usize, out: &mut [f32]) {
    for (panel, out) in out.chunks_exact_mut(LEFT_ROWS * k).enumerate() {
        for (j, group) in out.chunks_exact_mut(LEFT_ROWS).enumerate() {
            for (r, to) in group.iter_mut().enumerate() {
                let i = panel * LEFT_ROWS + r;
                *to = if i < m { data[i * row + j * col] } else { 0.0 };
            }
        }
    }
}

/// Packs a whole right operand, element (i, j) at `i * row + j * col` of `data`, into `out` of [`right_len`] floats.
pub fn right(data: &[f32], k: usize, n: usize, row: usize, col: usize, out: &mut [f32]) {
    for (panel, out) in out.chunks_exact_mut(RIGHT_COLS * k).enumerate() {
        for (i, group) in out.chunks_exact_mut(RIGHT_COLS).enumerate() {
            for (c, to) in group.iter_mut().enumerate() {
                let j = panel * RIGHT_COLS + c;
                *to = if j < n { data[i * row + j * col] } else { 0.0 };
            }
        }
    }
}
