//! Labels to labels, and categories to columns.

use std::collections::HashMap;

use tract_onnx::tract_core::internal::*;

use super::attributes::Attributes;
use super::{Kernel, Kind, OfNumbers, slice};

/// What is looked up: numbers by their bits, so that they have an order of equality.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Bits(u64),
    Text(String),
}

/// Every NaN is the same key, and so are both zeros.
fn bits(x: f64) -> Key {
    let x = if x.is_nan() { f64::NAN } else { x + 0.0 };
    Key::Bits(x.to_bits())
}

/// The elements of a tensor as keys.
fn keys(tensor: &Tensor) -> TractResult<Vec<Key>> {
    if tensor.datum_type() == DatumType::String {
        return Ok(slice::<String>(tensor)?.iter().cloned().map(Key::Text).collect());
    }
    if tensor.datum_type().is_float() {
        let tensor = tensor.cast_to::<f64>()?;
        return Ok(slice::<f64>(&tensor)?.iter().copied().map(bits).collect());
    }
    let tensor = tensor.cast_to::<i64>()?;
    Ok(slice::<i64>(&tensor)?.iter().map(|x| Key::Bits(x.cast_unsigned())).collect())
}

/// One label for another.
#[derive(Debug)]
struct LabelEncoder {
    from: DatumType,
    /// Where in `values` a label's partner is.
    places: HashMap<Key, usize>,
    /// The last of them is for what has no partner.
    values: Tensor,
    /// Before operator set 4, NaN was no label.
    nan: bool,
}

pub(super) fn label_encoder(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    if attributes.has("classes_strings") {
        bail!(
            "it is of operator set 1, whose direction depends on its input's type; export with \
             operator set 2 of ai.onnx.ml or a newer one"
        );
    }
    let (from, to) = (side(attributes, "keys")?, side(attributes, "values")?);
    let default = match attributes.tensor("default_tensor")? {
        Some(tensor) => tensor,
        None => match to.datum_type() {
            DatumType::String => {
                tensor1(&[attributes.string("default_string", "_Unused")?.to_owned()])
            }
            DatumType::I64 => tensor1(&[attributes.int("default_int64", -1)]),
            DatumType::I16 => tensor1(&[-1i16]),
            DatumType::F32 => tensor1(&[attributes.float("default_float", -0.0)]),
            DatumType::F64 => tensor1(&[-0.0f64]),
            other => bail!("its values are {other:?}; float, int64 and string are supported"),
        },
    };
    Ok(Box::new(LabelEncoder::new(&from, to, default, attributes.version >= 4)?))
}

/// The keys or the values, from whichever attribute has them.
fn side(attributes: &Attributes<'_>, side: &str) -> TractResult<Tensor> {
    let name = |kind: &str| format!("{side}_{kind}");
    let tensor = if let Some(tensor) = attributes.tensor(&name("tensor"))? {
        tensor
    } else if attributes.has(&name("strings")) {
        tensor1(&attributes.strings(&name("strings"))?)
    } else if attributes.has(&name("int64s")) {
        tensor1(attributes.ints(&name("int64s")))
    } else if attributes.has(&name("floats")) {
        tensor1(attributes.floats(&name("floats")))
    } else {
        bail!("it needs one of `{side}_strings`, `{side}_int64s`, `{side}_floats`, `{side}_tensor`")
    };
    Ok(tensor)
}

/// One of two lists to the other, by the place.
pub(super) fn category_mapper(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let strings = tensor1(&attributes.strings("cats_strings")?);
    let ints = tensor1(attributes.ints("cats_int64s"));
    let to_text = match (attributes.has("default_string"), attributes.has("default_int64")) {
        (true, false) => true,
        (false, true) => false,
        _ => bail!("it needs one of `default_string` and `default_int64`"),
    };
    Ok(Box::new(if to_text {
        let default = tensor1(&[attributes.string("default_string", "")?.to_owned()]);
        LabelEncoder::new(&ints, strings, default, false)?
    } else {
        let default = tensor1(&[attributes.int("default_int64", 0)]);
        LabelEncoder::new(&strings, ints, default, false)?
    }))
}

impl LabelEncoder {
    fn new(from: &Tensor, to: Tensor, default: Tensor, nan: bool) -> TractResult<Self> {
        ensure!(from.len() == to.len(), "it has {} keys and {} values", from.len(), to.len());
        ensure!(
            default.datum_type() == to.datum_type() && default.len() == 1,
            "its default is not one {:?}",
            to.datum_type()
        );
        let mut places = HashMap::with_capacity(from.len());
        for (at, key) in keys(from)?.into_iter().enumerate() {
            // Of keys that are equal the first one counts.
            places.entry(key).or_insert(at);
        }
        let (to, default) = (to.into_shape(&[from.len()])?, default.into_shape(&[1])?);
        let values = Tensor::stack_tensors(0, &[to, default])?;
        Ok(Self { from: from.datum_type(), places, values, nan })
    }
}

impl Kernel for LabelEncoder {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input] = inputs else { bail!("it takes one input") };
        input.among(&[self.from])?;
        Ok(vec![Kind::new(self.values.datum_type(), input.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let none = self.values.len() - 1;
        let nan = (!self.nan).then(|| bits(f64::NAN)).filter(|_| self.from.is_float());
        let keys = keys(inputs[0])?;
        let places = keys.iter().map(|key| match self.places.get(key) {
            Some(&at) if nan.as_ref() != Some(key) => at,
            _ => none,
        });
        let (places, shape) = (places.collect::<Vec<_>>(), inputs[0].shape());
        Ok(vec![match self.values.datum_type() {
            DatumType::F32 => pick::<f32>(&self.values, &places, shape)?,
            DatumType::F64 => pick::<f64>(&self.values, &places, shape)?,
            DatumType::I64 => pick::<i64>(&self.values, &places, shape)?,
            DatumType::I16 => pick::<i16>(&self.values, &places, shape)?,
            _ => pick::<String>(&self.values, &places, shape)?,
        }])
    }
}

fn pick<T: Datum + Clone>(values: &Tensor, at: &[usize], shape: &[usize]) -> TractResult<Tensor> {
    let values = slice::<T>(values)?;
    let picked = at.iter().map(|&at| values[at].clone()).collect::<Vec<_>>();
    tensor1(&picked).into_shape(shape)
}

/// A column for each category, 1 in that of an element.
#[derive(Debug)]
struct OneHot {
    categories: HashMap<Key, usize>,
    width: usize,
    text: bool,
    /// Whether an element of no category has zeros, rather than being an error.
    zeros: bool,
}

pub(super) fn one_hot(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let ints = attributes.ints("cats_int64s");
    let strings = attributes.strings("cats_strings")?;
    let (categories, text) = match (ints.is_empty(), strings.is_empty()) {
        (false, true) => (keys(&tensor1(ints))?, false),
        (true, false) => (keys(&tensor1(&strings))?, true),
        _ => bail!("it needs one of `cats_int64s` and `cats_strings`"),
    };
    let width = categories.len();
    // Of categories that are equal the last one counts.
    let categories = categories.into_iter().zip(0..).collect();
    Ok(Box::new(OneHot { categories, width, text, zeros: attributes.int("zeros", 1) != 0 }))
}

impl Kernel for OneHot {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input] = inputs else { bail!("it takes one input") };
        let numbers = &[DatumType::I64, DatumType::I32, DatumType::F32, DatumType::F64];
        input.among(if self.text { &[DatumType::String] } else { numbers })?;
        let mut shape = input.shape.clone();
        shape.push(self.width.to_dim());
        Ok(vec![Kind::new(DatumType::F32, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let elements: Vec<Option<Key>> = if inputs[0].datum_type().is_float() {
            let input = inputs[0].cast_to::<f64>()?;
            slice::<f64>(&input)?.iter().map(|&x| whole(x)).collect()
        } else {
            keys(inputs[0])?.into_iter().map(Some).collect()
        };
        let mut output = vec![0.0f32; elements.len() * self.width];
        for (row, element) in output.chunks_exact_mut(self.width).zip(&elements) {
            match element.as_ref().and_then(|element| self.categories.get(element)) {
                Some(&at) => row[at] = 1.0,
                None if self.zeros => {}
                None => bail!(OfNumbers("an element is of no category, and its `zeros` is 0")),
            }
        }
        let shape = [inputs[0].shape(), &[self.width]].concat();
        Ok(vec![Tensor::from_shape(&shape, &output)?])
    }
}

/// The whole number of a float, if it has one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is in the range, and its fraction is cut off"
)]
fn whole(x: f64) -> Option<Key> {
    (x.abs() < 9.2e18).then(|| Key::Bits((x as i64).cast_unsigned()))
}

/// Probabilities by label: as the table that they are, a column for each label in the order of the labels.
#[derive(Debug)]
struct ZipMap(usize);

pub(super) fn zip_map(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let labels = attributes.strings("classlabels_strings")?.len();
    Ok(Box::new(ZipMap(labels.max(attributes.ints("classlabels_int64s").len()))))
}

impl Kernel for ZipMap {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input] = inputs else { bail!("it takes one input") };
        input.among(&[DatumType::F32])?;
        let (_, columns) = super::table(&input.shape, 1.to_dim())?;
        let columns = columns.to_usize().unwrap_or(self.0);
        ensure!(columns == self.0, "it has {} labels for {columns} columns", self.0);
        Ok(vec![input.clone()])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        Ok(vec![inputs[0].clone()])
    }
}
