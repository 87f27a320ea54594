//! A short program run on every element: what stands between the convolutions and products of a model.
//!
//! Elements are taken a block at a time, so that every value between two steps stays in the L1 cache; each input is
//! read once and the result written once, however many steps there are.

use crate::FLOATS_MAX;
use crate::check::{Refused, ensure, product};
use crate::math;
use crate::pieces::Pieces;
use crate::simd::Simd;

/// Steps of a program.
pub const STEPS: usize = 32;
/// Inputs of a program.
pub const INPUTS: usize = 8;
/// Constants of a program.
pub const CONSTANTS: usize = 16;
/// Values that a program can hold at a time.
pub const REGISTERS: usize = 16;
/// Elements handled at a time: the registers of a usual program, four to eight, fit a 32 KiB L1.
const BLOCK: usize = 512;
/// Floats of the unit that steps work in: a multiple of every CPU's vectors.
const GROUP: usize = 16;
const BLOCK_GROUPS: usize = BLOCK / GROUP;
/// Elements times steps and inputs of one call: about a millisecond if every step is an exponential.
pub const WORK_MAX: u64 = 1 << 23;
/// Scratch floats of a call.
pub const SCRATCH: usize = (CONSTANTS + (REGISTERS + INPUTS) * BLOCK_GROUPS) * GROUP;

/// What a step computes from its arguments `a`, `b` and `c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    /// `a * b + c`
    MulAdd,
    /// `min(max(a, b), c)`
    Clamp,
    Abs,
    Sqrt,
    Exp,
    Sigmoid,
    Tanh,
    Erf,
    /// The larger of `a` and 0, plus `b` times the smaller.
    Leaky,
}

impl Op {
    /// In the order of their numbers in a descriptor.
    const ALL: [Op; 15] = [
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

    /// How many of a step's arguments it reads.
    pub const fn arguments(self) -> usize {
        match self {
            Op::MulAdd | Op::Clamp => 3,
            Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Max | Op::Min | Op::Leaky => 2,
            Op::Abs | Op::Sqrt | Op::Exp | Op::Sigmoid | Op::Tanh | Op::Erf => 1,
        }
    }
}

/// Where an argument comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arg {
    Register(u8),
    Input(u8),
    Constant(u8),
}

impl Arg {
    const fn code(self) -> u32 {
        match self {
            Arg::Register(i) => i as u32,
            Arg::Input(i) => 32 + i as u32,
            Arg::Constant(i) => 64 + i as u32,
        }
    }

    fn decode(code: u32) -> Result<Arg, Refused> {
        let [index, ..] = (code & 31).to_le_bytes();
        let (limit, arg) = match code >> 5 & 3 {
            0 => (REGISTERS, Arg::Register(index)),
            1 => (INPUTS, Arg::Input(index)),
            2 => (CONSTANTS, Arg::Constant(index)),
            _ => (0, Arg::Register(index)),
        };
        ensure(usize::from(index) < limit, "map: no such argument")?;
        Ok(arg)
    }
}

/// One step; the last one's value is the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Step {
    pub op: Op,
    pub args: [Arg; 3],
    /// The register that takes the value; may be one that an argument was in.
    pub to: u8,
}

impl Step {
    const NONE: Step = Step { op: Op::Abs, args: [Arg::Register(0); 3], to: 0 };

    /// A word of a descriptor: from the lowest bit, operation (6), register (5), arguments (7 each).
    pub const fn encode(self) -> u32 {
        let [a, b, c] = self.args;
        let args = a.code() | b.code() << 7 | c.code() << 14;
        self.op as u32 | (self.to as u32) << 6 | args << 11
    }

    /// The step that a word stands for.
    pub fn decode(word: u32) -> Result<Step, Refused> {
        let op = *Op::ALL.get((word & 63) as usize).ok_or(Refused("map: no such operation"))?;
        let [to, ..] = (word >> 6 & 31).to_le_bytes();
        ensure(usize::from(to) < REGISTERS, "map: no such register")?;
        let arg = |i: u32| Arg::decode(word >> (11 + 7 * i) & 127);
        Ok(Step { op, args: [arg(0)?, arg(1)?, arg(2)?], to })
    }
}

/// What every element goes through.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    steps: [Step; STEPS],
    count: usize,
    pub constants: [f32; CONSTANTS],
}

impl Default for Program {
    fn default() -> Self {
        Program { steps: [Step::NONE; STEPS], count: 0, constants: [0.0; CONSTANTS] }
    }
}

impl Program {
    pub fn steps(&self) -> &[Step] {
        &self.steps[..self.count]
    }

    /// Appends a step; refused beyond [`STEPS`].
    pub fn push(&mut self, step: Step) -> Result<(), Refused> {
        ensure(self.count < STEPS, "map: too many steps")?;
        self.steps[self.count] = step;
        self.count += 1;
        Ok(())
    }
}

/// An operand, stretched over the elements: element `i` is `data[i / repeat % period]`.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// None reads what the result held before.
    pub data: Option<&'a [f32]>,
    pub repeat: usize,
    pub period: usize,
}

/// A program over the elements `first..first + output.len()`.
#[derive(Debug)]
pub struct Map<'a> {
    pub program: Program,
    pub inputs: [Input<'a>; INPUTS],
    /// Inputs that are given.
    pub given: usize,
    pub first: usize,
    pub output: &'a mut [f32],
    /// At least [`SCRATCH`] floats.
    pub scratch: &'a mut [f32],
}

/// Where a step finds an argument: group `at + i * step` for group `i` of the block.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    at: usize,
    step: usize,
}

impl Place {
    const fn register(i: usize) -> Place {
        Place { at: CONSTANTS + i * BLOCK_GROUPS, step: 1 }
    }

    fn of(arg: Arg) -> Place {
        match arg {
            Arg::Register(i) => Place::register(usize::from(i)),
            Arg::Input(i) => Place::register(REGISTERS + usize::from(i)),
            Arg::Constant(i) => Place { at: usize::from(i), step: 0 },
        }
    }
}

impl Map<'_> {
    /// Proves every slice long enough for the sizes given.
    pub fn check(&self) -> Result<(), Refused> {
        let steps = self.program.steps();
        ensure(!steps.is_empty() && self.given <= INPUTS, "map: no steps or too many inputs")?;
        let len = self.output.len();
        let rule = "map: no elements, or the work passes the cap";
        product(&[len], FLOATS_MAX, rule)?;
        product(&[len, steps.len() + self.given], WORK_MAX, rule)?;
        ensure(self.scratch.len() >= SCRATCH, "map: scratch too short")?;
        ensure(self.first <= 1 << 30, "map: first element too far")?;
        let known = |arg: &Arg| match *arg {
            Arg::Input(i) => usize::from(i) < self.given,
            Arg::Register(_) | Arg::Constant(_) => true,
        };
        let all = steps.iter().all(|step| step.args[..step.op.arguments()].iter().all(known));
        ensure(all, "map: a step reads an input that is not given")?;
        for input in &self.inputs[..self.given] {
            let Some(data) = input.data else { continue };
            ensure(input.repeat > 0 && input.period > 0, "map: an input has no length")?;
            let last = (self.first + len - 1) / input.repeat;
            ensure(data.len() > last.min(input.period - 1), "map: input too short")?;
        }
        Ok(())
    }
}

/// A step on an element takes as long as so many multiply-adds if it is an exponential.
const STEP: u64 = 8;
/// A run of elements of an input that lie one after the other, or are the same: a call of 8 ns.
const RUN: u64 = 512;

impl Pieces for Map<'_> {
    /// Elements that are done.
    type At = usize;

    #[inline(always)]
    fn go_on<S: Simd>(&mut self, s: S, at: &mut usize, stop: &mut impl FnMut(u64) -> bool) -> bool {
        let scratch = self.scratch.as_chunks_mut::<GROUP>().0;
        for (to, constant) in scratch.iter_mut().zip(self.program.constants) {
            *to = [constant; GROUP];
        }
        let steps = self.program.steps();
        let last = steps.last().map_or(0, |step| usize::from(step.to));
        let last = Place::register(last).at;
        let inputs = &self.inputs[..self.given];
        for block in self.output[*at..].chunks_mut(BLOCK) {
            let first = self.first + *at;
            let mut cost = (steps.len() + inputs.len() + 1) as u64 * STEP * block.len() as u64;
            for (i, input) in inputs.iter().enumerate() {
                let to = Place::register(REGISTERS + i).at;
                let to = &mut scratch[to..to + BLOCK_GROUPS].as_flattened_mut()[..block.len()];
                match input.data {
                    None => to.copy_from_slice(block),
                    Some(data) => {
                        cost += RUN * spread(data, input.repeat, input.period, first, to) as u64;
                    }
                }
            }
            let groups = block.len().div_ceil(GROUP);
            for step in steps {
                dispatch(s, step, groups, scratch);
            }
            let from = &scratch[last..last + BLOCK_GROUPS].as_flattened()[..block.len()];
            block.copy_from_slice(from);
            *at += block.len();
            if stop(cost) {
                return false;
            }
        }
        true
    }
}

/// `to[i] = data[(first + i) / repeat % period]`; gives the number of runs copied or filled.
#[inline(always)]
fn spread(data: &[f32], repeat: usize, period: usize, first: usize, to: &mut [f32]) -> usize {
    let (mut at, mut used) = (first / repeat % period, first % repeat);
    let (mut done, mut runs) = (0, 0);
    if repeat == 1 {
        while done < to.len() {
            if done >= period {
                // A short period comes again and again: from what is there, twice as much each time.
                let whole = done / period * period;
                let count = whole.min(to.len() - done);
                to.copy_within(done - whole..done - whole + count, done);
                done += count;
            } else {
                let count = (to.len() - done).min(period - at);
                to[done..done + count].copy_from_slice(&data[at..at + count]);
                (done, at) = (done + count, 0);
            }
            runs += 1;
        }
        return runs;
    }
    while done < to.len() {
        let count = (to.len() - done).min(repeat - used);
        to[done..done + count].fill(data[at]);
        (done, used, at) = (done + count, 0, if at + 1 == period { 0 } else { at + 1 });
        runs += 1;
    }
    runs
}

#[inline(always)]
fn dispatch<S: Simd>(s: S, step: &Step, groups: usize, scratch: &mut [[f32; GROUP]]) {
    let [a, b, c] = step.args.map(Place::of);
    let (from, to) = ([a, b, c], Place::register(usize::from(step.to)).at);
    match step.op {
        Op::Add => each::<S, { Op::Add as u8 }, 2>(s, from, to, groups, scratch),
        Op::Sub => each::<S, { Op::Sub as u8 }, 2>(s, from, to, groups, scratch),
        Op::Mul => each::<S, { Op::Mul as u8 }, 2>(s, from, to, groups, scratch),
        Op::Div => each::<S, { Op::Div as u8 }, 2>(s, from, to, groups, scratch),
        Op::Max => each::<S, { Op::Max as u8 }, 2>(s, from, to, groups, scratch),
        Op::Min => each::<S, { Op::Min as u8 }, 2>(s, from, to, groups, scratch),
        Op::MulAdd => each::<S, { Op::MulAdd as u8 }, 3>(s, from, to, groups, scratch),
        Op::Clamp => each::<S, { Op::Clamp as u8 }, 3>(s, from, to, groups, scratch),
        Op::Abs => each::<S, { Op::Abs as u8 }, 1>(s, from, to, groups, scratch),
        Op::Sqrt => each::<S, { Op::Sqrt as u8 }, 1>(s, from, to, groups, scratch),
        Op::Exp => each::<S, { Op::Exp as u8 }, 1>(s, from, to, groups, scratch),
        Op::Sigmoid => each::<S, { Op::Sigmoid as u8 }, 1>(s, from, to, groups, scratch),
        Op::Tanh => each::<S, { Op::Tanh as u8 }, 1>(s, from, to, groups, scratch),
        Op::Erf => each::<S, { Op::Erf as u8 }, 1>(s, from, to, groups, scratch),
        Op::Leaky => each::<S, { Op::Leaky as u8 }, 2>(s, from, to, groups, scratch),
    }
}

/// One step over the groups of a block. In wasm a function of its own: in one large function Cranelift spills.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn each<S: Simd, const OP: u8, const ARGS: usize>(
    s: S,
    [a, b, c]: [Place; 3],
    to: usize,
    groups: usize,
    scratch: &mut [[f32; GROUP]],
) {
    for i in 0..groups {
        let (a, b, c) = (a.at + i * a.step, b.at + i * b.step, c.at + i * c.step);
        for lane in (0..GROUP).step_by(S::N) {
            // One after the other by index: a step may write where it reads.
            let x = s.load(&scratch[a][lane..]);
            let y = if ARGS > 1 { s.load(&scratch[b][lane..]) } else { x };
            let z = if ARGS > 2 { s.load(&scratch[c][lane..]) } else { x };
            s.store(apply::<S, OP>(s, x, y, z), &mut scratch[to + i][lane..]);
        }
    }
}

#[inline(always)]
fn apply<S: Simd, const OP: u8>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
    match Op::ALL[OP as usize] {
        Op::Add => s.add(a, b),
        Op::Sub => s.sub(a, b),
        Op::Mul => s.mul(a, b),
        Op::Div => s.div(a, b),
        Op::Max => s.max(b, a),
        Op::Min => s.min(b, a),
        Op::MulAdd => s.fma(a, b, c),
        Op::Clamp => s.min(c, s.max(b, a)),
        Op::Abs => math::abs(s, a),
        Op::Sqrt => s.sqrt(a),
        Op::Exp => math::exp(s, a),
        Op::Sigmoid => math::sigmoid(s, a),
        Op::Tanh => math::tanh(s, a),
        Op::Erf => math::erf(s, a),
        Op::Leaky => {
            let zero = s.splat(0.0);
            s.fma(b, s.min(zero, a), s.max(zero, a))
        }
    }
}
