//! Whole numbers beyond 32 bits where an operator takes a size, an index or a step. tract keeps those in the machine's
//! word, which has 32 bits here, and cuts off what does not fit without a word: 2^32 + 2 rows would be two.

use std::collections::HashSet;

use anyhow::{Result, bail};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::standard::called;

/// Where a constant must fit, by operator: the inputs' numbers. `Slice` clamps its bounds, and a `Loop` counts in 64 bits.
const PLACES: [(&str, &[usize]); 24] = [
    ("CenterCropPad", &[1]),
    ("Col2Im", &[1, 2]),
    ("ConstantOfShape", &[0]),
    ("CumSum", &[1]),
    ("Expand", &[1]),
    ("Gather", &[1]),
    ("GatherElements", &[1]),
    ("GatherND", &[1]),
    ("MaxUnpool", &[1, 2]),
    ("OneHot", &[0, 1]),
    ("Pad", &[1, 3]),
    ("Range", &[0, 1, 2]),
    ("Reshape", &[1]),
    ("Resize", &[3]),
    ("ReverseSequence", &[1]),
    ("Scatter", &[1]),
    ("ScatterElements", &[1]),
    ("ScatterND", &[1]),
    ("Slice", &[3, 4]),
    ("Split", &[1]),
    ("Squeeze", &[1]),
    ("Tile", &[1]),
    ("TopK", &[1]),
    ("Unsqueeze", &[1]),
];

/// Operators that hand on the numbers of their first input, and `Concat` those of all: a bound or an index is not handed on.
const CARRIERS: [&str; 8] =
    ["Cast", "Concat", "Flatten", "Gather", "Identity", "Slice", "Squeeze", "Unsqueeze"];

/// Refuses a graph with a number that would be cut, or whose nodes give one name twice.
pub(super) fn check(graph: &GraphProto) -> Result<()> {
    within(graph, &HashSet::new())
}

fn within<'g>(graph: &'g GraphProto, around: &HashSet<&'g str>) -> Result<()> {
    let mut wide = around.clone();
    for tensor in &graph.initializer {
        sizes(tensor, &format!("the constant {:?}", tensor.name))?;
        if is_wide(tensor) {
            wide.insert(&tensor.name);
        }
    }
    let mut made = HashSet::new();
    for node in &graph.node {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if !made.insert(output.as_str()) {
                bail!("{} gives {output:?}, which another node gives already", called(node));
            }
        }
        attributes(node)?;
        let value = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
        if let Some(value) = value {
            sizes(value, &called(node))?;
        }
        let constant = node.op_type == "Constant"
            && (value.is_some_and(is_wide)
                || node.attribute.iter().any(|a| wide_ints(a).is_some()));
        let data = if node.op_type == "Concat" { node.input.len() } else { 1 };
        let carried = CARRIERS.contains(&node.op_type.as_str())
            && node.input.iter().take(data).any(|name| wide.contains(name.as_str()));
        if constant || carried {
            wide.extend(node.output.iter().map(String::as_str));
        }
        let reduces = node.op_type.starts_with("Reduce").then_some(&[1][..]);
        let places = PLACES.iter().find(|(name, _)| *name == node.op_type).map(|(_, at)| *at);
        for at in places.or(reduces).into_iter().flatten() {
            let input = node.input.get(*at).filter(|name| wide.contains(name.as_str()));
            if let Some(input) = input {
                bail!(
                    "{}: its input {input:?} has a number beyond 32 bits, which no size, index or step can be in a \
                     function's memory; give it one that fits",
                    called(node)
                );
            }
        }
        let inner = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
        inner.into_iter().try_for_each(|inner| within(inner, &wide))?;
    }
    Ok(())
}

/// Attributes are sizes, steps and axes, but where they are data.
fn attributes(node: &NodeProto) -> Result<()> {
    let data = node.domain == "ai.onnx.ml" || node.op_type == "Constant";
    for attribute in &node.attribute {
        let name = attribute.name.as_str();
        let clamped = node.op_type == "Slice" && matches!(name, "starts" | "ends");
        if let Some(number) = wide_ints(attribute).filter(|_| !data && !clamped) {
            bail!(
                "{}: its {name} has {number}, which is beyond 32 bits; give it one that fits",
                called(node)
            );
        }
        if matches!(name, "strides" | "dilations") && attribute.ints.iter().any(|step| *step < 1) {
            bail!("{}: its {name} are below 1; each has to be 1 or more", called(node));
        }
    }
    Ok(())
}

/// The first of an attribute's whole numbers that does not fit.
fn wide_ints(attribute: &AttributeProto) -> Option<i64> {
    let one = (attribute.r#type == AttributeType::Int as i32).then_some(&attribute.i);
    attribute.ints.iter().chain(one).copied().find(|number| i32::try_from(*number).is_err())
}

fn is_wide(tensor: &TensorProto) -> bool {
    let beyond = |number: i64| i32::try_from(number).is_err();
    if tensor.data_type != DataType::Int64 as i32 {
        return false;
    }
    let raw = tensor.raw_data.chunks_exact(8).filter_map(|eight| eight.try_into().ok());
    tensor.int64_data.iter().any(|number| beyond(*number))
        || raw.map(i64::from_le_bytes).any(beyond)
}

/// A constant's own shape.
fn sizes(tensor: &TensorProto, whose: &str) -> Result<()> {
    let count = tensor.dims.iter().try_fold(1_i64, |count, size| count.checked_mul(*size));
    let odd = tensor.dims.iter().any(|size| *size < 0 || i32::try_from(*size).is_err());
    if odd || count.is_none_or(|count| i32::try_from(count).is_err()) {
        bail!(
            "{whose} has the shape {:?}, which no tensor in a function's memory can have",
            tensor.dims
        );
    }
    Ok(())
}
