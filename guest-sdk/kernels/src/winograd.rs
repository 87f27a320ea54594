//! Winograd's F(4x4, 3x3): a 3x3 convolution of stride 1 with a quarter of the multiplications.
//!
//! The output is cut into 4x4 tiles, each from a 6x6 patch of the input. Patches and weights are transformed, then
//! 36 matrix products (one for each position in the patch) replace the sum over the window, then each product is
//! transformed back. Transforms run across 16 tiles at a time, so they vectorise whatever the image's width is.

use crate::check::{Refused, ensure, product};
use crate::pieces::{self, Pieces};
use crate::simd::Simd;
use crate::slice::product_packed;
use crate::tile::clamp;
use crate::{LEFT_ROWS, MACS_MAX, RIGHT_COLS, WORK_MAX, pack, work};

/// Output pixels along a tile's side.
pub const TILE: usize = 4;
/// Input pixels along a patch's side.
const PATCH: usize = 6;
/// Positions in a patch: as many matrix products.
pub const POSITIONS: usize = PATCH * PATCH;
/// Transformed patches to keep in L2 at a time, in floats: 640 KiB of a 1 MiB L2 (weights stream past them).
const PATCHES_MAX: usize = 160 << 10;

/// One convolution of a whole image, or of the tiles `first..first + tiles` in row order.
#[derive(Debug)]
pub struct Winograd<'a> {
    /// Input channels and output channels.
    pub channels: usize,
    pub filters: usize,
    pub height: usize,
    pub width: usize,
    /// Rows above and columns left of the image that the window starts on.
    pub pad: [usize; 2],
    pub out_height: usize,
    pub out_width: usize,
    /// Tiles to compute; `first` is a multiple of 16.
    pub first: usize,
    pub tiles: usize,
    /// `[channels][height][width]`.
    pub input: &'a [f32],
    /// Made by [`weights`]: `[filters / 6][36][channels][6]`.
    pub weights: &'a [f32],
    /// One for each filter.
    pub bias: Option<&'a [f32]>,
    /// A residual, shaped as the output.
    pub add: Option<&'a [f32]>,
    pub lo: f32,
    pub hi: f32,
    /// `[filters][out_height][out_width]`.
    pub output: &'a mut [f32],
    /// At least [`scratch_len`] floats.
    pub scratch: &'a mut [f32],
}

/// Floats of [`weights`]' result.
pub const fn weights_len(filters: usize, channels: usize) -> usize {
    POSITIONS * pack::left_len(filters, channels)
}

/// Tiles handled at a time: as many panels of 16 as fit the L2, evenly spread.
fn tiles_at_once(channels: usize, tiles: usize) -> usize {
    let panels = tiles.div_ceil(RIGHT_COLS);
    let most = (PATCHES_MAX / (POSITIONS * channels * RIGHT_COLS)).max(1);
    panels.div_ceil(panels.div_ceil(most)) * RIGHT_COLS
}

/// Scratch floats that a call of this shape needs.
pub fn scratch_len(channels: usize, out_width: usize, tiles: usize) -> usize {
    Layout::new(channels, out_width, tiles).total()
}

/// How the scratch is divided, for blocks of `block` tiles.
#[derive(Debug, Clone, Copy)]
struct Layout {
    block: usize,
    across: usize,
    channels: usize,
    /// Floats of one phase plane: the tile rows that a block can touch, and one more.
    plane: usize,
}

impl Layout {
    #[inline(always)]
    fn new(channels: usize, out_width: usize, tiles: usize) -> Layout {
        let block = tiles_at_once(channels, tiles);
        let across = out_width.div_ceil(TILE);
        // A block may start and end within a row; loads of whole vectors may pass the last tile.
        let rows = block.div_ceil(across) + 2;
        Layout { block, across, channels, plane: rows * across + RIGHT_COLS }
    }

    const fn phases(&self) -> usize {
        TILE * PATCH * self.plane
    }

    const fn patches(&self) -> usize {
        POSITIONS * self.channels * self.block
    }

    const fn products(&self) -> usize {
        POSITIONS * 2 * LEFT_ROWS * self.block
    }

    const fn pixels(&self) -> usize {
        TILE * TILE * self.block
    }

    const fn total(&self) -> usize {
        self.phases() + self.patches() + self.products() + self.pixels()
    }
}

impl Winograd<'_> {
    /// Proves every slice long enough for the sizes given.
    pub fn check(&self) -> Result<(), Refused> {
        let rule = "winograd: a size is zero or the work passes the cap";
        product(&[self.filters, self.channels, self.tiles, POSITIONS], MACS_MAX, rule)?;
        ensure(work::winograd(self.channels, self.filters, self.tiles) <= WORK_MAX, rule)?;
        let plane = product(&[self.channels, self.height, self.width], 1 << 30, rule)?;
        let out = product(&[self.filters, self.out_height, self.out_width], 1 << 30, rule)?;
        ensure(self.pad.iter().all(|&pad| pad <= 1 << 15), "winograd: padding too large")?;
        let all = self.out_height.div_ceil(TILE) * self.out_width.div_ceil(TILE);
        let fits = self.first.checked_add(self.tiles).is_some_and(|end| end <= all);
        ensure(fits && self.first.is_multiple_of(RIGHT_COLS), "winograd: no such tiles")?;
        ensure(self.input.len() as u64 >= plane, "winograd: input too short")?;
        ensure(self.output.len() as u64 >= out, "winograd: output too short")?;
        let weights = weights_len(self.filters, self.channels);
        ensure(self.weights.len() >= weights, "winograd: weights too short")?;
        ensure(self.bias.is_none_or(|b| b.len() >= self.filters), "winograd: bias too short")?;
        ensure(self.add.is_none_or(|a| a.len() as u64 >= out), "winograd: addend too short")?;
        let layout = Layout::new(self.channels, self.out_width, self.tiles);
        ensure(self.scratch.len() >= layout.total(), "winograd: scratch too short")?;
        // An output much wider than the tiles asked for would be work that the tiles do not count.
        let blocks = self.tiles.div_ceil(layout.block);
        let rule = "winograd: output too wide for the tiles of one call";
        product(&[self.channels, blocks, layout.phases()], MACS_MAX, rule).map(|_| ())
    }
}

/// How far a convolution has come: tiles that are done and, of the block after them, the channel with the lines of its
/// phase planes that are made, the filter with its products that are made, and rows of these that are written.
#[derive(Debug, Default)]
pub struct At {
    done: usize,
    channel: usize,
    line: usize,
    filter: usize,
    position: usize,
    row: usize,
}

/// Tiles of a line of a phase plane that are made in one piece.
const SEGMENT: usize = 16 << 10;
/// A value of the output takes as long to transform back and to write as so many multiply-adds.
const VALUE: u64 = 64;

impl Pieces for Winograd<'_> {
    type At = At;

    #[inline(always)]
    fn go_on<S: Simd>(&mut self, s: S, at: &mut At, stop: &mut impl FnMut(u64) -> bool) -> bool {
        let layout = Layout::new(self.channels, self.out_width, self.tiles);
        let scratch = core::mem::take(&mut self.scratch);
        let done = self.blocks(s, &layout, scratch, at, stop);
        self.scratch = scratch;
        done
    }
}

impl Winograd<'_> {
    #[inline(always)]
    fn blocks<S: Simd>(
        &mut self,
        s: S,
        layout: &Layout,
        scratch: &mut [f32],
        at: &mut At,
        stop: &mut impl FnMut(u64) -> bool,
    ) -> bool {
        let (phases, rest) = scratch.split_at_mut(layout.phases());
        let (patches, rest) = rest.split_at_mut(layout.patches());
        let (products, rest) = rest.split_at_mut(layout.products());
        let pixels = &mut rest[..layout.pixels()];
        while at.done < self.tiles {
            let first = self.first + at.done;
            let tiles = layout.block.min(self.tiles - at.done);
            let panels = tiles.div_ceil(RIGHT_COLS);
            while at.channel < self.channels {
                while self.split_phases(layout, at.channel, first, tiles, at.line, phases) {
                    at.line += 1;
                    if stop(pieces::strided(layout.across.min(SEGMENT), TILE) + work::PLANE_ROW) {
                        return false;
                    }
                }
                transform_patches(s, layout, phases, first, panels, at.channel, patches);
                (at.channel, at.line) = (at.channel + 1, 0);
                if stop((panels * POSITIONS) as u64 * pieces::LINE) {
                    return false;
                }
            }
            let cols = panels * RIGHT_COLS;
            while at.filter < self.filters {
                let rows = S::ROWS.min(self.filters - at.filter);
                while at.position < POSITIONS {
                    self.multiply(s, [at.filter, at.position], [rows, cols], patches, products);
                    at.position += 1;
                    if stop(work::strip(rows, cols, self.channels)) {
                        return false;
                    }
                }
                while at.row < rows {
                    transform_back(s, products, rows * cols, at.row * cols, cols, pixels);
                    self.write(at.filter + at.row, first, tiles, cols, pixels);
                    at.row += 1;
                    if stop((cols * TILE * TILE) as u64 * VALUE) {
                        return false;
                    }
                }
                (at.filter, at.position, at.row) = (at.filter + S::ROWS, 0, 0);
            }
            *at = At { done: at.done + tiles, ..At::default() };
        }
        true
    }

    /// Spreads one channel's rows over 24 phase planes: plane (i, j) holds input (4y + i, 4x + j), for i < 4, j < 6,
    /// so that each position of all patches is a run of consecutive floats. One line of one plane at a time, or a
    /// segment of a long one: the one that `line` counts; false if there is none.
    #[inline(always)]
    fn split_phases(
        &self,
        layout: &Layout,
        channel: usize,
        first: usize,
        tiles: usize,
        line: usize,
        phases: &mut [f32],
    ) -> bool {
        let across = layout.across;
        let top = first / across;
        let rows = (first + tiles - 1) / across - top + 1;
        let plane = self.height * self.width;
        let input = &self.input[channel * plane..(channel + 1) * plane];
        let segments = across.div_ceil(SEGMENT);
        let (y, j) = (line / segments / PATCH, line / segments % PATCH);
        if y == rows * TILE + PATCH - TILE {
            return false;
        }
        let from = (top * TILE + y).checked_sub(self.pad[0]).filter(|&y| y < self.height);
        let at = (y % TILE) * PATCH * layout.plane + y / TILE * across;
        let row = from.map_or(&[][..], |y| &input[y * self.width..][..self.width]);
        let to = &mut phases[at + j * layout.plane..][..across];
        let start = line % segments * SEGMENT;
        let end = across.min(start + SEGMENT);
        phase(row, j + start * TILE, self.pad[1], &mut to[start..end]);
        true
    }

    /// One of the 36 products of `rows` filters with all patches.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        s: S,
        [filter, position]: [usize; 2],
        [rows, cols]: [usize; 2],
        patches: &[f32],
        products: &mut [f32],
    ) {
        let depth = self.channels;
        let weights = self.weights.as_chunks::<LEFT_ROWS>().0;
        let patches = patches.as_chunks::<RIGHT_COLS>().0;
        let panel = |i: usize| {
            let start = ((filter / LEFT_ROWS + i) * POSITIONS + position) * depth;
            &weights[start..start + depth]
        };
        let left = [panel(0), panel(usize::from(rows > LEFT_ROWS))];
        let groups = cols / RIGHT_COLS * depth;
        let right = &patches[position * groups..(position + 1) * groups];
        let c = &mut products[position * rows * cols..(position + 1) * rows * cols];
        product_packed(s, rows, left, right, c, cols);
    }

    /// Puts one filter's tiles where they belong, with bias, residual and bounds.
    #[inline(always)]
    fn write(&mut self, filter: usize, first: usize, tiles: usize, cols: usize, pixels: &[f32]) {
        let across = self.out_width.div_ceil(TILE);
        let bias = self.bias.map_or(0.0, |bias| bias[filter]);
        let plane = filter * self.out_height * self.out_width;
        let mut tile = first;
        while tile < first + tiles {
            let (ty, tx) = (tile / across, tile % across);
            let count = (across - tx).min(first + tiles - tile);
            for i in 0..TILE.min(self.out_height - ty * TILE) {
                let start = plane + (ty * TILE + i) * self.out_width + tx * TILE;
                let len = (count * TILE).min(self.out_width - tx * TILE);
                let lanes = |j: usize| &pixels[(i * TILE + j) * cols + tile - first..][..count];
                let quads = [lanes(0), lanes(1), lanes(2), lanes(3)];
                let add = self.add.map(|add| &add[start..start + len]);
                let out = &mut self.output[start..start + len];
                interleave(quads, bias, add, (self.lo, self.hi), out);
            }
            tile += count;
        }
    }
}

/// `to[t] = row[4t + start - left]`; zero outside of the row.
#[inline(always)]
fn phase(row: &[f32], start: usize, left: usize, to: &mut [f32]) {
    let skip = left.saturating_sub(start).div_ceil(TILE).min(to.len());
    to[..skip].fill(0.0);
    let from = (skip * TILE + start).saturating_sub(left);
    let row = row.get(from..).unwrap_or(&[]);
    let inside = row.len().div_ceil(TILE).min(to.len() - skip);
    let (body, tail) = to[skip..].split_at_mut(inside);
    let quads = row.as_chunks::<TILE>().0;
    let whole = quads.len().min(body.len());
    for (to, quad) in body[..whole].iter_mut().zip(quads) {
        *to = quad[0];
    }
    if whole < body.len() {
        body[whole] = row[whole * TILE];
    }
    tail.fill(0.0);
}

/// `B^T d B` for all tiles of a block, one channel: 36 groups of 16 tiles into each panel.
#[inline(always)]
fn transform_patches<S: Simd>(
    s: S,
    layout: &Layout,
    phases: &[f32],
    first: usize,
    panels: usize,
    channel: usize,
    patches: &mut [f32],
) {
    let offset = first % layout.across;
    for panel in 0..panels {
        for lane in (0..RIGHT_COLS).step_by(S::N) {
            let at = offset + panel * RIGHT_COLS + lane;
            let mut d = [[s.splat(0.0); PATCH]; PATCH];
            for (i, d) in d.iter_mut().enumerate() {
                let row = (i % TILE) * PATCH * layout.plane + i / TILE * layout.across + at;
                let mut x = [s.splat(0.0); PATCH];
                for (j, x) in x.iter_mut().enumerate() {
                    *x = s.load(&phases[row + j * layout.plane..]);
                }
                *d = forward(s, x);
            }
            #[allow(clippy::needless_range_loop, reason = "a column of rows")]
            for j in 0..PATCH {
                let column = [d[0][j], d[1][j], d[2][j], d[3][j], d[4][j], d[5][j]];
                for (i, v) in forward(s, column).into_iter().enumerate() {
                    let group = ((i * PATCH + j) * panels + panel) * layout.channels + channel;
                    s.store(v, &mut patches[group * RIGHT_COLS + lane..]);
                }
            }
        }
    }
}

/// One side of the input transform.
#[inline(always)]
fn forward<S: Simd>(s: S, x: [S::V; PATCH]) -> [S::V; PATCH] {
    let (two, four, five) = (s.splat(2.0), s.splat(4.0), s.splat(-5.0));
    let even = s.fma(s.splat(-4.0), x[2], x[4]);
    let odd = s.fma(s.splat(-4.0), x[1], x[3]);
    let near = s.sub(x[4], x[2]);
    let far = s.mul(two, s.sub(x[3], x[1]));
    [
        s.fma(four, x[0], s.fma(five, x[2], x[4])),
        s.add(even, odd),
        s.sub(even, odd),
        s.add(near, far),
        s.sub(near, far),
        s.fma(four, x[1], s.fma(five, x[3], x[5])),
    ]
}

/// One side of the output transform.
#[inline(always)]
fn backward<S: Simd>(s: S, x: [S::V; PATCH]) -> [S::V; TILE] {
    let (sum, difference) = (s.add(x[1], x[2]), s.sub(x[1], x[2]));
    let (wide, skew) = (s.add(x[3], x[4]), s.sub(x[3], x[4]));
    [
        s.add(s.add(x[0], sum), wide),
        s.fma(s.splat(2.0), skew, difference),
        s.fma(s.splat(4.0), wide, sum),
        s.add(s.fma(s.splat(8.0), skew, difference), x[5]),
    ]
}

/// `A^T m A` for all tiles of one filter: 16 rows of pixels, one for each place in a tile.
#[inline(always)]
fn transform_back<S: Simd>(
    s: S,
    products: &[f32],
    stride: usize,
    at: usize,
    cols: usize,
    pixels: &mut [f32],
) {
    for lane in (0..cols).step_by(S::N) {
        let mut rows = [[s.splat(0.0); TILE]; PATCH];
        for (i, rows) in rows.iter_mut().enumerate() {
            let mut x = [s.splat(0.0); PATCH];
            for (j, x) in x.iter_mut().enumerate() {
                *x = s.load(&products[(i * PATCH + j) * stride + at + lane..]);
            }
            *rows = backward(s, x);
        }
        for j in 0..TILE {
            let column = [rows[0][j], rows[1][j], rows[2][j], rows[3][j], rows[4][j], rows[5][j]];
            for (i, v) in backward(s, column).into_iter().enumerate() {
                s.store(v, &mut pixels[(i * TILE + j) * cols + lane..]);
            }
        }
    }
}

/// Writes four pixels of each tile of a row next to each other.
#[inline(always)]
fn interleave(
    quads: [&[f32]; TILE],
    bias: f32,
    add: Option<&[f32]>,
    (lo, hi): (f32, f32),
    out: &mut [f32],
) {
    let (whole, rest) = out.as_chunks_mut::<TILE>();
    let (adds, add_rest) = add.map_or((None, None), |add| {
        let (adds, rest) = add.as_chunks::<TILE>();
        (Some(adds), Some(rest))
    });
    let [q0, q1, q2, q3] = quads;
    let count = whole.len();
    let tiles = q0[..count].iter().zip(&q1[..count]).zip(&q2[..count]).zip(&q3[..count]);
    if let Some(adds) = adds {
        for ((to, (((&a, &b), &c), &d)), add) in whole.iter_mut().zip(tiles).zip(adds) {
            let (a, b) = (a + bias + add[0], b + bias + add[1]);
            let (c, d) = (c + bias + add[2], d + bias + add[3]);
            // Written out: a closure inside `map` would be compiled for the plain CPU and called for each.
            *to = [clamp(a, lo, hi), clamp(b, lo, hi), clamp(c, lo, hi), clamp(d, lo, hi)];
        }
    } else {
        for (to, (((&a, &b), &c), &d)) in whole.iter_mut().zip(tiles) {
            let (a, b, c, d) = (a + bias, b + bias, c + bias, d + bias);
            *to = [clamp(a, lo, hi), clamp(b, lo, hi), clamp(c, lo, hi), clamp(d, lo, hi)];
        }
    }
    for (j, to) in rest.iter_mut().enumerate() {
        let add = add_rest.map_or(0.0, |rest| rest[j]);
        *to = clamp(quads[j][count] + bias + add, lo, hi);
    }
}

/// Transforms 3x3 weights `[filters][channels][3][3]` into `out` of [`weights_len`] floats.
pub fn weights(data: &[f32], filters: usize, channels: usize, out: &mut [f32]) {
    out.fill(0.0);
    for filter in 0..filters {
        for channel in 0..channels {
            let from = &data[(filter * channels + channel) * 9..][..9];
            let to = transform_weight(from);
            let panel = filter / LEFT_ROWS * POSITIONS;
            for (position, v) in to.into_iter().enumerate() {
                let group = (panel + position) * channels + channel;
                out[group * LEFT_ROWS + filter % LEFT_ROWS] = v;
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to the weights' type is the point")]
fn narrow(v: f64) -> f32 {
    v as f32
}

/// `G g G^T` in doubles: done once, so that the rounding of a weight costs one half unit and no more.
fn transform_weight(g: &[f32]) -> [f32; POSITIONS] {
    let side = |x: [f64; 3]| {
        let (even, odd) = ((x[0] + x[2]) / 6.0, x[1] / 6.0);
        let (near, far) = (x[0] / 24.0 + x[2] / 6.0, x[1] / 12.0);
        [x[0] / 4.0, -even - odd, odd - even, near + far, near - far, x[2]]
    };
    let mut rows = [[0.0; 3]; PATCH];
    for j in 0..3 {
        let column = [f64::from(g[j]), f64::from(g[3 + j]), f64::from(g[6 + j])];
        for (i, v) in side(column).into_iter().enumerate() {
            rows[i][j] = v;
        }
    }
    let mut out = [0.0; POSITIONS];
    for (i, row) in rows.into_iter().enumerate() {
        for (j, v) in side(row).into_iter().enumerate() {
            out[i * PATCH + j] = narrow(v);
        }
    }
    out
}
