//! What is done to scores at the end, and the labels that they choose.

use tract_onnx::tract_core::internal::*;

use super::attributes::Attributes;

/// The attribute `post_transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

impl Transform {
    pub(super) fn parse(attributes: &Attributes<'_>) -> TractResult<Self> {
        Ok(match attributes.string("post_transform", "NONE")? {
            "NONE" => Self::None,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX" => Self::Softmax,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => bail!("its post_transform {other:?} is none of the standard's"),
        })
    }

    /// Over the scores of one row.
    pub(super) fn apply(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Softmax => softmax(scores),
            Self::SoftmaxZero => softmax_zero(scores),
        }
    }
}

/// The same for `x` and `-x` but for `1 -`, so that two classes add up to one.
pub(super) fn logistic(x: f32) -> f32 {
    let v = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - v } else { v }
}

/// By Winitzki's approximation of the inverse error function, whose error of a thousandth is everybody's.
#[expect(clippy::approx_constant, reason = "what everybody has computed with")]
pub(super) fn probit(p: f32) -> f32 {
    let x = 2.0 * p - 1.0;
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (3.14159 * 0.147) + 0.5 * log;
    // Rounded once, as by a fused multiplication: near a half this difference is most of the result.
    let square = narrow(f64::from(v) * f64::from(v) - f64::from(1.0 / 0.147 * log));
    let inverse = sign * (square.sqrt() - v).sqrt();
    core::f32::consts::SQRT_2 * inverse
}

/// The scores of two classes for which there is one: of the second, and of the first what remains or the opposite.
pub(super) fn of_two(score: f32, transform: Transform, remains: bool) -> [f32; 2] {
    match transform {
        Transform::Logistic => [logistic(-score), logistic(score)],
        _ if remains => [1.0 - score, score],
        _ => [-score, score],
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the standard's scores are f32")]
pub(super) fn narrow(x: f64) -> f32 {
    x as f32
}

/// The largest of the scores, or what is less than every number: NaN is never larger.
fn largest(scores: &[f32]) -> f32 {
    scores.iter().fold(f32::MIN, |most, &score| if score > most { score } else { most })
}

fn softmax(scores: &mut [f32]) {
    let most = largest(scores);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Zeros stay what they are.
fn softmax_zero(scores: &mut [f32]) {
    const ZERO: f32 = 1e-7;
    let most = largest(scores);
    let scale = (-most).exp();
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if score.abs() > ZERO {
            *score = (*score - most).exp();
            sum += *score;
        } else {
            *score *= scale;
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// What the classes are called.
#[derive(Debug, Clone)]
pub(super) enum Labels {
    Ints(Vec<i64>),
    Strings(Vec<String>),
}

/// A class of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// By its place among the labels.
    Class(usize),
    /// 0 or 1, whatever the labels are, where ONNX Runtime says so.
    Plain(bool),
}

impl Labels {
    /// From `ints` or from `classlabels_strings`.
    pub(super) fn parse(attributes: &Attributes<'_>, ints: &str) -> TractResult<Self> {
        let strings = attributes.strings("classlabels_strings")?;
        let numbers = attributes.ints(ints);
        match (strings.is_empty(), numbers.is_empty()) {
            (false, true) => Ok(Self::Strings(strings)),
            (true, false) => Ok(Self::Ints(numbers.to_vec())),
            _ => bail!("it needs one of `{ints}` and `classlabels_strings`"),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Strings(labels) => labels.len(),
        }
    }

    pub(super) fn datum(&self) -> DatumType {
        match self {
            Self::Ints(_) => DatumType::I64,
            Self::Strings(_) => DatumType::String,
        }
    }

    /// The labels of rows.
    pub(super) fn tensor(&self, picks: &[Pick]) -> TractResult<Tensor> {
        let none = |at: usize| format!("it has no label for class {at}");
        match self {
            Self::Ints(labels) => {
                let labels = picks.iter().map(|pick| match *pick {
                    Pick::Class(at) => labels.get(at).copied().with_context(|| none(at)),
                    Pick::Plain(yes) => Ok(i64::from(yes)),
                });
                Ok(tensor1(&labels.collect::<TractResult<Vec<_>>>()?))
            }
            Self::Strings(labels) => {
                let labels = picks.iter().map(|pick| {
                    let at = match *pick {
                        Pick::Class(at) => at,
                        Pick::Plain(yes) => usize::from(yes),
                    };
                    labels.get(at).cloned().with_context(|| none(at))
                });
                Ok(tensor1(&labels.collect::<TractResult<Vec<_>>>()?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_become_what_the_standard_says() {
        let of = |transform: Transform, mut scores: Vec<f32>| {
            transform.apply(&mut scores);
            scores.iter().map(|score| (score * 1e3).round() / 1e3).collect::<Vec<_>>()
        };
        assert_eq!(of(Transform::None, vec![0.5, 0.7]), [0.5, 0.7]);
        assert_eq!(of(Transform::Logistic, vec![-0.8, 0.8]), [0.31, 0.69]);
        assert_eq!(of(Transform::Softmax, vec![0.5, 0.0, 0.0]), [0.452, 0.274, 0.274]);
        assert_eq!(of(Transform::SoftmaxZero, vec![0.5, 0.0, 0.0]), [1.0, 0.0, 0.0]);
        assert_eq!(of(Transform::Probit, vec![0.375, 0.5]), [-0.319, 0.0]);
        assert!(of(Transform::Softmax, vec![1e30, 0.0])[0] == 1.0);
    }
}
