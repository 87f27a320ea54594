//! Depthwise convolutions and max pools.

use std::ops::Range;

use mayfly_kernels::{Plane, PlaneOp, Refused, pack, plane};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::PoolSpec;

use super::call;
use super::conv::{Geometry, floats};

/// A window over each channel by itself, of an image with its channels first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub spec: PoolSpec,
    /// `[channels][window]`; none takes the maximum.
    pub weights: Option<Arc<Tensor>>,
    pub bias: Option<Arc<Tensor>>,
    /// Bounds of the result, as bits: floats have no equality.
    pub bounds: [u32; 2],
}

impl Op for Window {
    fn name(&self) -> StaticName {
        if self.weights.is_some() { "MayflyDepthwise".into() } else { "MayflyMaxPool".into() }
    }
    fn validation(&self) -> Validation {
        Validation::Rounding
    }
    op_as_typed_op!();
}

impl EvalOp for Window {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let geometry = Geometry::new(&self.spec, inputs[0].shape())?;
        let mut output = Tensor::zero::<f32>(&geometry.shape)?;
        if output.len() == 0 {
            return Ok(tvec!(output.into_tvalue()));
        }
        let images = Images {
            window: self,
            geometry: &geometry,
            x: floats(&inputs[0])?,
            weights: self.weights.as_deref().map(floats).transpose()?,
            bias: self.bias.as_deref().map(floats).transpose()?,
        };
        ensure!(!images.x.is_empty(), "an image without pixels");
        images.run(output.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?)?;
        Ok(tvec!(output.into_tvalue()))
    }
}

/// Whether the kernels take such a window, over images of `shape` if that is known: a row of one channel at a time at
/// least.
pub(super) fn takes(spec: &PoolSpec, shape: Option<&[usize]>) -> bool {
    let taps: usize = spec.kernel_shape.iter().product();
    taps <= plane::TAPS_MAX
        && shape.is_none_or(|shape| {
            Geometry::new(spec, shape).is_ok_and(|geometry| {
                geometry.output.contains(&0)
                    || geometry.input.contains(&0)
                    || geometry.check(1, 1).is_ok()
            })
        })
}

impl Geometry {
    /// Whether `channels` by `rows` of the output are few enough for one call.
    fn check(&self, channels: usize, rows: usize) -> Result<(), Refused> {
        // All rows of the input for all of the output; else as many as they see away from the padding.
        let all = rows == self.output[0];
        let seen = if all { usize::MAX } else { (rows - 1) * self.window.stride[0] + self.reach() };
        let (input, output) = ([seen.min(self.input[0]), self.input[1]], [rows, self.output[1]]);
        plane::check_sizes(&self.window, channels, input, output).map(|_| ())
    }

    /// Channels and rows of the output of one call: all rows if they fit, or some of one channel.
    fn share(&self, channels: usize) -> [usize; 2] {
        let [mut share, mut rows] = [channels, self.output[0]];
        while share > 1 && self.check(share, rows).is_err() {
            share = share.div_ceil(2);
        }
        while rows > 1 && self.check(share, rows).is_err() {
            rows = rows.div_ceil(2);
        }
        [share, rows]
    }

    /// Rows from the window's first to its last.
    fn reach(&self) -> usize {
        (self.window.kernel[0] - 1) * self.window.dilation[0] + 1
    }

    /// The rows of the input that `rows` of the output see, and how many rows of padding they see before them.
    fn seen(&self, rows: &Range<usize>) -> (Range<usize>, usize) {
        let [height, pad] = [self.input[0], self.window.pad[0]];
        let top = rows.start * self.window.stride[0];
        let end = (rows.end - 1) * self.window.stride[0] + self.reach();
        if top >= pad + height {
            // All that they see is the padding below; a call has an input, so one row, beyond what they see.
            return (height - 1..height, end - top);
        }
        let from = top.saturating_sub(pad);
        (from..end.saturating_sub(pad).clamp(from + 1, height), pad.saturating_sub(top))
    }
}

/// What stays the same over the calls of one evaluation.
struct Images<'a> {
    window: &'a Window,
    geometry: &'a Geometry,
    x: &'a [f32],
    weights: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

impl Images<'_> {
    fn run(&self, out: &mut [f32]) -> TractResult<()> {
        let Geometry { input: [height, width], output: [out_height, out_width], window, .. } =
            *self.geometry;
        let (in_len, out_len) = (height * width, out_height * out_width);
        let channels = self.window.spec.input_channels;
        // Channels of one call: a MiB of results and a few times that of work.
        let step = ((1 << 18) / in_len.max(out_len)).clamp(1, channels);
        let [step, rows] = self.geometry.share(step);
        // Before scratch is made for it.
        self.geometry.check(step, rows)?;
        let len = plane::scratch_len(&window, rows, out_width).unwrap_or(usize::MAX);
        call::with_scratch(len, |scratch| {
            for first in (0..self.geometry.batch * channels).step_by(channels) {
                for channel in (0..channels).step_by(step) {
                    let count = step.min(channels - channel);
                    let at = first + channel;
                    let input = &self.x[at * in_len..(at + count) * in_len];
                    let output = &mut out[at * out_len..(at + count) * out_len];
                    if rows == out_height {
                        self.call(channel, height, window, input, output, scratch)?;
                        continue;
                    }
                    for (i, output) in output.chunks_mut(rows * out_width).enumerate() {
                        let start = i * rows;
                        let end = start + output.len() / out_width;
                        let (seen, pad) = self.geometry.seen(&(start..end));
                        let input = &input[seen.start * width..seen.end * width];
                        let window = pack::Window { pad: [pad, window.pad[1]], ..window };
                        self.call(channel, seen.len(), window, input, output, scratch)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn call(
        &self,
        channel: usize,
        height: usize,
        window: pack::Window,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) -> TractResult<()> {
        let (width, out_width) = (self.geometry.input[1], self.geometry.output[1]);
        let taps = window.kernel[0] * window.kernel[1];
        let channels = input.len() / (height * width);
        Ok(call::plane(&mut Plane {
            op: if self.weights.is_some() { PlaneOp::Sum } else { PlaneOp::Max },
            channels,
            height,
            width,
            window,
            out_height: output.len() / (channels * out_width),
            out_width,
            input,
            weights: self.weights.map_or(&[], |weights| &weights[channel * taps..]),
            bias: self.bias.map(|bias| &bias[channel..]),
            lo: f32::from_bits(self.window.bounds[0]),
            hi: f32::from_bits(self.window.bounds[1]),
            output,
            scratch,
        })?)
    }
}

impl TypedOp for Window {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.spec.output_facts(&inputs[..1])
    }
    as_op!();
}
