use bytes::Bytes;
use half::{bf16, f16};
use mayfly_abi::{DataType, TENSORS_PREFIX_BYTES, TensorsHead};

use crate::model::Model;
use crate::{Error, InferRequest, Wanted};

/// A tensor that the model's function gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Of its elements.
    pub datatype: DataType,
    /// Size of each dimension.
    pub shape: Vec<u64>,
    /// Its elements, as in the frame.
    pub data: Bytes,
}

/// An answer, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// JSON, and after it the tensors that were asked for in binary.
    pub body: Vec<u8>,
    /// Bytes of JSON, if tensors follow it.
    pub json_bytes: Option<usize>,
}

/// Reads a guest's tensor frame; the data are shared, not copied.
///
/// # Errors
/// [`Error::Frame`].
pub fn decode_frame(frame: &Bytes) -> Result<Vec<Output>, Error> {
    let wrong = |error| Error::Frame(format!("{error:?}"));
    let prefix = frame.first_chunk::<TENSORS_PREFIX_BYTES>();
    let prefix = prefix.ok_or_else(|| Error::Frame("it is empty".into()))?;
    let length = TensorsHead::length(*prefix).map_err(wrong)?;
    let head = frame.get(..length).ok_or_else(|| Error::Frame("its head is cut off".into()))?;
    let mut outputs = Vec::new();
    let mut at = length;
    for info in TensorsHead::decode(head).map_err(wrong)? {
        let bytes = usize::try_from(info.bytes).unwrap_or(usize::MAX);
        let end = at.checked_add(bytes).filter(|end| *end <= frame.len());
        let end = end.ok_or_else(|| Error::Frame("its data are cut off".into()))?;
        outputs.push(Output {
            name: info.name.to_owned(),
            datatype: info.datatype,
            shape: info.shape().collect(),
            data: frame.slice(at..end),
        });
        at = end;
    }
    if at == frame.len() {
        Ok(outputs)
    } else {
        Err(Error::Frame("bytes are left over after its data".into()))
    }
}

fn wanted(request: &InferRequest, model: &Model) -> Vec<Wanted> {
    let all = || {
        let names = model.outputs.iter().map(|port| port.name.clone());
        names.map(|name| Wanted { name, binary: request.binary }).collect()
    };
    request.outputs.clone().unwrap_or_else(all)
}

/// Bytes of the largest answer that these outputs can make: known before it is made.
#[must_use]
pub fn most_bytes(
    name: &str,
    version: &str,
    request: &InferRequest,
    model: &Model,
    outputs: &[Output],
) -> usize {
    /// Of one character or byte: `\u0000`.
    const ESCAPED: usize = 6;
    /// The keys, brackets and numbers around what is counted.
    const AROUND: usize = 160;
    let id = request.id.as_ref().map_or(0, String::len);
    let names = [name.len(), version.len(), id].map(|bytes| bytes.saturating_mul(ESCAPED));
    let mut most = names.into_iter().fold(AROUND, usize::saturating_add);
    for Wanted { name, binary } in wanted(request, model) {
        let Some(output) = outputs.iter().find(|output| output.name == name) else { continue };
        let bytes = output.data.len();
        let data = match (binary, output.datatype.size()) {
            (true, _) => bytes,
            (false, Some(size)) => (bytes / size).saturating_mul(text_bytes(output.datatype)),
            (false, None) => bytes.saturating_mul(ESCAPED),
        };
        let around = AROUND + ESCAPED * name.len() + 21 * output.shape.len();
        most = most.saturating_add(data).saturating_add(around);
    }
    most
}

/// Characters of the longest element as JSON has it, and its comma.
fn text_bytes(datatype: DataType) -> usize {
    match datatype {
        DataType::U8 => 4,
        DataType::I8 => 5,
        DataType::Bool | DataType::U16 => 6,
        DataType::I16 => 7,
        DataType::U32 => 11,
        DataType::I32 => 12,
        DataType::U64 | DataType::I64 => 21,
        DataType::F16 | DataType::Bf16 | DataType::F32 => 17,
        DataType::F64 | DataType::Bytes => 26,
    }
}

/// Puts an answer together: the outputs asked for, in the order asked for, or all of them in the model's order.
///
/// # Errors
/// [`Error::Output`] for numbers that JSON cannot hold, [`Error::Frame`] when the function left an output out.
pub fn encode(
    name: &str,
    version: &str,
    request: &InferRequest,
    model: &Model,
    outputs: &[Output],
) -> Result<Encoded, Error> {
    let wanted = wanted(request, model);
    // All of what it may take, because growing would take half as much again for a moment.
    let mut json = Vec::with_capacity(most_bytes(name, version, request, model, outputs));
    json.extend_from_slice(b"{\"model_name\":");
    string(&mut json, name);
    json.extend_from_slice(b",\"model_version\":");
    string(&mut json, version);
    if let Some(id) = &request.id {
        json.extend_from_slice(b",\"id\":");
        string(&mut json, id);
    }
    json.extend_from_slice(b",\"outputs\":[");
    let mut binary = Vec::new();
    for (i, Wanted { name, binary: follows }) in wanted.iter().enumerate() {
        let output = outputs.iter().find(|output| output.name == *name);
        let output = output.ok_or_else(|| Error::Frame(format!("no output {name:?} in it")))?;
        if i > 0 {
            json.push(b',');
        }
        describe(&mut json, output);
        if *follows {
            let size = format!(",\"parameters\":{{\"binary_data_size\":{}}}}}", output.data.len());
            json.extend_from_slice(size.as_bytes());
            binary.push(&output.data);
        } else {
            json.extend_from_slice(b",\"data\":[");
            write_data(&mut json, output).map_err(|why| Error::output(name, why))?;
            json.extend_from_slice(b"]}");
        }
    }
    json.extend_from_slice(b"]}");
    let json_bytes = (!binary.is_empty()).then_some(json.len());
    for data in binary {
        json.extend_from_slice(data);
    }
    Ok(Encoded { body: json, json_bytes })
}

fn describe(json: &mut Vec<u8>, output: &Output) {
    json.extend_from_slice(b"{\"name\":");
    string(json, &output.name);
    let datatype = output.datatype.name();
    let shape = output.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    json.extend_from_slice(format!(",\"datatype\":\"{datatype}\",\"shape\":[{shape}]").as_bytes());
}

fn string(json: &mut Vec<u8>, text: &str) {
    // Writing text to a vector cannot fail.
    let _ = serde_json::to_writer(json, text);
}

fn write_data(json: &mut Vec<u8>, output: &Output) -> Result<(), String> {
    macro_rules! each {
        ($type:ty, $map:expr) => {{
            let (elements, _) = output.data.as_chunks::<{ size_of::<$type>() }>();
            for (i, element) in elements.iter().enumerate() {
                if i > 0 {
                    json.push(b',');
                }
                let value = $map(<$type>::from_le_bytes(*element));
                // A number, and to a vector.
                let _ = serde_json::to_writer(&mut *json, &finite(value, i)?);
            }
        }};
    }
    match output.datatype {
        DataType::Bool => each!(u8, |byte| byte != 0),
        DataType::U8 => each!(u8, |v| v),
        DataType::U16 => each!(u16, |v| v),
        DataType::U32 => each!(u32, |v| v),
        DataType::U64 => each!(u64, |v| v),
        DataType::I8 => each!(i8, |v| v),
        DataType::I16 => each!(i16, |v| v),
        DataType::I32 => each!(i32, |v| v),
        DataType::I64 => each!(i64, |v| v),
        DataType::F16 => each!(f16, f16::to_f32),
        DataType::Bf16 => each!(bf16, bf16::to_f32),
        DataType::F32 => each!(f32, |v| v),
        DataType::F64 => each!(f64, |v| v),
        DataType::Bytes => return strings(json, &output.data),
    }
    Ok(())
}

/// Elements of `BYTES`: each has its length in front.
fn strings(json: &mut Vec<u8>, mut data: &[u8]) -> Result<(), String> {
    let mut index = 0;
    while !data.is_empty() {
        let cut = || format!("element {index} is cut off");
        let (length, rest) = data.split_first_chunk().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (element, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        let text = std::str::from_utf8(element).map_err(|_| {
            format!("element {index} is not UTF-8, which JSON needs; ask for it with binary_data")
        })?;
        if index > 0 {
            json.push(b',');
        }
        string(json, text);
        (data, index) = (rest, index + 1);
    }
    Ok(())
}

trait Finite: Copy {
    fn is_a_number(self) -> bool;
}

macro_rules! always_finite {
    ($($type:ty)*) => { $(impl Finite for $type { fn is_a_number(self) -> bool { true } })* };
}

always_finite! { bool u8 u16 u32 u64 i8 i16 i32 i64 }

impl Finite for f32 {
    fn is_a_number(self) -> bool {
        self.is_finite()
    }
}

impl Finite for f64 {
    fn is_a_number(self) -> bool {
        self.is_finite()
    }
}

/// serde_json would write `null`, which clients read as anything but what it was.
fn finite<T: Finite + std::fmt::Display>(value: T, index: usize) -> Result<T, String> {
    if value.is_a_number() {
        return Ok(value);
    }
    Err(format!("element {index} is {value}, which JSON cannot hold; ask for it with binary_data"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mayfly_abi::TensorsWriter;

    fn frame(tensors: &[(&str, DataType, &[u64], &[u8])]) -> Bytes {
        let mut buffer = vec![0; 1024];
        let mut writer = TensorsWriter::new(&mut buffer).unwrap();
        for (name, datatype, shape, data) in tensors {
            writer.tensor(name, *datatype, shape, data.len() as u64).unwrap();
        }
        let n = writer.finish().unwrap();
        buffer.truncate(n);
        tensors.iter().for_each(|(_, _, _, data)| buffer.extend_from_slice(data));
        buffer.into()
    }

    fn model() -> Model {
        Model::parse(
            br#"{"inputs":[],"outputs":[{"name":"y","datatype":"FP32","shape":[2]},
                {"name":"z","datatype":"BYTES","shape":[1]}]}"#,
        )
        .unwrap()
    }

    fn answer(request: &InferRequest, y: [f32; 2]) -> Result<Encoded, Error> {
        let y: Vec<u8> = y.iter().flat_map(|v| v.to_le_bytes()).collect();
        let frame = frame(&[
            ("z", DataType::Bytes, &[1], b"\x03\0\0\0\"a\n"),
            ("y", DataType::F32, &[2], &y),
        ]);
        encode("m", "3", request, &model(), &decode_frame(&frame).unwrap())
    }

    fn request(outputs: Option<Vec<Wanted>>, binary: bool) -> InferRequest {
        InferRequest { id: Some("i\"d".into()), inputs: Vec::new(), outputs, binary }
    }

    #[test]
    fn all_outputs_come_as_json_in_the_models_order() {
        let Encoded { body, json_bytes } = answer(&request(None, false), [0.5, 1e-30]).unwrap();
        assert_eq!(json_bytes, None);
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "{\"model_name\":\"m\",\"model_version\":\"3\",\"id\":\"i\\\"d\",\"outputs\":[\
             {\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[0.5,1e-30]},\
             {\"name\":\"z\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[\"\\\"a\\n\"]}]}"
        );
    }

    #[test]
    fn binary_outputs_follow_the_json() {
        let wanted = |name: &str, binary| Wanted { name: name.into(), binary };
        let outputs = vec![wanted("z", false), wanted("y", true)];
        // Numbers that JSON cannot hold are fine where no JSON is asked for.
        let answer = answer(&request(Some(outputs), false), [f32::NAN, 1.0]).unwrap();
        let json_bytes = answer.json_bytes.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&answer.body[..json_bytes]).unwrap();
        assert_eq!(json["outputs"][1]["parameters"]["binary_data_size"], 8);
        assert_eq!(json["outputs"][0]["name"], "z");
        assert_eq!(answer.body[json_bytes + 4..], 1f32.to_le_bytes());
    }

    #[test]
    fn numbers_that_json_cannot_hold_are_named() {
        let error = answer(&request(None, false), [1.0, f32::NEG_INFINITY]).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.to_string().contains("output \"y\": element 1 is -inf"), "{error}");
    }

    #[test]
    fn a_frame_that_is_none_is_the_functions_fault() {
        let whole = frame(&[("y", DataType::F32, &[2], &[0; 8])]);
        let mut longer = whole.to_vec();
        longer.push(0);
        let mut frames: Vec<Bytes> = (0..whole.len()).map(|cut| whole.slice(..cut)).collect();
        frames.extend([longer.into(), Bytes::from_static(b"{\"a\":1} and more")]);
        for frame in frames {
            assert_eq!(decode_frame(&frame).unwrap_err().status(), 502, "{frame:?}");
        }
        let outputs = decode_frame(&whole).unwrap();
        let error = encode("m", "1", &request(None, false), &model(), &outputs).unwrap_err();
        assert_eq!(error.status(), 502, "{error}");
    }
}
