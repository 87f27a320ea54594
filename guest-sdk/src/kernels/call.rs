//! From a checked call to the arithmetic: the host's, or our own.

use core::cell::RefCell;

use mayfly_kernels::{
    FLOATS_MAX, Gemm, LEFT_ROWS, MACS_MAX, Map, Pieces as _, Plane, RIGHT_COLS, Refused, WORK_MAX,
    Winograd, winograd, work,
};

#[cfg(all(target_arch = "wasm32", feature = "kernels"))]
mod host {
    #[link(wasm_import_module = "mayfly_kernels_v1")]
    unsafe extern "C" {
        pub(super) safe fn version() -> i32;
        pub(super) safe fn gemm(descriptor: *const u32);
        pub(super) safe fn winograd(descriptor: *const u32);
        pub(super) safe fn plane(descriptor: *const u32);
        pub(super) safe fn map(descriptor: *const u32);
    }
}

/// Whether the host computes.
#[must_use]
pub fn native() -> bool {
    #[cfg(all(target_arch = "wasm32", feature = "kernels"))]
    return host::version() > 0;
    #[cfg(not(all(target_arch = "wasm32", feature = "kernels")))]
    return false;
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use super::vectors::Wasm as Vectors;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
use mayfly_kernels::simd::Scalar as Vectors;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Gives `work` at least `floats` floats of scratch, kept for the next call.
pub(super) fn with_scratch<R>(floats: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with(|scratch| {
        let mut scratch = scratch.borrow_mut();
        if scratch.len() < floats {
            // A copy of the old content would be wasted work.
            scratch.clear();
            scratch.resize(floats, 0.0);
        }
        work(&mut scratch[..floats])
    })
}

/// Frees the scratch, so that a snapshot does not carry it.
pub fn release_scratch() {
    SCRATCH.with(|scratch| *scratch.borrow_mut() = Vec::new());
}

/// Runs a matrix product.
pub(super) fn gemm(call: &mut Gemm<'_>) -> Result<(), Refused> {
    call.check()?;
    #[cfg(all(target_arch = "wasm32", feature = "kernels"))]
    if native() {
        host::gemm(call.encode(0).as_ptr());
        return Ok(());
    }
    call.run(Vectors);
    Ok(())
}

/// Runs a Winograd convolution.
pub(super) fn winograd(call: &mut Winograd<'_>) -> Result<(), Refused> {
    call.check()?;
    #[cfg(all(target_arch = "wasm32", feature = "kernels"))]
    if native() {
        host::winograd(call.encode(0).as_ptr());
        return Ok(());
    }
    call.run(Vectors);
    Ok(())
}

/// Runs a depthwise convolution or a pool.
pub(super) fn plane(call: &mut Plane<'_>) -> Result<(), Refused> {
    call.check()?;
    #[cfg(all(target_arch = "wasm32", feature = "kernels"))]
    if native() {
        host::plane(call.encode(0).as_ptr());
        return Ok(());
    }
    call.run(Vectors);
    Ok(())
}

/// The version of `mayfly_kernels_v1` that has `map`.
#[cfg(all(target_arch = "wasm32", feature = "kernels"))]
const VERSION_MAP: i32 = 2;

/// Elements from which a program is worth a call of the host: encoding it takes as long as a few hundred steps here.
#[cfg(all(target_arch = "wasm32", feature = "kernels"))]
const MAP_NATIVE: usize = 256;

/// Runs a program over elements.
pub(super) fn map(call: &mut Map<'_>) -> Result<(), Refused> {
    call.check()?;
    #[cfg(all(target_arch = "wasm32", feature = "kernels"))]
    if call.output.len() >= MAP_NATIVE && host::version() >= VERSION_MAP {
        host::map(call.encode(0).as_ptr());
        return Ok(());
    }
    call.run(Vectors);
    Ok(())
}

/// Rows that every CPU's tiles divide.
pub(super) const TILE_ROWS: usize = 2 * LEFT_ROWS;
/// Depth of a product from which even a few rows and one panel of columns are too much for one call.
#[allow(clippy::cast_possible_truncation, reason = "2^22 fits any guest's word")]
pub(super) const DEPTH_MAX: usize = FLOATS_MAX as usize / RIGHT_COLS;

/// Whether `batch` products of these sizes are few enough for one call.
pub(super) fn fits(sizes @ [m, n, k, batch]: [usize; 4]) -> bool {
    let within = |sizes: [usize; 3], max: u64| {
        let product = sizes.iter().try_fold(1u64, |total, &size| total.checked_mul(size as u64));
        product.and_then(|p| p.checked_mul(batch as u64)).is_some_and(|p| p <= max)
    };
    within([m, n, k], MACS_MAX)
        && within([m, n, 1], FLOATS_MAX)
        && within([m, k, 1], FLOATS_MAX)
        && within([k, n, 1], FLOATS_MAX)
        && work::gemm(sizes) <= WORK_MAX
}

/// Products of these sizes, of which one fits, that stay within the caps of one call.
pub(super) fn batch_max([m, n, k]: [usize; 3]) -> usize {
    let [rows, columns, depth] = [m, n, k].map(|size| size.max(1) as u64);
    let macs = MACS_MAX / (rows * columns * depth);
    let largest = (rows * columns).max(rows * depth).max(columns * depth);
    let work = WORK_MAX / work::gemm([m, n, k, 1]);
    usize::try_from(macs.min(FLOATS_MAX / largest).min(work)).unwrap_or(usize::MAX).max(1)
}

/// Columns (a multiple of a panel) of an `m` x `k` product that stay within the caps of one call, if a panel does.
fn columns(m: usize, k: usize) -> Option<usize> {
    let macs = MACS_MAX / (m as u64 * k as u64).max(1);
    let floats = FLOATS_MAX / (m.max(k) as u64).max(1);
    let panels = WORK_MAX / work::gemm([m, RIGHT_COLS, k, 1]);
    let panels = panels.min(macs.min(floats) / RIGHT_COLS as u64);
    Some(usize::try_from(panels).unwrap_or(usize::MAX).saturating_mul(RIGHT_COLS))
        .filter(|c| *c > 0)
}

/// As many columns as stay within the caps of one call; one panel at least, which fits [`rows_max`] rows.
pub(super) fn columns_max(m: usize, k: usize) -> usize {
    columns(m, k).unwrap_or(RIGHT_COLS)
}

/// Rows (all, or a multiple of every tile's) of a product of depth `k`, at most [`DEPTH_MAX`], that leave room for a
/// panel of columns in one call. Of `n` columns two panels, so that rows are not read again for each.
pub(super) fn rows_max(m: usize, k: usize, n: usize) -> usize {
    if columns(m, k).is_some() {
        return m;
    }
    let rows = |columns: usize| {
        let macs = MACS_MAX / (columns as u64 * k as u64).max(1);
        let rows = macs.min(FLOATS_MAX / columns as u64);
        usize::try_from(rows).unwrap_or(usize::MAX) / TILE_ROWS * TILE_ROWS
    };
    let most = match rows(2 * RIGHT_COLS) {
        rows if rows > 0 && n > RIGHT_COLS => rows,
        _ => rows(RIGHT_COLS).max(TILE_ROWS),
    };
    m.div_ceil(m.div_ceil(most)).next_multiple_of(TILE_ROWS)
}

/// As [`rows_max`], of a Winograd convolution's filters.
pub(super) fn filters_max(channels: usize, filters: usize, tiles: usize) -> usize {
    let mut most = rows_max(filters, channels * winograd::POSITIONS, tiles);
    while most > TILE_ROWS && work::winograd(channels, most, RIGHT_COLS) > WORK_MAX {
        most = most.div_ceil(2).next_multiple_of(TILE_ROWS);
    }
    most
}

/// Tiles of a Winograd convolution that stay within the caps of one call.
pub(super) fn tiles_max(channels: usize, filters: usize) -> usize {
    let panels = WORK_MAX / work::winograd(channels, filters, RIGHT_COLS);
    let panels = usize::try_from(panels).unwrap_or(usize::MAX).max(1);
    let tiles = columns_max(filters, channels * winograd::POSITIONS);
    tiles.min(panels.saturating_mul(RIGHT_COLS))
}

/// Scratch floats for every call of a Winograd convolution of `all` tiles, `step` at a time. The last call may need more
/// than the others: its tiles spread over fewer blocks, which are larger then.
pub(super) fn winograd_scratch(channels: usize, width: usize, all: usize, step: usize) -> usize {
    let floats = |tiles: usize| winograd::scratch_len(channels, width, tiles);
    let (whole, rest) = (step.min(all), all % step);
    if rest == 0 { floats(whole) } else { floats(whole).max(floats(rest)) }
}

/// The first row and the first column of each block of an `m` x `n` result.
pub(super) fn blocks(
    [m, rows]: [usize; 2],
    [n, columns]: [usize; 2],
) -> impl Iterator<Item = (usize, usize)> {
    (0..m).step_by(rows).flat_map(move |row| (0..n).step_by(columns).map(move |col| (row, col)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 14] = [1, 3, 6, 7, 16, 25, 64, 147, 512, 1000, 2304, 4096, 18_432, 65_536];

    #[test]
    fn blocks_are_few_enough_for_a_call_whatever_the_sizes() {
        let depths = SIZES.into_iter().chain([DEPTH_MAX]);
        for (k, m, n) in depths.flat_map(|k| SIZES.map(|m| SIZES.map(|n| (k, m, n)))).flatten() {
            let rows = rows_max(m, k, n);
            let columns = columns_max(rows, k).min(n);
            let block = fits([rows.min(m), columns, k, 1]);
            assert!(block, "{rows} x {columns} of {m} x {n}, depth {k}");
            assert!(rows >= m || rows.is_multiple_of(TILE_ROWS));
            if fits([m, n, k, 1]) {
                let batch = batch_max([m, n, k]);
                assert!(fits([m, n, k, batch]), "{batch} times {m} x {n}, depth {k}");
            }
        }
    }

    #[test]
    fn winograd_blocks_are_few_enough_for_a_call() {
        for (channels, filters) in SIZES.into_iter().flat_map(|c| SIZES.map(|f| (c, f))) {
            let k = channels * winograd::POSITIONS;
            if k > DEPTH_MAX {
                continue;
            }
            for all in SIZES {
                let rows = filters_max(channels, filters, all).min(filters);
                let tiles = tiles_max(channels, rows).min(all);
                let macs = (rows * k * tiles) as u64;
                let within = macs <= MACS_MAX && work::winograd(channels, rows, tiles) <= WORK_MAX;
                assert!(within, "{rows} x {tiles} of {channels} to {filters}, {all} tiles");
            }
        }
    }

    #[test]
    fn winograd_scratch_is_enough_for_every_call() {
        const CHANNELS: [usize; 12] = [24, 32, 40, 48, 64, 72, 80, 96, 128, 192, 320, 512];
        let sides = (12usize..=64).chain([80, 96, 112, 160, 224]);
        let mut last_is_largest = 0;
        for side in sides {
            let all = side.div_ceil(winograd::TILE).pow(2);
            for (c, f) in CHANNELS.into_iter().flat_map(|c| CHANNELS.map(|f| (c, f))) {
                let step = tiles_max(c, filters_max(c, f, all));
                let scratch = winograd_scratch(c, side, all, step);
                let needs = |tiles: usize| winograd::scratch_len(c, side, tiles);
                let calls = (0..all).step_by(step).map(|first| needs(step.min(all - first)));
                let most = calls.max().unwrap_or(0);
                assert_eq!(scratch, most, "{c} to {f} channels, {side} x {side}");
                last_is_largest += usize::from(most > needs(step.min(all)));
            }
        }
        assert!(last_is_largest > 0, "no shape needs what this is about");
    }
}
