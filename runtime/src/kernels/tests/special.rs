//! What is no ordinary number: NaN and infinity, the same on every CPU.

use mayfly_kernels::Map;
use mayfly_kernels::map::{Arg, INPUTS, Input, Op, Program, SCRATCH, Step};
use mayfly_kernels::pack::Window;
use mayfly_kernels::{Plane, PlaneOp, plane};

use super::cpus;

fn apply(cpu: super::Cpu, op: Op, data: &[f32]) -> Vec<f32> {
    let mut program = Program::default();
    program.push(Step { op, args: [Arg::Input(0); 3], to: 0 }).unwrap();
    let input = Input { data: Some(data), repeat: 1, period: data.len() };
    let (mut output, mut scratch) = (vec![0.0; data.len()], vec![0.0; SCRATCH]);
    let mut call = Map {
        program,
        inputs: [input; INPUTS],
        given: 1,
        first: 0,
        output: &mut output,
        scratch: &mut scratch,
    };
    call.check().unwrap();
    cpu.map(&mut call);
    output
}

#[test]
fn functions_have_their_limits_at_infinity_and_keep_nan() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for cpu in cpus() {
        let cases = [
            (Op::Erf, [-1.0, 1.0]),
            (Op::Tanh, [-1.0, 1.0]),
            (Op::Sigmoid, [0.0, 1.0]),
            (Op::Exp, [0.0, inf]),
            (Op::Abs, [inf, inf]),
        ];
        for (op, limits) in cases {
            let found = apply(cpu, op, &[-inf, inf, nan, -f32::MAX, f32::MAX]);
            assert_eq!(found[..2], limits, "{cpu:?}, {op:?}");
            assert!(found[2].is_nan(), "{cpu:?}, {op:?}");
            assert!(!found[3].is_nan() && !found[4].is_nan(), "{cpu:?}, {op:?}");
        }
    }
}

#[test]
fn a_pool_passes_over_nan_wherever_it_is() {
    let window = Window { kernel: [2, 2], stride: [1; 2], dilation: [1; 2], pad: [0; 2] };
    // Wide enough for whole vectors and a rest.
    let (width, out) = (38, 37);
    for cpu in cpus() {
        for tap in 0..4 {
            let mut input: Vec<f32> = (0..2 * width).map(|i| (i % width) as f32).collect();
            for x in (tap % 2..width).step_by(2) {
                input[tap / 2 * width + x] = f32::NAN;
            }
            let expected: Vec<f32> = (1..width).map(|x| x as f32).collect();
            let mut output = vec![f32::NAN; out];
            let mut scratch = vec![f32::NAN; plane::scratch_len(&window, 1, out).unwrap()];
            let mut call = Plane {
                op: PlaneOp::Max,
                channels: 1,
                height: 2,
                width,
                window,
                out_height: 1,
                out_width: out,
                input: &input,
                weights: &[],
                bias: None,
                lo: f32::NEG_INFINITY,
                hi: f32::INFINITY,
                output: &mut output,
                scratch: &mut scratch,
            };
            call.check().unwrap();
            cpu.plane(&mut call);
            assert_eq!(output, expected, "{cpu:?}, NaN at tap {tap}");
        }
    }
}
