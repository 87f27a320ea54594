//! Operators that tract lacks and that others can stand in for, put in their place before tract reads the file.

use anyhow::{Result, ensure};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_hir::internal::InferenceOp;

use super::contrib;

/// What `Resize` was called until operator set 10. YOLOv3 and its kin have it.
pub(crate) fn upsample(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let mut node = node.clone();
    as_until_10(&mut node);
    // The first `Resize` takes its inputs and its coordinates as `Upsample` did.
    let context = ParsingContext { onnx_operator_set_version: 10, ..context.clone() };
    super::standard::tracts("Resize", &context, &node)
}

/// What [`expand`] takes, and tract need not have.
#[cfg(test)]
pub(crate) const EXPANDED: &[&str] = &["LpPool"];

/// Until operator set 10 the nearest neighbour was the one before, and places were counted from the first element's own.
/// Later versions have attributes for both, with other defaults.
pub(crate) fn as_until_10(node: &mut NodeProto) {
    for (name, value) in
        [("nearest_mode", "floor"), ("coordinate_transformation_mode", "asymmetric")]
    {
        node.attribute.push(AttributeProto {
            name: name.to_owned(),
            r#type: AttributeType::String as i32,
            s: value.as_bytes().to_vec(),
            ..AttributeProto::default()
        });
    }
}

/// Writes operators as several that tract has.
///
/// # Errors
/// When a node has attributes that its operator does not allow.
pub(crate) fn expand(proto: &mut ModelProto) -> Result<()> {
    match &mut proto.graph {
        Some(graph) => {
            contrib::claim(graph);
            expand_graph(graph)
        }
        None => Ok(()),
    }
}

fn expand_graph(graph: &mut GraphProto) -> Result<()> {
    scales_as_input(graph);
    // Most graphs have nothing to expand, and a large one is not to be copied for that.
    if graph.node.iter().any(|node| node.op_type == "LpPool" && node.domain.is_empty()) {
        let nodes = std::mem::take(&mut graph.node);
        for node in nodes {
            if node.op_type == "LpPool" && node.domain.is_empty() {
                let parts = lp_pool(node, &mut graph.initializer)?;
                graph.node.extend(parts);
            } else {
                graph.node.push(node);
            }
        }
    }
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    attributes.filter_map(|attribute| attribute.g.as_mut()).try_for_each(expand_graph)
}

/// Until operator set 9 an `Upsample` had its scales as an attribute, which tract does not look for.
fn scales_as_input(graph: &mut GraphProto) {
    for node in &mut graph.node {
        let scales = node.attribute.iter().find(|attribute| attribute.name == "scales");
        if let Some(scales) = scales.filter(|_| node.op_type == "Upsample" && node.input.len() == 1)
        {
            let name = format!("{}/scales", node.output.first().map_or("", String::as_str));
            graph.initializer.push(TensorProto {
                name: name.clone(),
                data_type: DataType::Float as i32,
                dims: i64::try_from(scales.floats.len()).into_iter().collect(),
                float_data: scales.floats.clone(),
                ..TensorProto::default()
            });
            node.input.push(name);
        }
    }
}

/// `(sum of |x|^p)^(1/p)` over each window, the sum as so many times the mean.
fn lp_pool(node: NodeProto, constants: &mut Vec<TensorProto>) -> Result<Vec<NodeProto>> {
    let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else {
        anyhow::bail!("the LpPool {:?} has no input or no output", node.name);
    };
    // The last window then reaches beyond the padding, and its mean is over fewer elements than it has.
    ensure!(
        !node.attribute.iter().any(|given| given.name == "ceil_mode" && given.i != 0),
        "the LpPool {:?} has ceil_mode = 1, which is not supported",
        node.name
    );
    let kernel = node.attribute.iter().find(|attribute| attribute.name == "kernel_shape");
    let Some(kernel) = kernel else {
        anyhow::bail!("the LpPool {:?} has no kernel_shape", node.name);
    };
    #[expect(clippy::cast_precision_loss, reason = "windows have far fewer than 2^24 elements")]
    let volume = kernel.ints.iter().product::<i64>() as f32;
    let p = node.attribute.iter().find(|attribute| attribute.name == "p");
    #[expect(clippy::cast_precision_loss, reason = "an exponent is a small number")]
    let p = p.map_or(2.0, |attribute| attribute.i as f32);
    let prefix = if node.name.is_empty() { output.clone() } else { node.name.clone() };
    let mut scalar = |what: &str, value: f32| {
        let name = format!("{prefix}/{what}");
        constants.push(TensorProto {
            name: name.clone(),
            data_type: DataType::Float as i32,
            float_data: vec![value],
            ..TensorProto::default()
        });
        name
    };
    let (p_name, volume, root) =
        (scalar("p", p), scalar("volume", volume), scalar("root", p.recip()));
    let part = |operator: &str, inputs: &[&str], out: &str| NodeProto {
        name: format!("{prefix}/{operator}-{out}"),
        op_type: operator.to_owned(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![out.to_owned()],
        ..NodeProto::default()
    };
    let value = |what: &str| format!("{prefix}/{what}");
    let (size, powers, means, sums) =
        (value("size"), value("powers"), value("means"), value("sums"));
    let mut mean = part("AveragePool", &[&powers], &means);
    // Padding is zeros, which count among the mean's terms and add nothing to the sum.
    mean.attribute = node.attribute.iter().filter(|given| given.name != "p").cloned().collect();
    mean.attribute.push(AttributeProto {
        name: "count_include_pad".to_owned(),
        r#type: AttributeType::Int as i32,
        i: 1,
        ..AttributeProto::default()
    });
    Ok(vec![
        part("Abs", &[input], &size),
        part("Pow", &[&size, &p_name], &powers),
        mean,
        part("Mul", &[&means, &volume], &sums),
        part("Pow", &[&sums, &root], output),
    ])
}
