//! Calls that are as bad as their check allows: strides that meet a cache line or a page with each element, periods of
//! one, planes of one pixel, padding without an image. For the grid's clock and for the test that counts pieces.

use mayfly_kernels::map::{self, Arg, Input, Op, Program, Step};
use mayfly_kernels::pack::{Image, Window, left_len, right_len};
use mayfly_kernels::winograd::{self, Winograd};
use mayfly_kernels::{
    Epilogue, Gemm, Left, Map, Pieces, Plane, PlaneOp, Right, SCRATCH_MIN, plane,
};

/// Whoever wants the calls.
pub trait Visit {
    /// A checked call.
    fn visit<C: Pieces>(&mut self, name: &str, call: &mut C);
    /// Memory that a guest has not written to for all the system knows.
    fn memory(&mut self, floats: usize) -> Vec<f32> {
        vec![0.0; floats]
    }
}

/// All of them. Operands that are read with strides lie in `spread` floats.
pub fn all(visit: &mut impl Visit, spread: usize) {
    products(visit, spread);
    convolutions(visit, spread);
    programs(visit, spread);
    planes(visit, spread);
    winograds(visit, spread);
}

/// Strides of `rows` x `cols` elements that lie in `spread` floats.
fn strides(rows: usize, cols: usize, spread: usize) -> Vec<[usize; 2]> {
    let fits = |[row, col]: &[usize; 2]| (rows - 1) * row + (cols - 1) * col < spread;
    let mut strides = vec![[cols, 1], [1, rows], [spread / rows, 1], [1, spread / cols]];
    for step in [2, 3, 16, 17, 64, 256, 1024, 1040, 4096, 16_384, 65_536] {
        strides.extend([[step, 1], [1, step], [step * cols, step], [step, step * rows]]);
        // Neighbours of either kind far apart.
        strides.extend([
            [step, (spread / cols).saturating_sub(step)],
            [(spread / rows).saturating_sub(step), step],
        ]);
    }
    strides.retain(fits);
    strides.dedup();
    strides
}

fn products(visit: &mut impl Visit, spread: usize) {
    let sizes = [[2048, 16, 2048], [16, 2048, 2048], [6, 10_000, 400], [4096, 1, 1024]];
    let more = [[1, 4096, 1024], [512, 512, 256], [3, 7, 190_000], [1, 1, 1 << 22]];
    let sizes: Vec<[usize; 3]> = sizes.into_iter().chain(more).collect();
    for [m, n, k] in sizes {
        for scratch in [SCRATCH_MIN, mayfly_kernels::SCRATCH_GEMM] {
            for [row, col] in strides(m, k, spread) {
                let data = &visit.memory(spread)[..];
                let right = &visit.memory(right_len(k, n))[..];
                let left = Left::Strided { data, row, col, batch: 0 };
                let right = Right::Packed { data: right, batch: 0 };
                product(visit, "left", [m, n, k, 1], left, right, scratch, &[row, col]);
            }
            for [row, col] in strides(k, n, spread) {
                let data = &visit.memory(spread)[..];
                let left = &visit.memory(left_len(m, k))[..];
                let right = Right::Strided { data, row, col, batch: 0 };
                let left = Left::Packed { data: left, batch: 0 };
                product(visit, "right", [m, n, k, 1], left, right, scratch, &[row, col]);
            }
        }
    }
    for [m, n, k, batch] in [[1, 1, 1, 1 << 14], [4, 4, 4, 1 << 14], [12, 16, 1, 1 << 14]] {
        let data = &visit.memory(spread)[..];
        let step = (spread - 4096) / batch;
        let left = Left::Strided { data, row: k, col: 1, batch: step };
        let right = Right::Strided { data, row: n, col: 1, batch: step };
        product(visit, "batch", [m, n, k, batch], left, right, SCRATCH_MIN, &[step]);
    }
}

fn product(
    visit: &mut impl Visit,
    name: &str,
    [m, n, k, batch]: [usize; 4],
    left: Left<'_>,
    right: Right<'_>,
    scratch: usize,
    strides: &[usize],
) {
    // Each row of the result on a page of its own.
    for c_row in [n, n.next_multiple_of(1024)] {
        let (c_batch, mut scratch) = (m * c_row, visit.memory(scratch));
        let mut c = visit.memory(batch * c_batch);
        let epilogue = Epilogue::default();
        let c = &mut c[..];
        let scratch_len = scratch.len();
        let scratch = &mut scratch[..];
        let mut call = Gemm { m, n, k, batch, left, right, c, c_row, c_batch, epilogue, scratch };
        if call.check().is_ok() {
            let name =
                format!("gemm {name} {m} x {n} x {k} x {batch} {strides:?} {c_row} {scratch_len}");
            visit.visit(&name, &mut call);
        }
    }
}

fn convolutions(visit: &mut impl Visit, spread: usize) {
    let shapes = [
        ([1usize, 1usize], [1usize, 1usize]),
        ([3, 3], [1, 1]),
        ([3, 3], [2, 2]),
        ([7, 7], [64, 64]),
    ];
    let wide = [([2, 2], [1, 4096]), ([1, 1], [512, 1]), ([1, 64], [1, 1]), ([64, 1], [1, 1])];
    for (kernel, stride) in shapes.into_iter().chain(wide) {
        for width in [1, 17, 4096, 1 << 20] {
            for out_width in [1, 5, 1000] {
                let (height, window) =
                    (spread / width / 4, Window { kernel, stride, dilation: [1; 2], pad: [1; 2] });
                let k = 4 * kernel[0] * kernel[1];
                let n = (1 << 22) / k.max(64);
                let data = &visit.memory(spread)[..];
                let (channels, first, batch) = (4, 0, 0);
                let image =
                    Image { data, channels, height, width, window, out_width, first, batch };
                let left = &visit.memory(left_len(6, k))[..];
                let left = Left::Packed { data: left, batch: 0 };
                let sizes = [kernel[0], kernel[1], stride[0], stride[1], width, out_width];
                product(
                    visit,
                    "image",
                    [6, n, k, 1],
                    left,
                    Right::Image(image),
                    SCRATCH_MIN,
                    &sizes,
                );
            }
        }
    }
}

fn programs(visit: &mut impl Visit, spread: usize) {
    for (repeat, period) in [
        (1, 1),
        (1, 2),
        (1, 3),
        (1, 511),
        (2, 3),
        (3, usize::MAX),
        (1, usize::MAX),
        (511, usize::MAX),
    ] {
        for (given, steps) in [(8, 1), (8, 24), (1, 31)] {
            let data = &visit.memory(spread)[..];
            let input = |i: usize| {
                let data = Some(&data[i * 1000..]);
                Input { data, repeat, period: period.min(spread / 2) }
            };
            let inputs = std::array::from_fn(input);
            let mut program = Program::default();
            for _ in 0..steps {
                let step = Step { op: Op::Erf, args: [Arg::Input(0); 3], to: 0 };
                assert!(program.push(step).is_ok());
            }
            let len = (1 << 23) / (steps + given);
            let (mut output, mut scratch) = (visit.memory(len), visit.memory(map::SCRATCH));
            let (output, scratch) = (&mut output[..], &mut scratch[..]);
            let mut call = Map { program, inputs, given, first: 0, output, scratch };
            if call.check().is_ok() {
                visit.visit(
                    &format!("map {given} inputs, {steps} steps, {repeat} {period}"),
                    &mut call,
                );
            }
        }
    }
}

fn planes(visit: &mut impl Visit, spread: usize) {
    let images = [[1, 1], [7, 7], [1, 1 << 22], [1 << 15, 1], [2048, 2048], [64, 1 << 15]];
    for [height, width] in images {
        for (side, stride) in
            [(1, 1), (1, 2), (3, 1), (3, 3), (11, 1), (2, 17), (2, 1024), (1, 1 << 15)]
        {
            for pad in [0, 1, 1 << 12, 1 << 15] {
                for most in [1, 7, 1 << 10, 1 << 22] {
                    let window = Window {
                        kernel: [side; 2],
                        stride: [stride; 2],
                        dilation: [1; 2],
                        pad: [pad; 2],
                    };
                    let out = [height, width].map(|side| (side / stride).clamp(1, most));
                    let outputs = out[0] * out[1];
                    let channels = ((1 << 22) / (height * width).max(outputs)).clamp(1, 1 << 14);
                    let len = plane::scratch_len(&window, out[0], out[1]);
                    let Some(len) = len.filter(|len| *len <= spread) else { continue };
                    let input = &visit.memory(channels * height * width)[..];
                    let weights = &visit.memory(channels * side * side)[..];
                    let (mut output, mut scratch) =
                        (visit.memory(channels * outputs), visit.memory(len));
                    let [out_height, out_width] = out;
                    let (output, scratch) = (&mut output[..], &mut scratch[..]);
                    let (op, lo, hi, bias) = (PlaneOp::Sum, f32::MIN, f32::MAX, None);
                    let mut call = Plane {
                        op,
                        channels,
                        height,
                        width,
                        window,
                        out_height,
                        out_width,
                        input,
                        weights,
                        bias,
                        lo,
                        hi,
                        output,
                        scratch,
                    };
                    if call.check().is_ok() {
                        let name = format!(
                            "plane {channels} x {height} x {width} to {out:?}, {side} / {stride}, pad {pad}"
                        );
                        visit.visit(&name, &mut call);
                    }
                }
            }
        }
    }
}

fn winograds(visit: &mut impl Visit, spread: usize) {
    let shapes = [[1, 1], [1, 600], [600, 1], [64, 64], [9_000, 1], [19_000, 6], [256, 256]];
    for [channels, filters] in shapes {
        for [height, width] in
            [[4usize, 4usize], [56, 56], [1 << 12, 4], [4, 1 << 16], [8, 1 << 20]]
        {
            for most in [1, 16, 1000, 1 << 20] {
                let all = height.div_ceil(4) * width.div_ceil(4);
                let tiles = all.min(most);
                let len = winograd::scratch_len(channels, width, tiles);
                if channels.max(filters) * height * width > spread || len > spread {
                    continue;
                }
                let input = &visit.memory(channels * height * width)[..];
                let weights = &visit.memory(winograd::weights_len(filters, channels))[..];
                let (mut output, mut scratch) =
                    (visit.memory(filters * height * width), visit.memory(len));
                let (output, scratch) = (&mut output[..], &mut scratch[..]);
                let (lo, hi, pad, first) = (f32::MIN, f32::MAX, [1; 2], 0);
                let (out_height, out_width, bias, add) = (height, width, None, None);
                let mut call = Winograd {
                    channels,
                    filters,
                    height,
                    width,
                    pad,
                    out_height,
                    out_width,
                    first,
                    tiles,
                    input,
                    weights,
                    bias,
                    add,
                    lo,
                    hi,
                    output,
                    scratch,
                };
                if call.check().is_ok() {
                    let name = format!(
                        "winograd {channels} to {filters}, {height} x {width}, {tiles} tiles"
                    );
                    visit.visit(&name, &mut call);
                }
            }
        }
    }
}
