//! Models that keep weights in files beside theirs: these are read and put into the model, as a node has no such files.
//!
//! A model may come from anywhere, and names files: only regular ones in its own directory or below are read, wherever
//! links lead, and no more than a module may have in all. Fields that are not weights are passed on as they are.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use mayfly_core::limits::node;
use mayfly_core::units::{format_size, human_size};
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// Graphs within graphs that are looked into.
const DEPTH: usize = 64;
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: u64 = 1;

/// Fields of a tensor.
const RAW_DATA: u32 = 9;
const EXTERNAL_DATA: u32 = 13;
const DATA_LOCATION: u32 = 14;

/// A message that holds tensors, or is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Sparse,
    Tensor,
}

impl Kind {
    /// What one of its fields is, if tensors may be in there.
    fn field(self, number: u32) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => {
                Some(Self::Tensor)
            }
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::Sparse),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            _ => None,
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external: Vec<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// A model with its weights in it.
#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) model: Vec<u8>,
    /// The files that were read, as the model calls them.
    pub(super) files: Vec<String>,
}

/// The model with what it keeps beside it; nothing if it keeps nothing there.
///
/// # Errors
/// Which weights are wrong or missing, in which file, and where that was looked for.
pub(super) fn embed(path: &Path, model: &[u8]) -> Result<Option<Embedded>, String> {
    if !is_external(Kind::Model, model, 0)? {
        return Ok(None);
    }
    let beside = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let dir = beside
        .canonicalize()
        .map_err(|why| format!("its directory {} cannot be read: {why}", beside.display()))?;
    let left = node::PACKAGE_BYTES.saturating_sub(model.len() as u64);
    let mut embedder = Embedder { dir, left, files: Vec::new() };
    let model = embedder.message(Kind::Model, model)?;
    Ok(Some(Embedded { model, files: embedder.files }))
}

/// One field of a message: its number, its value if it has a length, and all of its bytes.
struct Field<'m> {
    number: u32,
    value: Value<'m>,
    whole: &'m [u8],
}

enum Value<'m> {
    Bytes(&'m [u8]),
    Number(u64),
    Fixed,
}

fn broken(why: impl std::fmt::Display) -> String {
    format!("this is no ONNX model: {why}")
}

/// The next bytes of a message.
fn take<'m>(at: &mut &'m [u8], bytes: u64) -> Result<&'m [u8], String> {
    let parts = usize::try_from(bytes).ok().and_then(|bytes| at.split_at_checked(bytes));
    let (value, rest) = parts.ok_or_else(|| broken("a field is cut off"))?;
    *at = rest;
    Ok(value)
}

/// The first field of a message, and what follows it.
fn split(message: &[u8]) -> Result<(Field<'_>, &[u8]), String> {
    let mut at = message;
    let (number, wire) = decode_key(&mut at).map_err(broken)?;
    let value = match wire {
        WireType::SixtyFourBit => take(&mut at, 8).map(|_| Value::Fixed)?,
        WireType::ThirtyTwoBit => take(&mut at, 4).map(|_| Value::Fixed)?,
        WireType::Varint => Value::Number(decode_varint(&mut at).map_err(broken)?),
        WireType::LengthDelimited => {
            let length = decode_varint(&mut at).map_err(broken)?;
            Value::Bytes(take(&mut at, length)?)
        }
        WireType::StartGroup | WireType::EndGroup => return Err(broken("it has groups")),
    };
    let whole = &message[..message.len() - at.len()];
    Ok((Field { number, value, whole }, at))
}

/// Whether any tensor in a message is kept elsewhere.
fn is_external(kind: Kind, mut message: &[u8], depth: usize) -> Result<bool, String> {
    if depth > DEPTH {
        return Err(format!("its graphs are more than {DEPTH} deep"));
    }
    while !message.is_empty() {
        let (field, rest) = split(message)?;
        message = rest;
        let found = match (kind, field.number, field.value) {
            (Kind::Tensor, DATA_LOCATION, Value::Number(location)) => location == EXTERNAL,
            (_, number, Value::Bytes(bytes)) => match kind.field(number) {
                Some(inner) => is_external(inner, bytes, depth + 1)?,
                None => false,
            },
            _ => false,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Embedder {
    /// The model's own directory, without links.
    dir: PathBuf,
    /// Bytes that may be read still.
    left: u64,
    files: Vec<String>,
}

impl Embedder {
    /// A message with all that is kept elsewhere put into it. How deep it is was looked at before.
    fn message(&mut self, kind: Kind, message: &[u8]) -> Result<Vec<u8>, String> {
        if kind == Kind::Tensor && is_external(kind, message, 0)? {
            return self.tensor(message);
        }
        let mut out = Vec::with_capacity(message.len());
        let mut left = message;
        while !left.is_empty() {
            let (field, rest) = split(left)?;
            left = rest;
            match (kind.field(field.number), field.value) {
                (Some(inner), Value::Bytes(bytes)) => {
                    put(&mut out, field.number, &self.message(inner, bytes)?);
                }
                _ => out.extend_from_slice(field.whole),
            }
        }
        Ok(out)
    }

    fn tensor(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        let tensor = Tensor::decode(message).map_err(broken)?;
        let name = mayfly_observe::logs::escape(tensor.name.as_bytes());
        let data = self.read(&tensor).map_err(|why| format!("the weights '{name}': {why}"))?;
        let mut out = Vec::with_capacity(message.len() + data.len());
        let mut left = message;
        while !left.is_empty() {
            let (field, rest) = split(left)?;
            left = rest;
            if ![RAW_DATA, EXTERNAL_DATA, DATA_LOCATION].contains(&field.number) {
                out.extend_from_slice(field.whole);
            }
        }
        put(&mut out, RAW_DATA, &data);
        Ok(out)
    }

    fn read(&mut self, tensor: &Tensor) -> Result<Vec<u8>, String> {
        let entry = |key: &str| tensor.external.iter().find(|entry| entry.key == key);
        let location = entry("location").map_or("", |entry| entry.value.as_str());
        let number = |key: &str| {
            let Some(Entry { value, .. }) = entry(key) else { return Ok(None) };
            let wrong = |_| format!("their {key} '{}' is no number of bytes", escape(value));
            value.trim().parse::<u64>().map(Some).map_err(wrong)
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let (mut file, size) = self.open(location)?;
        let shown = escape(location);
        let rest = size.checked_sub(offset);
        let length = rest.map(|rest| length.unwrap_or(rest)).filter(|n| Some(*n) <= rest);
        let length = length.ok_or_else(|| {
            format!(
                "they are said to be at byte {offset} of '{shown}', which has {size}: it is not whole, or of another model"
            )
        })?;
        if let Some(needs) = bytes(tensor)
            && needs != length
        {
            return Err(format!(
                "a shape of {:?} takes {needs} bytes, and in '{shown}' they have {length}",
                tensor.dims
            ));
        }
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            let most = format_size(node::PACKAGE_BYTES);
            format!(
                "with them the model has more than {most}, the most of a module (PACKAGE_BYTES)"
            )
        })?;
        let failed = |why: std::io::Error| format!("'{shown}' cannot be read: {why}");
        let mut data = Vec::new();
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        file.take(length).read_to_end(&mut data).map_err(failed)?;
        if data.len() as u64 != length {
            return Err(format!("'{shown}' became shorter while it was read"));
        }
        Ok(data)
    }

    /// A file that the model names, if it may be read, and its size.
    fn open(&mut self, location: &str) -> Result<(File, u64), String> {
        let (shown, dir) = (escape(location), self.dir.display().to_string());
        let named = Path::new(location);
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !named.components().all(plain) {
            return Err(format!(
                "they are in '{shown}': a model's files are named from its own directory, and lie there"
            ));
        }
        let path = regular(&self.dir.join(named)).map_err(|why| {
            format!(
                "they are in the file '{shown}', which was not found in {dir} ({why}): put it there, beside the model, \
                 or export the model with its weights in it"
            )
        })?;
        if !path.starts_with(&self.dir) {
            return Err(format!("they are in '{shown}', which is a link that leads out of {dir}"));
        }
        let opened = File::open(&path).and_then(|file| {
            let metadata = file.metadata()?;
            Ok((file, metadata))
        });
        let (file, metadata) = opened.map_err(|why| format!("'{shown}' cannot be read: {why}"))?;
        if !metadata.is_file() {
            return Err(format!("they are in '{shown}', which is no regular file"));
        }
        if !self.files.iter().any(|file| file == location) {
            self.files.push(location.to_owned());
        }
        Ok((file, metadata.len()))
    }
}

/// Where a path leads, if to a file that can be opened without waiting: a pipe would wait for its other end.
fn regular(path: &Path) -> std::io::Result<PathBuf> {
    let path = path.canonicalize()?;
    if path.metadata()?.is_file() {
        return Ok(path);
    }
    Err(std::io::Error::other("it is no regular file"))
}

fn escape(text: &str) -> String {
    mayfly_observe::logs::escape(text.as_bytes())
}

/// Appends a field with a length.
fn put(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Bytes that a tensor takes by its shape and type, as far as that is known here.
fn bytes(tensor: &Tensor) -> Option<u64> {
    let bits: u64 = match tensor.data_type {
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        21..=23 => 4,
        _ => return None,
    };
    let elements =
        tensor.dims.iter().try_fold(1u64, |all, dim| all.checked_mul(u64::try_from(*dim).ok()?))?;
    Some(elements.checked_mul(bits)?.div_ceil(8))
}

/// What is said of a model that was put together.
pub(super) fn note(embedded: &Embedded) -> String {
    const SHOWN: usize = 3;
    let files = &embedded.files;
    let shown: Vec<_> =
        files.iter().take(SHOWN).map(|file| format!("'{}'", escape(file))).collect();
    let more = match files.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let size = human_size(embedded.model.len() as u64);
    format!(
        "the weights in {}{more} are packed into the model, which has {size} with them",
        shown.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    fn number(field: u32, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(field, WireType::Varint, &mut out);
        encode_varint(value, &mut out);
        out
    }

    fn entries(entries: &[(&str, &str)]) -> Vec<u8> {
        let entry = |(key, value): &(&str, &str)| {
            let text = [message(1, key.as_bytes()), message(2, value.as_bytes())].concat();
            message(EXTERNAL_DATA, &text)
        };
        entries.iter().flat_map(entry).collect()
    }

    /// Four bytes of type UINT8 that lie elsewhere.
    fn elsewhere(given: &[(&str, &str)]) -> Vec<u8> {
        let own = [number(1, 4), number(2, 2), message(8, b"w")].concat();
        [own, entries(given), number(DATA_LOCATION, EXTERNAL)].concat()
    }

    fn inside(data: &[u8]) -> Vec<u8> {
        [number(1, 4), number(2, 2), message(8, b"w"), message(RAW_DATA, data)].concat()
    }

    /// A model with a tensor among its weights and one in a graph within it, and fields that are nobody's business.
    fn model(tensor: &[u8]) -> Vec<u8> {
        let branch = message(6, &message(5, tensor));
        let node = message(1, &message(5, &[message(1, b"then_branch"), branch].concat()));
        let graph = [message(2, b"graph"), node, message(5, tensor), message(99, b"new")].concat();
        [number(1, 8), message(7, &graph), message(14, b"rest")].concat()
    }

    fn dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("m.data"), b"0123456789").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/m.data"), b"abcd").unwrap();
        dir
    }

    #[test]
    fn weights_beside_a_model_are_put_into_it_wherever_they_belong() {
        let dir = dir();
        let path = dir.path().join("m.onnx");
        for (given, data) in [
            (&[("location", "m.data"), ("offset", "2"), ("length", "4")][..], b"2345"),
            (&[("location", "sub/m.data")], b"abcd"),
            (&[("offset", "6"), ("location", "./m.data"), ("checksum", "x")], b"6789"),
        ] {
            let embedded = embed(&path, &model(&elsewhere(given))).unwrap().unwrap();
            assert_eq!(embedded.model, model(&inside(data)));
            assert_eq!(embedded.files.len(), 1);
            assert!(note(&embedded).contains("packed into the model"));
        }
        assert!(embed(&path, &model(&inside(b"abcd"))).unwrap().is_none());
    }

    #[test]
    fn nothing_is_read_that_is_not_the_models() {
        let dir = dir();
        let (inner, outside) = (dir.path().join("sub"), dir.path().join("m.data"));
        std::os::unix::fs::symlink(&outside, inner.join("link")).unwrap();
        std::os::unix::fs::symlink("m.data", inner.join("own-link")).unwrap();
        let refused = |location: &str| {
            let given = [("location", location), ("length", "4")];
            embed(&inner.join("m.onnx"), &model(&elsewhere(&given))).map(drop)
        };
        let absolute = outside.to_str().unwrap();
        for (location, expected) in [
            (absolute, "from its own directory"),
            ("../m.data", "from its own directory"),
            ("./x/../../m.data", "from its own directory"),
            ("", "from its own directory"),
            ("link", "a link that leads out of"),
            ("missing", "put it there, beside the model"),
            (".", "no regular file"),
            ("/dev/zero", "from its own directory"),
        ] {
            let error = refused(location).unwrap_err();
            assert!(error.contains(expected) && error.starts_with("the weights 'w'"), "{error}");
        }
        let missing = refused("missing").unwrap_err();
        assert!(missing.contains("'missing'") && missing.contains("/sub"), "{missing}");
        assert_eq!(refused("own-link"), Ok(()));
    }

    #[test]
    fn what_a_file_has_is_what_its_model_says() {
        let dir = dir();
        let path = dir.path().join("m.onnx");
        for (offset, length, expected) in [
            ("7", "4", "at byte 7 of 'm.data', which has 10"),
            ("11", "0", "at byte 11"),
            ("0", "3", "takes 4 bytes, and in 'm.data' they have 3"),
            ("0", "18446744073709551615", "at byte 0"),
            ("-1", "4", "offset '-1' is no number"),
        ] {
            let given = [("location", "m.data"), ("offset", offset), ("length", length)];
            let error = embed(&path, &model(&elsewhere(&given))).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        // A file that is larger than a module may be, and takes no room on the disk.
        let large = File::create(dir.path().join("m.data")).unwrap();
        large.set_len(node::PACKAGE_BYTES + 1).unwrap();
        let dims = number(1, node::PACKAGE_BYTES + 1);
        let rest = [number(2, 2), message(8, b"w"), entries(&[("location", "m.data")])].concat();
        let tensor = [dims, rest, number(DATA_LOCATION, EXTERNAL)].concat();
        let error = embed(&path, &model(&tensor)).unwrap_err();
        assert!(error.contains("640MiB") && error.contains("PACKAGE_BYTES"), "{error}");
    }

    #[test]
    fn what_is_no_model_is_refused_whatever_it_claims() {
        let deep =
            (0..200).fold(elsewhere(&[]), |inner, _| message(1, &message(5, &message(6, &inner))));
        for wrong in
            [&b"\x3a\xff\xff\xff\xff\x0f"[..], b"\x3a\x05ab", b"\x0b\x0c", &message(7, &deep)]
        {
            assert!(embed(Path::new("m.onnx"), wrong).is_err());
        }
    }
}
