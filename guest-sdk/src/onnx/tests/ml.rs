//! Operators of `ai.onnx.ml`: what ONNX Runtime answers, and what is refused. `ml_cases.py` has many more of the former.

use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::*;

pub(super) fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    let r#type = r#type as i32;
    AttributeProto { name: name.to_owned(), r#type, ..AttributeProto::default() }
}

pub(super) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn numbers(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { floats: floats.to_vec(), ..attribute(name, AttributeType::Floats) }
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeType::Int) }
}

pub(super) fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.into(), ..attribute(name, AttributeType::String) }
}

pub(super) fn texts(name: &str, texts: &[&str]) -> AttributeProto {
    let strings = texts.iter().map(|&text| text.into()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

/// One node over `x` of floats, `rows` by `columns`; its outputs are named.
fn load(
    operator: &str,
    [rows, columns]: [i64; 2],
    outputs: &[&str],
    attributes: Vec<AttributeProto>,
) -> crate::Result<Model> {
    let untyped = |name: &str| ValueInfoProto { name: name.into(), ..ValueInfoProto::default() };
    let operator = NodeProto {
        domain: "ai.onnx.ml".to_owned(),
        output: outputs.iter().map(|&name| name.to_owned()).collect(),
        attribute: attributes,
        ..node(operator, "it", &["x"], "")
    };
    let graph = GraphProto {
        input: vec![floats("x", vec![fixed(rows), fixed(columns)])],
        output: outputs.iter().map(|name| untyped(name)).collect(),
        node: vec![operator],
        ..GraphProto::default()
    };
    Model::options().parse("m", &file(graph))
}

/// The output `name` of rows.
fn run(model: &Model, shape: &[usize], x: &[f32], name: &str) -> Tensor {
    let outputs = model.run([("x", Tensor::new(shape, x).unwrap())]).unwrap();
    outputs.get(name).unwrap().clone()
}

/// `x <= 0` or not, of the one feature; and what else is said.
fn stump(more: Vec<AttributeProto>) -> Vec<AttributeProto> {
    let mut attributes = vec![
        ints("nodes_treeids", &[0, 0, 0]),
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_featureids", &[0, 0, 0]),
        texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        numbers("nodes_values", &[0.0; 3]),
        ints("nodes_truenodeids", &[1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0]),
    ];
    for attribute in more {
        attributes.retain(|old| old.name != attribute.name);
        attributes.push(attribute);
    }
    attributes
}

fn leaves(what: &str, ids: [i64; 2], weights: [f32; 2]) -> Vec<AttributeProto> {
    let name = |part: &str| format!("{what}_{part}");
    vec![
        ints(&name("treeids"), &[0, 0]),
        ints(&name("nodeids"), &[1, 2]),
        ints(&name("ids"), &ids),
        numbers(&name("weights"), &weights),
    ]
}

fn classes(weights: [f32; 2], more: Vec<AttributeProto>) -> Vec<AttributeProto> {
    stump([leaves("class", [0, 0], weights), more].concat())
}

#[test]
fn one_weight_a_leaf_stands_for_the_second_of_two_classes() {
    let transform = || text("post_transform", "LOGISTIC");
    let attributes = classes([-2.0, 3.0], vec![ints("classlabels_int64s", &[0, 1]), transform()]);
    let model = load("TreeEnsembleClassifier", [4, 1], &["label", "p"], attributes).unwrap();
    let x = [-1.0, 1.0, 2.0, f32::NEG_INFINITY];
    let labels = run(&model, &[4, 1], &x, "label");
    assert_eq!(labels.as_slice::<i64>().unwrap(), [0, 1, 1, 0]);
    let scores = run(&model, &[4, 1], &x, "p");
    let scores = scores.as_slice::<f32>().unwrap();
    assert!((scores[1] - 0.119_203).abs() < 1e-6 && (scores[3] - 0.952_574).abs() < 1e-6);
    let names = classes([-2.0, 3.0], vec![texts("classlabels_strings", &["no", "yes"])]);
    let model = load("TreeEnsembleClassifier", [4, 1], &["label", "p"], names).unwrap();
    let labels = run(&model, &[4, 1], &x, "label");
    assert_eq!(labels.as_strings().unwrap(), ["no", "yes", "yes", "no"]);
}

#[test]
fn a_missing_value_goes_where_the_node_sends_it() {
    for (mode, tracks, right) in [
        ("BRANCH_LEQ", 0, 20.0),
        ("BRANCH_LEQ", 1, 10.0),
        ("BRANCH_GT", 0, 20.0),
        ("BRANCH_NEQ", 0, 10.0),
        ("BRANCH_EQ", 1, 10.0),
    ] {
        let mut more = leaves("target", [0, 0], [10.0, 20.0]);
        more.push(texts("nodes_modes", &[mode, "LEAF", "LEAF"]));
        more.push(ints("nodes_missing_value_tracks_true", &[tracks, 0, 0]));
        let model = load("TreeEnsembleRegressor", [1, 1], &["y"], stump(more)).unwrap();
        let y = run(&model, &[1, 1], &[f32::NAN], "y");
        assert_eq!(y.as_slice::<f32>().unwrap(), [right], "{mode} {tracks}");
    }
}

#[test]
fn a_leaf_without_a_weight_gives_0_to_the_only_target() {
    let more = vec![
        ints("target_treeids", &[0]),
        ints("target_nodeids", &[2]),
        ints("target_ids", &[0]),
        numbers("target_weights", &[0.5]),
        numbers("base_values", &[0.25]),
        text("aggregate_function", "MIN"),
    ];
    let model = load("TreeEnsembleRegressor", [2, 1], &["y"], stump(more)).unwrap();
    let y = run(&model, &[2, 1], &[-1.0, 1.0], "y");
    assert_eq!(y.as_slice::<f32>().unwrap(), [0.25, 0.75]);
}

#[test]
fn what_no_tree_is_says_which_node_and_why() {
    let refused = |more: Vec<AttributeProto>| {
        let attributes = stump([leaves("target", [0, 0], [1.0, 2.0]), more].concat());
        line(load("TreeEnsembleRegressor", [1, 1], &["y"], attributes))
    };
    let circle = vec![
        texts("nodes_modes", &["BRANCH_LEQ", "BRANCH_LT", "LEAF"]),
        ints("nodes_truenodeids", &[1, 1, 0]),
        ints("nodes_falsenodeids", &[2, 2, 0]),
    ];
    for (more, why) in [
        (circle, "its nodes lead in a circle"),
        (vec![ints("nodes_truenodeids", &[7, 0, 0])], "its tree 0 has no node 7"),
        (vec![ints("nodes_treeids", &[0, 0])], "its `nodes_` attributes have 2 and"),
        (vec![ints("nodes_featureids", &[3, 0, 0])], "it looks at feature 3, and its input has 1"),
        (vec![ints("target_ids", &[0, 5])], "a leaf's target 5 is none of the 1"),
        (vec![numbers("base_values", &[0.0; 2])], "it has 2 `base_values` and 1 targets"),
        (vec![text("post_transform", "CUBE")], "its post_transform \"CUBE\" is none"),
    ] {
        let error = refused(more);
        assert!(error.contains("the TreeEnsembleRegressor \"it\""), "{error}");
        assert!(error.contains(why), "{why:?} is not in {error}");
    }
}

#[test]
fn an_input_of_another_width_or_type_is_refused_with_what_is_needed() {
    let scaler = vec![numbers("scale", &[1.0, 2.0]), numbers("offset", &[0.0, 1.0])];
    let error = line(load("Scaler", [1, 3], &["y"], scaler));
    assert!(error.contains("the Scaler \"it\""), "{error}");
    assert!(error.contains("its `scale` has 2 numbers, and its input 3 columns"), "{error}");
    let labels = vec![ints("keys_int64s", &[1]), ints("values_int64s", &[2])];
    let error = line(load("LabelEncoder", [1, 3], &["y"], labels));
    assert!(error.contains("its input holds F32, and it takes I64; put a Cast"), "{error}");
}

#[test]
fn zip_map_gives_the_table_of_probabilities() {
    let labels = vec![texts("classlabels_strings", &["a", "b"])];
    let model = load("ZipMap", [1, 2], &["maps"], labels).unwrap();
    let maps = run(&model, &[1, 2], &[0.25, 0.75], "maps");
    assert_eq!(maps.as_slice::<f32>().unwrap(), [0.25, 0.75]);
}

#[test]
fn a_category_that_zeros_do_not_have_is_no_reason_to_refuse_the_model() {
    let categories = vec![ints("cats_int64s", &[1, 2]), int("zeros", 0)];
    let model = load("OneHotEncoder", [1, 2], &["y"], categories).unwrap();
    let y = run(&model, &[1, 2], &[2.0, 1.0], "y");
    assert_eq!(
        (y.shape(), y.as_slice::<f32>().unwrap()),
        (&[1, 2, 2][..], &[0.0, 1.0, 1.0, 0.0][..])
    );
    let none = model.run([("x", Tensor::new(&[1, 2], &[2.0f32, 7.0]).unwrap())]).map(|_| ());
    let error = line(none);
    assert!(error.contains("the OneHotEncoder \"it\": an element is of no category"), "{error}");
}

#[test]
fn the_probabilities_of_a_linear_model_are_its_own() {
    let attributes = vec![
        ints("classlabels_ints", &[0, 1]),
        numbers("coefficients", &[0.1, 0.2, 0.3, 0.4, -0.1, -0.2, -0.3, -0.4]),
        numbers("intercepts", &[0.0, 0.5]),
        text("post_transform", "SOFTMAX"),
    ];
    let model = load("LinearClassifier", [1, 4], &["label", "p"], attributes).unwrap();
    let x = [6.0, 3.0, 5.0, 2.0];
    assert_eq!(run(&model, &[1, 4], &x, "label").as_slice::<i64>().unwrap(), [0]);
    let p = run(&model, &[1, 4], &x, "p");
    let p = p.as_slice::<f32>().unwrap();
    assert!((p[0] + p[1] - 1.0).abs() < 1e-6 && p[0] > 0.9, "{p:?}");
}
