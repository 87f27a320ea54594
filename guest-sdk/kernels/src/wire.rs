//! Descriptors: the `u32` words in guest memory that a call is made with, little-endian, laid out as in
//! `docs/kernels.md`. A span takes two words, the address in bytes and the length in floats; address 0 is "none".

use crate::check::{Refused, ensure};
use crate::gemm::{Epilogue, Gemm, Left, Right};
use crate::map::{self, Input, Map, Program, Step};
use crate::pack::{Image, Window};
use crate::plane::{Plane, PlaneOp};
use crate::winograd::Winograd;

/// Words of a matrix product's descriptor.
pub const GEMM_WORDS: usize = 45;
/// Words of a Winograd convolution's descriptor.
pub const WINOGRAD_WORDS: usize = 24;
/// Words of a depthwise convolution's or pool's descriptor.
pub const PLANE_WORDS: usize = 26;
/// Words of a program's descriptor.
pub const MAP_WORDS: usize = MAP_CONSTANTS + map::CONSTANTS + map::STEPS;
/// Where the constants start, after the words of eight inputs.
const MAP_CONSTANTS: usize = 7 + 4 * map::INPUTS;

/// Operand kinds in a descriptor.
const PACKED: u32 = 0;
const STRIDED: u32 = 1;
const IMAGE: u32 = 2;

/// A range of floats in guest memory, not yet checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Bytes from the start of memory.
    pub address: u32,
    /// Length in floats.
    pub floats: u32,
}

/// The parts of guest memory that a call only reads.
pub trait Shared<'a> {
    /// The floats of a span; refused if it leaves memory, is unaligned, or meets what the call writes.
    fn floats(&self, span: Span) -> Result<&'a [f32], Refused>;
}

/// The two ranges that a call writes: its result and its scratch.
pub struct Writes<'a> {
    pub output: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

struct Reader<'w> {
    words: &'w [u32],
    at: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> u32 {
        let word = self.words.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        word
    }
    fn size(&mut self) -> usize {
        self.word() as usize
    }
    fn sizes<const N: usize>(&mut self) -> [usize; N] {
        core::array::from_fn(|_| self.size())
    }
    fn float(&mut self) -> f32 {
        f32::from_bits(self.word())
    }
    fn span(&mut self) -> Span {
        Span { address: self.word(), floats: self.word() }
    }
    fn window(&mut self) -> Window {
        Window {
            kernel: self.sizes(),
            stride: self.sizes(),
            dilation: self.sizes(),
            pad: self.sizes(),
        }
    }
    fn required<'a>(&mut self, shared: &impl Shared<'a>) -> Result<&'a [f32], Refused> {
        let span = self.span();
        shared.floats(span)
    }
    fn optional<'a>(&mut self, shared: &impl Shared<'a>) -> Result<Option<&'a [f32]>, Refused> {
        let span = self.span();
        if span.address == 0 { Ok(None) } else { shared.floats(span).map(Some) }
    }
}

/// Fills a descriptor. Addresses are relative to `base`, which is 0 in a guest.
struct Writer<const N: usize> {
    words: [u32; N],
    at: usize,
    base: usize,
}

impl<const N: usize> Writer<N> {
    fn new(base: usize) -> Self {
        Writer { words: [0; N], at: 0, base }
    }
    fn word(&mut self, word: u32) {
        self.words[self.at] = word;
        self.at += 1;
    }
    fn sizes<const M: usize>(&mut self, sizes: [usize; M]) {
        for size in sizes {
            // A size beyond 32 bits cannot be guest memory's; all ones is refused by the checks.
            self.word(u32::try_from(size).unwrap_or(u32::MAX));
        }
    }
    fn float(&mut self, value: f32) {
        self.word(value.to_bits());
    }
    fn span(&mut self, floats: &[f32]) {
        self.sizes([(floats.as_ptr() as usize).wrapping_sub(self.base), floats.len()]);
    }
    fn optional(&mut self, floats: Option<&[f32]>) {
        match floats {
            Some(floats) => self.span(floats),
            None => self.sizes([0, 0]),
        }
    }
    fn window(&mut self, w: &Window) {
        self.sizes(w.kernel);
        self.sizes(w.stride);
        self.sizes(w.dilation);
        self.sizes(w.pad);
    }
}

/// The spans of result and scratch, the first four words of every descriptor.
pub fn writes(words: &[u32]) -> [Span; 2] {
    let mut r = Reader { words, at: 0 };
    [r.span(), r.span()]
}

impl<'a> Gemm<'a> {
    /// The descriptor of this call, with addresses relative to `base`.
    pub fn encode(&self, base: usize) -> [u32; GEMM_WORDS] {
        let mut w = Writer::new(base);
        w.span(self.c);
        w.span(self.scratch);
        w.sizes([self.m, self.n, self.k, self.batch, self.c_row, self.c_batch]);
        match self.left {
            Left::Packed { data, batch } => {
                w.word(PACKED);
                w.span(data);
                w.sizes([0, 0, batch]);
            }
            Left::Strided { data, row, col, batch } => {
                w.word(STRIDED);
                w.span(data);
                w.sizes([row, col, batch]);
            }
        }
        let e = &self.epilogue;
        let mut image = None;
        match self.right {
            Right::Packed { data, batch } => {
                w.word(PACKED);
                w.span(data);
                w.sizes([0, 0, batch]);
            }
            Right::Strided { data, row, col, batch } => {
                w.word(STRIDED);
                w.span(data);
                w.sizes([row, col, batch]);
            }
            Right::Image(i) => {
                w.word(IMAGE);
                w.span(i.data);
                w.sizes([0, 0, i.batch]);
                image = Some(i);
            }
        }
        w.optional(e.row_bias);
        w.optional(e.col_bias);
        w.optional(e.add);
        w.sizes([e.add_row, e.add_batch]);
        w.float(e.lo);
        w.float(e.hi);
        if let Some(i) = image {
            w.sizes([i.channels, i.height, i.width]);
            w.window(&i.window);
            w.sizes([i.out_width, i.first]);
        }
        w.words
    }

    /// The call that a descriptor stands for. Not yet checked.
    pub fn decode(
        words: &[u32; GEMM_WORDS],
        writes: Writes<'a>,
        shared: &impl Shared<'a>,
    ) -> Result<Gemm<'a>, Refused> {
        let r = &mut Reader { words, at: 4 };
        let [m, n, k, batch, c_row, c_batch] = r.sizes();
        let kind = r.word();
        let data = r.required(shared)?;
        let [row, col, step] = r.sizes();
        let left = match kind {
            PACKED => Left::Packed { data, batch: step },
            STRIDED => Left::Strided { data, row, col, batch: step },
            _ => return Err(Refused("gemm: unknown kind of left operand")),
        };
        let kind = r.word();
        let data = r.required(shared)?;
        let [row, col, step] = r.sizes();
        let epilogue = Epilogue {
            row_bias: r.optional(shared)?,
            col_bias: r.optional(shared)?,
            add: r.optional(shared)?,
            add_row: r.size(),
            add_batch: r.size(),
            lo: r.float(),
            hi: r.float(),
        };
        let right = match kind {
            PACKED => Right::Packed { data, batch: step },
            STRIDED => Right::Strided { data, row, col, batch: step },
            IMAGE => Right::Image(Image {
                data,
                channels: r.size(),
                height: r.size(),
                width: r.size(),
                window: r.window(),
                out_width: r.size(),
                first: r.size(),
                batch: step,
            }),
            _ => return Err(Refused("gemm: unknown kind of right operand")),
        };
        let Writes { output: c, scratch } = writes;
        Ok(Gemm { m, n, k, batch, left, right, c, c_row, c_batch, epilogue, scratch })
    }
}

impl<'a> Winograd<'a> {
    /// The descriptor of this call, with addresses relative to `base`.
    pub fn encode(&self, base: usize) -> [u32; WINOGRAD_WORDS] {
        let mut w = Writer::new(base);
        w.span(self.output);
        w.span(self.scratch);
        w.sizes([self.channels, self.filters, self.height, self.width]);
        w.sizes(self.pad);
        w.sizes([self.out_height, self.out_width, self.first, self.tiles]);
        w.span(self.input);
        w.span(self.weights);
        w.optional(self.bias);
        w.optional(self.add);
        w.float(self.lo);
        w.float(self.hi);
        w.words
    }

    /// The call that a descriptor stands for. Not yet checked.
    pub fn decode(
        words: &[u32; WINOGRAD_WORDS],
        writes: Writes<'a>,
        shared: &impl Shared<'a>,
    ) -> Result<Winograd<'a>, Refused> {
        let r = &mut Reader { words, at: 4 };
        Ok(Winograd {
            channels: r.size(),
            filters: r.size(),
            height: r.size(),
            width: r.size(),
            pad: r.sizes(),
            out_height: r.size(),
            out_width: r.size(),
            first: r.size(),
            tiles: r.size(),
            input: r.required(shared)?,
            weights: r.required(shared)?,
            bias: r.optional(shared)?,
            add: r.optional(shared)?,
            lo: r.float(),
            hi: r.float(),
            output: writes.output,
            scratch: writes.scratch,
        })
    }
}

impl<'a> Plane<'a> {
    /// The descriptor of this call, with addresses relative to `base`.
    pub fn encode(&self, base: usize) -> [u32; PLANE_WORDS] {
        let mut w = Writer::new(base);
        w.span(self.output);
        w.span(self.scratch);
        w.word(match self.op {
            PlaneOp::Sum => 0,
            PlaneOp::Max => 1,
        });
        w.sizes([self.channels, self.height, self.width, self.out_height, self.out_width]);
        w.window(&self.window);
        w.span(self.input);
        // A pool has no weights; a dangling address would not pass the checks.
        w.optional((self.op == PlaneOp::Sum).then_some(self.weights));
        w.optional(self.bias);
        w.float(self.lo);
        w.float(self.hi);
        w.words
    }

    /// The call that a descriptor stands for. Not yet checked.
    pub fn decode(
        words: &[u32; PLANE_WORDS],
        writes: Writes<'a>,
        shared: &impl Shared<'a>,
    ) -> Result<Plane<'a>, Refused> {
        let r = &mut Reader { words, at: 4 };
        let op = match r.word() {
            0 => PlaneOp::Sum,
            1 => PlaneOp::Max,
            _ => return Err(Refused("plane: unknown operation")),
        };
        let [channels, height, width, out_height, out_width] = r.sizes();
        let window = r.window();
        let input = r.required(shared)?;
        let weights = r.optional(shared)?.unwrap_or(&[]);
        ensure(weights.is_empty() || op == PlaneOp::Sum, "plane: a pool has no weights")?;
        Ok(Plane {
            op,
            channels,
            height,
            width,
            window,
            out_height,
            out_width,
            input,
            weights,
            bias: r.optional(shared)?,
            lo: r.float(),
            hi: r.float(),
            output: writes.output,
            scratch: writes.scratch,
        })
    }
}

impl<'a> Map<'a> {
    /// The descriptor of this call, with addresses relative to `base`.
    pub fn encode(&self, base: usize) -> [u32; MAP_WORDS] {
        let mut w = Writer::new(base);
        w.span(self.output);
        w.span(self.scratch);
        w.sizes([self.first, self.given, self.program.steps().len()]);
        for input in &self.inputs[..self.given] {
            w.optional(input.data);
            w.sizes([input.repeat, input.period]);
        }
        w.at = MAP_CONSTANTS;
        for constant in self.program.constants {
            w.float(constant);
        }
        for step in self.program.steps() {
            w.word(step.encode());
        }
        w.words
    }

    /// The call that a descriptor stands for. Not yet checked.
    pub fn decode(
        words: &[u32; MAP_WORDS],
        writes: Writes<'a>,
        shared: &impl Shared<'a>,
    ) -> Result<Map<'a>, Refused> {
        let r = &mut Reader { words, at: 4 };
        let [first, given, count] = r.sizes();
        ensure(given <= map::INPUTS && count <= map::STEPS, "map: too many inputs or steps")?;
        let mut inputs = [Input { data: None, repeat: 1, period: 1 }; map::INPUTS];
        for input in &mut inputs[..given] {
            input.data = r.optional(shared)?;
            [input.repeat, input.period] = r.sizes();
        }
        r.at = MAP_CONSTANTS;
        let mut program = Program::default();
        for constant in &mut program.constants {
            *constant = r.float();
        }
        for _ in 0..count {
            program.push(Step::decode(r.word())?)?;
        }
        let Writes { output, scratch } = writes;
        Ok(Map { program, inputs, given, first, output, scratch })
    }
}
