//! A model behind the Open Inference Protocol.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use mayfly_abi::{
    CONTENT_TYPE_MODEL, CONTENT_TYPE_TENSORS, DataType, TENSORS_PREFIX_BYTES, TensorsHead,
    TensorsWriter,
};
use tract_onnx::prelude as tract;
use tract_onnx::prelude::{DatumType, IntoTValue, TValue, TVec};

use super::model::{Model, Outputs, Port};
use super::tensor::{Tensor, type_name};
use super::text;
use crate::{Body, Error, Request, Response};

/// Says that this module answers tensor frames, so that the gateway serves it under `/v2/models/`. Beside
/// [`export!`](crate::export!), once in a crate whose function hands its requests to [`Model::serve`].
#[macro_export]
macro_rules! export_model {
    () => {
        const _: () = {
            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            extern "C" fn mayfly_tensors_1() {}

            const _: extern "C" fn() = mayfly_tensors_1;
        };
    };
}

impl Model {
    /// Answers `GET` with what this model takes and gives, and `POST` of a tensor frame with another one: all that
    /// the gateway needs to serve it by the Open Inference Protocol. Each tensor is read straight into its place.
    ///
    /// # Errors
    /// An [`Error`] that the client sees: 400 when the inputs are not the model's or the model cannot run on them,
    /// 405 and 415 for anything else.
    pub fn serve(&self, request: Request) -> Result<Response> {
        if request.method() == http::Method::GET || request.method() == http::Method::HEAD {
            let body = Body::from(self.metadata()?).with_content_type(CONTENT_TYPE_MODEL);
            return Ok(Response::new(body));
        }
        if request.method() != http::Method::POST {
            return Err(Error::method_not_allowed("GET the metadata, or POST tensors").into());
        }
        let content_type = request.headers().get(http::header::CONTENT_TYPE);
        if content_type.is_none_or(|kind| kind != CONTENT_TYPE_TENSORS) {
            let hint = format!("this takes {CONTENT_TYPE_TENSORS}; JSON goes to /v2/models/");
            return Err(Error::unsupported_media_type(hint).into());
        }
        let mut body = request.into_body();
        let inputs = self.read_frame(&mut body)?;
        crate::mark(MARK_READ);
        let outputs = super::blame::client(|| self.run(inputs)).map_err(|error| {
            if error.chain().any(|cause| super::blame::is_memory(&cause.to_string())) {
                eprintln!("{error:#}");
                std::process::abort();
            }
            Error::bad_request(format!("the model cannot run on these inputs: {error:#}"))
        })?;
        crate::mark(MARK_RUN);
        Ok(Response::new(write_frame(&outputs)?.with_content_type(CONTENT_TYPE_TENSORS)))
    }

    /// Inputs and outputs as the protocol describes them, in JSON; an open dimension is -1.
    ///
    /// # Errors
    /// When one of them has a type that the protocol does not know.
    pub fn metadata(&self) -> Result<String> {
        let list = |ports: &[Port]| {
            let ports = ports.iter().map(describe).collect::<Result<Vec<_>>>()?;
            Ok::<_, anyhow::Error>(ports.join(","))
        };
        let (inputs, outputs) = (list(self.inputs())?, list(self.outputs())?);
        let said = said(self.parameters());
        Ok(format!("{{\"inputs\":[{inputs}],\"outputs\":[{outputs}]{said}}}"))
    }

    fn read_frame(&self, body: &mut Body) -> Result<Vec<(String, Tensor)>> {
        let wrong = |error| Error::bad_request(format!("this is no tensor frame: {error:?}"));
        let mut prefix = [0; TENSORS_PREFIX_BYTES];
        read(body, &mut prefix)?;
        let mut head = vec![0; TensorsHead::length(prefix).map_err(wrong)?];
        head[..prefix.len()].copy_from_slice(&prefix);
        read(body, &mut head[prefix.len()..])?;
        let mut inputs = Vec::new();
        for info in TensorsHead::decode(&head).map_err(wrong)? {
            // Looked at before memory is taken for it: a frame may come from elsewhere than the gateway.
            let shape = sizes::<usize>(info.shape())?;
            let port = self.inputs().iter().find(|port| port.name() == info.name);
            let Some(datum) =
                port.map(Port::datum).filter(|datum| code(*datum) == Some(info.datatype))
            else {
                let (name, kind) = (info.name, info.datatype.name());
                return Err(Error::bad_request(format!("no input {name:?} takes {kind}")).into());
            };
            if info.bytes > MAX_TENSOR {
                return Err(Error::too_large(format!("input {:?} is too large", info.name)).into());
            }
            if datum == DatumType::String {
                let mut data = vec![0; usize::try_from(info.bytes)?];
                read(body, &mut data)?;
                inputs.push((info.name.to_owned(), text::decode(info.name, &shape, &data)?));
                continue;
            }
            let mut tensor = tract::Tensor::zero_dt(datum, &shape)
                .map_err(|error| Error::bad_request(format!("{:?}: {error}", info.name)))?;
            read(body, tensor.try_as_plain_ram_mut()?.as_bytes_mut())?;
            if datum == DatumType::Bool {
                // Any other byte than these two would not be a `bool`.
                let mut view = tensor.try_as_plain_ram_mut()?;
                view.as_bytes_mut().iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
            }
            inputs.push((info.name.to_owned(), Tensor::from_inner(tensor.into_tvalue())));
        }
        Ok(inputs)
    }
}

/// Marks for `Server-Timing`: the inputs are in their place, and the model has run.
const MARK_READ: u8 = 6;
const MARK_RUN: u8 = 7;

/// Bytes of one input: what fits a guest of 4 GiB with a model and its activations beside it.
const MAX_TENSOR: u64 = 1 << 30;

/// A shape in words of this machine: with a 0 among them, sizes beyond those still take no memory.
fn sizes<T: TryFrom<u64>>(shape: impl Iterator<Item = u64>) -> Result<Vec<T>, Error> {
    let whole = shape.map(|size| T::try_from(size).map_err(|_| size)).collect::<Result<_, _>>();
    whole.map_err(|size| Error::bad_request(format!("a dimension of {size} is too large")))
}

fn read(body: &mut Body, into: &mut [u8]) -> Result<()> {
    use std::io::ErrorKind::UnexpectedEof;
    body.read_exact(into).map_err(|error| match error.kind() {
        UnexpectedEof => Error::bad_request("the tensor frame is cut off").into(),
        _ => error.into(),
    })
}

fn write_frame(outputs: &Outputs<'_>) -> Result<Body> {
    let mut tensors: TVec<Sent<'_>> = TVec::new();
    for (name, tensor) in outputs.iter() {
        let mut value = tensor.clone().into_inner();
        if value.datum_type() == DatumType::TDim {
            let whole = value.cast_to_dt(DatumType::I64).map_err(|_| {
                Error::bad_request(format!(
                    "output {name:?} is a size that depends on the numbers, which is not supported; let the model \
                     give the tensor itself"
                ))
            });
            value = whole?.into_owned().into_tvalue();
        }
        let datum = value.datum_type();
        let datatype = code(datum).with_context(|| {
            format!("output {name:?} holds {}, which cannot be sent", type_name(datum))
        })?;
        let texts = (datum == DatumType::String).then(|| text::encode(tensor.as_strings()?));
        tensors.push(Sent { name, datatype, value, texts: texts.transpose()? });
    }
    let head = tensors.iter().map(|sent| TensorsWriter::info_bytes(sent.name, sent.value.rank()));
    let mut frame = vec![0; TensorsWriter::EMPTY_BYTES + head.sum::<usize>()];
    let head = encode(&tensors, &mut frame)?;
    ensure!(head == frame.len(), "the head of a frame has {head} bytes, not {}", frame.len());
    for sent in &tensors {
        frame.extend_from_slice(sent.data()?);
    }
    Ok(frame.into())
}

/// An output on its way into a frame.
struct Sent<'a> {
    name: &'a str,
    datatype: DataType,
    value: TValue,
    /// What is sent of a tensor of text; numbers are sent as they lie.
    texts: Option<Vec<u8>>,
}

impl Sent<'_> {
    fn data(&self) -> Result<&[u8]> {
        match &self.texts {
            Some(texts) => Ok(texts),
            None => Ok(self.value.as_plain_ram().context("not in plain memory")?.as_bytes()),
        }
    }
}

fn encode(tensors: &[Sent<'_>], frame: &mut [u8]) -> Result<usize> {
    let wrong = |error| anyhow::anyhow!("the outputs do not fit a tensor frame: {error:?}");
    let mut writer = TensorsWriter::new(frame).map_err(wrong)?;
    for sent in tensors {
        let shape = sent.value.shape().iter().map(|size| u64::try_from(*size));
        let shape = shape.collect::<Result<Vec<_>, _>>()?;
        let bytes = u64::try_from(sent.data()?.len())?;
        writer.tensor(sent.name, sent.datatype, &shape, bytes).map_err(wrong)?;
    }
    writer.finish().map_err(wrong)
}

/// What a model says beside its inputs and outputs, as further text of its metadata.
fn said(parameters: &[(String, String)]) -> String {
    let quoted = crate::error::quoted;
    let each = |(name, value): &(String, String)| format!("{}:{}", quoted(name), quoted(value));
    match parameters {
        [] => String::new(),
        all => {
            let all = all.iter().map(each).collect::<Vec<_>>().join(",");
            format!(",\"parameters\":{{{all}}}")
        }
    }
}

fn describe(port: &Port) -> Result<String> {
    let datum = port.datum();
    let Some(datatype) = code(datum) else {
        let carried = DataType::ALL.iter().filter(|kind| **kind != DataType::Bf16);
        let carried = carried.map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        bail!(
            "{port} holds {}, and the inference protocol carries {carried}: put a Cast to one of them there",
            type_name(datum)
        );
    };
    let sizes = port.sizes().map(|size| size.map_or("-1".to_owned(), |size| size.to_string()));
    let sizes = sizes.collect::<Vec<_>>().join(",");
    let name = crate::error::quoted(port.name());
    Ok(format!("{{\"name\":{name},\"datatype\":\"{}\",\"shape\":[{sizes}]}}", datatype.name()))
}

fn code(datum: DatumType) -> Option<DataType> {
    Some(match datum {
        DatumType::Bool => DataType::Bool,
        DatumType::U8 => DataType::U8,
        DatumType::U16 => DataType::U16,
        DatumType::U32 => DataType::U32,
        DatumType::U64 => DataType::U64,
        DatumType::I8 => DataType::I8,
        DatumType::I16 => DataType::I16,
        DatumType::I32 => DataType::I32,
        DatumType::I64 | DatumType::TDim => DataType::I64,
        DatumType::F16 => DataType::F16,
        DatumType::F32 => DataType::F32,
        DatumType::F64 => DataType::F64,
        DatumType::String => DataType::Bytes,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_beyond_the_machines_words_is_the_clients_error() {
        // A guest has words of 32 bits.
        let error = sizes::<u32>([0, 1 << 32].into_iter()).unwrap_err();
        assert_eq!(error.status(), http::StatusCode::BAD_REQUEST);
        assert_eq!(sizes::<u32>([0, 7].into_iter()).unwrap(), [0, 7]);
    }
}
