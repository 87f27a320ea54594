//! The Fourier transform behind ONNX's DFT and STFT, in place of the crate `rustfft` (see `[patch.crates-io]`).
//!
//! tract links rustfft into every guest, and 0.67 of a guest's 10 MB were its kernels for each length and CPU. No model
//! that we know of calls them. Here is one mixed-radix transform with the same names: as exact, about five times slower
//! at lengths of small factors, and quadratic in the largest prime factor.
#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::sync::Arc;

pub use num_complex;
pub use num_traits;

use num_complex::Complex;
use num_traits::{FromPrimitive, Signed, Zero as _};

/// Numbers that can be transformed.
pub trait FftNum: Copy + FromPrimitive + Signed + Sync + Send + Debug + 'static {}

impl<T: Copy + FromPrimitive + Signed + Sync + Send + Debug + 'static> FftNum for T {}

/// Sign of the exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FftDirection {
    /// Minus.
    Forward,
    /// Plus; not divided by the length.
    Inverse,
}

/// A transform of one length.
pub trait Fft<T: FftNum>: Send + Sync {
    /// Transforms each run of that length in place; a shorter rest stays as it is.
    fn process(&self, buffer: &mut [Complex<T>]);
}

/// Makes transforms.
#[derive(Debug, Default)]
pub struct FftPlanner<T>(std::marker::PhantomData<T>);

impl<T: FftNum> FftPlanner<T> {
    /// A planner.
    #[must_use]
    pub fn new() -> Self {
        Self(std::marker::PhantomData)
    }

    /// A transform of `len` numbers.
    pub fn plan_fft(&mut self, len: usize, direction: FftDirection) -> Arc<dyn Fft<T>> {
        Arc::new(MixedRadix::new(len, direction))
    }

    /// A transform of `len` numbers with a negative exponent.
    pub fn plan_fft_forward(&mut self, len: usize) -> Arc<dyn Fft<T>> {
        self.plan_fft(len, FftDirection::Forward)
    }

    /// A transform of `len` numbers with a positive exponent.
    pub fn plan_fft_inverse(&mut self, len: usize) -> Arc<dyn Fft<T>> {
        self.plan_fft(len, FftDirection::Inverse)
    }
}

/// Cooley and Tukey's, decimated in time, one level for each prime factor.
struct MixedRadix<T> {
    len: usize,
    /// Prime factors of `len`, the smallest first.
    factors: Vec<usize>,
    /// The `len`-th roots of unity.
    roots: Vec<Complex<T>>,
}

impl<T: FftNum> MixedRadix<T> {
    fn new(len: usize, direction: FftDirection) -> Self {
        let sign = match direction {
            FftDirection::Forward => -1.0,
            FftDirection::Inverse => 1.0,
        };
        let root = |k: usize| {
            let angle = sign * std::f64::consts::TAU * k as f64 / len as f64;
            let part = |x: f64| T::from_f64(x).unwrap_or_else(T::zero);
            Complex::new(part(angle.cos()), part(angle.sin()))
        };
        Self { len, factors: factors(len), roots: (0..len).map(root).collect() }
    }

    /// Transforms every `stride`-th number of `from` into `to`, whose length is the product of `factors`.
    fn level(&self, from: &[Complex<T>], stride: usize, to: &mut [Complex<T>], factors: &[usize]) {
        let Some((&radix, deeper)) = factors.split_first() else {
            to[0] = from[0];
            return;
        };
        let part = to.len() / radix;
        for (offset, to) in to.chunks_exact_mut(part).enumerate() {
            self.level(&from[offset * stride..], stride * radix, to, deeper);
        }
        let mut column = vec![Complex::zero(); radix];
        for k in 0..part {
            for (r, value) in column.iter_mut().enumerate() {
                *value = to[r * part + k] * self.roots[r * k * stride % self.len];
            }
            for q in 0..radix {
                // Counted up, because the product with the radix may not fit 32 bits.
                let (step, mut at) = (q * part * stride % self.len, 0);
                let mut sum = Complex::zero();
                for value in &column {
                    sum = sum + *value * self.roots[at];
                    at = (at + step) % self.len;
                }
                to[q * part + k] = sum;
            }
        }
    }
}

impl<T: FftNum> Fft<T> for MixedRadix<T> {
    fn process(&self, buffer: &mut [Complex<T>]) {
        if self.len < 2 {
            return;
        }
        let mut from = vec![Complex::zero(); self.len];
        for run in buffer.chunks_exact_mut(self.len) {
            from.copy_from_slice(run);
            self.level(&from, 1, run, &self.factors);
        }
    }
}

fn factors(mut n: usize) -> Vec<usize> {
    let (mut found, mut p) = (Vec::new(), 2);
    while p * p <= n {
        while n.is_multiple_of(p) {
            found.push(p);
            n /= p;
        }
        p += 1;
    }
    if n > 1 {
        found.push(n);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(len: usize) -> Vec<Complex<f64>> {
        (0..len)
            .map(|i| Complex::new((i * 7 % 11) as f64 - 5.0, (i * 5 % 13) as f64 / 3.0))
            .collect()
    }

    fn plain(from: &[Complex<f64>], sign: f64) -> Vec<Complex<f64>> {
        let n = from.len();
        let term = |k: usize, j: usize| {
            from[j]
                * Complex::from_polar(
                    1.0,
                    sign * std::f64::consts::TAU * (j * k % n) as f64 / n as f64,
                )
        };
        (0..n).map(|k| (0..n).map(|j| term(k, j)).sum()).collect()
    }

    #[test]
    fn it_is_the_sum_that_it_stands_for() {
        for len in [1, 2, 3, 4, 5, 6, 8, 12, 17, 30, 64, 97, 100, 210, 400] {
            for (direction, sign) in [(FftDirection::Forward, -1.0), (FftDirection::Inverse, 1.0)] {
                let mut data = signal(len);
                let expected = plain(&data, sign);
                FftPlanner::new().plan_fft(len, direction).process(&mut data);
                let worst =
                    data.iter().zip(&expected).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
                assert!(worst < 1e-9 * len as f64, "{len} {direction:?}: {worst}");
            }
        }
    }

    #[test]
    fn there_and_back_is_the_length_times_as_much() {
        let single: Vec<Complex<f32>> =
            signal(360).iter().map(|c| Complex::new(c.re as f32, c.im as f32)).collect();
        let mut data = single.clone();
        FftPlanner::new().plan_fft_forward(360).process(&mut data);
        FftPlanner::new().plan_fft_inverse(360).process(&mut data);
        let worst =
            data.iter().zip(&single).map(|(a, b)| (a / 360.0 - b).norm()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{worst}");
    }

    #[test]
    fn several_runs_and_none() {
        let mut data = [signal(6), signal(6), signal(2)].concat();
        let expected = plain(&signal(6), -1.0);
        FftPlanner::new().plan_fft_forward(6).process(&mut data);
        assert!(data[..6].iter().zip(&expected).all(|(a, b)| (a - b).norm() < 1e-9));
        assert_eq!(data[..6], data[6..12]);
        assert_eq!(data[12..], signal(2));
        FftPlanner::<f64>::new().plan_fft_forward(0).process(&mut []);
    }
}
