//! Activations: those of `com.microsoft`, and those that are fused into a product or a convolution.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{gelu_approximate, gelu_exact, leaky_relu, sigmoid};

use super::build::{Build, Outputs, one};

pub(super) fn gelu(b: &mut Build<'_>) -> TractResult<Outputs> {
    let x = b.input(0)?;
    Ok(one(exact(b, x)?))
}

pub(super) fn bias_gelu(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, bias) = (b.input(0)?, b.input(1)?);
    let x = b.add(x, bias)?;
    Ok(one(exact(b, x)?))
}

pub(super) fn fast_gelu(b: &mut Build<'_>) -> TractResult<Outputs> {
    let mut x = b.input(0)?;
    if let Some(bias) = b.optional(1)? {
        x = b.add(x, bias)?;
    }
    floats(b, x)?;
    Ok(one(b.op(gelu_approximate::gelu_approximate(false), &[x])?))
}

pub(super) fn quick_gelu(b: &mut Build<'_>) -> TractResult<Outputs> {
    let x = b.input(0)?;
    let scaled = b.times(x, b.node.float("alpha", 1.702))?;
    let gate = b.op(sigmoid(), &[scaled])?;
    Ok(one(b.mul(x, gate)?))
}

/// `x / 2 (1 + erf(x / sqrt 2))`
fn exact(b: &mut Build<'_>, x: OutletId) -> TractResult<OutletId> {
    floats(b, x)?;
    b.op(gelu_exact::gelu_exact(), &[x])
}

fn floats(b: &Build<'_>, x: OutletId) -> TractResult<()> {
    let datum = b.datum(x)?;
    ensure!(
        datum == DatumType::F32,
        "it takes f32 and f16, and its input holds {datum:?}; put a Cast before it"
    );
    Ok(())
}

/// The activation `name`, with the parameters that are given for it.
pub(super) fn activate(
    b: &mut Build<'_>,
    x: OutletId,
    name: &str,
    parameters: &[f32],
) -> TractResult<OutletId> {
    let parameter = |i: usize, default: f32| parameters.get(i).copied().unwrap_or(default);
    match name {
        "" => Ok(x),
        "Relu" => clamp(b, x, Some(0.0), None),
        "Sigmoid" => b.op(sigmoid(), &[x]),
        "Tanh" => b.op(math::tanh(), &[x]),
        "LeakyRelu" => b.op(leaky_relu(parameter(0, 0.01)), &[x]),
        "Clip" => clamp(b, x, parameters.first().copied(), parameters.get(1).copied()),
        "HardSigmoid" => {
            let x = b.times(x, parameter(0, 0.2))?;
            let x = b.plus(x, parameter(1, 0.5))?;
            clamp(b, x, Some(0.0), Some(1.0))
        }
        other => bail!(
            "its activation {other:?} is not supported; export the model without ONNX Runtime's optimisations"
        ),
    }
}

pub(super) fn clamp(
    b: &mut Build<'_>,
    mut x: OutletId,
    low: Option<f32>,
    high: Option<f32>,
) -> TractResult<OutletId> {
    if let Some(low) = low {
        let low = b.scalar(low, x)?;
        x = b.max(x, low)?;
    }
    if let Some(high) = high {
        let high = b.scalar(high, x)?;
        x = b.min(x, high)?;
    }
    Ok(x)
}
