//! What is done to each column of a table before a model looks at it.

use tract_onnx::tract_core::internal::*;

use super::attributes::Attributes;
use super::scores::narrow;
use super::{Kernel, Kind, NUMBERS, OfNumbers, floats, slice, table};

/// Columns of a table that a file may ask for.
const COLUMNS_MAX: usize = 1 << 20;

/// One for all columns, or one for each.
fn per_column(len: usize, what: &str, input: &Kind) -> TractResult<()> {
    if len == 1 {
        return Ok(());
    }
    let (_, columns) = table(&input.shape, 1.to_dim())?;
    let columns = columns.to_usize().unwrap_or(len);
    ensure!(len == columns, "its `{what}` has {len} numbers, and its input {columns} columns");
    Ok(())
}

/// `(x - offset) * scale`
#[derive(Debug)]
struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

pub(super) fn scaler(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let or = |name: &str, default: f32| match attributes.floats(name) {
        [] => vec![default],
        values => values.to_vec(),
    };
    let (mut offset, mut scale) = (or("offset", 0.0), or("scale", 1.0));
    let len = offset.len().max(scale.len());
    for values in [&mut offset, &mut scale] {
        if let [value] = **values {
            values.resize(len, value);
        }
    }
    ensure!(
        offset.len() == scale.len(),
        "its `offset` has {} numbers, and its `scale` {}",
        offset.len(),
        scale.len()
    );
    Ok(Box::new(Scaler { offset, scale }))
}

impl Kernel for Scaler {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input] = inputs else { bail!("it takes one input") };
        input.among(&NUMBERS)?;
        per_column(self.scale.len(), "scale", input)?;
        Ok(vec![Kind::new(DatumType::F32, input.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let columns = self.offset.iter().zip(&self.scale).cycle();
        let output: Vec<f32> = if inputs[0].datum_type() == DatumType::F64 {
            let scaled = slice::<f64>(inputs[0])?.iter().zip(columns);
            let scaled = scaled.map(|(x, (&o, &s))| (x - f64::from(o)) * f64::from(s));
            scaled.map(narrow).collect()
        } else {
            let input = floats(inputs[0])?;
            let scaled = slice::<f32>(&input)?.iter().zip(columns);
            scaled.map(|(x, (offset, scale))| (x - offset) * scale).collect()
        };
        Ok(vec![Tensor::from_shape(inputs[0].shape(), &output)?])
    }
}

/// Each row by its own norm.
#[derive(Debug, Clone, Copy)]
enum Normalizer {
    Max,
    L1,
    L2,
}

pub(super) fn normalizer(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    Ok(Box::new(match attributes.string("norm", "MAX")? {
        "MAX" => Normalizer::Max,
        "L1" => Normalizer::L1,
        "L2" => Normalizer::L2,
        other => bail!("its norm {other:?} is none of MAX, L1 and L2"),
    }))
}

impl Normalizer {
    fn row(self, x: &[f64], y: &mut [f32]) {
        let norm = match self {
            Self::Max => {
                x.iter().fold(f32::MIN, |most, &v| if most < narrow(v) { narrow(v) } else { most })
            }
            Self::L1 => x.iter().map(|v| narrow(v.abs())).sum(),
            Self::L2 => x.iter().map(|v| narrow(v * v)).sum(),
        };
        for (y, &x) in y.iter_mut().zip(x) {
            *y = match self {
                _ if norm == 0.0 => narrow(x),
                Self::Max | Self::L1 => narrow(x) / norm,
                Self::L2 if x < 0.0 => -(narrow(x * x) / norm).sqrt(),
                Self::L2 => (narrow(x * x) / norm).sqrt(),
            };
        }
    }
}

impl Kernel for Normalizer {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input] = inputs else { bail!("it takes one input") };
        input.table()?;
        Ok(vec![Kind::new(DatumType::F32, input.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (_, columns) = table(inputs[0].shape(), 1)?;
        let input = inputs[0].cast_to::<f64>()?;
        let input = slice::<f64>(&input)?;
        let mut output = vec![0.0; input.len()];
        let width = columns.max(1);
        for (x, y) in input.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            self.row(x, y);
        }
        Ok(vec![Tensor::from_shape(inputs[0].shape(), &output)?])
    }
}

/// Puts values in the place of one that says that there was none.
#[derive(Debug)]
enum Imputer {
    Floats { missing: f32, instead: Vec<f32> },
    Ints { missing: i64, instead: Vec<i64> },
}

pub(super) fn imputer(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let floats = attributes.floats("imputed_value_floats").to_vec();
    let ints = attributes.ints("imputed_value_int64s").to_vec();
    Ok(Box::new(match (floats.is_empty(), ints.is_empty()) {
        (false, true) => {
            let missing = attributes.float("replaced_value_float", 0.0);
            Imputer::Floats { missing, instead: floats }
        }
        (true, false) => {
            Imputer::Ints { missing: attributes.int("replaced_value_int64", 0), instead: ints }
        }
        _ => bail!("it needs one of `imputed_value_floats` and `imputed_value_int64s`"),
    }))
}

impl Kernel for Imputer {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input] = inputs else { bail!("it takes one input") };
        match self {
            Self::Floats { instead, .. } => {
                input.among(&[DatumType::F32])?;
                per_column(instead.len(), "imputed_value_floats", input)?;
            }
            Self::Ints { instead, .. } => {
                input.among(&[DatumType::I64])?;
                per_column(instead.len(), "imputed_value_int64s", input)?;
            }
        }
        Ok(vec![input.clone()])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let shape = inputs[0].shape();
        Ok(vec![match self {
            Self::Floats { missing, instead } => {
                let is_missing = |x: f32| x == *missing || (x.is_nan() && missing.is_nan());
                let cells = slice::<f32>(inputs[0])?.iter().zip(instead.iter().cycle());
                let cells = cells.map(|(&x, &other)| if is_missing(x) { other } else { x });
                Tensor::from_shape(shape, &cells.collect::<Vec<_>>())?
            }
            Self::Ints { missing, instead } => {
                let cells = slice::<i64>(inputs[0])?.iter().zip(instead.iter().cycle());
                let cells = cells.map(|(x, other)| if x == missing { *other } else { *x });
                Tensor::from_shape(shape, &cells.collect::<Vec<_>>())?
            }
        }])
    }
}

/// 1 for what is above a threshold.
#[derive(Debug)]
struct Binarizer(f32);

pub(super) fn binarizer(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    Ok(Box::new(Binarizer(attributes.float("threshold", 0.0))))
}

impl Kernel for Binarizer {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input] = inputs else { bail!("it takes one input") };
        input.among(&[DatumType::F32])?;
        Ok(vec![input.clone()])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let cells = slice::<f32>(inputs[0])?.iter().map(|&x| f32::from(u8::from(x > self.0)));
        Ok(vec![Tensor::from_shape(inputs[0].shape(), &cells.collect::<Vec<_>>())?])
    }
}

/// Columns of several tables beside each other, each table cut or filled with zeros to its width.
#[derive(Debug)]
struct Vectorizer(Vec<usize>);

pub(super) fn vectorizer(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let widths = attributes.sizes("inputdimensions")?;
    ensure!(!widths.is_empty(), "it needs `inputdimensions`");
    let sum = widths.iter().try_fold(0usize, |sum, &width| sum.checked_add(width));
    ensure!(sum.is_some_and(|sum| sum <= COLUMNS_MAX), "its `inputdimensions` are too large");
    Ok(Box::new(Vectorizer(widths)))
}

impl Kernel for Vectorizer {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        ensure!(
            inputs.len() == self.0.len(),
            "its `inputdimensions` has {} widths, and it has {} inputs",
            self.0.len(),
            inputs.len()
        );
        let mut rows = None;
        for input in inputs {
            let (n, _) = input.table()?;
            let first = rows.get_or_insert_with(|| n.clone());
            if let (Ok(first), Ok(n)) = (first.to_usize(), n.to_usize()) {
                ensure!(first == n, "its inputs have {first} and {n} rows");
            }
        }
        let width = self.0.iter().sum::<usize>().to_dim();
        Ok(vec![Kind::new(DatumType::F32, tvec!(rows.unwrap_or_else(|| 1.to_dim()), width))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let width: usize = self.0.iter().sum();
        let (rows, _) = table(inputs[0].shape(), 1)?;
        let (mut output, mut at) = (vec![0.0; rows * width], 0);
        for (input, &room) in inputs.iter().zip(&self.0) {
            let (_, columns) = table(input.shape(), 1)?;
            let input = floats(input)?;
            let kept = room.min(columns);
            let from = slice::<f32>(&input)?.chunks_exact(columns.max(1));
            for (to, from) in output.chunks_exact_mut(width.max(1)).zip(from) {
                to[at..at + kept].copy_from_slice(&from[..kept]);
            }
            at += room;
        }
        Ok(vec![Tensor::from_shape(&[rows, width], &output)?])
    }
}

/// Columns by their numbers.
#[derive(Debug)]
struct Extractor;

pub(super) fn extractor(_: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    Ok(Box::new(Extractor))
}

impl Kernel for Extractor {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input, indices] = inputs else { bail!("it takes two inputs") };
        input.among(&[NUMBERS.as_slice(), &[DatumType::String]].concat())?;
        indices.among(&[DatumType::I64])?;
        let count = indices.shape.iter().product::<TDim>();
        let mut shape = input.shape.clone();
        match shape.as_mut_slice() {
            [] => bail!("its input has no axis"),
            [_] => shape = tvec!(1.to_dim(), count),
            [.., last] => *last = count,
        }
        Ok(vec![Kind::new(input.datum, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (input, indices) = (inputs[0], slice::<i64>(inputs[1])?);
        let Some((&columns, outer)) = input.shape().split_last() else {
            bail!("its input has no axis")
        };
        let indices = indices.iter().map(|&index| {
            let index = usize::try_from(index).ok().filter(|&index| index < columns);
            index.ok_or(OfNumbers("an index is beyond the columns of its input").into())
        });
        let indices = indices.collect::<TractResult<Vec<_>>>()?;
        let mut shape = if outer.is_empty() { vec![1] } else { outer.to_vec() };
        shape.push(indices.len());
        Ok(vec![match input.datum_type() {
            DatumType::F32 => columns_of::<f32>(input, columns, &indices, &shape)?,
            DatumType::F64 => columns_of::<f64>(input, columns, &indices, &shape)?,
            DatumType::I64 => columns_of::<i64>(input, columns, &indices, &shape)?,
            DatumType::I32 => columns_of::<i32>(input, columns, &indices, &shape)?,
            _ => columns_of::<String>(input, columns, &indices, &shape)?,
        }])
    }
}

fn columns_of<T: Datum + Clone>(
    input: &Tensor,
    columns: usize,
    indices: &[usize],
    shape: &[usize],
) -> TractResult<Tensor> {
    let rows = slice::<T>(input)?.chunks_exact(columns.max(1));
    let cells = rows.flat_map(|row| indices.iter().map(|&index| row[index].clone()));
    tensor1(&cells.collect::<Vec<_>>()).into_shape(shape)
}
