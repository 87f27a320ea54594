//! Wasm's 128-bit vectors, for the path without native kernels.

use core::arch::wasm32::*;

use mayfly_kernels::{LEFT_ROWS, Simd};

/// A 6x8 tile takes 12 accumulators, 2 columns and 1 splat: the 16 registers that a compiler for x86-64 has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wasm;

impl Simd for Wasm {
    type V = v128;
    const N: usize = 4;
    const ROWS: usize = 6;
    const COLS: usize = 2;
    const SPLIT: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> v128 {
        f32x4_splat(x)
    }
    #[inline(always)]
    fn splats(self, group: &[f32; LEFT_ROWS]) -> [v128; LEFT_ROWS] {
        // Two loads and six shuffles. Six loads of a scalar cost three instructions each in Cranelift, which moves the
        // splat away from its load.
        let (low, high) = (self.load(group), self.load(&group[2..]));
        [
            i32x4_shuffle::<0, 0, 0, 0>(low, low),
            i32x4_shuffle::<1, 1, 1, 1>(low, low),
            i32x4_shuffle::<2, 2, 2, 2>(low, low),
            i32x4_shuffle::<3, 3, 3, 3>(low, low),
            i32x4_shuffle::<2, 2, 2, 2>(high, high),
            i32x4_shuffle::<3, 3, 3, 3>(high, high),
        ]
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> v128 {
        let from = &from[..Self::N];
        // SAFETY: `from` is 4 floats, and wasm's loads need no alignment.
        unsafe { v128_load(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store(self, v: v128, to: &mut [f32]) {
        let to = &mut to[..Self::N];
        // SAFETY: `to` is 4 floats, and wasm's stores need no alignment.
        unsafe { v128_store(to.as_mut_ptr().cast(), v) }
    }
    #[inline(always)]
    fn add(self, a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }
    #[inline(always)]
    fn sub(self, a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }
    #[inline(always)]
    fn mul(self, a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    fn fma(self, a: v128, b: v128, c: v128) -> v128 {
        #[cfg(target_feature = "relaxed-simd")]
        return f32x4_relaxed_madd(a, b, c);
        #[cfg(not(target_feature = "relaxed-simd"))]
        return f32x4_add(f32x4_mul(a, b), c);
    }
    #[inline(always)]
    fn div(self, a: v128, b: v128) -> v128 {
        f32x4_div(a, b)
    }
    #[inline(always)]
    fn sqrt(self, a: v128) -> v128 {
        f32x4_sqrt(a)
    }
    #[inline(always)]
    fn shift_to_exponent(self, a: v128) -> v128 {
        i32x4_shl(a, 23)
    }
    #[inline(always)]
    fn max(self, a: v128, b: v128) -> v128 {
        // `b < a ? a : b`: what x86's maxps does, and one instruction there.
        f32x4_pmax(b, a)
    }
    #[inline(always)]
    fn min(self, a: v128, b: v128) -> v128 {
        f32x4_pmin(b, a)
    }
}
