//! What to do about a model that is refused.

use anyhow::{Error, anyhow};
use tract_onnx::pb::ModelProto;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::type_proto::Value as Type;

/// Operator sets that tract is made for.
const SETS: std::ops::RangeInclusive<i64> = 9..=18;

/// An error with the next step behind its words.
pub(super) fn with(error: &Error, next_step: &str) -> Error {
    // Words of Rust's, for what tract has no numbers for.
    let words = format!("{error:#}")
        .replace("String doesn't implement num_traits::Zero", "it is not supported for text");
    let behind = if next_step.is_empty() { "" } else { "; " };
    anyhow!("{words}{behind}{next_step}")
}

/// What helps most often with a model of this kind: sizes that are known, then another export.
pub(super) fn next_step(proto: &ModelProto) -> String {
    let open = open(proto);
    if !open.is_empty() {
        return format!(
            "it leaves sizes of its inputs open: give them at deploy with {}, or in a function with \
             Options::dim and Options::shape",
            open.join(" ")
        );
    }
    let set = proto.opset_import.iter().find(|set| matches!(&*set.domain, "" | "ai.onnx"));
    match set.map(|set| set.version) {
        Some(version) if !SETS.contains(&version) => format!(
            "it is of operator set {version}: export it with operator set 17, for instance \
             (opset_version=17), or convert it with onnx.version_converter"
        ),
        _ => "export it with its constants folded (onnxsim does that to a file), or leave that node out \
              and do its work in a function"
            .to_owned(),
    }
}

/// An option of `mayfly deploy` for each size that is open, with a number for example.
fn open(proto: &ModelProto) -> Vec<String> {
    let mut options = Vec::new();
    let constants = proto.graph.iter().flat_map(|graph| &graph.initializer);
    let constants: Vec<_> = constants.map(|tensor| &tensor.name).collect();
    let inputs = proto.graph.iter().flat_map(|graph| &graph.input);
    for input in inputs.filter(|input| !constants.contains(&&input.name)) {
        let Some(Type::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref())
        else {
            continue;
        };
        let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
        let sizes: Vec<_> = dims
            .map(|dim| match &dim.value {
                Some(Dim::DimValue(size)) => Ok(Some(*size)),
                Some(Dim::DimParam(name)) if !name.is_empty() => Err(name),
                _ => Ok(None),
            })
            .collect();
        if sizes.contains(&Ok(None)) {
            let size = |size: &Result<Option<i64>, &String>| {
                size.as_ref().ok().copied().flatten().unwrap_or(1).to_string()
            };
            let sizes = sizes.iter().map(size).collect::<Vec<_>>().join("x");
            options.push(format!("--input {}={sizes}", input.name));
            continue;
        }
        options.extend(
            sizes.iter().filter_map(|size| size.err()).map(|name| format!("--dim {name}=1")),
        );
    }
    options.sort();
    options.dedup();
    options
}

/// What to do in place of an operator that is not supported.
pub(super) fn instead(domain: &str, operator: &str) -> &'static str {
    match (domain, operator) {
        (_, "DictVectorizer" | "CastMap") => {
            "a map is no tensor: give the model a table, with OneHotEncoder in a ColumnTransformer in place of \
             DictVectorizer"
        }
        (_, "ImageDecoder") => {
            "decode pictures in a function, by `mayfly::image`, or deploy with --mean and --scale"
        }
        ("" | "ai.onnx", name) if name.contains("Sequence") || name.contains("Optional") => {
            "sequences and optional values are no tensors: export a model that returns tensors and not lists of them"
        }
        ("ai.onnx.preview.training" | "ai.onnx.training", _)
        | (_, "SoftmaxCrossEntropyLoss" | "NegativeLogLikelihoodLoss") => {
            "that is for training: export the model for inference, after model.eval()"
        }
        ("com.microsoft", _) => {
            "com.microsoft is what ONNX Runtime's own tools write: export the model before its optimiser or quantiser, \
             or with optimisation level basic"
        }
        ("" | "ai.onnx" | "ai.onnx.ml", _) => {
            "export it with another operator set (17 is the safest), or do the work of these nodes in a function"
        }
        _ => {
            "these are of a domain of somebody's own: export the model with standard operators, or do their work in a \
             function"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::type_proto::Tensor;
    use tract_onnx::pb::{
        GraphProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
        tensor_shape_proto::Dimension,
    };

    fn model(version: i64, dims: &[Option<Dim>]) -> ModelProto {
        let dim =
            dims.iter().map(|value| Dimension { value: value.clone(), ..Dimension::default() });
        let shape = Some(TensorShapeProto { dim: dim.collect() });
        let kind = Type::TensorType(Tensor { elem_type: 1, shape });
        let r#type = Some(TypeProto { value: Some(kind), ..TypeProto::default() });
        let input = ValueInfoProto { name: "x".into(), r#type, ..ValueInfoProto::default() };
        let set = OperatorSetIdProto { domain: String::new(), version };
        ModelProto {
            opset_import: vec![set],
            graph: Some(GraphProto { input: vec![input], ..GraphProto::default() }),
            ..ModelProto::default()
        }
    }

    #[test]
    fn the_next_step_names_what_is_open_or_another_export() {
        let named = |name: &str| Some(Dim::DimParam(name.into()));
        let step = next_step(&model(17, &[named("batch"), Some(Dim::DimValue(4)), named("seq")]));
        assert!(step.contains("--dim batch=1 --dim seq=1,"), "{step}");
        let step = next_step(&model(17, &[None, Some(Dim::DimValue(4))]));
        assert!(step.contains("--input x=1x4,"), "{step}");
        assert!(next_step(&model(22, &[Some(Dim::DimValue(4))])).contains("operator set 22"));
        assert!(next_step(&model(17, &[])).contains("constants folded"));
    }

    #[test]
    fn every_unsupported_operator_has_something_instead() {
        assert!(instead("ai.onnx.ml", "DictVectorizer").contains("table"));
        assert!(instead("", "SequenceAt").contains("lists"));
        assert!(instead("com.microsoft", "QGemm").contains("ONNX Runtime"));
        assert!(instead("my.own", "Add").contains("somebody's own"));
        assert!(instead("", "RoiAlign").contains("in a function"));
    }
}
