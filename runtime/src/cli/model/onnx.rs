//! As much of an ONNX file as says what its inputs and operators are. Weights and attributes are passed over.

use std::fmt;

use prost::Message as _;

#[derive(Clone, PartialEq, prost::Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AttributeProto {
    #[prost(message, optional, tag = "6")]
    g: Option<GraphProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TensorProto {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<ShapeProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DimProto {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    param: Option<String>,
}

/// A dimension of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dim {
    /// Of this size.
    Fixed(u64),
    /// Open, with a name.
    Named(String),
    /// Open, without one.
    Open,
}

/// An input of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) name: String,
    datatype: &'static str,
    pub(super) shape: Vec<Dim>,
    /// Height and width to suggest for a picture.
    picture: (u64, u64),
}

/// A multiple of 32, which detectors need.
const PICTURE: (u64, u64) = (320, 320);
/// A line of text, as PP-OCR's models read it. They shrink the height to one in steps that are built in, so that no
/// other height runs, and nothing in the file says which.
const TEXT_LINE: (u64, u64) = (48, 320);

/// One step of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Its own, or that of what it makes: names are optional.
    pub(super) name: String,
    pub(super) domain: String,
    pub(super) operator: String,
}

/// What a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Onnx {
    pub(super) inputs: Vec<Input>,
    /// Those of graphs within graphs among them.
    pub(super) nodes: Vec<Node>,
}

impl Onnx {
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let model =
            ModelProto::decode(file).map_err(|why| format!("this is no ONNX model: {why}"))?;
        let graph = model.graph.ok_or("this is no ONNX model: it has no graph")?;
        // Old files list their weights among the inputs.
        let weights: std::collections::HashSet<_> =
            graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let inputs = graph.input.iter().filter(|input| !weights.contains(input.name.as_str()));
        let mut inputs: Vec<_> = inputs.map(Input::of).collect();
        // For each of a number of steps that depends on the width, which character it is.
        let reads_text = graph.output.iter().map(Input::of).all(|output| {
            matches!(output.shape[..], [_, Dim::Named(_) | Dim::Open, Dim::Fixed(_)])
        });
        if reads_text && !graph.output.is_empty() {
            inputs.iter_mut().for_each(|input| input.picture = TEXT_LINE);
        }
        let mut nodes = Vec::new();
        collect(graph.node, &mut nodes);
        Ok(Self { inputs, nodes })
    }

    pub(super) fn list(&self) -> String {
        self.inputs.iter().map(|input| format!("  {input}")).collect::<Vec<_>>().join("\n")
    }

    /// `input=1x3x224x224`
    pub(super) fn example(&self) -> String {
        let Some(input) = self.inputs.first() else { return "input=1x3x224x224".into() };
        let sizes = (0..input.shape.len()).map(|i| input.suggest(i).to_string());
        format!("{}={}", input.name, sizes.collect::<Vec<_>>().join("x"))
    }
}

/// How deep graphs lie in one another is bounded by the decoder.
fn collect(protos: Vec<NodeProto>, nodes: &mut Vec<Node>) {
    for NodeProto { mut output, name, op_type, attribute, domain } in protos {
        let name = match (name.is_empty(), output.first_mut()) {
            (true, Some(output)) => std::mem::take(output),
            (true, None) => "(no name)".to_owned(),
            (false, _) => name,
        };
        nodes.push(Node { name, domain, operator: op_type });
        let graphs = attribute.into_iter().filter_map(|attribute| attribute.g);
        graphs.for_each(|graph| collect(graph.node, nodes));
    }
}

impl Input {
    fn of(proto: &ValueInfoProto) -> Self {
        let tensor = proto.r#type.as_ref().and_then(|kind| kind.tensor.as_ref());
        let dims = tensor.and_then(|tensor| tensor.shape.as_ref()).map_or(&[][..], |s| &s.dim);
        let dim = |dim: &DimProto| match (dim.value, &dim.param) {
            (Some(size), _) => {
                u64::try_from(size).ok().filter(|s| *s > 0).map_or(Dim::Open, Dim::Fixed)
            }
            (None, Some(name)) if !name.is_empty() && name != "?" => Dim::Named(name.clone()),
            (None, _) => Dim::Open,
        };
        Self {
            name: proto.name.clone(),
            datatype: type_name(tensor.map_or(0, |tensor| tensor.elem_type)),
            shape: dims.iter().map(dim).collect(),
            picture: PICTURE,
        }
    }

    /// Whether a shape goes with what the model says.
    pub(super) fn check(&self, sizes: &[Option<u64>]) -> Result<(), String> {
        let fits = self.shape.len() == sizes.len()
            && self
                .shape
                .iter()
                .zip(sizes)
                .all(|(dim, size)| dim.size().is_none_or(|mine| Some(mine) == *size))
            && !sizes.contains(&Some(0));
        if fits { Ok(()) } else { Err(format!("it does not fit {self}")) }
    }

    /// A usual size for one of the dimensions.
    pub(super) fn suggest(&self, at: usize) -> u64 {
        let name = match &self.shape[at] {
            Dim::Fixed(size) => return *size,
            Dim::Named(name) => name.to_ascii_lowercase(),
            Dim::Open => String::new(),
        };
        if at == 0 || name.contains("batch") {
            1
        } else if name.contains("seq") || name.contains("len") || name.contains("token") {
            128
        } else if self.shape.len() == 4 {
            // Colours come last, or right after the batch.
            let height = if matches!(self.shape[3], Dim::Fixed(1 | 3 | 4)) { 1 } else { 2 };
            if at == height { self.picture.0 } else { self.picture.1 }
        } else {
            1
        }
    }
}

impl Dim {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Fixed(_) | Self::Open => None,
        }
    }

    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Named(_) | Self::Open => None,
        }
    }
}

/// `input FLOAT [N, 3, ?, 224]`
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.shape.iter().map(|dim| match dim {
            Dim::Fixed(size) => size.to_string(),
            Dim::Named(name) => mayfly_observe::logs::escape(name.as_bytes()).to_string(),
            Dim::Open => "?".into(),
        });
        let dims: Vec<_> = dims.collect();
        let name = mayfly_observe::logs::escape(self.name.as_bytes());
        write!(f, "{name} {} [{}]", self.datatype, dims.join(", "))
    }
}

fn type_name(code: i32) -> &'static str {
    match code {
        1 => "FP32",
        2 => "UINT8",
        3 => "INT8",
        4 => "UINT16",
        5 => "INT16",
        6 => "INT32",
        7 => "INT64",
        8 => "BYTES",
        9 => "BOOL",
        10 => "FP16",
        11 => "FP64",
        12 => "UINT32",
        13 => "UINT64",
        16 => "BF16",
        _ => "(unknown type)",
    }
}
