//! Constants of `uint32` and `uint64`. The standard lists them as `uint64_data`, and tract looks for them where signed
//! numbers are; where there are none at all, it takes the signed type for theirs.

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Writes them as raw bytes, and empty ones as nodes that make them. Graphs inside this one are left as they are.
pub(super) fn mend(graph: &mut GraphProto) {
    let mut made = Vec::new();
    let kept = std::mem::take(&mut graph.initializer).into_iter().map(|mut tensor| {
        as_bytes(&mut tensor);
        if !is_lost(&tensor) {
            return tensor;
        }
        let shape = shape_of(&tensor, &tensor.name);
        made.push((constant_of_shape(&tensor, &shape.name, tensor.name.clone()), tensor.name));
        shape
    });
    graph.initializer = kept.collect();
    // Until version 4 of the format each constant was listed among the inputs as well.
    graph.input.retain(|input| !made.iter().any(|(_, name)| *name == input.name));
    for node in &mut graph.node {
        node.attribute.iter_mut().filter_map(|given| given.t.as_mut()).for_each(as_bytes);
        let value = node.attribute.iter().find_map(|given| given.t.as_ref());
        let lost = value.filter(|value| node.op_type == "Constant" && is_lost(value));
        if let (Some(value), Some(output)) = (lost, node.output.first()) {
            let shape = shape_of(value, output);
            let new = constant_of_shape(value, &shape.name, output.clone());
            *node = NodeProto { name: std::mem::take(&mut node.name), ..new };
            graph.initializer.push(shape);
        }
    }
    graph.node.splice(0..0, made.into_iter().map(|(node, _)| node));
}

fn width(tensor: &TensorProto) -> Option<usize> {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Uint32) => Some(4),
        Ok(DataType::Uint64) => Some(8),
        _ => None,
    }
}

fn as_bytes(tensor: &mut TensorProto) {
    let Some(width) = width(tensor) else { return };
    let listed = std::mem::take(&mut tensor.uint64_data);
    if !listed.is_empty() {
        let bytes = listed.iter().map(|number| number.to_le_bytes());
        let bytes: Vec<u8> = bytes.flat_map(|bytes| bytes.into_iter().take(width)).collect();
        tensor.raw_data = bytes;
    }
}

/// Whether tract would read it as of another type.
fn is_lost(tensor: &TensorProto) -> bool {
    let outside = tensor.data_location() == DataLocation::External;
    width(tensor).is_some() && tensor.dims.contains(&0) && !outside
}

fn shape_of(tensor: &TensorProto, name: &str) -> TensorProto {
    TensorProto {
        name: format!("{name}/shape"),
        data_type: DataType::Int64 as i32,
        dims: i64::try_from(tensor.dims.len()).into_iter().collect(),
        int64_data: tensor.dims.clone(),
        ..TensorProto::default()
    }
}

fn constant_of_shape(tensor: &TensorProto, shape: &str, output: String) -> NodeProto {
    use tract_onnx::pb::attribute_proto::AttributeType;
    let zero = TensorProto {
        dims: vec![1],
        data_type: tensor.data_type,
        raw_data: vec![0; width(tensor).unwrap_or_default()],
        ..TensorProto::default()
    };
    let value = AttributeProto {
        name: "value".to_owned(),
        r#type: AttributeType::Tensor as i32,
        t: Some(zero),
        ..AttributeProto::default()
    };
    NodeProto {
        op_type: "ConstantOfShape".to_owned(),
        input: vec![shape.to_owned()],
        output: vec![output],
        attribute: vec![value],
        ..NodeProto::default()
    }
}
