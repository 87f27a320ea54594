//! Descriptors made to go wrong.
#![allow(
    clippy::cast_possible_truncation,
    reason = "sizes here are small, and random words may be cut"
)]

use mayfly_kernels::map::{Arg, Op, SCRATCH, Step};
use mayfly_kernels::wire::{GEMM_WORDS, MAP_WORDS, PLANE_WORDS, WINOGRAD_WORDS, writes};
use mayfly_kernels::{SCRATCH_MIN, plane, winograd};

use super::{Random, Shape, cpus};
use crate::kernels::{Cpu, KERNELS, Kernel};

/// Bytes of the memory that descriptors are tried on.
const MEMORY: usize = 1 << 20;

/// A descriptor whose sizes are small and whose spans are mostly right, with some words replaced by anything.
fn mutated<const N: usize>(r: &mut Random, good: [u32; N]) -> [u32; N] {
    let mut words = good;
    for _ in 0..r.below(4) {
        let odd = [0, 1, 2, 3, 4, 7, 16, 1 << 16, 1 << 26, 1 << 31, u32::MAX - 3, u32::MAX];
        let word = r.below(N);
        words[word] = match r.below(4) {
            0 => r.one_of(&odd),
            1 => r.next() as u32,
            2 => words[word].wrapping_add(r.one_of(&[1, 2, 4, 16, u32::MAX, u32::MAX - 3])),
            _ => r.below(MEMORY) as u32 & !3,
        };
    }
    words
}

/// Runs a descriptor, and checks that nothing but its result and scratch changed, and that only if it was accepted.
fn try_words(cpu: Cpu, kernel: Kernel, memory: &mut [u8], words: &[u32], at: usize) -> bool {
    for (to, word) in memory[at..].chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let before = memory.to_vec();
    let accepted = kernel(cpu, memory, u32::try_from(at).unwrap()).is_ok();
    let mut after = memory.to_vec();
    if accepted {
        for span in writes(words) {
            let (start, len) = (span.address as usize, span.floats as usize * 4);
            after[start..start + len].copy_from_slice(&before[start..start + len]);
        }
    }
    assert!(after == before, "wrote where it may not: {words:?}");
    accepted
}

fn fuzz<const N: usize>(kernel: Kernel, seed: u64, good: impl Fn(&mut Random) -> [u32; N]) {
    let mut r = Random(seed);
    let mut memory = vec![0u8; MEMORY];
    let mut accepted = 0;
    let cpus = cpus();
    for _ in 0..1500 {
        let good = good(&mut r);
        let words = mutated(&mut r, good);
        let cpu = r.one_of(&cpus);
        accepted += usize::from(try_words(cpu, kernel, &mut memory, &words, MEMORY - 4 * N));
    }
    // If mutations left nothing to accept, the test would test refusals alone.
    assert!(accepted > 100, "only {accepted} calls were accepted");
    let last = u32::try_from(MEMORY).unwrap() - 4;
    for address in [last, last + 4, u32::MAX, u32::MAX - 3] {
        assert!(kernel(Cpu::Scalar, &mut memory, address).is_err());
    }
}

/// Spans: a result, a scratch and three operands, each a sixth of the memory.
fn span(i: u32, floats: usize) -> [u32; 2] {
    [4096 + i * 170_000, u32::try_from(floats).unwrap()]
}

#[test]
fn products_refuse_what_is_wrong() {
    fuzz::<GEMM_WORDS>(KERNELS[0], 5, |r| {
        let s = Shape::random(r, &[1, 3], &[1, 2]);
        let (m, n) = (1 + r.below(20), 1 + r.below(s.pixels()));
        let k = s.channels * s.taps();
        let sizes = [m, n, k, 1, n, 0].map(|size| size as u32);
        let mut words = Vec::new();
        words.extend([span(0, m * n), span(1, SCRATCH_MIN)].concat());
        words.extend(sizes);
        words.push(r.below(2) as u32);
        words.extend(span(2, 6000));
        words.extend([k as u32, 1, 0]);
        words.push(r.below(3) as u32);
        words.extend(span(3, 8000));
        words.extend([1, k as u32, 0]);
        words.extend([r.one_of(&[[0, 0], span(4, 100)]), [0, 0], [0, 0]].concat());
        words.extend([n as u32, 0, f32::NEG_INFINITY.to_bits(), f32::INFINITY.to_bits()]);
        words.extend([s.channels, s.input[0], s.input[1]].map(|size| size as u32));
        let w = &s.window;
        let window = [w.kernel, w.stride, w.dilation, w.pad].concat();
        words.extend(window.into_iter().map(|size| size as u32));
        words.extend([s.output[1] as u32, 0]);
        words.try_into().unwrap()
    });
}

#[test]
fn winograd_refuses_what_is_wrong() {
    fuzz::<WINOGRAD_WORDS>(KERNELS[1], 6, |r| {
        let (channels, filters) = (1 + r.below(4), 1 + r.below(13));
        let (height, width) = (3 + r.below(20), 3 + r.below(20));
        let tiles = height.div_ceil(4) * width.div_ceil(4);
        let mut words = Vec::new();
        let scratch = winograd::scratch_len(channels, width, tiles);
        words.extend([span(0, filters * height * width), span(1, scratch)].concat());
        let sizes = [channels, filters, height, width, 1, 1, height, width, 0, tiles];
        words.extend(sizes.map(|size| size as u32));
        words.extend(span(2, channels * height * width));
        words.extend(span(3, winograd::weights_len(filters, channels)));
        words.extend(r.one_of(&[[0, 0], span(4, 20)]));
        words.extend(r.one_of(&[[0, 0], span(5, filters * height * width)]));
        words.extend([f32::NEG_INFINITY.to_bits(), f32::INFINITY.to_bits()]);
        words.try_into().unwrap()
    });
}

#[test]
fn planes_refuse_what_is_wrong() {
    fuzz::<PLANE_WORDS>(KERNELS[2], 7, |r| {
        let s = Shape::random(r, &[1, 3, 5], &[1, 2]);
        let op = r.below(2);
        let mut words = Vec::new();
        let scratch = plane::scratch_len(&s.window, s.output[0], s.output[1]).unwrap();
        words.extend([span(0, s.channels * s.pixels()), span(1, scratch)].concat());
        words.push(op as u32);
        let sizes = [s.channels, s.input[0], s.input[1], s.output[0], s.output[1]];
        words.extend(sizes.map(|size| size as u32));
        let w = &s.window;
        let window = [w.kernel, w.stride, w.dilation, w.pad].concat();
        words.extend(window.into_iter().map(|size| size as u32));
        words.extend(span(2, s.channels * s.plane()));
        words.extend(if op == 0 { span(3, s.channels * s.taps()) } else { [0, 0] });
        words.extend(r.one_of(&[[0, 0], span(4, 10)]));
        words.extend([f32::NEG_INFINITY.to_bits(), f32::INFINITY.to_bits()]);
        words.try_into().unwrap()
    });
}

#[test]
fn programs_refuse_what_is_wrong() {
    fuzz::<MAP_WORDS>(KERNELS[3], 8, |r| {
        let len = 1 + r.below(2000);
        let given = 1 + r.below(3);
        let steps = 1 + r.below(6);
        let mut words = Vec::new();
        words.extend([span(0, len), span(1, SCRATCH)].concat());
        words.extend([r.below(50), given, steps].map(|word| word as u32));
        for i in 0..8 {
            let (repeat, period) = (1 + r.below(40), 1 + r.below(3000));
            let in_place = [0, 0, repeat as u32, period as u32];
            let [at, floats] = span(2 + i % 3, 3000);
            let known = [at, floats, repeat as u32, period as u32];
            words.extend(r.one_of(&[in_place, known, known]));
        }
        words.extend((0..16).map(|i| (i as f32).to_bits()));
        for _ in 0..32 {
            let ops = [Op::Add, Op::MulAdd, Op::Exp, Op::Clamp, Op::Erf, Op::Leaky];
            let arg = |r: &mut Random| {
                let input = Arg::Input(r.below(given) as u8);
                r.one_of(&[input, Arg::Register(3), Arg::Constant(15)])
            };
            let args = [arg(r), arg(r), arg(r)];
            words.push(Step { op: r.one_of(&ops), args, to: r.below(16) as u8 }.encode());
        }
        words.try_into().unwrap()
    });
}
