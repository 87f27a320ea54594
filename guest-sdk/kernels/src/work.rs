//! What a call costs beside its multiply-adds. No deadline interrupts a call, so what it does around them counts too.

use crate::{LEFT_ROWS, RIGHT_COLS};

/// Work of one call, in multiply-adds: those of whole tiles, and what takes as long as so many. Twice
/// [`MACS_MAX`](crate::MACS_MAX), so that calls with tiles half full may still ask for all of those.
pub const WORK_MAX: u64 = 1 << 27;

/// One product of a batch: its slices and loops take about 60 ns, and a core does 60 multiply-adds in each of them.
pub(crate) const PRODUCT: u64 = 4 << 10;
/// To finish a tile takes as long as so many steps of its sum.
const TILE_STEPS: u64 = 16;
/// To transform a tile back and write it takes as long as so many channels, of each of its 36 products.
const TILE_CHANNELS: u64 = 12;
/// To transform a patch takes as long as so many filters.
const PATCH_FILTERS: u64 = 6;
/// One plane, and one row of a plane: loops and calls of about 30 and 10 ns.
pub(crate) const PLANE: u64 = 2 << 10;
pub(crate) const PLANE_ROW: u64 = 512;

fn up(size: usize, unit: usize) -> u64 {
    (size.div_ceil(unit) as u64).saturating_mul(unit as u64)
}

/// `batch` products of `m` x `k` by `k` x `n`.
pub fn gemm([m, n, k, batch]: [usize; 4]) -> u64 {
    let tiles = up(m, LEFT_ROWS).saturating_mul(up(n, RIGHT_COLS));
    let one = tiles.saturating_mul((k as u64).saturating_add(TILE_STEPS)).saturating_add(PRODUCT);
    one.saturating_mul(batch as u64)
}

/// So many rows and columns of a product, a slice of its sums deep.
pub(crate) fn strip(rows: usize, cols: usize, depth: usize) -> u64 {
    up(rows, LEFT_ROWS) * up(cols, RIGHT_COLS) * (depth as u64 + TILE_STEPS)
}

/// A Winograd convolution of so many tiles.
pub fn winograd(channels: usize, filters: usize, tiles: usize) -> u64 {
    let filters = up(filters, LEFT_ROWS).saturating_add(PATCH_FILTERS);
    let tiles = up(tiles, RIGHT_COLS).saturating_mul(crate::winograd::POSITIONS as u64);
    filters.saturating_mul(tiles).saturating_mul((channels as u64).saturating_add(TILE_CHANNELS))
}

/// So many values of a row of a plane.
pub(crate) fn line(values: usize, taps: usize) -> u64 {
    up(values, RIGHT_COLS) * taps as u64 + PLANE_ROW
}

/// Windows of `taps` over `channels` planes, copied as `rows` rows each.
pub(crate) fn plane(channels: usize, rows: usize, out: [usize; 2], taps: usize) -> u64 {
    let line = up(out[1], RIGHT_COLS).saturating_mul(taps as u64).saturating_add(PLANE_ROW);
    let lines = line.saturating_mul(out[0] as u64);
    let one = lines.saturating_add((rows as u64).saturating_mul(PLANE_ROW)).saturating_add(PLANE);
    one.saturating_mul(channels as u64)
}
