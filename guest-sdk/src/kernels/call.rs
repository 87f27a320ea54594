//! From a checked call to the arithmetic: the host's, or our own.

use core::cell::RefCell;

use mayfly_kernels::{FLOATS_MAX, Gemm, MACS_MAX, Map, Plane, RIGHT_COLS, Refused, Winograd};

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

/// Whether `batch` products of these sizes are few enough for one call.
pub(super) fn fits([m, n, k, batch]: [usize; 4]) -> bool {
    let within = |sizes: [usize; 3], max: u64| {
        let product = sizes.iter().try_fold(1u64, |total, &size| total.checked_mul(size as u64));
        product.and_then(|p| p.checked_mul(batch as u64)).is_some_and(|p| p <= max)
    };
    within([m, n, k], MACS_MAX)
        && within([m, n, 1], FLOATS_MAX)
        && within([m, k, 1], FLOATS_MAX)
        && within([k, n, 1], FLOATS_MAX)
}

/// Columns (a multiple of a panel) of an `m` x `k` product that stay within the caps of one call.
pub(super) fn columns_max(m: usize, k: usize) -> usize {
    let macs = MACS_MAX / (m as u64 * k as u64).max(1);
    let floats = FLOATS_MAX / (m.max(k) as u64).max(1);
    let columns = usize::try_from(macs.min(floats)).unwrap_or(usize::MAX);
    (columns / RIGHT_COLS).max(1) * RIGHT_COLS
}
