//! Convolutions and pools of a model, replaced by ours.

use mayfly_kernels::pack::SIDE_MAX;
use mayfly_kernels::winograd::POSITIONS;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{self, KernelFormat, MaxPool, PoolSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::call;
use super::conv::{Conv, Way, floats, pack_weights};
use super::plane::{self, Window};
use super::rewrite::{all_floats, konst, splice};
use super::tail::Tail;
use super::toom::{self, Toom};

/// Channels and tiles from which Winograd's fewer multiplications outweigh its transforms.
const WINOGRAD_CHANNELS: usize = 24;
const WINOGRAD_TILES: usize = 12;
/// Channels up to which a block of [`Toom`] and a panel of filters are one call's work.
const TOOM_CHANNELS: usize = 1 << 16;
/// Pixels of an output up to which they are the rows of the product: half a panel of columns.
const NARROW: usize = 8;

pub(super) fn image(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    if !all_floats(model, node) {
        return Ok(None);
    }
    if let Some(op) = node.op_as::<cnn::Conv>() {
        return convolution(model, node, op);
    }
    if let Some(op) = node.op_as::<MaxPool>() {
        return max_pool(model, node, op);
    }
    Ok(None)
}

/// Where an operator of ours has an image's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    ChannelsFirst,
    ChannelsLast,
}

/// As [`splice`], for an operator over images that wants their channels in their place.
fn splice_image(
    model: &TypedModel,
    node: &TypedNode,
    inputs: &[OutletId],
    end: OutletId,
    spec: &PoolSpec,
    wanted: Layout,
    op: impl Into<Box<dyn TypedOp>>,
) -> TractResult<Option<TypedModelPatch>> {
    let is_last = spec.data_format.c_is_last();
    if is_last == (wanted == Layout::ChannelsLast) {
        return splice(model, node, inputs, end, op);
    }
    let first = usize::from(spec.data_format.has_n());
    let last = first + spec.kernel_shape.len();
    let (from, to) = if is_last { (last, first) } else { (first, last) };
    let mut patch = TypedModelPatch::default();
    let mut taps = patch.taps(model, inputs)?;
    let name = format!("{}.channels-moved", node.name);
    taps[0] = patch.wire_node(name, AxisOp::Move(from, to), &taps[..1])?[0];
    let out = patch.wire_node(&node.name, op.into(), &taps)?;
    let name = format!("{}.channels-moved-back", node.name);
    let out = patch.wire_node(name, AxisOp::Move(to, from), &out)?;
    patch.shunt_outside(model, end, out[0])?;
    Ok(Some(patch))
}

/// Whether the images of a pool or convolution are laid out as the kernels read them.
fn supported(spec: &PoolSpec) -> bool {
    let sides = [&spec.kernel_shape[..], &spec.strides(), &spec.dilations()];
    (1..=2).contains(&spec.kernel_shape.len())
        && sides.iter().all(|sides| sides.iter().all(|side| *side <= SIDE_MAX))
}

/// The same window over images with their channels first.
fn channels_first(spec: &PoolSpec) -> PoolSpec {
    let data_format = match spec.data_format {
        DataFormat::NCHW | DataFormat::NHWC => DataFormat::NCHW,
        DataFormat::CHW | DataFormat::HWC => DataFormat::CHW,
    };
    PoolSpec { data_format, ..spec.clone() }
}

fn channel_axis(spec: &PoolSpec) -> usize {
    let first = usize::from(spec.data_format.has_n());
    if spec.data_format.c_is_last() { first + spec.kernel_shape.len() } else { first }
}

fn convolution(
    model: &TypedModel,
    node: &TypedNode,
    op: &cnn::Conv,
) -> TractResult<Option<TypedModelPatch>> {
    let spec = &op.pool_spec;
    let [_, kernel, bias] = *node.inputs else { return Ok(None) };
    let (Some(kernel), Some(bias)) = (konst(model, kernel)?, konst(model, bias)?) else {
        return Ok(None);
    };
    if op.q_params.is_some() || op.kernel_fmt != KernelFormat::OIHW || !supported(spec) {
        return Ok(None);
    }
    let mut bias = floats(&bias)?.to_vec();
    let filters = spec.output_channels;
    if bias.len() == 1 {
        bias = vec![bias[0]; filters];
    }
    if bias.len() != filters {
        return Ok(None);
    }
    let depth = spec.input_channels / op.group * spec.kernel_shape.iter().product::<usize>();
    if depth > call::DEPTH_MAX {
        return Ok(None);
    }
    let depthwise = op.group == spec.input_channels
        && op.group == filters
        && op.group > 1
        && plane::takes(spec, model.outlet_fact(node.inputs[0])?.shape.as_concrete());
    let mut tail = Tail::collect(model, node, Some(channel_axis(spec)))?;
    let way = way(model, node, op)?;
    // A residual of another layout cannot be added in the same pass; a depthwise or narrow kernel adds none.
    let rows = along_rows(model, node, op)?.filter(|_| !depthwise);
    let adds = !depthwise && rows.is_none() && way != Way::Narrow && !spec.data_format.c_is_last();
    if !adds && tail.add.is_some() {
        tail = Tail::without_residual(model, node, Some(channel_axis(spec)))?;
    }
    if let Some(more) = &tail.bias {
        bias.iter_mut().zip(more).for_each(|(bias, more)| *bias += more);
    }
    let bounds = [tail.lo.to_bits(), tail.hi.to_bits()];
    let mut inputs = tvec!(node.inputs[0]);
    if depthwise {
        let bias = Some(tensor1(&bias).into_arc_tensor());
        let weights = Some(tensor1(floats(&kernel)?).into_arc_tensor());
        let op = Window { spec: channels_first(spec), weights, bias, bounds };
        return splice_image(model, node, &inputs, tail.end, spec, Layout::ChannelsFirst, op);
    }
    if let Some((axis, pad)) = rows {
        let taps: usize = spec.kernel_shape.iter().product();
        let channels = spec.input_channels;
        let weights = toom::pack_weights(floats(&kernel)?, channels, filters, taps);
        let (weights, bias) = (weights.into_arc_tensor(), tensor1(&bias).into_arc_tensor());
        let op = Toom { axis, taps, channels, filters, pad, weights, bias, bounds };
        return splice_image(model, node, &inputs, tail.end, spec, Layout::ChannelsLast, op);
    }
    inputs.extend(tail.add);
    let weights = pack_weights(spec, op.group, way, floats(&kernel)?).into_arc_tensor();
    let bias = Some(tensor1(&bias).into_arc_tensor());
    let residual = tail.add.is_some();
    let (first, group) = (channels_first(spec), op.group);
    let op = Conv { spec: first, group, way, weights, bias, residual, bounds };
    splice_image(model, node, &inputs, tail.end, spec, Layout::ChannelsFirst, op)
}

/// The axis, counted from the end with the channels last, and the padding of a convolution along one axis that
/// [`Toom`] takes over.
fn along_rows(
    model: &TypedModel,
    node: &TypedNode,
    op: &cnn::Conv,
) -> TractResult<Option<(usize, [usize; 2])>> {
    let spec = &op.pool_spec;
    let unit = |values: &[usize]| values.iter().all(|&v| v == 1);
    let plain = op.group == 1 && unit(&spec.strides()) && unit(&spec.dilations());
    let wide = spec.input_channels.min(spec.output_channels) >= WINOGRAD_CHANNELS;
    let shape = &model.outlet_fact(node.inputs[0])?.shape;
    let Some(shape) = shape.as_concrete() else { return Ok(None) };
    let shape = spec.data_format.shape(shape)?;
    let sides = shape.hw_dims();
    let Some(axis) = spec.kernel_shape.iter().position(|&taps| taps > 1) else { return Ok(None) };
    let pads = spec.computed_padding(sides);
    let padded = pads.iter().enumerate().any(|(i, p)| i != axis && p.pad_before + p.pad_after > 0);
    let along = unit(&spec.kernel_shape[axis + 1..]) && unit(&sides[axis + 1..]) && !padded;
    let takes = along
        && plain
        && wide
        && toom::takes(spec.kernel_shape[axis])
        && spec.input_channels <= TOOM_CHANNELS
        && sides[axis] >= WINOGRAD_TILES * 4;
    let from_end = sides.len() - axis + 1;
    Ok(takes.then(|| (from_end, [pads[axis].pad_before, pads[axis].pad_after])))
}

fn way(model: &TypedModel, node: &TypedNode, op: &cnn::Conv) -> TractResult<Way> {
    let spec = &op.pool_spec;
    let square = *spec.kernel_shape == [3, 3]
        && spec.strides().iter().all(|&s| s == 1)
        && spec.dilations().iter().all(|&d| d == 1);
    let wide = spec.input_channels / op.group >= WINOGRAD_CHANNELS
        && spec.output_channels / op.group >= WINOGRAD_CHANNELS
        && spec.input_channels / op.group * POSITIONS <= call::DEPTH_MAX;
    let shape = &model.outlet_fact(OutletId::new(node.id, 0))?.shape;
    let Some(shape) = shape.as_concrete() else { return Ok(Way::Direct) };
    let shape = spec.data_format.shape(shape)?;
    let hw = shape.hw_dims();
    if hw.iter().product::<usize>() <= NARROW && spec.output_channels / op.group >= 2 * NARROW {
        return Ok(Way::Narrow);
    }
    let tiles: usize = hw.iter().map(|side| side.div_ceil(4)).product();
    let fits = square && wide && tiles >= WINOGRAD_TILES;
    Ok(if fits { Way::Winograd } else { Way::Direct })
}

fn max_pool(
    model: &TypedModel,
    node: &TypedNode,
    op: &MaxPool,
) -> TractResult<Option<TypedModelPatch>> {
    if op.with_index_outputs.is_some() || !supported(&op.pool_spec) {
        return Ok(None);
    }
    if !plane::takes(&op.pool_spec, model.outlet_fact(node.inputs[0])?.shape.as_concrete()) {
        return Ok(None);
    }
    let spec = channels_first(&op.pool_spec);
    let tail = Tail::without_residual(model, node, None)?;
    let bounds = [tail.lo.to_bits(), tail.hi.to_bits()];
    let window = Window { spec, weights: None, bias: None, bounds };
    splice_image(
        model,
        node,
        &[node.inputs[0]],
        tail.end,
        &op.pool_spec,
        Layout::ChannelsFirst,
        window,
    )
}
