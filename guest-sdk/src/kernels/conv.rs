//! Convolutions, with bias, residual and clamp in the same pass.

use mayfly_kernels::pack::{self, Image, Window};
use mayfly_kernels::{Epilogue, Gemm, Left, Right, SCRATCH_GEMM, SCRATCH_MIN, Winograd, winograd};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::PoolSpec;

use super::call;

/// How the sum over the window is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// A matrix product with the image read through the window.
    Direct,
    /// [`Winograd`].
    Winograd,
    /// A matrix product whose rows are the few pixels of the output: the other way round, a panel of 16 columns would
    /// stand nearly empty.
    Narrow,
}

/// A convolution over one or two axes of an image with its channels first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conv {
    pub spec: PoolSpec,
    pub group: usize,
    pub way: Way,
    /// Packed for `way`, one group after the other.
    pub weights: Arc<Tensor>,
    pub bias: Option<Arc<Tensor>>,
    /// A second input is added to the result.
    pub residual: bool,
    /// Bounds of the result, as bits: floats have no equality.
    pub bounds: [u32; 2],
}

/// Sizes of one evaluation; a one-dimensional image has height 1.
pub(super) struct Geometry {
    pub batch: usize,
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub window: Window,
    pub shape: TVec<usize>,
}

impl Geometry {
    pub(super) fn new(spec: &PoolSpec, input: &[usize]) -> TractResult<Geometry> {
        let shape = spec.data_format.shape(input)?;
        let computed = spec.computed_padding(shape.hw_dims());
        let output = spec.output_shape(input)?;
        let pair = |values: &[usize], one: usize| match values {
            [x] => [one, *x],
            [y, x, ..] => [*y, *x],
            [] => [one, one],
        };
        let pads: TVec<usize> = computed.iter().map(|c| c.pad_before).collect();
        Ok(Geometry {
            batch: shape.n().copied().unwrap_or(1),
            input: pair(shape.hw_dims(), 1),
            output: pair(output.hw_dims(), 1),
            window: Window {
                kernel: pair(&spec.kernel_shape, 1),
                stride: pair(&spec.strides(), 1),
                dilation: pair(&spec.dilations(), 1),
                pad: pair(&pads, 0),
            },
            shape: output.shape.clone(),
        })
    }
}

/// Packs weights `[filters][channels / group][window]`.
pub(super) fn pack_weights(spec: &PoolSpec, group: usize, way: Way, data: &[f32]) -> Tensor {
    let filters = spec.output_channels / group;
    let channels = spec.input_channels / group;
    let taps: usize = spec.kernel_shape.iter().product();
    let k = channels * taps;
    let len = match way {
        Way::Direct => pack::left_len(filters, k),
        Way::Winograd => winograd::weights_len(filters, channels),
        Way::Narrow => pack::right_len(k, filters),
    };
    let mut packed = vec![0.0; group * len];
    for (data, packed) in data.chunks_exact(filters * k).zip(packed.chunks_exact_mut(len)) {
        match way {
            Way::Direct => pack::left(data, filters, k, k, 1, packed),
            Way::Winograd => winograd::weights(data, filters, channels, packed),
            Way::Narrow => pack::right(data, k, filters, 1, k, packed),
        }
    }
    tensor1(&packed)
}

/// One group of one image, and where it lies in the whole.
struct Part<'a> {
    geometry: &'a Geometry,
    channels: usize,
    filters: usize,
    input: &'a [f32],
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    add: Option<&'a [f32]>,
    bounds: [f32; 2],
}

impl Part<'_> {
    fn direct(&self, output: &mut [f32]) -> TractResult<()> {
        let Geometry { input: [height, width], output: [oh, ow], window, .. } = *self.geometry;
        let k = self.channels * window.kernel[0] * window.kernel[1];
        let n = oh * ow;
        let unit =
            Window { kernel: [1; 2], stride: [1; 2], dilation: window.dilation, pad: [0; 2] };
        // The padding at an image's end is no part of the window.
        let whole = window == unit && self.geometry.input == self.geometry.output;
        let rows = call::rows_max(self.filters, k, n);
        let step = call::columns_max(rows, k);
        call::with_scratch(SCRATCH_GEMM, |scratch| {
            for (filter, first) in call::blocks([self.filters, rows], [n, step]) {
                let at = filter * n + first;
                let right = if whole {
                    Right::Strided { data: &self.input[first..], row: n, col: 1, batch: 0 }
                } else {
                    Right::Image(Image {
                        data: self.input,
                        channels: self.channels,
                        height,
                        width,
                        window,
                        out_width: ow,
                        first,
                        batch: 0,
                    })
                };
                let mut gemm = Gemm {
                    m: rows.min(self.filters - filter),
                    n: step.min(n - first),
                    k,
                    batch: 1,
                    left: Left::Packed { data: &self.weights[filter * k..], batch: 0 },
                    right,
                    c: &mut output[at..],
                    c_row: n,
                    c_batch: 0,
                    epilogue: Epilogue {
                        row_bias: self.bias.map(|bias| &bias[filter..]),
                        add: self.add.map(|add| &add[at..]),
                        add_row: n,
                        lo: self.bounds[0],
                        hi: self.bounds[1],
                        ..Epilogue::default()
                    },
                    scratch,
                };
                call::gemm(&mut gemm)?;
            }
            Ok(())
        })
    }

    fn narrow(&self, output: &mut [f32]) -> TractResult<()> {
        let Geometry { output: [oh, ow], window, .. } = *self.geometry;
        let (pixels, filters) = (oh * ow, self.filters);
        let k = self.channels * window.kernel[0] * window.kernel[1];
        let cols = call::columns_max(pixels, k);
        call::with_scratch(SCRATCH_MIN + pixels * (k + filters), |scratch| {
            let (scratch, rest) = scratch.split_at_mut(SCRATCH_MIN);
            let (patches, products) = rest.split_at_mut(pixels * k);
            for (pixel, patch) in patches.chunks_exact_mut(k).enumerate() {
                self.gather([pixel / ow, pixel % ow], patch);
            }
            for col in (0..filters).step_by(cols) {
                call::gemm(&mut Gemm {
                    m: pixels,
                    n: cols.min(filters - col),
                    k,
                    batch: 1,
                    left: Left::Strided { data: patches, row: k, col: 1, batch: 0 },
                    right: Right::Packed { data: &self.weights[col * k..], batch: 0 },
                    c: &mut products[col..],
                    c_row: filters,
                    c_batch: 0,
                    epilogue: Epilogue {
                        col_bias: self.bias.map(|bias| &bias[col..]),
                        lo: self.bounds[0],
                        hi: self.bounds[1],
                        ..Epilogue::default()
                    },
                    scratch,
                })?;
            }
            for (filter, output) in output.chunks_exact_mut(pixels).enumerate() {
                let products = products[filter..].iter().step_by(filters);
                output.iter_mut().zip(products).for_each(|(to, &v)| *to = v);
            }
            Ok(())
        })
    }

    /// What the window sees at an output pixel: channel by channel, row by row.
    fn gather(&self, [oy, ox]: [usize; 2], patch: &mut [f32]) {
        let Geometry { input: [height, width], window, .. } = *self.geometry;
        let place = |axis: usize, at: usize, tap: usize, len: usize| {
            let at = at * window.stride[axis] + tap * window.dilation[axis];
            at.checked_sub(window.pad[axis]).filter(|at| *at < len)
        };
        let mut patch = patch.iter_mut();
        for plane in self.input.chunks_exact(height * width) {
            for ky in 0..window.kernel[0] {
                let row = place(0, oy, ky, height).map_or(&[][..], |y| &plane[y * width..]);
                for (kx, to) in (0..window.kernel[1]).zip(&mut patch) {
                    *to = place(1, ox, kx, width).and_then(|x| row.get(x).copied()).unwrap_or(0.0);
                }
            }
        }
    }

    fn winograd(&self, output: &mut [f32]) -> TractResult<()> {
        let Geometry { input: [height, width], output: [oh, ow], window, .. } = *self.geometry;
        let all = oh.div_ceil(winograd::TILE) * ow.div_ceil(winograd::TILE);
        let k = self.channels * winograd::POSITIONS;
        let rows = call::filters_max(self.channels, self.filters, all);
        let step = call::tiles_max(self.channels, rows);
        let floats = call::winograd_scratch(self.channels, ow, all, step);
        call::with_scratch(floats, |scratch| {
            for (filter, first) in call::blocks([self.filters, rows], [all, step]) {
                let at = filter * oh * ow;
                let mut call = Winograd {
                    channels: self.channels,
                    filters: rows.min(self.filters - filter),
                    height,
                    width,
                    pad: window.pad,
                    out_height: oh,
                    out_width: ow,
                    first,
                    tiles: step.min(all - first),
                    input: self.input,
                    weights: &self.weights[filter * k..],
                    bias: self.bias.map(|bias| &bias[filter..]),
                    add: self.add.map(|add| &add[at..]),
                    lo: self.bounds[0],
                    hi: self.bounds[1],
                    output: &mut output[at..],
                    scratch,
                };
                call::winograd(&mut call)?;
            }
            Ok(())
        })
    }
}

impl Op for Conv {
    fn name(&self) -> StaticName {
        "MayflyConv".into()
    }
    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?} residual:{} group:{}", self.way, self.residual, self.group)])
    }
    fn validation(&self) -> Validation {
        Validation::Rounding
    }
    op_as_typed_op!();
}

impl EvalOp for Conv {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let geometry = Geometry::new(&self.spec, inputs[0].shape())?;
        let mut output = Tensor::zero::<f32>(&geometry.shape)?;
        if output.len() == 0 {
            return Ok(tvec!(output.into_tvalue()));
        }
        let x = floats(&inputs[0])?;
        ensure!(!x.is_empty(), "an image without pixels");
        let add = if self.residual { Some(floats(&inputs[1])?) } else { None };
        let weights = floats(&self.weights)?;
        let bias = self.bias.as_deref().map(floats).transpose()?;
        let groups = geometry.batch * self.group;
        let (channels, filters) =
            (self.spec.input_channels / self.group, self.spec.output_channels / self.group);
        let in_len = channels * geometry.input[0] * geometry.input[1];
        let out_len = filters * geometry.output[0] * geometry.output[1];
        let weights_len = weights.len() / self.group;
        {
            let mut plain = output.try_as_plain_ram_mut()?;
            let out = plain.as_slice_mut::<f32>()?;
            for index in 0..groups {
                let group = index % self.group;
                let part = Part {
                    geometry: &geometry,
                    channels,
                    filters,
                    input: &x[index * in_len..(index + 1) * in_len],
                    weights: &weights[group * weights_len..(group + 1) * weights_len],
                    bias: bias.map(|bias| &bias[group * filters..(group + 1) * filters]),
                    add: add.map(|add| &add[index * out_len..(index + 1) * out_len]),
                    bounds: self.bounds.map(f32::from_bits),
                };
                let out = &mut out[index * out_len..(index + 1) * out_len];
                match self.way {
                    Way::Direct => part.direct(out)?,
                    Way::Winograd => part.winograd(out)?,
                    Way::Narrow => part.narrow(out)?,
                }
            }
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

pub(super) fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

impl TypedOp for Conv {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.spec.output_facts(&inputs[..1])
    }
    as_op!();
}
