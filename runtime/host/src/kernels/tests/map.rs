//! Programs over elements against the same steps in double precision.

use mayfly_kernels::Map;
use mayfly_kernels::map::{Arg, INPUTS, Input, Op, Program, SCRATCH, STEPS, Step};

use super::{Cpu, Random, assert_close, cpus, in_pieces};

/// `erf` by its series, or by its complement's continued fraction from 3 on.
fn erf(x: f64) -> f64 {
    if x.abs() >= 3.0 {
        let fraction = (1..60).rev().fold(0.0, |f, k| f64::from(k) / 2.0 / (x.abs() + f));
        let tail = (-x * x).exp() / (x.abs() + fraction) / std::f64::consts::PI.sqrt();
        return x.signum() * (1.0 - tail);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..80 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn reference(op: Op, [a, b, c]: [f64; 3]) -> f64 {
    match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Max => a.max(b),
        Op::Min => a.min(b),
        Op::MulAdd => a * b + c,
        Op::Clamp => a.max(b).min(c),
        Op::Abs => a.abs(),
        Op::Sqrt => a.sqrt(),
        Op::Exp => a.exp(),
        Op::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        Op::Tanh => a.tanh(),
        Op::Erf => erf(a),
        Op::Leaky => a.max(0.0) + b * a.min(0.0),
    }
}

const OPS: [Op; 15] = [
    Op::Add,
    Op::Sub,
    Op::Mul,
    Op::Div,
    Op::Max,
    Op::Min,
    Op::MulAdd,
    Op::Clamp,
    Op::Abs,
    Op::Sqrt,
    Op::Exp,
    Op::Sigmoid,
    Op::Tanh,
    Op::Erf,
    Op::Leaky,
];

const NONE: Input<'_> = Input { data: None, repeat: 1, period: 1 };

fn program(steps: &[Step]) -> Program {
    let mut program = Program::default();
    steps.iter().for_each(|step| program.push(*step).unwrap());
    program
}

fn one_input(data: &[f32]) -> [Input<'_>; INPUTS] {
    let mut inputs = [NONE; INPUTS];
    inputs[0] = Input { data: Some(data), repeat: 1, period: data.len() };
    inputs
}

/// Computes a program as the host does, whatever the scratch holds.
fn run(
    cpu: Cpu,
    program: Program,
    inputs: [Input<'_>; INPUTS],
    at: [usize; 2],
    output: &mut [f32],
) {
    let [given, first] = at;
    let scratch = &mut vec![f32::NAN; SCRATCH];
    let mut call = Map { program, inputs, given, first, output, scratch };
    call.check().unwrap();
    in_pieces(cpu, &mut call);
}

fn unary(op: Op) -> Program {
    program(&[Step { op, args: [Arg::Input(0); 3], to: 0 }])
}

#[test]
fn operations_equal_double_precision() {
    let mut r = Random(21);
    for round in 0..150 {
        let op = OPS[round % OPS.len()];
        let len = 1 + r.below(1500);
        let first = r.below(100);
        // A whole tensor, one value for each stretch, and a row that comes again and again.
        let shapes = [(1, first + len), (1 + r.below(70), 1 + r.below(9)), (1, 1 + r.below(70))];
        let mut data = shapes.map(|(_, period)| r.floats(period));
        if op == Op::Sqrt {
            data[0].iter_mut().for_each(|v| *v = v.abs());
        }
        if op == Op::Div {
            data[1].iter_mut().for_each(|v| *v = v.abs() + 0.5);
        }
        let at = |input: usize, i: usize| {
            let (repeat, period) = shapes[input];
            f64::from(data[input][(first + i) / repeat % period])
        };
        let expected: Vec<f64> =
            (0..len).map(|i| reference(op, [at(0, i), at(1, i), at(2, i)])).collect();
        let mut inputs = [NONE; INPUTS];
        for (i, (repeat, period)) in shapes.into_iter().enumerate() {
            inputs[i] = Input { data: Some(&data[i]), repeat, period };
        }
        let args = [Arg::Input(0), Arg::Input(1), Arg::Input(2)];
        for cpu in cpus() {
            let mut output = vec![f32::NAN; len];
            let program = program(&[Step { op, args, to: 15 }]);
            run(cpu, program, inputs, [3, first], &mut output);
            assert_close(&output, &expected, 1e-6, &format!("{cpu:?}, {op:?}, {len} elements"));
        }
    }
}

#[test]
fn functions_hold_over_their_whole_range() {
    let xs: Vec<f32> = (-2000..=2000).map(|i| i as f32 / 20.0).collect();
    for op in [Op::Exp, Op::Sigmoid, Op::Tanh, Op::Erf] {
        for cpu in cpus() {
            let mut output = vec![f32::NAN; xs.len()];
            run(cpu, unary(op), one_input(&xs), [1, 0], &mut output);
            for (&x, &found) in xs.iter().zip(&output) {
                let expected = reference(op, [f64::from(x), 0.0, 0.0]) as f32;
                let off = (found - expected).abs();
                // Relative for what grows; what is under the smallest normal number is 0.
                let allowed = if op == Op::Exp { expected * 5e-7 + 2e-38 } else { 4e-7 };
                assert!(found == expected || off <= allowed, "{cpu:?}: {op:?}({x}) is {found}");
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_none_and_infinities_hold() {
    let xs = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1000.0, 1000.0, -f32::MAX, f32::MAX];
    let expected = [
        (Op::Exp, [f32::INFINITY, 0.0, 0.0, f32::INFINITY]),
        (Op::Sigmoid, [1.0, 0.0, 0.0, 1.0]),
        (Op::Tanh, [1.0, -1.0, -1.0, 1.0]),
        (Op::Erf, [1.0, -1.0, -1.0, 1.0]),
        (Op::Abs, [f32::INFINITY, f32::INFINITY, 1000.0, 1000.0]),
    ];
    for (op, expected) in expected {
        for cpu in cpus() {
            let mut output = [0.0; 7];
            run(cpu, unary(op), one_input(&xs), [1, 0], &mut output);
            assert!(output[0].is_nan(), "{cpu:?}: {op:?}");
            assert_eq!(output[1..5], expected, "{cpu:?}: {op:?}");
            assert!(!output[5].is_nan() && !output[6].is_nan(), "{cpu:?}: {op:?}");
        }
    }
}

#[test]
fn steps_pass_values_on_in_place() {
    // (x * 2 + 1) clamped to 0 and 3, times x: three steps, one register, over what the result held.
    let steps = [
        Step { op: Op::MulAdd, args: [Arg::Input(0), Arg::Constant(0), Arg::Constant(1)], to: 0 },
        Step { op: Op::Clamp, args: [Arg::Register(0), Arg::Constant(2), Arg::Constant(3)], to: 0 },
        Step { op: Op::Mul, args: [Arg::Register(0), Arg::Input(0), Arg::Input(0)], to: 0 },
    ];
    let mut program = program(&steps);
    program.constants[..4].copy_from_slice(&[2.0, 1.0, 0.0, 3.0]);
    let mut r = Random(22);
    let xs = r.floats(1000);
    let expected: Vec<f64> =
        xs.iter().map(|&x| f64::from(x)).map(|x| (x * 2.0 + 1.0).clamp(0.0, 3.0) * x).collect();
    for cpu in cpus() {
        let mut output = xs.clone();
        run(cpu, program.clone(), [NONE; INPUTS], [1, 0], &mut output);
        assert_close(&output, &expected, 1e-6, &format!("{cpu:?}"));
    }
}

#[test]
fn a_program_has_a_cap() {
    let step = Step { op: Op::Exp, args: [Arg::Input(0); 3], to: 0 };
    let mut long = program(&[step; STEPS]);
    assert!(long.push(step).is_err());
    let mut output = vec![0.0; 1 << 18];
    let mut scratch = vec![0.0; SCRATCH];
    let mut call = Map {
        program: long,
        inputs: [NONE; INPUTS],
        given: 1,
        first: 0,
        output: &mut output,
        scratch: &mut scratch,
    };
    assert!(call.check().unwrap_err().0.contains("cap"));
    call.program = unary(Op::Exp);
    assert!(call.check().is_ok());
    call.program = unary(Op::Add);
    call.given = 0;
    assert!(call.check().unwrap_err().0.contains("not given"));
    for word in [15, 1 << 11 | 127 << 11, 31 << 6] {
        assert!(Step::decode(word).is_err(), "{word:#x}");
    }
    for op in OPS {
        let step = Step { op, args: [Arg::Register(9), Arg::Input(7), Arg::Constant(15)], to: 5 };
        assert_eq!(Step::decode(step.encode()).unwrap(), step);
    }
}
