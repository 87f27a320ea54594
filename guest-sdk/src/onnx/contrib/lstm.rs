//! `DynamicQuantizeLSTM`: what the node's inputs and attributes say of its cells.

use tract_onnx::tract_core::internal::*;

use super::build::{Build, Outputs};
use super::recurrence::{Cell, Recurrence};
use crate::kernels::Rows;

pub(super) fn dynamic(b: &mut Build<'_>) -> TractResult<Outputs> {
    let directions = match b.node.string("direction")? {
        "" | "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => bail!("its direction {other:?} is none of the standard's"),
    };
    plain(b, directions.len())?;
    let (x, recurrent) = (b.input(0)?, b.input(2)?);
    let [_, hidden, _] = b.sized(recurrent)?;
    let hidden = hidden.to_usize().context("the size of its state is open")?;
    let optional = [b.optional(4)?, b.optional(5)?, b.optional(6)?];
    let mut op = Recurrence {
        hidden,
        directions: directions.len(),
        cells: Vec::new(),
        given: optional.map(|input| input.is_some()),
    };
    if !b.sizing {
        for (at, &reverse) in directions.iter().enumerate() {
            op.cells.push(cell(b, at, hidden, reverse)?);
        }
    }
    let inputs: TVec<OutletId> = [Some(x)].into_iter().chain(optional).flatten().collect();
    Ok(b.ops(op, &inputs)?.into_iter().map(Some).collect())
}

/// Refuses what quantisers do not write.
fn plain(b: &Build<'_>, directions: usize) -> TractResult<()> {
    let instead = "quantise the model without this LSTM";
    b.node.without(&["input_forget"], instead)?;
    ensure!(b.node.float("clip", 0.0) == 0.0, "its `clip` is not supported; {instead}");
    let usual = ["sigmoid", "tanh", "tanh"].repeat(directions);
    let given: Vec<_> =
        b.node.strings("activations")?.iter().map(|name| name.to_lowercase()).collect();
    ensure!(
        given.is_empty() || given == usual,
        "its activations {given:?} are not supported, only Sigmoid, Tanh and Tanh; {instead}"
    );
    Ok(())
}

/// The cell of one direction.
fn cell(b: &mut Build<'_>, at: usize, hidden: usize, reverse: bool) -> TractResult<Cell> {
    let gates = 4 * hidden;
    let (input, input_scales) = weights(b, 1, 8, at, gates)?;
    let (recurrent, recurrent_scales) = weights(b, 2, 10, at, gates)?;
    let bias = match row(b, 3, at)? {
        Some(both) => {
            ensure!(both.len() == 2 * gates, "its biases are not as many as its gates");
            both[..gates].iter().zip(&both[gates..]).map(|(w, r)| w + r).collect()
        }
        None => vec![0.0; gates],
    };
    let peepholes = row(b, 7, at)?;
    let right = peepholes.as_ref().is_none_or(|numbers| numbers.len() == 3 * hidden);
    ensure!(right, "its peepholes are not as many as its gates");
    let parameters =
        [input_scales, recurrent_scales, bias].map(|row| tensor1(&row).into_arc_tensor());
    let peepholes = peepholes.map(|numbers| tensor1(&numbers).into_arc_tensor());
    Ok(Cell { input, recurrent, parameters, peepholes, reverse })
}

/// A constant of the file, as floats.
fn constant(b: &mut Build<'_>, place: usize) -> TractResult<Option<Tensor>> {
    let Some(input) = b.optional(place)? else { return Ok(None) };
    let known = b.known(input)?.with_context(|| {
        format!("its input {place} is made by other nodes; weights have to be constants")
    })?;
    Ok(Some(known.cast_to::<f32>()?.into_owned()))
}

/// What a constant has for direction `at`.
fn row(b: &mut Build<'_>, place: usize, at: usize) -> TractResult<Option<Vec<f32>>> {
    let Some(known) = constant(b, place)? else { return Ok(None) };
    let known = known.slice(0, at, at + 1).with_context(|| format!("its input {place}"))?;
    Ok(Some(known.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
}

/// Quantised weights less their zero point, and their scales, one for each gate.
fn weights(
    b: &mut Build<'_>,
    place: usize,
    scale: usize,
    at: usize,
    gates: usize,
) -> TractResult<(Rows, Vec<f32>)> {
    let mut numbers =
        row(b, place, at)?.with_context(|| format!("its input {place} is missing"))?;
    let each = |b: &mut Build<'_>, place: usize| -> TractResult<Vec<f32>> {
        let row = row(b, place, at)?.with_context(|| format!("its input {place} is missing"))?;
        match row.len() {
            1 => Ok(vec![row[0]; gates]),
            count if count == gates => Ok(row),
            count => bail!("its input {place} has {count} numbers for {gates} gates"),
        }
    };
    let (scales, zeros) = (each(b, scale)?, each(b, scale + 1)?);
    ensure!(numbers.len() % gates == 0, "its input {place} has no {gates} columns");
    for line in numbers.chunks_exact_mut(gates) {
        line.iter_mut().zip(&zeros).for_each(|(number, zero)| *number -= zero);
    }
    Ok((Rows::new(&numbers, numbers.len() / gates, gates)?, scales))
}
