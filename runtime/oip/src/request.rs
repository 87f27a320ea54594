use std::fmt;
use std::marker::PhantomData;

use mayfly_abi::limits::TENSOR_RANK;
use mayfly_abi::{DataType, TensorsWriter};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::shown;
use crate::model::{Model, PORTS, list};
use crate::{Error, numbers};

/// Characters of a request's id at most.
const ID_CHARS: usize = 256;

/// What a request is held to beside the model's own words.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of the body after the JSON.
    pub binary_bytes: u64,
    /// Bytes of the tensor frame that the guest may be given.
    pub frame_bytes: u64,
}

/// Where an input's data are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// They came as JSON.
    Here(Vec<u8>),
    /// They are that many bytes of the body after the JSON.
    Follows(u64),
}

impl Data {
    fn bytes(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Follows(bytes) => *bytes,
        }
    }
}

/// One input, checked against the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Of its elements.
    pub datatype: DataType,
    /// Size of each dimension.
    pub shape: Vec<u64>,
    /// Its elements.
    pub data: Data,
}

/// An output that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Whether its data are to follow the JSON.
    pub binary: bool,
}

/// An inference request, checked against its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferRequest {
    /// Sent back with the answer.
    pub id: Option<String>,
    /// Those with data first, then those whose data follow, in the order of the body.
    pub inputs: Vec<Input>,
    /// What is asked for, or nothing if all of it is.
    pub outputs: Option<Vec<Wanted>>,
    /// Whether outputs that are not named are to follow the JSON.
    pub binary: bool,
}

impl InferRequest {
    /// Reads the JSON part of a request and checks all of it.
    ///
    /// # Errors
    /// [`Error`], with the status and the words for the client.
    pub fn parse(json: &[u8], model: &Model, bounds: Bounds) -> Result<Self, Error> {
        // serde would read a list as the fields in their order.
        if !json.trim_ascii_start().starts_with(b"{") {
            let text = String::from_utf8_lossy(&json[..json.len().min(20)]);
            return Err(Error::Json(format!("expected an object with inputs, found {text:?}")));
        }
        let raw: RawRequest<'_> =
            serde_json::from_slice(json).map_err(|error| Error::Json(explain(json, &error)))?;
        if raw.id.as_ref().is_some_and(|id| id.chars().count() > ID_CHARS) {
            return Err(Error::Request(format!("the id has more than {ID_CHARS} characters")));
        }
        raw.parameters.refuse_unknown_ways()?;
        let inputs = inputs(raw.inputs.0, model, bounds)?;
        let binary = raw.parameters.binary_data_output.unwrap_or(false);
        let outputs = raw.outputs.map(|wanted| outputs(wanted.0, model, binary)).transpose()?;
        // An empty list asks for everything, as none at all does.
        let outputs = outputs.filter(|outputs| !outputs.is_empty());
        Ok(Self { id: raw.id, inputs, outputs, binary })
    }

    /// The head of the tensor frame for the guest: the inputs' data go after it, in their order.
    ///
    /// # Errors
    /// [`Error::Request`] when the inputs' names are too long together.
    pub fn frame_head(&self) -> Result<Vec<u8>, Error> {
        let sizes = self.inputs.iter().map(|i| TensorsWriter::info_bytes(&i.name, i.shape.len()));
        let mut head = vec![0; TensorsWriter::EMPTY_BYTES + sizes.sum::<usize>()];
        let too_long = |_| Error::Request("the inputs' names are too long".into());
        let mut writer = TensorsWriter::new(&mut head).map_err(too_long)?;
        for Input { name, datatype, shape, data } in &self.inputs {
            writer.tensor(name, *datatype, shape, data.bytes()).map_err(too_long)?;
        }
        writer.finish().map_err(too_long)?;
        Ok(head)
    }

    /// Bytes of all inputs' data.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.data.bytes()).sum()
    }
}

fn inputs(raw: Vec<RawInput<'_>>, model: &Model, bounds: Bounds) -> Result<Vec<Input>, Error> {
    let (mut here, mut following) = (Vec::new(), Vec::new());
    let (mut total, mut follows) = (0u64, 0u64);
    for raw in raw {
        let read = |input: &Input| input.name == raw.name;
        if here.iter().chain(&following).any(read) {
            return Err(Error::input(&raw.name, "it is given twice"));
        }
        let input = input(raw, model, bounds, &mut total)?;
        match input.data {
            Data::Here(_) => here.push(input),
            Data::Follows(bytes) => {
                follows = follows.saturating_add(bytes);
                following.push(input);
            }
        }
    }
    if follows != bounds.binary_bytes {
        return Err(Error::Request(format!(
            "the body has {} bytes after its JSON, and the inputs' binary_data_size add up to {follows}",
            bounds.binary_bytes
        )));
    }
    here.append(&mut following);
    let missing = model.inputs.iter().filter(|port| here.iter().all(|i| i.name != port.name));
    let missing: Vec<_> = missing.cloned().collect();
    if !missing.is_empty() {
        return Err(Error::Request(format!("missing inputs: {}", list(&missing))));
    }
    Ok(here)
}

fn input(
    raw: RawInput<'_>,
    model: &Model,
    bounds: Bounds,
    total: &mut u64,
) -> Result<Input, Error> {
    let RawInput { name, shape, datatype, parameters, data } = raw;
    let port = model.input(&name)?;
    let wrong = |why: String| Error::input(&name, why);
    parameters.refuse_unknown_ways()?;
    let Some(given) = DataType::from_name(&datatype) else {
        let known = DataType::ALL.map(DataType::name).join(", ");
        return Err(wrong(format!(
            "there is no datatype {:?}; there are {known}",
            shown(&datatype)
        )));
    };
    let shape = sizes(&shape.0).map_err(wrong)?;
    if given != port.datatype || !port.takes(&shape) {
        let (mine, sizes) = (port.datatype.name(), &port.shape);
        return Err(wrong(format!(
            "the model takes {mine} {sizes:?}, and it is {} {shape:?}",
            given.name()
        )));
    }
    let elements = shape.iter().try_fold(1u64, |all, size| all.checked_mul(*size));
    let elements = elements.ok_or_else(|| wrong("its shape is too large to be counted".into()))?;
    let data = match (data, parameters.binary_data_size) {
        (Some(_), Some(_)) => {
            return Err(wrong("it has both data and binary_data_size; give one of them".into()));
        }
        (None, None) => {
            return Err(wrong("it has no data; give data, or binary_data_size".into()));
        }
        (Some(data), None) => {
            let text = data.get();
            // What cannot be in the text is refused for that, and not for being too large.
            let least = given.size().unwrap_or(4) as u64;
            if elements <= text.len() as u64 {
                within(total, elements.saturating_mul(least), bounds)?;
            }
            Data::Here(numbers::read(text, given, &shape, elements).map_err(wrong)?)
        }
        (None, Some(bytes)) => {
            follows(bytes, given, elements, &shape, bounds).map_err(wrong)?;
            within(total, bytes, bounds)?;
            Data::Follows(bytes)
        }
    };
    Ok(Input { name, datatype: given, shape, data })
}

fn within(total: &mut u64, bytes: u64, bounds: Bounds) -> Result<(), Error> {
    *total = total.saturating_add(bytes);
    if *total > bounds.frame_bytes {
        return Err(Error::TooLarge { bytes: *total, limit: bounds.frame_bytes });
    }
    Ok(())
}

/// Whether that many bytes can be this tensor, and be there at all.
fn follows(
    bytes: u64,
    datatype: DataType,
    elements: u64,
    shape: &[u64],
    bounds: Bounds,
) -> Result<(), String> {
    let name = datatype.name();
    match datatype.size() {
        Some(size) => {
            let needed = elements.checked_mul(size as u64);
            if needed != Some(bytes) {
                let needed = needed.map_or("more than can be counted".into(), |n| n.to_string());
                return Err(format!(
                    "its binary_data_size is {bytes}, and {name} {shape:?} takes {needed}"
                ));
            }
        }
        // Each element has its length in front.
        None if elements > bytes / 4 => {
            return Err(format!("its binary_data_size is {bytes}, too few for {name} {shape:?}"));
        }
        None => {}
    }
    if bytes > bounds.binary_bytes {
        return Err(format!(
            "its binary_data_size is {bytes}, and the body has {} bytes after its JSON",
            bounds.binary_bytes
        ));
    }
    Ok(())
}

fn sizes(shape: &[i64]) -> Result<Vec<u64>, String> {
    if shape.len() > TENSOR_RANK {
        return Err(format!("its shape has more than {TENSOR_RANK} dimensions"));
    }
    let sizes = shape.iter().map(|size| u64::try_from(*size));
    sizes.collect::<Result<_, _>>().map_err(|_| {
        format!("its shape {shape:?} has a negative size: a request says how large it is")
    })
}

fn outputs(raw: Vec<RawOutput>, model: &Model, binary: bool) -> Result<Vec<Wanted>, Error> {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(raw.len());
    for RawOutput { name, parameters } in raw {
        model.check_output(&name)?;
        parameters.refuse_unknown_ways()?;
        if wanted.iter().any(|other| other.name == name) {
            return Err(Error::output(&name, "it is asked for twice"));
        }
        wanted.push(Wanted { name, binary: parameters.binary_data.unwrap_or(binary) });
    }
    Ok(wanted)
}

/// serde's words, and what people meet most often.
fn explain(json: &[u8], error: &serde_json::Error) -> String {
    let line = json.split(|b| *b == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let around = &line[error.column().saturating_sub(3).min(line.len())..];
    let around = &around[..around.len().min(6)];
    let has = |word: &[u8]| around.windows(word.len()).any(|part| part == word);
    if error.is_syntax() && (has(b"NaN") || has(b"Inf") || has(b"nan") || has(b"inf")) {
        return format!(
            "{error} (JSON has no NaN and no Infinity; send the tensor as binary data)"
        );
    }
    error.to_string()
}

#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow)]
    inputs: Capped<RawInput<'a>, PORTS>,
    #[serde(default)]
    outputs: Option<Capped<RawOutput, PORTS>>,
}

#[derive(Deserialize)]
struct RawInput<'a> {
    name: String,
    // Some more than allowed, so that the refusal can name the input.
    shape: Capped<i64, { 4 * TENSOR_RANK }>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawOutput {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// Of a request, an input or an output; those that change nothing here are passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    binary_data_size: Option<u64>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    classification: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
    sequence_id: Option<IgnoredAny>,
}

impl Parameters {
    /// Silence would be a wrong answer for these.
    fn refuse_unknown_ways(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::Request(what.into()));
        if self.classification.is_some_and(|classes| classes > 0) {
            return refuse(
                "the parameter classification is not supported: sort the output yourself",
            );
        }
        if self.shared_memory_region.is_some() {
            return refuse("the parameter shared_memory_region is not supported: send the data");
        }
        if self.sequence_id.is_some() {
            return refuse(
                "the parameter sequence_id is not supported: no state outlives a request",
            );
        }
        Ok(())
    }
}

/// A list with a most, so that a short body cannot become many structs.
struct Capped<T, const MOST: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Capped<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
            type Value = Capped<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() == MOST {
                        return Err(serde::de::Error::invalid_length(MOST + 1, &self));
                    }
                    list.push(item);
                }
                Ok(Capped(list))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

#[cfg(test)]
mod tests;
