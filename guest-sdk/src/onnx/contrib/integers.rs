//! Quantised numbers as floats: whole ones, less their zero point, that products and sums keep exact below 2^24.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cast::Cast;

use super::build::Build;

/// Scale and zero point of a tensor, by their places among a node's inputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) scale: OutletId,
    pub(super) zero: Option<OutletId>,
}

impl Steps {
    /// The inputs `at` and `at + 1`; the zero point may be missing.
    pub(super) fn at(b: &mut Build<'_>, at: usize) -> TractResult<Self> {
        Ok(Self { scale: b.input(at)?, zero: b.optional(at + 1)? })
    }

    /// Of one scale for the whole tensor, as numbers without axes.
    pub(super) fn single(b: &mut Build<'_>, at: usize) -> TractResult<Self> {
        let Self { scale, zero } = Self::at(b, at)?;
        let scale = scalar(b, scale, "scale")?;
        let zero = zero.map(|zero| scalar(b, zero, "zero point")).transpose()?;
        Ok(Self { scale, zero })
    }

    /// Of one scale, or of one for each place on `axis` of a tensor that has `rank` axes.
    pub(super) fn along(self, b: &mut Build<'_>, axis: usize, rank: usize) -> TractResult<Self> {
        let scale = along(b, self.scale, axis, rank)?;
        let zero = self.zero.map(|zero| along(b, zero, axis, rank)).transpose()?;
        Ok(Self { scale, zero })
    }
}

/// A tensor of one element, as a number without axes.
pub(super) fn scalar(b: &mut Build<'_>, mut x: OutletId, what: &str) -> TractResult<OutletId> {
    let shape = b.shape(x)?;
    ensure!(
        shape.iter().all(|size| *size == 1.to_dim()),
        "its {what} has the shape {shape:?}, and it takes a single one here; quantise by tensor"
    );
    for _ in 0..shape.len() {
        x = b.squeeze(x, 0)?;
    }
    Ok(x)
}

/// A number, or a row of numbers that goes along `axis` of a tensor with `rank` axes.
pub(super) fn along(
    b: &mut Build<'_>,
    mut x: OutletId,
    axis: usize,
    rank: usize,
) -> TractResult<OutletId> {
    let shape = b.shape(x)?;
    if shape.iter().all(|size| *size == 1.to_dim()) {
        return scalar(b, x, "scale");
    }
    // ONNX Runtime has it in as many axes as the tensor, too.
    if shape.len() == 1 {
        for _ in axis + 1..rank {
            let end = b.rank(x)?;
            x = b.unsqueeze(x, end)?;
        }
    }
    Ok(x)
}

/// The whole numbers of a quantised tensor less its zero point.
pub(super) fn whole(
    b: &mut Build<'_>,
    x: OutletId,
    zero: Option<OutletId>,
) -> TractResult<OutletId> {
    let datum = b.datum(x)?;
    let small = [DatumType::U8, DatumType::I8, DatumType::U16, DatumType::I16, DatumType::I32];
    ensure!(small.contains(&datum), "it takes quantised numbers, and its input holds {datum:?}");
    let floats = match rounded(b, x)? {
        Some(floats) => floats,
        None => b.cast(x, DatumType::F32)?,
    };
    let Some(zero) = zero else { return Ok(floats) };
    let none = b.known(zero)?.is_some_and(|zero| zero.is_all_zero().unwrap_or(false));
    if none {
        return Ok(floats);
    }
    let zero = b.cast(zero, DatumType::F32)?;
    b.sub(floats, zero)
}

/// What `x` was before it became small integers, if one of our own operators has made it so: the same numbers.
fn rounded(b: &Build<'_>, x: OutletId) -> TractResult<Option<OutletId>> {
    let maker = b.model.node(x.node);
    let Some(cast) = maker.op_as::<Cast>() else { return Ok(None) };
    let before = maker.inputs[0];
    let saturate = b.model.node(before.node).op_as::<Saturate>();
    Ok(saturate.is_some_and(|saturate| saturate.datum == cast.to).then_some(before))
}

/// The numbers that a quantised tensor stands for.
pub(super) fn real(b: &mut Build<'_>, x: OutletId, steps: Steps) -> TractResult<OutletId> {
    let x = whole(b, x, steps.zero)?;
    b.mul(x, steps.scale)
}

/// The type that a zero point says, or `otherwise`.
pub(super) fn stored(
    b: &Build<'_>,
    zero: Option<OutletId>,
    otherwise: DatumType,
) -> TractResult<DatumType> {
    let datum = zero.map_or(Ok(otherwise), |zero| b.datum(zero))?;
    let small = [DatumType::U8, DatumType::I8, DatumType::U16, DatumType::I16];
    ensure!(small.contains(&datum), "it stores {datum:?}, and 8 and 16 bits are supported");
    Ok(datum)
}

/// `x`, which counts steps, as small integers: rounded, half to even, the zero point added, and held within the type.
pub(super) fn saturate(
    b: &mut Build<'_>,
    x: OutletId,
    zero: Option<OutletId>,
    otherwise: DatumType,
) -> TractResult<OutletId> {
    let datum = stored(b, zero, otherwise)?;
    let zero = match zero {
        Some(zero) => b.cast(zero, DatumType::F32)?,
        None => b.constant(tensor0(0f32))?,
    };
    let x = b.op(Saturate { datum }, &[x, zero])?;
    b.cast(x, datum)
}

/// Rounds, half to even, adds the second input, and holds the sum within the numbers of `datum`. The result is still
/// floats: those that read it would only make floats of it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Saturate {
    datum: DatumType,
}

impl Saturate {
    fn bounds(&self) -> (f32, f32) {
        match self.datum {
            DatumType::I8 => (i8::MIN.into(), i8::MAX.into()),
            DatumType::U16 => (0.0, u16::MAX.into()),
            DatumType::I16 => (i16::MIN.into(), i16::MAX.into()),
            _ => (0.0, u8::MAX.into()),
        }
    }
}

impl Op for Saturate {
    fn name(&self) -> StaticName {
        "MayflySaturate".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Saturate {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let zeros = inputs.pop().context("no zero point")?.into_tensor();
        let mut x = inputs.pop().context("no input")?.into_tensor();
        let (low, high) = self.bounds();
        let held = |x: f32, zero: f32| (x.round_ties_even() + zero).clamp(low, high);
        if zeros.len() == 1 {
            let zero = zeros.try_as_plain_ram()?.as_slice::<f32>()?[0];
            let mut plain = x.try_as_plain_ram_mut()?;
            plain.as_slice_mut::<f32>()?.iter_mut().for_each(|x| *x = held(*x, zero));
        } else {
            let zeros = zeros.broadcast_into_rank(x.rank())?.broadcast_to_shape(x.shape())?;
            let mut plain = x.try_as_plain_ram_mut()?;
            let zeros = zeros.try_as_plain_ram()?;
            let both = plain.as_slice_mut::<f32>()?.iter_mut().zip(zeros.as_slice::<f32>()?);
            both.for_each(|(x, zero)| *x = held(*x, *zero));
        }
        Ok(tvec!(x.into_tvalue()))
    }
}

impl TypedOp for Saturate {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::datum_type().fact(inputs[0].shape.clone())))
    }
    as_op!();
}

/// Numbers as ONNX Runtime quantises them when it first sees them: from the smallest to the largest, zero among them,
/// in 255 steps. Gives how many steps each is from zero, and the length of one.
pub(super) fn spread(numbers: &mut [f32]) -> f32 {
    let (low, high) =
        numbers.iter().fold((0f32, 0f32), |(low, high), &x| (low.min(x), high.max(x)));
    let step = if low < high { (high - low) / 255.0 } else { 1.0 };
    let zero = (-low / step).clamp(0.0, 255.0).round_ties_even();
    for x in numbers {
        *x = ((*x / step).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
    }
    step
}

/// [`spread`] as an operator: the steps, and the length of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Spread;

impl Op for Spread {
    fn name(&self) -> StaticName {
        "MayflySpread".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Spread {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut x = inputs.pop().context("no input")?.into_tensor();
        let step = spread(x.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
        Ok(tvec!(x.into_tvalue(), tensor0(step).into_tvalue()))
    }
}

impl TypedOp for Spread {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = inputs[0].shape.clone();
        Ok(tvec!(f32::datum_type().fact(shape), f32::datum_type().scalar_fact()))
    }
    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_over_255_steps_of_which_one_is_zero() {
        let mut numbers = [-127.0, 128.0, 0.5, 1.5];
        assert_eq!(spread(&mut numbers), 1.0);
        assert_eq!(numbers, [-127.0, 128.0, 0.0, 2.0]);
        let mut zeros = [0.0; 3];
        assert_eq!(spread(&mut zeros), 1.0);
        assert_eq!(zeros, [0.0; 3]);
    }

    #[test]
    fn what_is_beyond_the_type_is_its_last_number() {
        let op = Saturate { datum: DatumType::I8 };
        let inputs = tvec!(tensor1(&[-900f32, 0.5, 1.5, 900.0]).into(), tensor0(3f32).into());
        let outputs = op.eval(&EvalContext::out_of_plan(), inputs).unwrap();
        assert_eq!(*outputs[0], tensor1(&[-128f32, 3.0, 5.0, 127.0]));
    }
}
