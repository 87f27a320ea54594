//! What is done to an ONNX file before tract sees it.

use anyhow::{Context, Result, bail};
use prost::Message;
use tract_onnx::Onnx;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::type_proto::Value as Type;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto,
    ValueInfoProto,
};

use super::{advice, constants, contrib, narrow, standard};

/// Whose operators are known; all of them by one table of names.
pub(crate) const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];
/// Unsupported nodes named in an error; the rest are counted.
const LISTED: usize = 20;

pub(crate) fn decode(bytes: &[u8]) -> Result<ModelProto> {
    let proto = ModelProto::decode(bytes).context("not an ONNX file")?;
    if proto.graph.is_none() {
        bail!("not an ONNX file, or an empty one: it holds no graph");
    }
    Ok(proto)
}

/// Refuses what tract would refuse one node at a time, or only when the model runs.
pub(crate) fn check(onnx: &Onnx, proto: &ModelProto) -> Result<()> {
    let Some(graph) = &proto.graph else { return Ok(()) };
    if let Some(tensor) = graph.initializer.iter().find(|tensor| is_external(tensor)) {
        bail!(
            "the weights {:?} are in another file: leave that file beside the model, and `mayfly deploy` \
             packs it in, or save the model as one file",
            tensor.name
        );
    }
    narrow::check(graph)?;
    let (mut unknown, mut steps) = (Vec::new(), Vec::new());
    walk(graph, &mut |node| {
        // An operator of somebody else's may have any name, and be another one.
        if !onnx.op_register.0.contains_key(&node.op_type)
            || !DOMAINS.contains(&node.domain.as_str())
            || contrib::unknown(node)
        {
            unknown.push(format!("{} ({}{})", name_of(node), domain_of(node), node.op_type));
            let step = advice::instead(&node.domain, &node.op_type);
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
    });
    if unknown.is_empty() {
        return Ok(());
    }
    let more = unknown.len().saturating_sub(LISTED);
    unknown.truncate(LISTED);
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let steps = steps.join("; ");
    bail!("operators that are not supported: {}{and_more}; {steps}", unknown.join(", "))
}

/// Mends what tract 0.23 reads otherwise than the standard has it: a `ConstantOfShape` without a
/// value is f32 zeros, but tract makes it f64 and then fails on the next node; a `Pad` by its edge or
/// by reflection has no use for a constant, and tract would pad with it.
pub(crate) fn repair(proto: &mut ModelProto) {
    fn mend(graph: &mut GraphProto) {
        constants::mend(graph);
        for node in &mut graph.node {
            if node.op_type == "ConstantOfShape"
                && !node.attribute.iter().any(|attribute| attribute.name == "value")
            {
                node.attribute.push(zero_value());
            }
            let modes = node
                .attribute
                .iter()
                .any(|attribute| attribute.name == "mode" && attribute.s != b"constant");
            if node.op_type == "Pad" && modes && node.input.len() > 2 {
                node.input[2].clear();
            }
            node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()).for_each(mend);
        }
    }
    proto.graph.iter_mut().for_each(mend);
}

/// Writes sizes into the inputs' shapes.
pub(crate) fn fix_dims(
    proto: &mut ModelProto,
    dims: &[(String, Vec<usize>)],
    shapes: &[(String, Vec<Option<usize>>)],
) -> Result<()> {
    let Some(graph) = &mut proto.graph else { return Ok(()) };
    let named = open_dims(graph);
    for (name, shape) in shapes {
        let Some(input) = graph.input.iter_mut().find(|input| input.name == *name) else {
            let inputs = quoted(graph.input.iter().map(|input| &input.name));
            bail!("no input {name:?} to give a shape to; the inputs are {inputs}");
        };
        let Some(old) = shape_of(input) else { bail!("the input {name:?} is not a tensor") };
        let alike = old.dim.len() == shape.len();
        let new = shape.iter().enumerate().map(|(axis, size)| match size {
            Some(size) => fixed(*size),
            // Keeps the name that it has in the file, by which other inputs share it.
            None if alike && matches!(old.dim[axis].value, Some(Dim::DimParam(_))) => {
                Ok(old.dim[axis].clone())
            }
            None => Ok(Dimension::default()),
        });
        *old = TensorShapeProto { dim: new.collect::<Result<_>>()? };
    }
    for (name, sizes) in dims {
        for dim in graph.input.iter_mut().filter_map(shape_of).flat_map(|shape| &mut shape.dim) {
            if matches!(&dim.value, Some(Dim::DimParam(param)) if param == name)
                && let [size] = sizes[..]
            {
                *dim = fixed(size)?;
            }
        }
        // One that a shape has fixed by now was there all the same.
        if !named.contains(name) {
            let named = quoted(named.iter());
            bail!("no input has a dimension {name:?}; the open ones are {named}");
        }
    }
    // tract reads the names as sums and products of others, and leaves unknown what it cannot read so.
    for dim in graph.input.iter_mut().filter_map(shape_of).flat_map(|shape| &mut shape.dim) {
        if let Some(Dim::DimParam(name)) = &mut dim.value {
            *name = plain_name(name);
        }
    }
    Ok(())
}

/// The name of a dimension as tract takes it for one; sums and products stay.
pub(crate) fn plain_name(name: &str) -> String {
    if name.contains(['+', '*', '/', '(']) || name.contains(" - ") || name == "?" {
        return name.to_owned();
    }
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let plain: String = plain.collect();
    // A whole number would be a size.
    if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("_{plain}") } else { plain }
}

pub(crate) fn output_names(proto: &ModelProto) -> Vec<String> {
    let outputs = proto.graph.iter().flat_map(|graph| &graph.output);
    outputs.map(|output| output.name.clone()).collect()
}

/// How errors call the node that makes each output.
pub(crate) fn makers(proto: &ModelProto) -> Vec<String> {
    let Some(graph) = &proto.graph else { return Vec::new() };
    let maker = |output: &ValueInfoProto| {
        let makes = |node: &&NodeProto| node.output.contains(&output.name);
        let node = graph.node.iter().find(makes);
        node.map_or_else(|| format!("the output {:?}", output.name), standard::called)
    };
    graph.output.iter().map(maker).collect()
}

/// Every operator of the model, in subgraphs too.
pub(crate) fn operators(proto: &ModelProto) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(graph) = &proto.graph {
        walk(graph, &mut |node| all.push(node.op_type.clone()));
    }
    all
}

/// Whether weights or inputs are numbers of 16 bits.
pub(crate) fn has_halves(proto: &ModelProto) -> bool {
    use tract_onnx::pb::tensor_proto::DataType;
    let halves = [DataType::Float16 as i32, DataType::Bfloat16 as i32];
    let Some(graph) = &proto.graph else { return false };
    let weights = graph.initializer.iter().map(|tensor| tensor.data_type);
    let inputs =
        graph.input.iter().filter_map(|input| match input.r#type.as_ref()?.value.as_ref()? {
            Type::TensorType(tensor) => Some(tensor.elem_type),
        });
    weights.chain(inputs).any(|kind| halves.contains(&kind))
}

fn walk(graph: &GraphProto, visit: &mut impl FnMut(&NodeProto)) {
    for node in &graph.node {
        visit(node);
        for subgraph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            walk(subgraph, visit);
        }
    }
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location() == tract_onnx::pb::tensor_proto::DataLocation::External
}

/// A node's name is optional in ONNX; the name of what it makes is not.
fn name_of(node: &NodeProto) -> &str {
    if node.name.is_empty() {
        node.output.first().map_or("(no name)", String::as_str)
    } else {
        &node.name
    }
}

fn domain_of(node: &NodeProto) -> String {
    if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) }
}

fn shape_of(input: &mut ValueInfoProto) -> Option<&mut TensorShapeProto> {
    let Type::TensorType(tensor) = input.r#type.as_mut()?.value.as_mut()?;
    Some(tensor.shape.get_or_insert_default())
}

fn open_dims(graph: &mut GraphProto) -> Vec<String> {
    let dims = graph.input.iter_mut().filter_map(shape_of).flat_map(|shape| &shape.dim);
    let mut names: Vec<_> = dims
        .filter_map(|dim| match &dim.value {
            Some(Dim::DimParam(name)) => Some(name.clone()),
            _ => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn fixed(size: usize) -> Result<Dimension> {
    let size = i64::try_from(size)?;
    Ok(Dimension { value: Some(Dim::DimValue(size)), ..Dimension::default() })
}

fn zero_value() -> AttributeProto {
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::tensor_proto::DataType;
    let zero = TensorProto {
        dims: vec![1],
        data_type: DataType::Float as i32,
        float_data: vec![0.0],
        ..TensorProto::default()
    };
    AttributeProto {
        name: "value".to_owned(),
        r#type: AttributeType::Tensor as i32,
        t: Some(zero),
        ..AttributeProto::default()
    }
}

fn quoted(names: impl Iterator<Item = impl std::fmt::Debug>) -> String {
    let names: Vec<_> = names.map(|name| format!("{name:?}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
