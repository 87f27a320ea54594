//! A model beside its plain self: on drawn numbers the fast one must give what the file says.
//!
//! What this can see is a wrong rewrite, kernel or packing, of ours or of tract's. It cannot see an operator that tract
//! reads otherwise than the standard has it: both would be wrong alike.

use std::fmt;

use anyhow::{Context, Result, bail};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TDim;
use tract_onnx::tract_core::ops::Cost;
use tract_onnx::tract_core::ops::konst::Const;

use super::plan::{Plan, optimise, plain};
use super::tensor::type_name;

/// Of a float: this part of itself, and of the largest number beside it.
const RELATIVE: f64 = 1e-3;
const OF_LARGEST: f64 = 2e-4;
/// What a sigmoid of a large number may be off by in 32 bits; nobody asks for it.
const FLOOR: f64 = 5e-6;
/// Where numbers are quantised or half as long, one step of a scale in the middle of a model is more than that.
const OF_LARGEST_COARSE: f64 = 5e-2;

/// Draws of which the majority must agree: a whole number that is the index of one of two equal ones may be either.
const DRAWS: u64 = 3;

/// How exact the numbers of a model are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Grain {
    Fine,
    Coarse,
    /// They move by this part of the largest when the inputs do by hardly anything.
    Unsteady(f64),
    /// Some of them are drawn anew in each run.
    Random,
}

impl Grain {
    /// By the operators of a file, and whether it has numbers of 16 bits.
    pub(super) fn of<'a>(operators: impl Iterator<Item = &'a str>, halves: bool) -> Self {
        let mut grain = if halves { Self::Coarse } else { Self::Fine };
        for operator in operators {
            if operator.starts_with("Random") || ["Bernoulli", "Multinomial"].contains(&operator) {
                return Self::Random;
            }
            let coarse = operator.contains("Quantize")
                || operator.contains("QLinear")
                || operator.contains("Integer")
                || ["com.microsoft.QAttention", "com.microsoft.QGemm"].contains(&operator);
            if coarse {
                grain = Self::Coarse;
            }
        }
        grain
    }
}

/// Products of 32 bits that one run may have, others counted as what they take: about three seconds.
const AFFORDABLE: f64 = 6e9;
/// What a product in f16 takes, which is emulated, and one of whole numbers, for which there is no kernel.
const HALF: f64 = 60.0;
const WHOLE: f64 = 20.0;

/// Whether a model can be run a few times in a deploy without making it a long one.
pub(super) fn is_affordable(typed: &TypedModel) -> bool {
    let costs = typed.nodes().iter().filter_map(|node| {
        let inputs: TractResult<TVec<_>> =
            node.inputs.iter().map(|outlet| typed.outlet_fact(*outlet)).collect();
        node.op.cost(&inputs.ok()?).ok()
    });
    let products: f64 = costs
        .flatten()
        .filter_map(|(cost, count)| {
            let count = count.to_i64().ok()? as f64;
            match cost {
                Cost::FMA(DatumType::F32 | DatumType::F64) => Some(count),
                Cost::FMA(DatumType::F16) => Some(count * HALF),
                Cost::FMA(_) => Some(count * WHOLE),
                _ => None,
            }
        })
        .sum();
    products < AFFORDABLE
}

/// Numbers, and what the plain model gives on them.
pub(super) struct Expected {
    seed: u64,
    inputs: TVec<TValue>,
    outputs: TVec<TValue>,
}

/// What the plain model gives; nothing if it cannot be run as it stands, or takes none of the numbers that are drawn.
pub(super) fn expect(typed: &TypedModel, grain: Grain) -> Result<Option<Expected>> {
    if grain == Grain::Random {
        return Ok(None);
    }
    let Ok(plain) = plain(typed.clone()) else { return Ok(None) };
    for seed in 0..DRAWS {
        let Some(inputs) = draw(typed, seed)? else { return Ok(None) };
        // An index out of its table, for instance.
        if let Ok(outputs) = plain.run(inputs.clone()) {
            return Ok(Some(Expected { seed, inputs, outputs }));
        }
    }
    Ok(None)
}

/// Refuses a fast model that does not give what was expected; `typed` makes the model anew if that has to be found out.
pub(super) fn confirm(
    fast: &Plan,
    expected: &Expected,
    names: &[String],
    grain: Grain,
    typed: impl FnOnce() -> Result<TypedModel>,
) -> Result<()> {
    let given = fast.run(expected.inputs.clone()).context("on drawn numbers")?;
    let Some(difference) = compare(names, &given, &expected.outputs, grain) else { return Ok(()) };
    let typed = typed()?;
    let plain = plain(typed.clone())?;
    // A recurrent cell that rounds in each step may be far off itself, and is no reason to refuse a model.
    let grain = match grain {
        Grain::Coarse => Grain::Unsteady(unsteady(&plain, expected)?.max(OF_LARGEST_COARSE)),
        grain => grain,
    };
    let mut differing = usize::from(compare(names, &given, &expected.outputs, grain).is_some());
    for seed in (0..DRAWS).filter(|seed| *seed != expected.seed) {
        let Some(inputs) = draw(&typed, seed)? else { continue };
        let Ok(expected) = plain.run(inputs.clone()) else { continue };
        differing += usize::from(compare(names, &fast.run(inputs)?, &expected, grain).is_some());
    }
    if differing <= 1 {
        return Ok(());
    }
    drop(plain);
    let node = first(&typed, &expected.inputs, grain);
    let node =
        node.map_or_else(String::new, |node| format!("; the first node that differs is {node}"));
    bail!(Wrong(format!("{difference}{node}")))
}

/// A model that was made into another one.
#[derive(Debug)]
pub(super) struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the model as it was made fast does not give what it gives as it stands: {}. A wrong number is worse than \
             none, so it is refused; this is a defect of Mayfly's, please report it with the model",
            self.0
        )
    }
}

impl std::error::Error for Wrong {}

/// Whether two runs gave the same, and if not, where.
pub(super) fn compare(
    names: &[String],
    given: &[TValue],
    expected: &[TValue],
    grain: Grain,
) -> Option<Difference> {
    let pairs = names.iter().zip(given.iter().zip(expected));
    pairs.filter_map(|(name, (given, expected))| differs(name, given, expected, grain)).next()
}

/// An element that is not what it should be.
#[derive(Debug)]
pub(super) struct Difference(String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn differs(name: &str, given: &Tensor, expected: &Tensor, grain: Grain) -> Option<Difference> {
    let say = |what: String| Some(Difference(format!("output {name:?} {what}")));
    if given.shape() != expected.shape() {
        return say(format!("has the shape {:?}, not {:?}", given.shape(), expected.shape()));
    }
    let datum = expected.datum_type();
    if datum == DatumType::String || given.datum_type() == DatumType::String {
        return if given == expected { None } else { say("has other texts".to_owned()) };
    }
    let (Ok(a), Ok(b)) = (numbers(given), numbers(expected)) else {
        let types = (type_name(given.datum_type()), type_name(datum));
        return say(format!("holds {}, not {}", types.0, types.1));
    };
    let coarse = grain != Grain::Fine || datum == DatumType::F16;
    let of_largest = match grain {
        Grain::Unsteady(part) => part,
        _ if coarse => OF_LARGEST_COARSE,
        _ => OF_LARGEST,
    };
    let room = (largest(&b) * of_largest).max(FLOOR);
    let same = |a: f64, b: f64| {
        a == b
            || (a.is_nan() && b.is_nan())
            || match datum.is_float() {
                true => (a - b).abs() <= room + RELATIVE * b.abs(),
                // Quantised numbers that leave the model: a step more or less.
                false => coarse && datum.size_of() == 1 && (a - b).abs() <= 1.0,
            }
    };
    let at = a.iter().zip(&b).position(|(&a, &b)| !same(a, b))?;
    say(format!("has {} as number {at} of {}, not {}", a[at], b.len(), b[at]))
}

/// The largest of those that are numbers.
fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().filter(|x| x.is_finite()).fold(0f64, |all, x| all.max(x.abs()))
}

/// How far a model's outputs move, in parts of their largest number, when its inputs do by a hundred-thousandth: so far are
/// sums in another order off after a few layers.
fn unsteady(plain: &Plan, expected: &Expected) -> Result<f64> {
    const NUDGES: [f32; 4] = [1e-5, -1e-5, 3e-6, -3e-6];
    let mut most = 0f64;
    for nudge in NUDGES {
        let nudged = expected.inputs.iter().map(|input| {
            if input.datum_type() != DatumType::F32 {
                return Ok(input.clone());
            }
            let mut tensor = input.clone().into_tensor();
            let mut view = tensor.try_as_plain_ram_mut()?;
            let numbers = view.as_slice_mut::<f32>()?.iter_mut().enumerate();
            numbers.for_each(|(at, number)| *number += if at % 3 == 0 { -nudge } else { nudge });
            Ok(tensor.into_tvalue())
        });
        let outputs = plain.run(nudged.collect::<TractResult<TVec<_>>>()?)?;
        for (moved, was) in outputs.iter().zip(&expected.outputs) {
            let (Ok(moved), Ok(was)) = (numbers(moved), numbers(was)) else { continue };
            let far =
                moved.iter().zip(&was).map(|(a, b)| (a - b).abs()).filter(|far| far.is_finite());
            most = most.max(far.fold(0.0, f64::max) / largest(&was).max(FLOOR));
        }
    }
    Ok(most)
}

fn numbers(tensor: &Tensor) -> TractResult<Vec<f64>> {
    // Wide whole numbers lose their last digits in a float, but not those that differ.
    let tensor = match tensor.datum_type() {
        datum if datum == TDim::datum_type() => tensor.cast_to::<i64>()?.into_owned(),
        datum => tensor.cast_to_dt(datum.unquantized())?.into_owned(),
    };
    let wide = tensor.cast_to::<f64>()?;
    Ok(wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
}

/// Numbers for each input; nothing if a shape is open.
pub(super) fn draw(model: &TypedModel, seed: u64) -> Result<Option<TVec<TValue>>> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6d61_7966_6c79);
    let mut inputs = TVec::new();
    let least = usize::from(divides(model));
    for &outlet in &model.inputs {
        let fact = model.outlet_fact(outlet)?;
        let Some(shape) = fact.shape.as_concrete() else { return Ok(None) };
        inputs.push(drawn(fact.datum_type, shape, least, &mut random)?.into_tvalue());
    }
    Ok(Some(inputs))
}

/// Whether whole numbers are divided in it: by 0 that is a panic, from which there is no way back.
fn divides(model: &TypedModel) -> bool {
    model.nodes.iter().any(|node| {
        let name = node.op.name();
        let whole = node.outputs.iter().any(|output| output.fact.datum_type.is_integer());
        whole && ["Div", "Rem", "Mod"].iter().any(|divides| name.contains(divides))
    })
}

fn drawn(datum: DatumType, shape: &[usize], least: usize, random: &mut Random) -> Result<Tensor> {
    let len: usize = shape.iter().product();
    if datum == DatumType::String {
        let texts: Vec<_> =
            (0..len).map(|_| ["a", "the", "7"][random.below(3)].to_owned()).collect();
        return tensor1(&texts).into_shape(shape);
    }
    // Whole numbers are most often indices and masks: two of each table's rows are always there.
    let whole = !datum.is_float();
    let bytes = datum.size_of() == 1 && datum != DatumType::Bool;
    let numbers: Vec<f32> = (0..len)
        .map(|_| match (whole, bytes) {
            (true, true) => (least + random.below(100)) as f32,
            (true, false) => (least + random.below(2)) as f32,
            (false, _) => random.unit() * 2.0 - 1.0,
        })
        .collect();
    let tensor = tensor1(&numbers).into_shape(shape)?;
    Ok(tensor.cast_to_dt(datum)?.into_owned())
}

/// Knuth's and Steele's split-mix: the same numbers in every deploy.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> usize {
        usize::try_from(self.next() % most).unwrap_or_default()
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// The first node whose numbers differ, by halving: the model is cut off behind a node and made fast anew.
fn first(typed: &TypedModel, inputs: &TVec<TValue>, grain: Grain) -> Option<String> {
    let order = typed.eval_order().ok()?;
    let computes = |id: &usize| {
        let node = typed.node(*id);
        !TypedModel::is_source(&node.op) && !node.op_is::<Const>() && node.outputs.len() == 1
    };
    let nodes: Vec<usize> = order.into_iter().filter(computes).collect();
    // Whether a model cut off behind this node differs; one that cannot be cut there says nothing.
    let differs = |at: usize| -> bool {
        let cut = || -> TractResult<bool> {
            let mut cut = typed.clone();
            cut.select_output_outlets(&[nodes[at].into()])?;
            let fast = optimise(cut.clone())?.into_runnable()?.run(inputs.clone())?;
            let plain = plain(cut)?.run(inputs.clone())?;
            Ok(compare(&[String::new()], &fast, &plain, grain).is_some())
        };
        cut().unwrap_or(false)
    };
    let (mut low, mut high) = (0, nodes.len().checked_sub(1)?);
    while low < high {
        let middle = (low + high) / 2;
        if differs(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if !differs(low) {
        return None;
    }
    let node = typed.node(nodes[low]);
    Some(format!("{:?} ({})", node.name, node.op.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::tract_core::ops::math;

    /// `y` = x op x, over two numbers.
    fn pair(op: impl Into<Box<dyn TypedOp>>) -> TypedModel {
        let mut model = TypedModel::default();
        let x = model.add_source("x", f32::fact([2])).unwrap();
        let y = model.wire_node("y", op, &[x, x]).unwrap();
        model.select_output_outlets(&y).unwrap();
        model
    }

    #[test]
    fn a_model_that_is_made_into_another_is_refused_with_the_numbers() {
        let names = ["y".to_owned()];
        let fast = |model: TypedModel| optimise(model).unwrap().into_runnable().unwrap();
        let right = fast(pair(math::add()));
        let expected = expect(&pair(math::add()), Grain::Fine).unwrap().unwrap();
        let confirmed =
            |fast: &Plan| confirm(fast, &expected, &names, Grain::Fine, || Ok(pair(math::add())));
        confirmed(&right).unwrap();
        let refused = confirmed(&fast(pair(math::mul()))).unwrap_err();
        assert!(refused.to_string().contains("output \"y\" has "), "{refused}");
        // What is drawn anew in each run has nothing to be compared with.
        assert!(expect(&pair(math::add()), Grain::Random).unwrap().is_none());
    }

    #[test]
    fn what_is_drawn_is_the_same_in_every_deploy_and_another_in_every_draw() {
        let model = pair(math::add());
        let drawn = |seed| draw(&model, seed).unwrap().unwrap();
        assert_eq!(drawn(0), drawn(0));
        assert_ne!(drawn(0), drawn(1));
    }

    fn floats(numbers: &[f32]) -> TVec<TValue> {
        tvec!(tensor1(numbers).into_tvalue())
    }

    #[test]
    fn floats_may_differ_a_little_and_whole_numbers_not_at_all() {
        let names = ["y".to_owned()];
        let same =
            |a: TVec<TValue>, b: TVec<TValue>, grain| compare(&names, &a, &b, grain).is_none();
        let right = || floats(&[100.0, 1.0, f32::NAN, f32::INFINITY]);
        let near = || floats(&[100.05, 1.01, f32::NAN, f32::INFINITY]);
        assert!(same(near(), right(), Grain::Fine));
        assert!(!same(floats(&[100.0, 1.1, f32::NAN, f32::INFINITY]), right(), Grain::Fine));
        assert!(same(floats(&[100.0, 1.1, f32::NAN, f32::INFINITY]), right(), Grain::Coarse));
        assert!(!same(floats(&[100.0, 1.0, 2.0, f32::INFINITY]), right(), Grain::Fine));
        assert!(!same(floats(&[100.0, 1.0, f32::NAN]), right(), Grain::Fine));
        let whole = |x: i64| -> TVec<TValue> { tvec!(tensor1(&[x]).into_tvalue()) };
        assert!(!same(whole(1), whole(0), Grain::Coarse));
        let text = |x: &str| -> TVec<TValue> { tvec!(tensor1(&[x.to_owned()]).into_tvalue()) };
        assert!(same(text("cat"), text("cat"), Grain::Fine));
        assert!(!same(text("cat"), text("dog"), Grain::Fine));
    }
}
