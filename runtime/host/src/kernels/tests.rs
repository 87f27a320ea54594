//! Each CPU's kernels against plain loops in double precision.
#![allow(clippy::cast_possible_truncation, reason = "sizes here are small")]

use mayfly_kernels::pack::{self, Image, Window};
use mayfly_kernels::{
    Epilogue, FLOATS_MAX, Gemm, Left, MACS_MAX, PIECE_MAX, Pieces, Plane, PlaneOp, Right,
    SCRATCH_MIN, Winograd, plane, winograd,
};

use super::Cpu;

mod fuzz;
mod map;
mod pauses;
mod pool;

/// A generator of its own: a failure must come back with the same numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() % 2001) as f32 / 1000.0 - 1.0).collect()
    }
}

/// Every kind of vectors that this machine has.
fn cpus() -> Vec<Cpu> {
    let mut cpus = vec![Cpu::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        cpus.extend(super::x86::Avx2::detect().map(Cpu::Avx2));
        cpus.extend(super::x86::Avx512::detect().map(Cpu::Avx512));
    }
    cpus
}

/// Does a call with some stops on its way: the result is the one of a call without.
fn in_pieces<C: Pieces>(cpu: Cpu, call: &mut C) {
    let (mut at, mut pieces) = (C::At::default(), 0u64);
    let mut stop = |cost| {
        assert!(cost <= PIECE_MAX, "{cost}");
        pieces += 1;
        pieces % 5 < 3
    };
    while !cpu.go_on(call, &mut at, &mut stop) {}
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(found) - expected).abs();
        assert!(off <= tolerance, "{what}: element {i} is {found}, should be {expected}");
    }
}

/// A convolution's window and sizes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    channels: usize,
    filters: usize,
    input: [usize; 2],
    output: [usize; 2],
    window: Window,
}

impl Shape {
    fn random(r: &mut Random, kernels: &[usize], strides: &[usize]) -> Shape {
        let window = Window {
            kernel: [r.one_of(kernels), r.one_of(kernels)],
            stride: [r.one_of(strides), r.one_of(strides)],
            dilation: [1 + r.below(2), 1 + r.below(2)],
            pad: [r.below(3), r.below(3)],
        };
        let input = [6 + r.below(20), 6 + r.below(30)];
        let side = |i: usize| {
            let reach = (window.kernel[i] - 1) * window.dilation[i] + 1;
            (input[i] + 2 * window.pad[i]).saturating_sub(reach) / window.stride[i] + 1
        };
        let output = [side(0), side(1)];
        Shape { channels: 1 + r.below(6), filters: 1 + r.below(20), input, output, window }
    }

    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// What the window at output (oy, ox) sees at tap `tap`, if it is inside the image.
    fn at(&self, oy: usize, ox: usize, tap: usize) -> Option<usize> {
        let w = &self.window;
        let (ky, kx) = (tap / w.kernel[1], tap % w.kernel[1]);
        let y = (oy * w.stride[0] + ky * w.dilation[0]).checked_sub(w.pad[0])?;
        let x = (ox * w.stride[1] + kx * w.dilation[1]).checked_sub(w.pad[1])?;
        (y < self.input[0] && x < self.input[1]).then_some(y * self.input[1] + x)
    }

    fn plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn convolve(&self, x: &[f32], w: &[f32], bias: &[f32]) -> Vec<f64> {
        let mut out = vec![0.0; self.filters * self.pixels()];
        for (i, out) in out.iter_mut().enumerate() {
            let (filter, pixel) = (i / self.pixels(), i % self.pixels());
            let (oy, ox) = (pixel / self.output[1], pixel % self.output[1]);
            let mut sum = f64::from(bias[filter]);
            for channel in 0..self.channels {
                for tap in 0..self.taps() {
                    let Some(at) = self.at(oy, ox, tap) else { continue };
                    let weight = w[(filter * self.channels + channel) * self.taps() + tap];
                    sum += f64::from(weight) * f64::from(x[channel * self.plane() + at]);
                }
            }
            *out = sum;
        }
        out
    }
}

#[test]
fn products_equal_plain_loops() {
    let mut r = Random(1);
    for round in 0..60 {
        let (m, n, k) = (1 + r.below(40), 1 + r.below(70), 1 + r.below(60 + 500 * (round % 2)));
        let batch = 1 + r.below(3);
        let (a, b) = (r.floats(batch * m * k), r.floats(batch * k * n));
        let (row_bias, col_bias, add) = (r.floats(m), r.floats(n), r.floats(batch * m * n));
        let (lo, hi) = r.one_of(&[(f32::NEG_INFINITY, f32::INFINITY), (0.0, 6.0)]);
        let mut expected = vec![0.0; batch * m * n];
        for (i, out) in expected.iter_mut().enumerate() {
            let (image, row, col) = (i / (m * n), i / n % m, i % n);
            let sum: f64 = (0..k)
                .map(|j| {
                    f64::from(a[(image * m + row) * k + j])
                        * f64::from(b[(image * k + j) * n + col])
                })
                .sum();
            let sum = sum + f64::from(row_bias[row]) + f64::from(col_bias[col]) + f64::from(add[i]);
            *out = sum.max(f64::from(lo)).min(f64::from(hi));
        }
        let packed = round % 3;
        let (left_len, right_len) = (pack::left_len(m, k), pack::right_len(k, n));
        let mut left = vec![f32::NAN; batch * left_len];
        let mut right = vec![f32::NAN; batch * right_len];
        for i in 0..batch {
            pack::left(&a[i * m * k..], m, k, k, 1, &mut left[i * left_len..][..left_len]);
            pack::right(&b[i * k * n..], k, n, n, 1, &mut right[i * right_len..][..right_len]);
        }
        for cpu in cpus() {
            let mut c = vec![f32::NAN; batch * m * n];
            let mut scratch = vec![f32::NAN; SCRATCH_MIN];
            let mut call = Gemm {
                m,
                n,
                k,
                batch,
                left: if packed == 0 {
                    Left::Strided { data: &a, row: k, col: 1, batch: m * k }
                } else {
                    Left::Packed { data: &left, batch: left_len }
                },
                right: if packed == 2 {
                    Right::Packed { data: &right, batch: right_len }
                } else {
                    Right::Strided { data: &b, row: n, col: 1, batch: k * n }
                },
                c: &mut c,
                c_row: n,
                c_batch: m * n,
                epilogue: Epilogue {
                    row_bias: Some(&row_bias),
                    col_bias: Some(&col_bias),
                    add: Some(&add),
                    add_row: n,
                    add_batch: m * n,
                    lo,
                    hi,
                },
                scratch: &mut scratch,
            };
            call.check().unwrap();
            in_pieces(cpu, &mut call);
            let what = format!("{cpu:?}, {m} x {k} x {n}, batch {batch}, packing {packed}");
            assert_close(&c, &expected, 1e-6 * k as f64 + 1e-5, &what);
        }
    }
}

#[test]
fn convolutions_equal_plain_loops() {
    let mut r = Random(2);
    for _ in 0..60 {
        let s = Shape::random(&mut r, &[1, 2, 3, 5, 7], &[1, 2, 3]);
        let k = s.channels * s.taps();
        let (x, w) = (r.floats(s.channels * s.plane()), r.floats(s.filters * k));
        let bias = r.floats(s.filters);
        let expected = s.convolve(&x, &w, &bias);
        let mut left = vec![0.0; pack::left_len(s.filters, k)];
        pack::left(&w, s.filters, k, k, 1, &mut left);
        for cpu in cpus() {
            let mut c = vec![f32::NAN; expected.len()];
            let mut scratch = vec![f32::NAN; SCRATCH_MIN];
            // In two calls, so that one starts in the middle of a row.
            let half = s.pixels() / 2;
            for (first, n) in [(0, half), (half, s.pixels() - half)] {
                if n == 0 {
                    continue;
                }
                let image = Image {
                    data: &x,
                    channels: s.channels,
                    height: s.input[0],
                    width: s.input[1],
                    window: s.window,
                    out_width: s.output[1],
                    first,
                    batch: 0,
                };
                let mut call = Gemm {
                    m: s.filters,
                    n,
                    k,
                    batch: 1,
                    left: Left::Packed { data: &left, batch: 0 },
                    right: Right::Image(image),
                    c: &mut c[first..],
                    c_row: s.pixels(),
                    c_batch: 0,
                    epilogue: Epilogue { row_bias: Some(&bias), ..Epilogue::default() },
                    scratch: &mut scratch,
                };
                call.check().unwrap();
                in_pieces(cpu, &mut call);
            }
            assert_close(&c, &expected, 2e-6 * k as f64 + 1e-5, &format!("{cpu:?}, {s:?}"));
        }
    }
}

#[test]
fn winograd_equals_plain_loops() {
    let mut r = Random(3);
    for _ in 0..40 {
        let mut s = Shape::random(&mut r, &[3], &[1]);
        s.window.dilation = [1, 1];
        s.output = [0, 1].map(|i| s.input[i] + 2 * s.window.pad[i] - 2);
        let (x, w) = (r.floats(s.channels * s.plane()), r.floats(s.filters * s.channels * 9));
        let bias = r.floats(s.filters);
        let expected = s.convolve(&x, &w, &bias);
        let mut weights = vec![0.0; winograd::weights_len(s.filters, s.channels)];
        winograd::weights(&w, s.filters, s.channels, &mut weights);
        let all = s.output.iter().map(|side| side.div_ceil(winograd::TILE)).product::<usize>();
        for cpu in cpus() {
            let mut out = vec![f32::NAN; expected.len()];
            let first_part = (all / 2).next_multiple_of(16).min(all);
            for (first, tiles) in [(0, first_part), (first_part, all - first_part)] {
                if tiles == 0 {
                    continue;
                }
                let len = winograd::scratch_len(s.channels, s.output[1], tiles);
                let mut scratch = vec![f32::NAN; len];
                let mut call = Winograd {
                    channels: s.channels,
                    filters: s.filters,
                    height: s.input[0],
                    width: s.input[1],
                    pad: s.window.pad,
                    out_height: s.output[0],
                    out_width: s.output[1],
                    first,
                    tiles,
                    input: &x,
                    weights: &weights,
                    bias: Some(&bias),
                    add: None,
                    lo: f32::NEG_INFINITY,
                    hi: f32::INFINITY,
                    output: &mut out,
                    scratch: &mut scratch,
                };
                call.check().unwrap();
                in_pieces(cpu, &mut call);
            }
            assert_close(&out, &expected, 2e-4, &format!("{cpu:?}, {s:?}"));
        }
    }
}

#[test]
fn planes_equal_plain_loops() {
    let mut r = Random(4);
    for round in 0..60 {
        let s = Shape::random(&mut r, &[1, 2, 3, 5], &[1, 2, 3]);
        let x = r.floats(s.channels * s.plane());
        let (w, bias) = (r.floats(s.channels * s.taps()), r.floats(s.channels));
        let sum = round % 2 == 0;
        let mut expected = vec![0.0; s.channels * s.pixels()];
        for (i, out) in expected.iter_mut().enumerate() {
            let (channel, pixel) = (i / s.pixels(), i % s.pixels());
            let (oy, ox) = (pixel / s.output[1], pixel % s.output[1]);
            let seen = (0..s.taps()).filter_map(|tap| Some((tap, s.at(oy, ox, tap)?)));
            let seen = seen.map(|(tap, at)| (tap, f64::from(x[channel * s.plane() + at])));
            *out = if sum {
                let weight = |tap: usize| f64::from(w[channel * s.taps() + tap]);
                f64::from(bias[channel]) + seen.map(|(tap, x)| x * weight(tap)).sum::<f64>()
            } else {
                seen.map(|(_, x)| x).fold(-9.0, f64::max)
            };
        }
        let len = plane::scratch_len(&s.window, s.output[0], s.output[1]).unwrap();
        for cpu in cpus() {
            let mut out = vec![f32::NAN; expected.len()];
            let mut scratch = vec![f32::NAN; len];
            let mut call = Plane {
                op: if sum { PlaneOp::Sum } else { PlaneOp::Max },
                channels: s.channels,
                height: s.input[0],
                width: s.input[1],
                window: s.window,
                out_height: s.output[0],
                out_width: s.output[1],
                input: &x,
                weights: if sum { &w } else { &[] },
                bias: sum.then_some(&bias[..]),
                // A window that sees nothing has the maximum -infinity.
                lo: if sum { f32::NEG_INFINITY } else { -9.0 },
                hi: f32::INFINITY,
                output: &mut out,
                scratch: &mut scratch,
            };
            call.check().unwrap();
            in_pieces(cpu, &mut call);
            assert_close(&out, &expected, 1e-4, &format!("{cpu:?}, {s:?}"));
        }
    }
}

#[test]
fn a_call_has_a_cap() {
    let left = [0.0f32; 16];
    let left = &left[..];
    let call = |m: usize, n: usize, k: usize| Gemm {
        m,
        n,
        k,
        batch: 1,
        left: Left::Strided { data: left, row: 0, col: 0, batch: 0 },
        right: Right::Strided { data: left, row: 0, col: 0, batch: 0 },
        c: &mut [],
        c_row: 0,
        c_batch: 0,
        epilogue: Epilogue::default(),
        scratch: &mut [],
    };
    let cap = usize::try_from(MACS_MAX).unwrap();
    let floats = usize::try_from(FLOATS_MAX).unwrap();
    let refused = |m, n, k| call(m, n, k).check().unwrap_err().0;
    assert!(refused(cap, 2, 1).contains("cap"));
    assert!(refused(usize::MAX, usize::MAX, 2).contains("cap"));
    assert!(refused(floats, 2, 1).contains("results"));
    assert!(refused(floats / 2, 1, 4).contains("packed"));
}
