//! Operators that are written as several: what is refused, and what is inside a subgraph. `contrib_cases.py` has what
//! they compute.

use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::*;

fn microsoft(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto { domain: "com.microsoft".to_owned(), ..node(operator, "it", inputs, output) }
}

fn int(name: &str, i: i64) -> AttributeProto {
    let r#type = AttributeType::Int as i32;
    AttributeProto { name: name.to_owned(), r#type, i, ..AttributeProto::default() }
}

fn text(name: &str, s: &str) -> AttributeProto {
    let r#type = AttributeType::String as i32;
    AttributeProto { name: name.to_owned(), r#type, s: s.into(), ..AttributeProto::default() }
}

fn untyped(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() }
}

/// Over `x` of 2 x 2 and weights of the same size, `w`.
fn load(nodes: Vec<NodeProto>) -> crate::Result<Model> {
    let graph = GraphProto {
        input: vec![floats("x", vec![fixed(2), fixed(2)])],
        output: vec![untyped("y")],
        initializer: vec![weights("w", &[2, 2], vec![1.0, 2.0, 3.0, 4.0])],
        node: nodes,
        ..GraphProto::default()
    };
    Model::options().parse("m", &file(graph))
}

fn run(model: &Model, x: [f32; 4]) -> Vec<f32> {
    let outputs = model.run([("x", Tensor::new(&[2, 2], &x).unwrap())]).unwrap();
    outputs.get("y").unwrap().as_slice::<f32>().unwrap().to_vec()
}

#[test]
fn what_is_not_supported_is_refused_by_node_and_attribute() {
    let refused = |attributes: Vec<AttributeProto>| {
        let fused = NodeProto { attribute: attributes, ..microsoft("FusedGemm", &["x", "w"], "y") };
        line(load(vec![fused]))
    };
    let error = refused(vec![text("activation", "Swish")]);
    assert!(error.contains("the com.microsoft.FusedGemm \"it\": its activation \"Swish\" is not"));
    assert!(error.contains("export the model without"), "{error}");
    let attention = NodeProto {
        attribute: vec![int("num_heads", 0)],
        ..microsoft("Attention", &["x", "w"], "y")
    };
    let error = line(load(vec![attention]));
    assert!(error.contains("the com.microsoft.Attention \"it\""), "{error}");
}

#[test]
fn an_operator_of_another_domain_is_not_taken_for_the_standards() {
    for name in ["Inverse", "Relu"] {
        let error = line(load(vec![microsoft(name, &["x"], "y")]));
        let listed = format!("m: operators that are not supported: it (com.microsoft.{name}); ");
        assert!(error.starts_with(&listed), "{error}");
    }
}

#[test]
fn a_branch_may_hold_what_is_written_as_several() {
    let branch = |turned: i64| {
        let product = NodeProto {
            attribute: vec![int("transB", turned)],
            ..microsoft("FusedMatMul", &["x", "w"], "out")
        };
        let graph = GraphProto {
            output: vec![untyped("out")],
            node: vec![product],
            ..GraphProto::default()
        };
        let r#type = AttributeType::Graph as i32;
        AttributeProto { r#type, g: Some(graph), ..AttributeProto::default() }
    };
    let named = |name: &str, branch| AttributeProto { name: name.to_owned(), ..branch };
    let either = NodeProto {
        attribute: vec![named("then_branch", branch(0)), named("else_branch", branch(1))],
        ..node("If", "either", &["positive"], "y")
    };
    let (sum, flag) =
        (node("ReduceSum", "sum", &["x"], "all"), node("Cast", "flag", &["one"], "positive"));
    let sum = NodeProto { attribute: vec![int("keepdims", 0)], ..sum };
    let relu = node("Relu", "relu", &["all"], "one");
    let flag = NodeProto { attribute: vec![int("to", DataType::Bool as i64)], ..flag };
    let model = load(vec![sum, relu, flag, either]).unwrap();
    assert_eq!(run(&model, [1.0, 0.0, 0.0, 1.0]), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(run(&model, [-1.0, 0.0, 0.0, -1.0]), [-1.0, -3.0, -2.0, -4.0]);
}

#[test]
fn the_scale_of_a_batch_normalisation_may_be_computed() {
    let vector = |name: &str, value: f32| weights(name, &[2], vec![value; 2]);
    let graph = GraphProto {
        input: vec![floats("x", vec![fixed(2), fixed(2)])],
        output: vec![untyped("y")],
        initializer: vec![vector("zero", 0.0), vector("three", 3.0), vector("one", 1.0)],
        node: vec![
            node("ReduceMax", "max", &["x"], "most"),
            node("Mul", "scale", &["most", "three"], "wide"),
            node("Flatten", "flat", &["wide"], "flat"),
            node("Squeeze", "squeeze", &["flat"], "scale"),
            node("BatchNormalization", "it", &["x", "scale", "one", "zero", "one"], "y"),
        ],
        ..GraphProto::default()
    };
    let model = Model::options().parse("m", &file(graph)).unwrap();
    let found = run(&model, [1.0, 2.0, 0.5, 0.0]);
    let right = [7.0, 13.0, 4.0, 1.0];
    let near = found.iter().zip(right).all(|(found, right)| (found - right).abs() < 1e-3);
    assert!(near, "{found:?}");
}
