//! An LSTM whose inputs are quantised by what they hold, as ONNX Runtime computes it: the whole sequence at once before
//! the product with its weights, and the state at each step.

use tract_onnx::tract_core::internal::*;

use super::integers::spread;
use crate::kernels::Rows;

/// One direction's weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) input: Rows,
    pub(super) recurrent: Rows,
    /// Scales of the input's and of the recurrent weights, and the bias; one for each number of each gate.
    pub(super) parameters: [Arc<Tensor>; 3],
    pub(super) peepholes: Option<Arc<Tensor>>,
    pub(super) reverse: bool,
}

/// Cells over a sequence, `[place, batch, number]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recurrence {
    pub(super) hidden: usize,
    pub(super) directions: usize,
    /// None as long as only the sizes are asked for.
    pub(super) cells: Vec<Cell>,
    /// Whether lengths, the first hidden state and the first cell state are inputs.
    pub(super) given: [bool; 3],
}

/// A sequence, `[place, line, number]`.
struct Sequence<'a> {
    x: &'a [f32],
    /// Numbers of one line at one place.
    width: usize,
    /// Places of each line.
    lengths: Vec<usize>,
}

/// Where one direction's outputs go.
struct Sides<'a> {
    /// Those of all places, with `stride` from one place to the next.
    y: &'a mut [f32],
    stride: usize,
    /// The states, `[line, number]`: what is there is where the sequence starts.
    hidden: &'a mut [f32],
    cell: &'a mut [f32],
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

impl Cell {
    fn run(&self, sequence: &Sequence<'_>, to: &mut Sides<'_>) -> TractResult<()> {
        let lengths = &sequence.lengths;
        let batch = lengths.len();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(());
        }
        let size = to.hidden.len() / batch;
        let [of_input, of_state, bias] = &self.parameters;
        let (of_input, of_state, bias) = (floats(of_input)?, floats(of_state)?, floats(bias)?);
        // Padding that no line reaches is not looked at.
        let mut inputs = sequence.x[..longest * batch * sequence.width].to_vec();
        let step = spread(&mut inputs);
        let inputs = self.input.times(longest * batch, &inputs)?;
        let inputs = floats(&inputs)?;
        let mut gates = vec![0.0; 4 * size];
        let mut state = vec![0.0; batch * size];
        for place in 0..longest {
            state.copy_from_slice(to.hidden);
            // The last state of a line that has ended is still looked at once.
            for (line, _) in lengths.iter().enumerate().filter(|(_, length)| place > **length) {
                state[line * size..][..size].fill(0.0);
            }
            let of_step = spread(&mut state);
            let states = self.recurrent.times(batch, &state)?;
            let states = floats(&states)?;
            let running = lengths.iter().enumerate().filter(|(_, length)| place < **length);
            for (line, &length) in running {
                let at = if self.reverse { length - 1 - place } else { place };
                let inputs = &inputs[(at * batch + line) * 4 * size..][..4 * size];
                let states = &states[line * 4 * size..][..4 * size];
                for (i, gate) in gates.iter_mut().enumerate() {
                    let input = inputs[i] * (step * of_input[i]);
                    *gate = input + states[i] * (of_step * of_state[i]) + bias[i];
                }
                let own = line * size..(line + 1) * size;
                self.step(&gates, &mut to.hidden[own.clone()], &mut to.cell[own.clone()])?;
                to.y[at * to.stride..][own.clone()].copy_from_slice(&to.hidden[own]);
            }
        }
        Ok(())
    }

    /// The next state of one line. Gates are in ONNX's order: input, output, forget, cell.
    fn step(&self, gates: &[f32], hidden: &mut [f32], cell: &mut [f32]) -> TractResult<()> {
        let size = hidden.len();
        let none = vec![0.0; if self.peepholes.is_some() { 0 } else { 3 * size }];
        let peepholes = match &self.peepholes {
            Some(peepholes) => floats(peepholes)?,
            None => &none,
        };
        for i in 0..size {
            let [input, output, forget, new] = [0, 1, 2, 3].map(|gate| gates[gate * size + i]);
            let [to_input, to_output, to_forget] = [0, 1, 2].map(|gate| peepholes[gate * size + i]);
            let before = cell[i];
            let input = logistic(input + to_input * before);
            let forget = logistic(forget + to_forget * before);
            cell[i] = forget * before + input * new.tanh();
            hidden[i] = logistic(output + to_output * cell[i]) * cell[i].tanh();
        }
        Ok(())
    }
}

impl Recurrence {
    /// The sequence and the states that it starts with, of what is given.
    fn read<'a>(&self, inputs: &'a [TValue]) -> TractResult<(Sequence<'a>, [Vec<f32>; 2])> {
        let [length, batch, width] = *inputs[0].shape() else { bail!("a sequence of three axes") };
        let mut rest = inputs[1..].iter();
        let [lengths, hidden, cell] = self.given.map(|given| given.then(|| rest.next()).flatten());
        let lengths = match lengths {
            Some(lengths) => {
                let lengths = lengths.cast_to::<i64>()?;
                let lengths = lengths.try_as_plain_ram()?.as_slice::<i64>()?;
                ensure!(lengths.len() == batch, "its `sequence_lens` are not one for each line");
                let within = |&given: &i64| usize::try_from(given).ok().filter(|n| *n <= length);
                let lengths = lengths.iter().map(within).collect::<Option<Vec<_>>>();
                lengths.context("its `sequence_lens` are not within the sequence")?
            }
            None => vec![length; batch],
        };
        let count = self.directions * batch * self.hidden;
        let state = |given: Option<&TValue>| match given {
            Some(given) => {
                ensure!(given.len() == count, "its states are not one for each line");
                Ok(floats(given)?.to_vec())
            }
            None => Ok(vec![0.0; count]),
        };
        let states = [state(hidden)?, state(cell)?];
        Ok((Sequence { x: floats(&inputs[0])?, width, lengths }, states))
    }
}

impl Op for Recurrence {
    fn name(&self) -> StaticName {
        "MayflyDynamicQuantizeLSTM".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Recurrence {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (sequence, [mut hidden, mut cell]) = self.read(&inputs)?;
        let (length, batch) = (inputs[0].shape()[0], sequence.lengths.len());
        let own = batch * self.hidden;
        let mut y = vec![0.0; length * self.directions * own];
        if own > 0 {
            for (at, weights) in self.cells.iter().enumerate() {
                let mut sides = Sides {
                    y: y.get_mut(at * own..).unwrap_or_default(),
                    stride: self.directions * own,
                    hidden: &mut hidden[at * own..][..own],
                    cell: &mut cell[at * own..][..own],
                };
                weights.run(&sequence, &mut sides)?;
            }
        }
        let state = [self.directions, batch, self.hidden];
        let outputs = [
            Tensor::from_shape(&[length, self.directions, batch, self.hidden], &y)?,
            Tensor::from_shape(&state, &hidden)?,
            Tensor::from_shape(&state, &cell)?,
        ];
        Ok(outputs.into_iter().map(Tensor::into_tvalue).collect())
    }
}

impl TypedOp for Recurrence {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [length, batch, _] = &*inputs[0].shape.to_tvec() else {
            bail!("it takes sequences, [places, lines, numbers]");
        };
        let (directions, hidden) = (self.directions.to_dim(), self.hidden.to_dim());
        let state = [directions.clone(), batch.clone(), hidden.clone()];
        let all = [length.clone(), directions, batch.clone(), hidden];
        let fact = |shape: &[TDim]| f32::datum_type().fact(shape);
        Ok(tvec!(fact(&all), fact(&state), fact(&state)))
    }
    as_op!();
}
