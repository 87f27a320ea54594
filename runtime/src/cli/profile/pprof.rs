//! The format of `pprof`, by its `profile.proto`: messages with the fields that are used here, compressed.

use std::collections::HashMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use super::{Failure, Taken, label};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    pub(super) duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    pub(super) period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    pub(super) period: i64,
}

/// Both are places in the table of strings, as all names are.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sample {
    /// The innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
}

/// The table of strings, each once.
#[derive(Default)]
struct Strings {
    table: Vec<String>,
    places: HashMap<String, i64>,
}

impl Strings {
    fn place(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = i64::try_from(self.table.len()).unwrap_or(i64::MAX);
        self.table.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

/// Samples, and the nanoseconds that they stand for.
pub(super) fn of(taken: &Taken) -> Result<Vec<u8>, Failure> {
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    compressed.write_all(&profile(taken).encode_to_vec())?;
    Ok(compressed.finish()?)
}

fn profile(taken: &Taken) -> Profile {
    let mut strings = Strings::default();
    // The first one is empty, by the format.
    strings.place("");
    let mut ty = |kind, unit| ValueType { kind: strings.place(kind), unit: strings.place(unit) };
    let (samples, time) = (ty("samples", "count"), ty("cpu", "nanoseconds"));
    let ids = |count: usize| 1..=count as u64;
    let function = taken.frames.iter().zip(ids(taken.frames.len()));
    let function = function.map(|(frame, id)| Function { id, name: strings.place(&label(frame)) });
    let function = function.collect();
    let location = ids(taken.frames.len());
    let location = location.map(|id| Location { id, line: vec![Line { function_id: id }] });
    let period = signed(taken.sample_us.saturating_mul(1_000));
    let sample = taken.stacks.iter().map(|stack| Sample {
        location_id: known(taken, &stack.frames).rev().map(|frame| frame as u64 + 1).collect(),
        value: vec![signed(stack.samples), signed(stack.samples).saturating_mul(period)],
    });
    Profile {
        sample_type: vec![samples, time],
        sample: sample.collect(),
        location: location.collect(),
        function,
        string_table: strings.table,
        duration_nanos: signed(taken.took_us.saturating_mul(1_000)),
        period_type: Some(time),
        period,
    }
}

/// Without what the node does not name.
fn known(taken: &Taken, frames: &[usize]) -> impl DoubleEndedIterator<Item = usize> {
    frames.iter().copied().filter(|frame| *frame < taken.frames.len())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) fn read(bytes: &[u8]) -> Profile {
    use std::io::Read as _;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    Profile::decode(&plain[..]).unwrap()
}
