//! Kernels for x86-64 with AVX2 and FMA, and with AVX-512.

use core::arch::x86_64::*;

use mayfly_kernels::{Pieces, Simd};

/// Proof that this CPU has AVX2 and FMA: only [`Avx2::detect`] makes one.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

/// Proof that this CPU has AVX-512F, AVX2 and FMA: only [`Avx512::detect`] makes one.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx2 {
    pub fn detect() -> Option<Avx2> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        found.then_some(Avx2(()))
    }

    /// [`Pieces::go_on`] with these vectors.
    pub fn go_on<C: Pieces>(
        self,
        call: &mut C,
        at: &mut C::At,
        stop: &mut impl FnMut(u64) -> bool,
    ) -> bool {
        #[target_feature(enable = "avx2,fma")]
        fn run<C: Pieces>(
            s: Avx2,
            call: &mut C,
            at: &mut C::At,
            stop: &mut impl FnMut(u64) -> bool,
        ) -> bool {
            call.go_on(s, at, stop)
        }
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe { run(self, call, at, stop) }
    }
}

impl Avx512 {
    pub fn detect() -> Option<Avx512> {
        let found = Avx2::detect().is_some() && is_x86_feature_detected!("avx512f");
        found.then_some(Avx512(()))
    }

    /// [`Pieces::go_on`] with these vectors.
    pub fn go_on<C: Pieces>(
        self,
        call: &mut C,
        at: &mut C::At,
        stop: &mut impl FnMut(u64) -> bool,
    ) -> bool {
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn run<C: Pieces>(
            s: Avx512,
            call: &mut C,
            at: &mut C::At,
            stop: &mut impl FnMut(u64) -> bool,
        ) -> bool {
            call.go_on(s, at, stop)
        }
        // SAFETY: `self` proves that the CPU has AVX-512F, AVX2 and FMA.
        unsafe { run(self, call, at, stop) }
    }
}

impl Simd for Avx2 {
    type V = __m256;
    const N: usize = 8;
    const ROWS: usize = 6;
    const COLS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves that the CPU has AVX.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        let from = &from[..Self::N];
        // SAFETY: `from` is 8 floats; `self` proves that the CPU has AVX.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m256, to: &mut [f32]) {
        let to = &mut to[..Self::N];
        // SAFETY: `to` is 8 floats; `self` proves that the CPU has AVX.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has AVX.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has AVX.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has AVX.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has AVX.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has AVX.
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn shift_to_exponent(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has AVX2.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(a))) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has AVX.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves that the CPU has AVX.
        unsafe { _mm256_min_ps(a, b) }
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const N: usize = 16;
    // 24 accumulators, 2 columns and a splat of the 32 registers.
    const ROWS: usize = 12;
    const COLS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        let from = &from[..Self::N];
        // SAFETY: `from` is 16 floats; `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32]) {
        let to = &mut to[..Self::N];
        // SAFETY: `to` is 16 floats; `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn shift_to_exponent(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(a))) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { _mm512_min_ps(a, b) }
    }
}
