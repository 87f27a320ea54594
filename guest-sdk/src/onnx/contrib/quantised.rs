//! Operators on quantised tensors, element by element or over whole axes: as numbers, computed, quantised again.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::nn::{Reducer, leaky_relu as leaky, sigmoid as curve};

use super::build::{Build, Outputs, one};
use super::integers::{self, Steps};

/// `x` in steps of the output's scale, as small integers.
fn requantise(
    b: &mut Build<'_>,
    x: OutletId,
    steps: Steps,
    otherwise: DatumType,
) -> TractResult<OutletId> {
    let x = b.div(x, steps.scale)?;
    integers::saturate(b, x, steps.zero, otherwise)
}

pub(super) fn quantize(b: &mut Build<'_>) -> TractResult<Outputs> {
    let x = b.input(0)?;
    ensure!(b.datum(x)? == DatumType::F32, "it takes f32 and f16; put a Cast before it");
    let steps = channel_steps(b, x)?;
    Ok(one(requantise(b, x, steps, DatumType::U8)?))
}

pub(super) fn dequantize(b: &mut Build<'_>) -> TractResult<Outputs> {
    let x = b.input(0)?;
    let steps = channel_steps(b, x)?;
    Ok(one(integers::real(b, x, steps)?))
}

/// Of the whole tensor, or of each place on `axis`.
fn channel_steps(b: &mut Build<'_>, x: OutletId) -> TractResult<Steps> {
    ensure!(b.node.int("block_size", 0) == 0, "its `block_size` is not supported");
    let steps = Steps::at(b, 1)?;
    let rank = b.rank(x)?;
    let whole = b.shape(steps.scale)?.iter().all(|size| *size == 1.to_dim());
    let axis = if whole { 0 } else { b.axis(b.node.int("axis", 1), rank)? };
    steps.along(b, axis, rank)
}

fn two(
    b: &mut Build<'_>,
    join: fn(&mut Build<'_>, OutletId, OutletId) -> TractResult<OutletId>,
) -> TractResult<Outputs> {
    let (x, y) = (b.input(0)?, b.input(3)?);
    let (of_x, of_y, of_out) = (Steps::single(b, 1)?, Steps::single(b, 4)?, Steps::single(b, 6)?);
    let datum = b.datum(x)?;
    let (x, y) = (integers::real(b, x, of_x)?, integers::real(b, y, of_y)?);
    let joined = join(b, x, y)?;
    Ok(one(requantise(b, joined, of_out, datum)?))
}

pub(super) fn add(b: &mut Build<'_>) -> TractResult<Outputs> {
    two(b, |b, x, y| b.add(x, y))
}

pub(super) fn mul(b: &mut Build<'_>) -> TractResult<Outputs> {
    two(b, |b, x, y| b.mul(x, y))
}

fn unary(
    b: &mut Build<'_>,
    of: impl Fn(&mut Build<'_>, OutletId) -> TractResult<OutletId>,
) -> TractResult<Outputs> {
    let x = b.input(0)?;
    let (steps, made) = (Steps::single(b, 1)?, Steps::single(b, 3)?);
    let datum = b.datum(x)?;
    let x = integers::real(b, x, steps)?;
    let x = of(b, x)?;
    Ok(one(requantise(b, x, made, datum)?))
}

pub(super) fn sigmoid(b: &mut Build<'_>) -> TractResult<Outputs> {
    unary(b, |b, x| b.op(curve(), &[x]))
}

pub(super) fn leaky_relu(b: &mut Build<'_>) -> TractResult<Outputs> {
    let alpha = b.node.float("alpha", 0.01);
    unary(b, |b, x| b.op(leaky(alpha), &[x]))
}

pub(super) fn softmax(b: &mut Build<'_>) -> TractResult<Outputs> {
    unary(b, |b, x| {
        let rank = b.rank(x)?;
        let axis = b.axis(b.node.int("axis", -1), rank)?;
        // Until operator set 13 a softmax is over all axes from there on.
        let axes = if b.node.int("opset", 13) < 13 { (axis..rank).collect() } else { tvec!(axis) };
        b.softmax(x, axes)
    })
}

/// The sum of whole numbers is exact, and ONNX Runtime has scales and count in one factor.
pub(super) fn global_average(b: &mut Build<'_>) -> TractResult<Outputs> {
    let x = b.input(0)?;
    let (steps, made) = (Steps::single(b, 1)?, Steps::single(b, 3)?);
    let datum = b.datum(x)?;
    let shape = b.shape(x)?;
    ensure!(shape.len() > 2, "it takes pictures, and its input has the shape {shape:?}");
    let last = b.node.flag("channels_last");
    let axes: TVec<usize> =
        if last { (1..shape.len() - 1).collect() } else { (2..shape.len()).collect() };
    let count: TDim = axes.iter().map(|&axis| shape[axis].clone()).product();
    let count = b.constant(tensor0(count))?;
    let count = b.cast(count, DatumType::F32)?;
    let counted = b.mul(made.scale, count)?;
    let factor = b.div(steps.scale, counted)?;
    let x = integers::whole(b, x, steps.zero)?;
    let x = b.reduce(x, axes, Reducer::Sum)?;
    let x = b.mul(x, factor)?;
    Ok(one(integers::saturate(b, x, made.zero, datum)?))
}

pub(super) fn concat(b: &mut Build<'_>) -> TractResult<Outputs> {
    let made = Steps::single(b, 0)?;
    let count = b.node.places().saturating_sub(2) / 3;
    ensure!(count > 0, "it has nothing to put together");
    let mut parts = Vec::with_capacity(count);
    for at in (2..).step_by(3).take(count) {
        let x = b.input(at)?;
        let (steps, datum) = (Steps::single(b, at + 1)?, b.datum(x)?);
        let x = integers::real(b, x, steps)?;
        parts.push(requantise(b, x, made, datum)?);
    }
    let axis = b.axis(b.node.int("axis", 0), b.rank(parts[0])?)?;
    Ok(one(b.concat(&parts, axis)?))
}

pub(super) fn choose(b: &mut Build<'_>) -> TractResult<Outputs> {
    let made = Steps::single(b, 7)?;
    let mut sides = tvec!();
    for at in [1, 4] {
        let x = b.input(at)?;
        let (steps, datum) = (Steps::single(b, at + 1)?, b.datum(x)?);
        let x = integers::real(b, x, steps)?;
        sides.push(requantise(b, x, made, datum)?);
    }
    let condition = b.input(0)?;
    Ok(one(b.choose(condition, sides[0], sides[1])?))
}
