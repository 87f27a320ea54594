//! Convolutions and pools.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;
use tract_onnx::tract_hir::ops::cnn::{Conv, HirMaxPool, HirSumPool};

use super::activations::activate;
use super::build::{Build, Outputs, one};
use super::integers::{self, Steps};
use super::node::Node;

/// `Conv`, a residual if there is one, and an activation.
pub(super) fn fused(b: &mut Build<'_>) -> TractResult<Outputs> {
    let mut x = b.input(0)?;
    let (weights, bias) = (b.input(1)?, b.optional(2)?);
    x = convolution(b, x, weights, bias)?;
    if let Some(residual) = b.optional(3)? {
        x = b.add(x, residual)?;
    }
    let (name, parameters) = (b.node.string("activation")?, b.node.floats("activation_params"));
    Ok(one(activate(b, x, name, parameters)?))
}

/// `QLinearConv`: the bias is in steps of the product, so it is added before the scales are applied.
pub(super) fn quantised(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, weights) = (b.input(0)?, b.input(3)?);
    let (of_x, of_weights, made) = (Steps::single(b, 1)?, Steps::at(b, 4)?, Steps::single(b, 6)?);
    let rank = b.rank(x)?;
    let of_weights = of_weights.along(b, 0, rank)?;
    let datum = b.datum(x)?;
    let x = integers::whole(b, x, of_x.zero)?;
    let weights = integers::whole(b, weights, of_weights.zero)?;
    let bias = b.optional(8)?.map(|bias| b.cast(bias, DatumType::F32)).transpose()?;
    let sums = convolution(b, x, weights, bias)?;
    let factor = b.mul(of_x.scale, of_weights.scale)?;
    let mut factor = b.div(factor, made.scale)?;
    if b.rank(factor)? > 0 {
        // One for each output channel, which are first in the weights.
        let channels = if last(b.node) { rank - 1 } else { 1 };
        factor = b.moved(factor, 0, channels)?;
    }
    let sums = b.mul(sums, factor)?;
    Ok(one(integers::saturate(b, sums, made.zero, datum)?))
}

fn last(node: &Node) -> bool {
    node.flag("channels_last")
}

fn format(last: bool) -> DataFormat {
    if last { DataFormat::NHWC } else { DataFormat::NCHW }
}

fn convolution(
    b: &mut Build<'_>,
    x: OutletId,
    weights: OutletId,
    bias: Option<OutletId>,
) -> TractResult<OutletId> {
    let (shape, of_weights) = (b.shape(x)?, b.shape(weights)?);
    ensure!(
        shape.len() > 2 && shape.len() == of_weights.len(),
        "its input and its weights have the shapes {shape:?} and {of_weights:?}"
    );
    let node = b.node;
    let axes = shape.len() - 2;
    let op = Conv {
        data_format: format(last(node)),
        kernel_shape: node.sizes("kernel_shape")?,
        dilations: ones(node, "dilations", axes)?,
        strides: ones(node, "strides", axes)?,
        group: Some(usize::try_from(node.int("group", 1)).context("its `group`")?),
        padding: padding(node, axes, false)?,
        bias_input: bias.map(|_| 2),
        ..Conv::default()
    };
    let inputs: TVec<OutletId> = [x, weights].into_iter().chain(bias).collect();
    b.expansion(&op, &inputs)
}

/// An attribute with a number for each axis, all of them positive.
fn ones(node: &Node, name: &str, axes: usize) -> TractResult<Option<TVec<usize>>> {
    let sizes = node.sizes(name)?;
    let right = |sizes: &TVec<usize>| sizes.len() == axes && !sizes.contains(&0);
    ensure!(sizes.as_ref().is_none_or(right), "its `{name}` are {sizes:?} for {axes} axes");
    Ok(sizes)
}

fn padding(node: &Node, axes: usize, pool: bool) -> TractResult<PaddingSpec> {
    match node.string("auto_pad")? {
        "" | "NOTSET" => {}
        "VALID" => return Ok(PaddingSpec::Valid),
        "SAME_UPPER" => return Ok(PaddingSpec::SameUpper),
        "SAME_LOWER" => return Ok(PaddingSpec::SameLower),
        other => bail!("its auto_pad {other:?} is none of the standard's"),
    }
    let pads = node.sizes("pads")?.unwrap_or_else(|| tvec!(0; 2 * axes));
    ensure!(pads.len() == 2 * axes, "its `pads` are {pads:?} for {axes} axes");
    let (before, after) = (pads[..axes].into(), pads[axes..].into());
    Ok(if pool {
        PaddingSpec::ExplicitOnnxPool(before, after, node.flag("ceil_mode"))
    } else {
        PaddingSpec::Explicit(before, after)
    })
}

fn pool(b: &Build<'_>, x: OutletId, last: bool) -> TractResult<PoolSpec> {
    let axes = b.rank(x)?.checked_sub(2).context("its input is no picture")?;
    let kernel = ones(b.node, "kernel_shape", axes)?.context("its `kernel_shape` is missing")?;
    let (dilations, strides) = (ones(b.node, "dilations", axes)?, ones(b.node, "strides", axes)?);
    Ok(PoolSpec::new(format(last), kernel, padding(b.node, axes, true)?, dilations, strides, 0, 0))
}

pub(super) fn average_pool(b: &mut Build<'_>) -> TractResult<Outputs> {
    let x = b.input(0)?;
    ensure!(
        !b.node.flag("ceil_mode"),
        "its ceil_mode = 1 is not supported, in which windows reach beyond the padding; pad the picture instead"
    );
    let (steps, made) = (Steps::single(b, 1)?, Steps::single(b, 3)?);
    let datum = b.datum(x)?;
    let spec = pool(b, x, last(b.node))?;
    let x = integers::whole(b, x, steps.zero)?;
    let x = b.expansion(&HirSumPool::new(spec, b.node.flag("count_include_pad"), true), &[x])?;
    let factor = b.div(steps.scale, made.scale)?;
    let x = b.mul(x, factor)?;
    Ok(one(integers::saturate(b, x, made.zero, datum)?))
}

/// `NhwcMaxPool`
pub(super) fn max_pool(b: &mut Build<'_>) -> TractResult<Outputs> {
    let x = b.input(0)?;
    let spec = pool(b, x, true)?;
    Ok(one(b.expansion(&HirMaxPool::new(spec, None), &[x])?))
}
