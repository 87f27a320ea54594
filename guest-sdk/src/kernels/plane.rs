//! Depthwise convolutions and max pools.

use mayfly_kernels::{Plane, PlaneOp, plane};
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
        let x = floats(&inputs[0])?;
        let weights = self.weights.as_deref().map(floats).transpose()?;
        let bias = self.bias.as_deref().map(floats).transpose()?;
        let [height, width] = geometry.input;
        let [out_height, out_width] = geometry.output;
        let window = geometry.window;
        let taps = window.kernel[0] * window.kernel[1];
        let len = plane::scratch_len(&window, out_height, out_width).unwrap_or(usize::MAX);
        let (in_len, out_len) = (height * width, out_height * out_width);
        // Channels of one call: a MiB of results and a few times that of work.
        let step = ((1 << 18) / in_len.max(out_len)).max(1);
        let channels = self.spec.input_channels;
        {
            let mut plain = output.try_as_plain_ram_mut()?;
            let out = plain.as_slice_mut::<f32>()?;
            call::with_scratch(len, |scratch| -> TractResult<()> {
                for image in 0..geometry.batch {
                    for first in (0..channels).step_by(step) {
                        let count = step.min(channels - first);
                        let at = image * channels + first;
                        let mut call = Plane {
                            op: if weights.is_some() { PlaneOp::Sum } else { PlaneOp::Max },
                            channels: count,
                            height,
                            width,
                            window,
                            out_height,
                            out_width,
                            input: &x[at * in_len..(at + count) * in_len],
                            weights: weights.map_or(&[], |w| &w[first * taps..]),
                            bias: bias.map(|bias| &bias[first..]),
                            lo: f32::from_bits(self.bounds[0]),
                            hi: f32::from_bits(self.bounds[1]),
                            output: &mut out[at * out_len..(at + count) * out_len],
                            scratch,
                        };
                        call::plane(&mut call)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Window {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.spec.output_facts(&inputs[..1])
    }
    as_op!();
}
