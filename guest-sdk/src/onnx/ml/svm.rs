//! Support vector machines, as libsvm trains them, and linear ones, as liblinear does.

use tract_onnx::tract_core::internal::*;

use super::attributes::Attributes;
use super::linear::{dot, first_largest};
use super::scores::{Labels, Pick, Transform, logistic, narrow, of_two};
use super::{Kernel, Kind, ensure_columns, floats, slice, table};

/// How like a row is a support vector.
#[derive(Debug, Clone, Copy)]
enum Likeness {
    Linear,
    Polynomial { gamma: f32, add: f32, degree: f32 },
    Radial { gamma: f32 },
    Sigmoid { gamma: f32, add: f32 },
}

impl Likeness {
    fn parse(attributes: &Attributes<'_>) -> TractResult<Self> {
        let (gamma, add, degree) = match attributes.floats("kernel_params") {
            [] => (0.0, 0.0, 0.0),
            &[gamma, add, degree, ..] => (gamma, add, degree),
            given => bail!("its `kernel_params` has {} numbers, not 3", given.len()),
        };
        Ok(match attributes.string("kernel_type", "LINEAR")? {
            "LINEAR" => Self::Linear,
            "POLY" => Self::Polynomial { gamma, add, degree },
            "RBF" => Self::Radial { gamma },
            "SIGMOID" => Self::Sigmoid { gamma, add },
            other => bail!("its kernel_type {other:?} is none of the standard's"),
        })
    }

    fn of(self, row: &[f32], vector: &[f32]) -> f32 {
        let linear = |gamma: f32, add: f32| f64::from(gamma) * dot(row, vector) + f64::from(add);
        match self {
            Self::Linear => narrow(dot(row, vector)),
            Self::Polynomial { gamma, add, degree } => narrow(linear(gamma, add)).powf(degree),
            Self::Sigmoid { gamma, add } => narrow(linear(gamma, add)).tanh(),
            Self::Radial { gamma } => {
                let far = row.iter().zip(vector).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
                (-gamma * far).exp()
            }
        }
    }
}

/// Support vectors, one after the other, or what stands for them.
#[derive(Debug)]
struct Vectors {
    likeness: Likeness,
    features: usize,
    vectors: Vec<f32>,
}

impl Vectors {
    fn new(likeness: Likeness, vectors: &[f32], count: usize) -> TractResult<Self> {
        ensure!(
            count > 0 && !vectors.is_empty() && vectors.len().is_multiple_of(count),
            "its {} numbers are not so many features for each of {count} vectors",
            vectors.len()
        );
        Ok(Self { likeness, features: vectors.len() / count, vectors: vectors.to_vec() })
    }

    fn rows(&self, inputs: &[Kind]) -> TractResult<TDim> {
        let [input] = inputs else { bail!("it takes one input") };
        let (rows, columns) = input.table()?;
        ensure_columns(&columns, self.features)?;
        Ok(rows)
    }

    fn of(&self, row: &[f32]) -> Vec<f32> {
        let vectors = self.vectors.chunks_exact(self.features);
        vectors.map(|vector| self.likeness.of(row, vector)).collect()
    }
}

#[derive(Debug)]
struct Regressor {
    vectors: Vectors,
    coefficients: Vec<f32>,
    rho: f32,
    one_class: bool,
}

pub(super) fn regressor(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let supports = usize::try_from(attributes.int("n_supports", 0)).context("`n_supports`")?;
    let coefficients = attributes.floats("coefficients").to_vec();
    let &[rho, ..] = attributes.floats("rho") else { bail!("it has no `rho`") };
    ensure!(
        Transform::parse(attributes)? == Transform::None,
        "it has a post_transform, which ONNX Runtime leaves out; export it without"
    );
    let one_class = attributes.int("one_class", 0) != 0;
    let (vectors, coefficients) = if supports == 0 {
        (Vectors::new(Likeness::Linear, &coefficients, 1)?, vec![1.0])
    } else {
        ensure!(
            coefficients.len() == supports,
            "it has {} coefficients for {supports} support vectors",
            coefficients.len()
        );
        let likeness = Likeness::parse(attributes)?;
        let vectors = Vectors::new(likeness, attributes.floats("support_vectors"), supports)?;
        (vectors, coefficients)
    };
    Ok(Box::new(Regressor { vectors, coefficients, rho, one_class }))
}

impl Kernel for Regressor {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        if let [input] = inputs {
            input.among(&[DatumType::F32])?;
        }
        Ok(vec![Kind::new(DatumType::F32, tvec!(self.vectors.rows(inputs)?, 1.to_dim()))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let rows = slice::<f32>(inputs[0])?.chunks_exact(self.vectors.features);
        let output = rows.map(|row| {
            let sum = dot(&self.vectors.of(row), &self.coefficients) + f64::from(self.rho);
            match narrow(sum) {
                sum if !self.one_class => sum,
                sum if sum > 0.0 => 1.0,
                _ => -1.0,
            }
        });
        let output = output.collect::<Vec<_>>();
        Ok(vec![Tensor::from_shape(&[output.len(), 1], &output)?])
    }
}

/// Decides between each two of the classes, or scores each.
#[derive(Debug)]
struct Classifier {
    vectors: Vectors,
    /// Of libsvm's: `[classes - 1][vectors]`. Nothing for a linear one, whose coefficients are the vectors.
    coefficients: Vec<f32>,
    /// Vectors of each class, or nothing.
    per_class: Vec<usize>,
    rho: Vec<f32>,
    /// For the probability of each decision, if it is known.
    sigmoids: Vec<(f32, f32)>,
    labels: Labels,
    transform: Transform,
    all_positive: bool,
}

pub(super) fn classifier(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let labels = Labels::parse(attributes, "classlabels_ints")?;
    let per_class = attributes.sizes("vectors_per_class")?;
    let coefficients = attributes.floats("coefficients");
    let (rho, classes) = (attributes.floats("rho").to_vec(), labels.len());
    let count = per_class.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    let count = count.context("`vectors_per_class`")?;
    let sigmoids = attributes.floats("prob_a").iter().copied();
    let sigmoids = sigmoids.zip(attributes.floats("prob_b").iter().copied()).collect::<Vec<_>>();
    let transform = Transform::parse(attributes)?;
    let vectors = if count == 0 {
        ensure!(!rho.is_empty(), "it has no `rho`");
        Vectors::new(Likeness::Linear, coefficients, classes)?
    } else {
        ensure!(
            classes >= 2 && per_class.len() == classes,
            "it has {classes} labels and vectors of {} classes",
            per_class.len()
        );
        let pairs = classes * (classes - 1) / 2;
        ensure!(coefficients.len() >= (classes - 1) * count, "it has too few `coefficients`");
        ensure!(rho.len() >= pairs, "it has too few `rho`");
        ensure!(
            sigmoids.is_empty() || sigmoids.len() >= pairs,
            "it has too few `prob_a`, `prob_b`"
        );
        ensure!(
            classes > 2 || !sigmoids.is_empty() || transform != Transform::Probit,
            "it has one score and PROBIT, of which ONNX Runtime leaves the second class undefined"
        );
        let likeness = Likeness::parse(attributes)?;
        Vectors::new(likeness, attributes.floats("support_vectors"), count)?
    };
    Ok(Box::new(Classifier {
        vectors,
        all_positive: coefficients.iter().all(|&c| c >= 0.0),
        coefficients: if count == 0 { Vec::new() } else { coefficients.to_vec() },
        per_class: if count == 0 { Vec::new() } else { per_class },
        rho,
        sigmoids,
        labels,
        transform,
    }))
}

impl Classifier {
    fn linear(&self) -> bool {
        self.per_class.is_empty()
    }

    fn width(&self) -> usize {
        let classes = self.labels.len();
        if self.linear() || !self.sigmoids.is_empty() || classes == 2 {
            classes
        } else {
            classes * (classes - 1) / 2
        }
    }

    /// The decision between each two classes, and how often each class wins.
    fn decide(&self, row: &[f32]) -> (Vec<f32>, Vec<usize>) {
        let (classes, likeness) = (self.labels.len(), self.vectors.of(row));
        let mut starts = vec![0; classes];
        for class in 1..classes {
            starts[class] = starts[class - 1] + self.per_class[class - 1];
        }
        let part = |class: usize, against: usize| {
            let (start, len) = (starts[class], self.per_class[class]);
            let factors = &self.coefficients[against * likeness.len() + start..][..len];
            let products = factors.iter().zip(&likeness[start..][..len]);
            products.map(|(a, b)| f64::from(a * b)).sum::<f64>()
        };
        let (mut decisions, mut votes) = (Vec::new(), vec![0; classes]);
        for i in 0..classes - 1 {
            for j in i + 1..classes {
                let sum = part(i, j - 1) + part(j, i) + f64::from(self.rho[decisions.len()]);
                decisions.push(narrow(sum));
                votes[if sum > 0.0 { i } else { j }] += 1;
            }
        }
        (decisions, votes)
    }

    /// Label and scores of a row.
    fn row(&self, row: &[f32]) -> (Pick, Vec<f32>) {
        let classes = self.labels.len();
        if self.linear() {
            let mut scores = self.vectors.of(row);
            scores.iter_mut().for_each(|score| *score += self.rho[0]);
            let best = first_largest(&scores);
            let most = scores[best];
            if classes > 1 || self.transform == Transform::Probit {
                self.transform.apply(&mut scores);
            }
            return (self.pick(most, best), scores);
        }
        let (decisions, votes) = self.decide(row);
        let most = votes.iter().max().copied().unwrap_or(0);
        let winner = votes.iter().position(|&n| n == most).unwrap_or(0);
        let mut scores = decisions;
        if !self.sigmoids.is_empty() {
            scores = self.probabilities(&scores);
            self.transform.apply(&mut scores);
        } else if classes > 2 {
            self.transform.apply(&mut scores);
        } else {
            scores = of_two(scores[0], self.transform, self.transform != Transform::None).into();
        }
        (self.pick(0.0, winner), scores)
    }

    fn pick(&self, most: f32, best: usize) -> Pick {
        if self.labels.len() != 2 || !self.sigmoids.is_empty() {
            return Pick::Class(best);
        }
        let second = if self.all_positive { most >= 0.5 } else { most > 0.0 };
        Pick::Class(if second { 1 } else { best })
    }

    /// Of the classes, from the decisions between each two.
    fn probabilities(&self, decisions: &[f32]) -> Vec<f32> {
        const LEAST: f32 = 1e-7;
        let classes = self.labels.len();
        let mut pairs = vec![0.0; classes * classes];
        let mut known = decisions.iter().zip(&self.sigmoids);
        for i in 0..classes - 1 {
            for (j, (score, (a, b))) in (i + 1..classes).zip(&mut known) {
                let p = 1.0 - logistic(score * a + b);
                let p = if p < LEAST { LEAST } else { p };
                let p = if 1.0 - LEAST < p { 1.0 - LEAST } else { p };
                pairs[i * classes + j] = p;
                pairs[j * classes + i] = 1.0 - p;
            }
        }
        couple(classes, &pairs)
    }
}

/// Probabilities of classes from those of pairs: the second method of Wu, Lin and Weng (2004), as libsvm has it.
fn couple(classes: usize, pairs: &[f32]) -> Vec<f32> {
    const STEPS: usize = 100;
    let enough = 0.005 / count(classes);
    let mut q = vec![0.0; classes * classes];
    for i in 0..classes {
        for j in (0..classes).filter(|&j| j != i) {
            q[i * classes + i] += pairs[j * classes + i] * pairs[j * classes + i];
            q[i * classes + j] = -pairs[j * classes + i] * pairs[i * classes + j];
        }
    }
    let mut p = vec![1.0 / count(classes); classes];
    for _ in 0..STEPS {
        let rows = q.chunks_exact(classes);
        let mut qp: Vec<f32> =
            rows.map(|row| row.iter().zip(&p).map(|(q, p)| q * p).sum()).collect();
        let mut pqp: f32 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        let worst = qp.iter().map(|qp| (qp - pqp).abs()).fold(0.0, f32::max);
        if worst < enough {
            break;
        }
        for i in 0..classes {
            let own = q[i * classes + i];
            let step = (pqp - qp[i]) / own;
            p[i] += step;
            pqp = (pqp + step * (step * own + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
            for j in 0..classes {
                qp[j] = (qp[j] + step * q[i * classes + j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}

#[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^24 classes")]
fn count(classes: usize) -> f32 {
    classes as f32
}

impl Kernel for Classifier {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let rows = self.vectors.rows(inputs)?;
        Ok(vec![
            Kind::new(self.labels.datum(), tvec!(rows.clone())),
            Kind::new(DatumType::F32, tvec!(rows, self.width().to_dim())),
        ])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (rows, _) = table(inputs[0].shape(), 1)?;
        let input = floats(inputs[0])?;
        let made = slice::<f32>(&input)?.chunks_exact(self.vectors.features);
        let (mut picks, mut scores) = (Vec::with_capacity(rows), Vec::new());
        for row in made {
            let (pick, row) = self.row(row);
            picks.push(pick);
            scores.extend(row);
        }
        let scores = Tensor::from_shape(&[picks.len(), self.width()], &scores)?;
        Ok(vec![self.labels.tensor(&picks)?, scores])
    }
}
