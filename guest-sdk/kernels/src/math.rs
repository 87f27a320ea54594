//! Functions of one number, a vector at a time. All share one exponential.

use crate::simd::Simd;

#[inline(always)]
pub(crate) fn abs<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.sub(s.splat(0.0), x), x)
}

/// Within 2 units in the last place; what is under 2^-126 becomes 0, what is too large infinite.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // Beyond these the result is 0 or infinite anyway; NaN passes.
    exp_within(s, s.min(s.splat(89.5), s.max(s.splat(-88.0), x)))
}

/// As [`exp`], for arguments from -88 to 89.5.
#[inline(always)]
fn exp_within<S: Simd>(s: S, x: S::V) -> S::V {
    // Adding 1.5 * 2^23 leaves no room for a fraction: n is x / ln 2, rounded.
    let magic = s.splat(12_582_912.0);
    let n = s.sub(s.fma(x, s.splat(core::f32::consts::LOG2_E), magic), magic);
    // ln 2 in two parts, the first with few digits, so that n times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // The series of e^r for |r| <= ln 2 / 2: the first term left out is under 6e-9.
    let p = s.fma(r, s.splat(1.0 / 5040.0), s.splat(1.0 / 720.0));
    let p = s.fma(p, r, s.splat(1.0 / 120.0));
    let p = s.fma(p, r, s.splat(1.0 / 24.0));
    let p = s.fma(p, r, s.splat(1.0 / 6.0));
    let p = s.fma(p, r, s.splat(0.5));
    let p = s.fma(p, r, s.splat(1.0));
    let p = s.fma(p, r, s.splat(1.0));
    // 2^n as 2 * 2^(n - 1), so that both ends of the range are reached: 126 + n is that exponent as it is stored, and
    // adding 2^23 puts it into the lowest bits.
    let stored = s.max(s.splat(0.0), s.add(n, s.splat(126.0)));
    let power = s.shift_to_exponent(s.add(stored, s.splat(8_388_608.0)));
    s.mul(s.add(p, p), power)
}

#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// Within 2e-7.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let (one, two) = (s.splat(1.0), s.splat(2.0));
    let e = exp(s, s.add(x, x));
    s.sub(one, s.div(two, s.add(e, one)))
}

/// Within 3e-7, by Abramowitz and Stegun's formula 7.1.26.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    // From 4 on the result is 1 in all its digits; infinity divided by itself would be NaN. NaN passes.
    let x = s.min(s.splat(6.0), s.max(s.splat(-6.0), x));
    let size = abs(s, x);
    let t = s.div(one, s.fma(s.splat(0.327_591_1), size, one));
    let p = s.fma(t, s.splat(1.061_405_4), s.splat(-1.453_152_1));
    let p = s.fma(p, t, s.splat(1.421_413_8));
    let p = s.fma(p, t, s.splat(-0.284_496_72));
    let p = s.mul(s.fma(p, t, s.splat(0.254_829_6)), t);
    let tail = s.mul(p, exp_within(s, s.sub(s.splat(0.0), s.mul(x, x))));
    // The sign of x, and 0 for 0.
    let sign = s.div(x, s.max(s.splat(f32::MIN_POSITIVE), size));
    s.mul(s.sub(one, tail), sign)
}
