//! Matrix products: those that ONNX Runtime fuses other operators into, and those of quantised numbers.

use tract_onnx::tract_core::internal::*;

use super::activations::activate;
use super::build::{Build, Outputs, one};
use super::integers::{self, Spread, Steps};

/// `FusedMatMul`, and `FusedMatMulActivation` and the older `TransposeMatMul`, which have the same attributes or fewer.
pub(super) fn fused(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (mut x, mut y) = (b.input(0)?, b.input(1)?);
    if b.node.flag("transBatchA") {
        x = inner_batch(b, x)?;
    }
    if b.node.flag("transBatchB") {
        y = inner_batch(b, y)?;
    }
    // A vector has no transpose.
    let turned = |b: &Build<'_>, name: &str, x: OutletId| -> TractResult<bool> {
        Ok(b.node.flag(name) && b.rank(x)? > 1)
    };
    let turn = [turned(b, "transA", x)?, turned(b, "transB", y)?];
    let product = b.matmul(x, y, turn)?;
    let product = b.times(product, b.node.float("alpha", 1.0))?;
    Ok(one(activated(b, product)?))
}

/// Of a tensor whose batch is between rows and columns, those two last.
fn inner_batch(b: &mut Build<'_>, x: OutletId) -> TractResult<OutletId> {
    let rank = b.rank(x)?;
    ensure!(rank > 2, "it has the batch inside a matrix, which has {rank} axes");
    b.moved(x, 0, rank - 2)
}

fn activated(b: &mut Build<'_>, x: OutletId) -> TractResult<OutletId> {
    let name = b.node.string("activation")?;
    let parameters = match name {
        "LeakyRelu" => vec![b.node.float("activation_alpha", 0.01)],
        "HardSigmoid" => {
            vec![b.node.float("activation_alpha", 0.2), b.node.float("activation_beta", 0.5)]
        }
        "Clip" => bail!("its activation \"Clip\" is not supported; export without optimisations"),
        _ => Vec::new(),
    };
    activate(b, x, name, &parameters)
}

/// `Gemm` as ONNX Runtime has it, in every type; `FusedGemm` with an activation.
pub(super) fn gemm(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, y) = (b.input(0)?, b.input(1)?);
    for input in [x, y] {
        let rank = b.rank(input)?;
        ensure!(rank == 2, "it takes matrices, and one of its inputs has {rank} axes");
    }
    let product = b.matmul(x, y, [b.node.flag("transA"), b.node.flag("transB")])?;
    let mut product = b.times(product, b.node.float("alpha", 1.0))?;
    let beta = b.node.float("beta", 1.0);
    if let Some(bias) = b.optional(2)?
        && beta != 0.0
    {
        let datum = b.datum(product)?;
        let bias = b.cast(bias, datum)?;
        let bias = b.times(bias, beta)?;
        product = b.add(product, bias)?;
    }
    Ok(one(activated(b, product)?))
}

/// A row of numbers for the columns of a product; a single one for all.
fn columns(b: &mut Build<'_>, steps: Steps, of: OutletId) -> TractResult<Steps> {
    let rank = b.rank(of)?;
    steps.along(b, rank - 1, rank)
}

/// `QLinearMatMul`
pub(super) fn quantised(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, y) = (b.input(0)?, b.input(3)?);
    let (of_x, of_y, made) = (Steps::single(b, 1)?, Steps::at(b, 4)?, Steps::single(b, 6)?);
    let of_y = columns(b, of_y, y)?;
    let datum = b.datum(x)?;
    let (x, y) = (integers::whole(b, x, of_x.zero)?, integers::whole(b, y, of_y.zero)?);
    let sums = b.matmul(x, y, [false; 2])?;
    let factor = b.mul(of_x.scale, of_y.scale)?;
    let factor = b.div(factor, made.scale)?;
    let sums = b.mul(sums, factor)?;
    Ok(one(integers::saturate(b, sums, made.zero, datum)?))
}

/// `QGemm`: quantised, or floats if there is no scale for the output.
pub(super) fn quantised_gemm(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, y) = (b.input(0)?, b.input(3)?);
    let (of_x, mut of_y) = (Steps::single(b, 1)?, Steps::at(b, 4)?);
    let (trans_a, trans_b) = (b.node.flag("transA"), b.node.flag("transB"));
    of_y = of_y.along(b, usize::from(!trans_b), 2)?;
    let datum = b.datum(x)?;
    let (x, y) = (integers::whole(b, x, of_x.zero)?, integers::whole(b, y, of_y.zero)?);
    let mut sums = b.matmul(x, y, [trans_a, trans_b])?;
    if let Some(bias) = b.optional(6)? {
        let bias = b.cast(bias, DatumType::F32)?;
        sums = b.add(sums, bias)?;
    }
    let mut scale = of_y.scale;
    if trans_b && b.rank(scale)? == 2 {
        scale = b.moved(scale, 0, 1)?;
    }
    let factor = b.mul(of_x.scale, scale)?;
    let factor = b.times(factor, b.node.float("alpha", 1.0))?;
    if b.optional(7)?.is_none() {
        return Ok(one(b.mul(sums, factor)?));
    }
    let made = Steps::single(b, 7)?;
    let factor = b.div(factor, made.scale)?;
    let sums = b.mul(sums, factor)?;
    Ok(one(integers::saturate(b, sums, made.zero, datum)?))
}

/// `MatMulIntegerToFloat`
pub(super) fn to_float(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, y) = (b.input(0)?, b.input(1)?);
    let scale = b.input(2)?;
    let scale = integers::scalar(b, scale, "scale of the first input")?;
    let zero = b.optional(4)?;
    let zero = zero.map(|zero| integers::scalar(b, zero, "zero point of the first input"));
    let zero = zero.transpose()?;
    let x = integers::whole(b, x, zero)?;
    let of_y = Steps { scale: b.input(3)?, zero: b.optional(5)? };
    times_weights(b, x, scale, y, of_y, 6)
}

/// `DynamicQuantizeMatMul`: the first operand is quantised by what it holds.
pub(super) fn dynamic(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, y) = (b.input(0)?, b.input(1)?);
    let of_y = Steps { scale: b.input(2)?, zero: b.optional(3)? };
    let spread = b.ops(Spread, &[x])?;
    times_weights(b, spread[0], spread[1], y, of_y, 4)
}

/// `x`, of whole numbers, times quantised weights, and the bias at `bias`, as floats.
fn times_weights(
    b: &mut Build<'_>,
    x: OutletId,
    scale: OutletId,
    y: OutletId,
    of_y: Steps,
    bias: usize,
) -> TractResult<Outputs> {
    let of_y = columns(b, of_y, y)?;
    let y = integers::whole(b, y, of_y.zero)?;
    let sums = b.matmul(x, y, [false; 2])?;
    let factor = b.mul(scale, of_y.scale)?;
    let mut product = b.mul(sums, factor)?;
    if let Some(bias) = b.optional(bias)? {
        product = b.add(product, bias)?;
    }
    Ok(one(product))
}
