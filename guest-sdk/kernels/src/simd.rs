//! The few vector operations that the kernels are written in.

use crate::LEFT_ROWS;

/// A CPU's vectors of `f32`. The value is a token: holding one proves that the CPU has the instructions.
pub trait Simd: Copy {
    /// One vector.
    type V: Copy;
    /// Lanes of a vector: 4, 8 or 16.
    const N: usize;
    /// Rows of the register tile: one or two left panels.
    const ROWS: usize;
    /// Vectors across the register tile.
    const COLS: usize;
    /// Whether this is wasm, whose compiler needs other loops: a left panel is done as 4 rows by 2 vectors and 2 rows by
    /// 4, since 8 accumulators fit the registers that it leaves, and eight steps to a turn of the loop.
    const SPLIT: bool = false;

    fn splat(self, x: f32) -> Self::V;
    /// Each value of a left group in all lanes.
    #[inline(always)]
    fn splats(self, group: &[f32; LEFT_ROWS]) -> [Self::V; LEFT_ROWS] {
        // Written out: a closure inside `map` would be compiled for the plain CPU and called six times.
        let [a, b, c, d, e, f] = *group;
        [self.splat(a), self.splat(b), self.splat(c), self.splat(d), self.splat(e), self.splat(f)]
    }
    /// The first `N` values; panics if there are fewer.
    fn load(self, from: &[f32]) -> Self::V;
    /// Over the first `N` values; panics if there are fewer.
    fn store(self, v: Self::V, to: &mut [f32]);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once or twice as the CPU does it.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// Each lane's lowest 9 bits moved to where sign and exponent are; the rest becomes 0.
    fn shift_to_exponent(self, a: Self::V) -> Self::V;
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
}

/// Four lanes of ordinary Rust: the reference in tests, and what runs on a CPU nobody wrote vectors for.
#[derive(Debug, Clone, Copy)]
pub struct Scalar;

#[inline(always)]
fn zip(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Simd for Scalar {
    type V = [f32; 4];
    const N: usize = 4;
    const ROWS: usize = 6;
    const COLS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> [f32; 4] {
        [from[0], from[1], from[2], from[3]]
    }
    #[inline(always)]
    fn store(self, v: [f32; 4], to: &mut [f32]) {
        to[..4].copy_from_slice(&v);
    }
    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn fma(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn div(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self, a: [f32; 4]) -> [f32; 4] {
        zip(a, a, |a, _| a.sqrt())
    }
    #[inline(always)]
    fn shift_to_exponent(self, a: [f32; 4]) -> [f32; 4] {
        zip(a, a, |a, _| f32::from_bits(a.to_bits() << 23))
    }
    #[inline(always)]
    fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
}
