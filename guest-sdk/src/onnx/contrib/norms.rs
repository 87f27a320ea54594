//! Normalisations, and the embedding that ends in one.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::CumSum;
use tract_onnx::tract_core::ops::logic::comp_eq;
use tract_onnx::tract_core::ops::math::{rsqrt, square};
use tract_onnx::tract_core::ops::nn::Reducer;

use super::build::{Build, Outputs, one};
use super::integers::{self, Steps};

/// A normalised tensor, and what it was divided by and less.
struct Normal {
    x: OutletId,
    mean: OutletId,
    inverse: OutletId,
}

/// Of deviation one over `axes`, and of mean zero if `centred`.
fn normal(
    b: &mut Build<'_>,
    x: OutletId,
    axes: &[usize],
    centred: bool,
    epsilon: f32,
) -> TractResult<Normal> {
    let mean = b.mean(x, axes.into())?;
    let x = if centred { b.sub(x, mean)? } else { x };
    let squares = b.op(square(), &[x])?;
    let variance = b.mean(squares, axes.into())?;
    let variance = b.plus(variance, epsilon)?;
    let inverse = b.op(rsqrt(), &[variance])?;
    Ok(Normal { x: b.mul(x, inverse)?, mean, inverse })
}

fn last_axis(b: &Build<'_>, x: OutletId) -> TractResult<usize> {
    b.rank(x)?.checked_sub(1).context("its input has no axis")
}

/// `SimplifiedLayerNormalization`: divided by the root of the mean of squares, and scaled.
pub(super) fn simplified(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, scale) = (b.input(0)?, b.input(1)?);
    let rank = b.rank(x)?;
    let axis = b.axis(b.node.int("axis", -1), rank)?;
    let axes: Vec<_> = (axis..rank).collect();
    let normal = normal(b, x, &axes, false, b.node.float("epsilon", 1e-5))?;
    let inverse = b.keep(normal.inverse);
    let x = b.mul(normal.x, scale)?;
    Ok(tvec!(Some(x), Some(inverse)))
}

/// The numbers of each head, divided by the root of the mean of their squares, and scaled.
pub(super) fn of_heads(
    b: &mut Build<'_>,
    x: OutletId,
    scale: OutletId,
    epsilon: f32,
) -> TractResult<OutletId> {
    let axis = last_axis(b, x)?;
    let normal = normal(b, x, &[axis], false, epsilon)?;
    b.mul(normal.x, scale)
}

/// `SkipLayerNormalization`
pub(super) fn skip(b: &mut Build<'_>) -> TractResult<Outputs> {
    let shift = b.optional(3)?;
    let bias = b.optional(4)?;
    after_sum(b, true, shift, bias)
}

/// `SkipSimplifiedLayerNormalization`
pub(super) fn skip_simplified(b: &mut Build<'_>) -> TractResult<Outputs> {
    let bias = b.optional(3)?;
    after_sum(b, false, None, bias)
}

fn after_sum(
    b: &mut Build<'_>,
    centred: bool,
    shift: Option<OutletId>,
    bias: Option<OutletId>,
) -> TractResult<Outputs> {
    let (x, skip, scale) = (b.input(0)?, b.input(1)?, b.input(2)?);
    let mut sum = b.add(x, skip)?;
    if let Some(bias) = bias {
        sum = b.add(sum, bias)?;
    }
    let axis = last_axis(b, sum)?;
    let normal = normal(b, sum, &[axis], centred, b.node.float("epsilon", 1e-12))?;
    let mut y = b.mul(normal.x, scale)?;
    if let Some(shift) = shift {
        y = b.add(y, shift)?;
    }
    let (mean, inverse) = (b.keep(normal.mean), b.keep(normal.inverse));
    Ok(tvec!(Some(y), centred.then_some(mean), Some(inverse), Some(sum)))
}

/// `BatchNormalization`, whose scale and statistics may be computed by other nodes.
pub(super) fn batch(b: &mut Build<'_>) -> TractResult<Outputs> {
    b.node.without(&["training_mode"], "export the model for inference")?;
    ensure!(
        b.node.int("spatial", 1) != 0,
        "its spatial = 0 is not supported; export with operator set 9 or later"
    );
    let x = b.input(0)?;
    let axes = b.rank(x)?;
    let datum = b.datum(x)?;
    let mut parameters = tvec!();
    for place in 1..5 {
        let parameter = b.input(place)?;
        let parameter = b.cast(parameter, datum)?;
        parameters.push(integers::along(b, parameter, 1, axes.max(2))?);
    }
    let [scale, shift, mean, variance] = parameters[..] else { bail!("it has no four parameters") };
    let variance = b.plus(variance, b.node.float("epsilon", 1e-5))?;
    // In this order, in which known parameters become one factor and one addend.
    let inverse = b.op(rsqrt(), &[variance])?;
    let factor = b.mul(scale, inverse)?;
    let less = b.mul(mean, factor)?;
    let addend = b.sub(shift, less)?;
    let y = b.mul(x, factor)?;
    Ok(one(b.add(y, addend)?))
}

/// `CumSum`, of sizes too.
pub(super) fn running_sum(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, axis) = (b.input(0)?, b.input(1)?);
    let rank = b.rank(x)?;
    let axis = match b.known(axis)? {
        Some(axis) => b.axis(axis.cast_to_scalar::<i64>()?, rank)?,
        None if b.sizing => 0,
        None => bail!("its axis is not known before there is a request; make it a constant"),
    };
    let op = CumSum { axis, exclusive: b.node.flag("exclusive"), reverse: b.node.flag("reverse") };
    Ok(one(b.op(op, &[x])?))
}

/// `EmbedLayerNormalization`
pub(super) fn embed(b: &mut Build<'_>) -> TractResult<Outputs> {
    let tables = [b.optional(2)?, b.optional(3)?, b.optional(4)?];
    let (scale, shift) = (b.input(5)?, b.input(6)?);
    let (mask, positions) = (b.optional(7)?, b.optional(8)?);
    embedded(b, tables, [scale, shift], mask, positions)
}

/// `QEmbedLayerNormalization`
pub(super) fn embed_quantised(b: &mut Build<'_>) -> TractResult<Outputs> {
    let mut reals = [None; 5];
    for (i, real) in reals.iter_mut().enumerate() {
        if let Some(table) = b.optional(2 + i)? {
            let scale = b.input(8 + i)?;
            let scale = integers::scalar(b, scale, "scale")?;
            let zero = b.input(13 + i)?;
            let zero = Some(integers::scalar(b, zero, "zero point")?);
            *real = Some(integers::real(b, table, Steps { scale, zero })?);
        }
    }
    let [words, positions, segments, Some(scale), Some(shift)] = reals else {
        bail!("its scale or its bias is missing");
    };
    let mask = b.optional(7)?;
    embedded(b, [words, positions, segments], [scale, shift], mask, None)
}

/// Rows of words, of positions and of segments, added and normalised; and how many of each line the mask lets pass.
fn embedded(
    b: &mut Build<'_>,
    [words, places, segments]: [Option<OutletId>; 3],
    [scale, shift]: [OutletId; 2],
    mask: Option<OutletId>,
    positions: Option<OutletId>,
) -> TractResult<Outputs> {
    let ids = b.input(0)?;
    let [lines, length] = b.sized(ids)?;
    let (words, places) = (words.context("no words")?, places.context("no positions")?);
    let words = b.rows(words, ids)?;
    let places = match positions {
        Some(positions) => b.rows(places, positions)?,
        None => b.slice(places, 0, 0, length)?,
    };
    // ONNX Runtime's `embedding_sum` has the segments in it, whatever its name says.
    let mut sum = b.add(words, places)?;
    if let Some(segment) = b.optional(1)? {
        let segments = segments.context("it has segments, and no table of them")?;
        let segments = b.rows(segments, segment)?;
        sum = b.add(sum, segments)?;
    }
    let normal = normal(b, sum, &[2], true, b.node.float("epsilon", 1e-12))?;
    let y = b.mul(normal.x, scale)?;
    let y = b.add(y, shift)?;
    let count = match mask {
        Some(mask) => {
            let one = b.scalar(1.0, mask)?;
            let passes = b.compare(comp_eq(), mask, one)?;
            let passes = b.cast(passes, DatumType::I32)?;
            let count = b.reduce(passes, tvec!(1), Reducer::Sum)?;
            b.squeeze(count, 1)?
        }
        None => {
            let zero = b.constant(tensor1(&[0i32]))?;
            b.stretch(zero, tvec!(lines))?
        }
    };
    Ok(tvec!(Some(y), Some(count), Some(sum)))
}
