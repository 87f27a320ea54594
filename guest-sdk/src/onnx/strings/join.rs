//! `StringConcat`, `StringSplit` and `RegexFullMatch`.

use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::internal::*;

use super::super::ml::attributes::Attributes;
use super::super::ml::{Kernel, Kind, slice};
use super::regex::{Regex, Search};

/// One text behind the other.
#[derive(Debug)]
struct Concat;

pub(super) fn concat(_: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    Ok(Box::new(Concat))
}

impl Kernel for Concat {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [a, b] = inputs else { bail!("it takes two inputs, and has {}", inputs.len()) };
        a.among(&[DatumType::String])?;
        b.among(&[DatumType::String])?;
        Ok(vec![Kind::new(DatumType::String, multi_broadcast(&[&a.shape, &b.shape])?)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let shape = multi_broadcast(&[inputs[0].shape(), inputs[1].shape()])?;
        let elements = shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
        super::fits(elements, Some(0))?;
        let lengths = inputs.iter().map(|input| {
            let lengths = slice::<String>(input)?.iter().map(|text| text.len() as u64);
            let lengths = tensor1(&lengths.collect::<Vec<_>>()).into_shape(input.shape())?;
            let lengths = lengths.broadcast_to_shape(&shape)?;
            Ok(slice::<u64>(&lengths)?.iter().sum::<u64>())
        });
        let bytes = lengths.sum::<TractResult<u64>>()?;
        super::fits(elements, usize::try_from(bytes).ok())?;
        let [a, b] = [inputs[0].broadcast_to_shape(&shape)?, inputs[1].broadcast_to_shape(&shape)?];
        let pairs = slice::<String>(&a)?.iter().zip(slice::<String>(&b)?);
        let joined = pairs.map(|(a, b)| [a.as_str(), b].concat()).collect::<Vec<_>>();
        Ok(vec![tensor1(&joined).into_shape(&shape)?])
    }
}

/// The pieces of each text, and how many they are.
#[derive(Debug)]
struct Split {
    /// Spaces, however many, if it is empty.
    delimiter: String,
    /// Cuts in each text.
    most: usize,
    /// Pieces of what has the most.
    longest: TDim,
}

pub(super) fn split(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    Ok(Box::new(Split {
        delimiter: attributes.string("delimiter", "")?.to_owned(),
        most: usize::try_from(attributes.int("maxsplit", -1)).unwrap_or(usize::MAX),
        longest: attributes.unknown(),
    }))
}

impl Split {
    fn pieces<'t>(&self, text: &'t str) -> Vec<&'t str> {
        if text.is_empty() {
            return Vec::new();
        }
        if !self.delimiter.is_empty() {
            return text.splitn(self.most.saturating_add(1), &self.delimiter).collect();
        }
        let (mut pieces, mut rest) = (Vec::new(), text.trim_matches(' '));
        while !rest.is_empty() {
            let cut = rest.find(' ').filter(|_| pieces.len() < self.most);
            let (piece, behind) = rest.split_at(cut.unwrap_or(rest.len()));
            pieces.push(piece);
            rest = behind.trim_start_matches(' ');
        }
        pieces
    }
}

impl Kernel for Split {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let input = super::text(inputs)?;
        let mut shape = input.shape.clone();
        shape.push(self.longest.clone());
        Ok(vec![
            Kind::new(DatumType::String, shape),
            Kind::new(DatumType::I64, input.shape.clone()),
        ])
    }

    fn is_sized_by_run(&self) -> bool {
        true
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let texts = slice::<String>(inputs[0])?.iter();
        let rows: Vec<_> = texts.map(|text| self.pieces(text)).collect();
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        super::fits(rows.len().checked_mul(width), Some(0))?;
        let mut cells = Vec::with_capacity(rows.len() * width);
        for row in &rows {
            let all = cells.len() + width;
            cells.extend(row.iter().map(|&piece| piece.to_owned()));
            cells.resize(all, String::new());
        }
        let counts = rows.iter().map(|row| i64::try_from(row.len()));
        let counts = counts.collect::<Result<Vec<_>, _>>()?;
        let shape = inputs[0].shape();
        Ok(vec![
            tensor1(&cells).into_shape(&[shape, &[width]].concat())?,
            tensor1(&counts).into_shape(shape)?,
        ])
    }
}

/// Whether all of a text is what a regular expression says.
#[derive(Debug)]
struct FullMatch(Regex);

pub(super) fn full_match(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    ensure!(attributes.has("pattern"), "it needs `pattern`");
    Ok(Box::new(FullMatch(Regex::new(attributes.string("pattern", "")?)?)))
}

impl Kernel for FullMatch {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        Ok(vec![Kind::new(DatumType::Bool, super::text(inputs)?.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let mut search = Search::default();
        let texts = slice::<String>(inputs[0])?.iter();
        let all: Vec<bool> = texts.map(|text| self.0.is_all(&mut search, text)).collect();
        Ok(vec![Tensor::from_shape(inputs[0].shape(), &all)?])
    }
}
