//! Ensembles of trees: classes, numbers, and both in one as operator set 5 has it.

use tract_onnx::tract_core::internal::*;

use super::attributes::Attributes;
use super::forest::{
    Aggregate, Branch, Draft, Forest, Place, Question, Score, Weight, Width, read,
};
use super::scores::{Labels, Pick, Transform, narrow, of_two};
use super::{Kernel, Kind, OfNumbers, slice, table};

/// The rows of an input for a forest, each compared in the type that ONNX Runtime compares it in.
fn rows(input: &Tensor) -> TractResult<Vec<f64>> {
    let input = match input.datum_type() {
        DatumType::F64 => input.cast_to::<f64>()?,
        // Thresholds are f32, and whole numbers become that.
        _ => std::borrow::Cow::Owned(input.cast_to::<f32>()?.cast_to::<f64>()?.into_owned()),
    };
    Ok(slice::<f64>(&input)?.to_vec())
}

fn check(forest: &Forest, doubles: bool, inputs: &[Kind]) -> TractResult<TDim> {
    let [input] = inputs else { bail!("it takes one input") };
    let (rows, columns) = input.table()?;
    let columns = columns.to_usize().unwrap_or(forest.features);
    ensure!(
        columns >= forest.features,
        "it looks at feature {}, and its input has {columns}",
        forest.features.saturating_sub(1)
    );
    ensure!(
        !doubles || input.datum == DatumType::F64,
        "its thresholds are f64, and its input is {:?}; put a Cast before it",
        input.datum
    );
    Ok(rows)
}

/// Targets that a file may ask for.
const TARGETS_MAX: usize = 1 << 20;

fn targets(attributes: &Attributes<'_>) -> TractResult<usize> {
    let targets = attributes.int("n_targets", 1);
    let fits = usize::try_from(targets).ok().filter(|n| (1..=TARGETS_MAX).contains(n));
    fits.with_context(|| format!("its `n_targets` is {targets}, not 1 to {TARGETS_MAX}"))
}

fn doubles(attributes: &Attributes<'_>, names: &[&str]) -> TractResult<bool> {
    for name in names {
        let tensor = attributes.tensor(name)?;
        if tensor.is_some_and(|tensor| tensor.datum_type() == DatumType::F64) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[derive(Debug)]
struct Regressor {
    forest: Forest,
    targets: usize,
    aggregate: Aggregate,
    base: Vec<f64>,
    transform: Transform,
    doubles: bool,
    /// Of operator set 5, whose output is of the input's type.
    typed: bool,
}

pub(super) fn regressor(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let targets = targets(attributes)?;
    let forest = Forest::new(read(attributes, "target")?, targets)?;
    let base = attributes.doubles("base_values")?;
    ensure!(
        base.is_empty() || base.len() == targets,
        "it has {} `base_values` and {targets} targets",
        base.len()
    );
    let aggregate = match attributes.string("aggregate_function", "SUM")? {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => bail!("its aggregate_function {other:?} is none of the standard's"),
    };
    let names = ["nodes_values_as_tensor", "target_weights_as_tensor", "base_values_as_tensor"];
    let doubles = doubles(attributes, &names)?;
    let transform = Transform::parse(attributes)?;
    let made = Regressor { forest, targets, aggregate, base, transform, doubles, typed: false };
    made.checked()
}

impl Regressor {
    fn checked(self) -> TractResult<Box<dyn Kernel>> {
        ensure!(
            self.targets > 1 || self.forest.most_weights() <= 1,
            "a leaf has several weights for its one target, of which ONNX Runtime takes the first"
        );
        Ok(Box::new(self))
    }

    fn row(&self, row: &[f64], width: Width) -> Vec<f64> {
        let scores = self.forest.scores(row, self.aggregate, width);
        let scores = scores.iter().enumerate().map(|(at, score)| match self.base.get(at) {
            // Of several targets one that no leaf has anything for is 0, whatever its base is.
            _ if !score.known && self.targets > 1 => 0.0,
            Some(&base) => width.add(score.value, base),
            None => score.value,
        });
        let scores: Vec<f64> = scores.collect();
        // Of one target only this one is something else than a score.
        if self.transform == Transform::None
            || (self.targets == 1 && self.transform != Transform::Probit)
        {
            return scores;
        }
        let mut scores: Vec<f32> = scores.into_iter().map(narrow).collect();
        self.transform.apply(&mut scores);
        scores.into_iter().map(f64::from).collect()
    }
}

impl Kernel for Regressor {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let rows = check(&self.forest, self.doubles, inputs)?;
        let datum = match inputs {
            [input] if self.typed => {
                input.among(&[DatumType::F32, DatumType::F64])?;
                input.datum
            }
            _ => DatumType::F32,
        };
        Ok(vec![Kind::new(datum, tvec!(rows, self.targets.to_dim()))])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (count, columns) = table(inputs[0].shape(), 1)?;
        let width = Width::of(inputs[0].datum_type());
        let input = rows(inputs[0])?;
        let made = input.chunks_exact(columns.max(1));
        let scores: Vec<f64> = made.flat_map(|row| self.row(row, width)).collect();
        let shape = [count, self.targets];
        Ok(vec![if self.typed && width == Width::Double {
            Tensor::from_shape(&shape, &scores)?
        } else {
            Tensor::from_shape(&shape, &scores.into_iter().map(narrow).collect::<Vec<_>>())?
        }])
    }
}

#[derive(Debug)]
struct Classifier {
    forest: Forest,
    labels: Labels,
    base: Vec<f64>,
    transform: Transform,
    /// Two classes of which the weights name one only: the other is what remains.
    one_of_two: bool,
    all_positive: bool,
    doubles: bool,
}

pub(super) fn classifier(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let labels = Labels::parse(attributes, "classlabels_int64s")?;
    let forest = Forest::new(read(attributes, "class")?, labels.len())?;
    let base = attributes.doubles("base_values")?;
    ensure!(
        base.is_empty() || base.len() == labels.len() || (base.len() == 1 && labels.len() == 2),
        "it has {} `base_values` and {} classes",
        base.len(),
        labels.len()
    );
    ensure!(
        labels.len() > 1 || matches!(labels, Labels::Ints(_)),
        "it has one class, a string; give it two"
    );
    let ids = attributes.ints("class_ids");
    let one_of_two = labels.len() == 2 && ids.windows(2).all(|pair| pair[0] == pair[1]);
    let names = ["nodes_values_as_tensor", "class_weights_as_tensor", "base_values_as_tensor"];
    Ok(Box::new(Classifier {
        forest,
        labels,
        base,
        transform: Transform::parse(attributes)?,
        one_of_two,
        all_positive: attributes.doubles("class_weights")?.iter().all(|&weight| weight >= 0.0),
        doubles: doubles(attributes, &names)?,
    }))
}

impl Classifier {
    fn row(&self, row: &[f64], width: Width) -> TractResult<(Pick, Vec<f32>)> {
        let scores = self.forest.scores(row, Aggregate::Sum, width);
        match *scores {
            [score] => Ok(self.one(score, width)),
            [first, second] => self.two(first, second, width),
            _ => self.many(scores, width),
        }
    }

    fn many(&self, mut scores: Vec<Score>, width: Width) -> TractResult<(Pick, Vec<f32>)> {
        for (score, &base) in scores.iter_mut().zip(&self.base) {
            *score = Score { value: width.add(score.value, base), known: true };
        }
        let mut best: Option<usize> = None;
        for (at, score) in scores.iter().enumerate().filter(|(_, score)| score.known) {
            if best.is_none_or(|best| score.value > scores[best].value) {
                best = Some(at);
            }
        }
        let best = best.ok_or(OfNumbers("the leaves of a row name no class"))?;
        let mut scores: Vec<f32> = scores.into_iter().map(Score::written).collect();
        self.transform.apply(&mut scores);
        Ok((Pick::Class(best), scores))
    }

    fn one(&self, score: Score, width: Width) -> (Pick, Vec<f32>) {
        let value = self.base.iter().fold(score.value, |value, &base| width.add(value, base));
        let mut scores = vec![narrow(value)];
        if self.transform == Transform::Probit {
            self.transform.apply(&mut scores);
        }
        (Pick::Plain(value > 0.0), scores)
    }

    /// The rules of two classes, which are ONNX Runtime's and nobody else's.
    fn two(&self, first: Score, second: Score, width: Width) -> TractResult<(Pick, Vec<f32>)> {
        let (mut first, mut second) = (first, second);
        let mut single = !second.known;
        match *self.base {
            [_, base] if second.known => {
                second.value = width.add(base, first.value);
                first.value = -second.value;
            }
            [a, b] => {
                first.value = width.add(first.value, a);
                second.value = width.add(second.value, b);
                single = false;
            }
            [base] => first.value = width.add(first.value, base),
            _ => {}
        }
        let decisive = if second.known { second } else { first };
        let decisive = if decisive.known { decisive.value } else { 0.0 };
        let pick = if self.one_of_two {
            let least = if self.all_positive { 0.5 } else { 0.0 };
            Pick::Class(usize::from(decisive > least))
        } else {
            Pick::Plain(decisive > 0.0)
        };
        if !single {
            let mut scores = vec![first.written(), second.written()];
            self.transform.apply(&mut scores);
            return Ok((pick, scores));
        }
        let undefined =
            self.transform == Transform::Probit || (!self.one_of_two && self.base.len() == 1);
        if undefined {
            bail!(OfNumbers(
                "a row has one score for its two classes, of which ONNX Runtime leaves the second \
                 undefined; export without `base_values` and PROBIT"
            ));
        }
        let remains = self.one_of_two && self.all_positive;
        Ok((pick, of_two(first.written(), self.transform, remains).into()))
    }
}

impl Kernel for Classifier {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let rows = check(&self.forest, self.doubles, inputs)?;
        Ok(vec![
            Kind::new(self.labels.datum(), tvec!(rows.clone())),
            Kind::new(DatumType::F32, tvec!(rows, self.labels.len().to_dim())),
        ])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let (count, columns) = table(inputs[0].shape(), 1)?;
        let width = Width::of(inputs[0].datum_type());
        let input = rows(inputs[0])?;
        let (mut picks, mut scores) = (Vec::with_capacity(count), Vec::new());
        for row in input.chunks_exact(columns.max(1)) {
            let (pick, row) = self.row(row, width)?;
            picks.push(pick);
            scores.extend(row);
        }
        let scores = Tensor::from_shape(&[picks.len(), self.labels.len()], &scores)?;
        Ok(vec![self.labels.tensor(&picks)?, scores])
    }
}

/// `TreeEnsemble` of operator set 5.
pub(super) fn ensemble(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let targets = targets(attributes)?;
    let forest = Forest::new(read_ensemble(attributes)?, targets)?;
    let aggregate = match attributes.int("aggregate_function", 1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => bail!("its aggregate_function {other} is none of the standard's"),
    };
    let transform = match attributes.int("post_transform", 0) {
        0 => Transform::None,
        1 | 2 if targets == 1 => Transform::None,
        1 | 2 => bail!(
            "its post_transform {} is SOFTMAX to the standard if 1, LOGISTIC if 2, and to ONNX \
             Runtime the other way round; export without, and put a Softmax or Sigmoid after it",
            attributes.int("post_transform", 0)
        ),
        3 => Transform::SoftmaxZero,
        4 => Transform::Probit,
        other => bail!("its post_transform {other} is none of the standard's"),
    };
    let doubles = doubles(attributes, &["nodes_splits", "leaf_weights"])?;
    let base = Vec::new();
    Regressor { forest, targets, aggregate, base, transform, doubles, typed: true }.checked()
}

fn numbers(attributes: &Attributes<'_>, name: &str) -> TractResult<Vec<f64>> {
    let Some(tensor) = attributes.tensor(name)? else { return Ok(Vec::new()) };
    Ok(slice::<f64>(&*tensor.cast_to::<f64>()?)?.to_vec())
}

fn read_ensemble(attributes: &Attributes<'_>) -> TractResult<Draft> {
    let (splits, modes) =
        (numbers(attributes, "nodes_splits")?, numbers(attributes, "nodes_modes")?);
    let features = attributes.sizes("nodes_featureids")?;
    let (yes, no) =
        (attributes.sizes("nodes_truenodeids")?, attributes.sizes("nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) =
        (attributes.ints("nodes_trueleafs"), attributes.ints("nodes_falseleafs"));
    let missing = attributes.ints("nodes_missing_value_tracks_true");
    let count = splits.len();
    let lengths = [modes.len(), features.len(), yes.len(), no.len(), yes_leaf.len(), no_leaf.len()];
    ensure!(
        lengths.iter().all(|&len| len == count),
        "its `nodes_` attributes have {count} and {lengths:?} entries"
    );
    let (targets, weights) =
        (attributes.sizes("leaf_targetids")?, numbers(attributes, "leaf_weights")?);
    ensure!(targets.len() == weights.len(), "its `leaf_` attributes have different lengths");
    let place = |at: usize, leaf: i64| {
        let room = if leaf == 1 { weights.len() } else { count };
        ensure!(at < room, "a node leads to {at}, which is not there");
        if leaf == 1 { Place::leaf(at) } else { Place::branch(at) }
    };
    let members = numbers(attributes, "membership_values")?;
    let sets: Vec<Vec<f64>> = members.split(|x| x.is_nan()).map(<[f64]>::to_vec).collect();
    let (mut branches, mut used) = (Vec::with_capacity(count), 0);
    for at in 0..count {
        branches.push(Branch {
            feature: u32::try_from(features[at])?,
            question: numbered(modes[at], &mut used)?,
            missing: missing.get(at) == Some(&1),
            value: splits[at],
            yes: place(yes[at], yes_leaf[at])?,
            no: place(no[at], no_leaf[at])?,
        });
    }
    ensure!(used as usize <= sets.len(), "it has too few `membership_values`");
    let roots = attributes.sizes("tree_roots")?.into_iter().map(|root| place(root, 0));
    let roots = roots.collect::<TractResult<_>>()?;
    let leaves = weights.len();
    let weights = targets.into_iter().zip(weights).enumerate().map(|(at, (target, value))| {
        Ok((Place::leaf(at)?, Weight { target: u32::try_from(target)?, value }))
    });
    Ok(Draft { branches, leaves, weights: weights.collect::<TractResult<_>>()?, roots, sets })
}

/// The question of a number; each set is asked about once, in their order.
fn numbered(mode: f64, sets: &mut u32) -> TractResult<Question> {
    const MEMBER: usize = 6;
    let known = [
        Question::AtMost,
        Question::Below,
        Question::AtLeast,
        Question::Above,
        Question::Is,
        Question::IsNot,
    ];
    let number = (0..=MEMBER).find(|&number| number.to_string() == mode.to_string());
    match number {
        Some(MEMBER) => {
            *sets += 1;
            Ok(Question::Among(*sets - 1))
        }
        Some(number) => Ok(known[number]),
        None => bail!("its node mode {mode} is none of the standard's"),
    }
}
