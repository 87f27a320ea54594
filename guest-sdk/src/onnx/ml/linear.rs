//! Sums of features, each times a coefficient.

use tract_onnx::tract_core::internal::*;

use super::attributes::Attributes;
use super::scores::{Labels, Pick, Transform, narrow, of_two};
use super::{Kernel, Kind, ensure_columns, floats, slice, table};

/// A row of coefficients for each output.
#[derive(Debug)]
struct Sums {
    features: usize,
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
}

impl Sums {
    fn new(coefficients: &[f32], intercepts: Vec<f32>) -> TractResult<Self> {
        let outputs = intercepts.len();
        ensure!(
            outputs > 0 && !coefficients.is_empty() && coefficients.len().is_multiple_of(outputs),
            "its {} `coefficients` are not so many features for each of {outputs} outputs",
            coefficients.len()
        );
        let features = coefficients.len() / outputs;
        Ok(Self { features, coefficients: coefficients.to_vec(), intercepts })
    }

    /// Rows of the input, if it is as wide as this needs.
    fn rows(&self, inputs: &[Kind]) -> TractResult<TDim> {
        let [input] = inputs else { bail!("it takes one input") };
        let (rows, columns) = input.table()?;
        ensure_columns(&columns, self.features)?;
        Ok(rows)
    }

    fn of(&self, input: &Tensor) -> TractResult<Vec<f32>> {
        let input = floats(input)?;
        let rows = slice::<f32>(&input)?.chunks_exact(self.features);
        Ok(rows
            .flat_map(|row| {
                let outputs = self.coefficients.chunks_exact(self.features).zip(&self.intercepts);
                outputs
                    .map(|(factors, &intercept)| narrow(dot(row, factors) + f64::from(intercept)))
            })
            .collect())
    }
}

/// In f64, where the order of summation does not show.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[derive(Debug)]
struct Regressor {
    sums: Sums,
    transform: Transform,
}

pub(super) fn regressor(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let targets = usize::try_from(attributes.int("targets", 1)).context("`targets`")?;
    let coefficients = attributes.floats("coefficients");
    // Before anything is made in its size.
    ensure!(targets <= coefficients.len(), "it has {targets} targets, and fewer coefficients");
    let intercepts = match attributes.floats("intercepts") {
        [] => vec![0.0; targets],
        given => given.to_vec(),
    };
    ensure!(
        intercepts.len() == targets,
        "it has {} `intercepts` and {targets} targets",
        intercepts.len()
    );
    let sums = Sums::new(coefficients, intercepts)?;
    Ok(Box::new(Regressor { sums, transform: Transform::parse(attributes)? }))
}

impl Kernel for Regressor {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let rows = self.sums.rows(inputs)?;
        Ok(vec![Kind::new(DatumType::F32, tvec!(rows, self.sums.intercepts.len().to_dim()))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let targets = self.sums.intercepts.len();
        let mut scores = self.sums.of(inputs[0])?;
        // Of one target only this one is something else than a score.
        if targets > 1 || self.transform == Transform::Probit {
            scores.chunks_exact_mut(targets).for_each(|row| self.transform.apply(row));
        }
        let (rows, _) = table(inputs[0].shape(), 1)?;
        Ok(vec![Tensor::from_shape(&[rows, targets], &scores)?])
    }
}

#[derive(Debug)]
struct Classifier {
    sums: Sums,
    labels: Labels,
    transform: Transform,
}

pub(super) fn classifier(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let labels = Labels::parse(attributes, "classlabels_ints")?;
    let intercepts = attributes.floats("intercepts").to_vec();
    ensure!(
        !intercepts.is_empty(),
        "it has no `intercepts`, which say how many scores there are; export it with zeros"
    );
    let transform = Transform::parse(attributes)?;
    ensure!(
        labels.len() == intercepts.len().max(2),
        "it has {} scores and {} labels",
        intercepts.len(),
        labels.len()
    );
    ensure!(
        intercepts.len() > 1 || transform != Transform::Probit,
        "it has one score and PROBIT, of which ONNX Runtime leaves the second class undefined"
    );
    let sums = Sums::new(attributes.floats("coefficients"), intercepts)?;
    Ok(Box::new(Classifier { sums, labels, transform }))
}

impl Classifier {
    /// One score stands for two classes.
    fn binary(&self) -> bool {
        self.sums.intercepts.len() == 1
    }

    fn pick(&self, scores: &[f32]) -> Pick {
        match scores {
            [score] => Pick::Class(usize::from(*score > 0.0)),
            scores => Pick::Class(first_largest(scores)),
        }
    }
}

/// The first of the largest. What follows NaN is not larger.
pub(super) fn first_largest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (at, score) in scores.iter().enumerate().skip(1) {
        if *score > scores[best] {
            best = at;
        }
    }
    best
}

impl Kernel for Classifier {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let rows = self.sums.rows(inputs)?;
        let scores = if self.binary() { 2 } else { self.sums.intercepts.len() };
        Ok(vec![
            Kind::new(self.labels.datum(), tvec!(rows.clone())),
            Kind::new(DatumType::F32, tvec!(rows, scores.to_dim())),
        ])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let mut scores = self.sums.of(inputs[0])?;
        let mut width = self.sums.intercepts.len();
        let picks: Vec<_> = scores.chunks_exact(width).map(|row| self.pick(row)).collect();
        if self.binary() {
            scores = scores.iter().flat_map(|&score| of_two(score, self.transform, true)).collect();
            width = 2;
        } else {
            scores.chunks_exact_mut(width).for_each(|row| self.transform.apply(row));
        }
        Ok(vec![self.labels.tensor(&picks)?, Tensor::from_shape(&[picks.len(), width], &scores)?])
    }
}
