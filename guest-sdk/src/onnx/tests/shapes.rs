//! Shapes that are fixed, listed, open.

use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::*;

/// `dense = x w` over `[N, 64]`, with weights large enough to lie among those of a model.
fn dense() -> Vec<u8> {
    let identity = (0..64 * 64).map(|at| if at % 65 == 0 { 2.0 } else { 0.0 }).collect();
    file(GraphProto {
        input: vec![floats("x", vec![open("N"), fixed(64)])],
        output: vec![floats("dense", vec![open("N"), fixed(64)])],
        initializer: vec![weights("w", &[64, 64], identity)],
        node: vec![node("MatMul", "product", &["x", "w"], "dense")],
        ..GraphProto::default()
    })
}

fn ones(rows: usize) -> Tensor {
    Tensor::build::<f32>(&[rows, 64], |numbers| numbers.fill(1.0)).unwrap()
}

fn twos(model: &Model, rows: usize) {
    let outputs = model.run([("x", ones(rows))]).unwrap();
    let dense = outputs.get("dense").unwrap();
    assert_eq!(dense.shape(), [rows, 64]);
    assert!(dense.as_slice::<f32>().unwrap().iter().all(|&number| number == 2.0));
}

#[test]
fn a_list_of_sizes_has_a_plan_for_each_and_refuses_others() {
    let model = Model::options().dims("N", [1, 4, 32]).parse("m", &dense()).unwrap();
    for rows in [1, 4, 32] {
        twos(&model, rows);
    }
    assert_eq!(
        line(model.run([("x", ones(2))])),
        "m: the model was deployed for the shapes [1, 64] or [4, 64] or [32, 64]"
    );
    assert_eq!(model.inputs()[0].fixed_shape(), None);
    assert_eq!(model.outputs()[0].sizes().collect::<Vec<_>>(), [None, Some(64)]);
    let many: Vec<usize> = (1..20).collect();
    let refused = line(Model::options().dims("N", many).parse("m", &dense()));
    assert!(refused.contains("at most 16 are made ready"), "{refused}");
}

#[test]
fn any_size_does_with_one_plan_for_all_or_one_for_each() {
    for one_for_all in [true, false] {
        let mut options = Model::options().any("N", [3]);
        if !one_for_all {
            options = options.leave_out(crate::onnx::ALL_SIZES);
        }
        let model = options.parse("m", &dense()).unwrap();
        for rows in [3, 1, 7] {
            twos(&model, rows);
        }
    }
}

#[test]
fn a_list_for_one_dimension_goes_with_a_usual_size_of_the_other_and_what_is_met_comes_on_top() {
    let mut proto = ModelProto::decode(&*arithmetic()).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    for input in &mut graph.input {
        *input = floats(&input.name.clone(), vec![open("N"), open("M")]);
    }
    let shapes = |n, m| ["x", "y"].map(|name| (name.to_owned(), vec![n, m]));
    let model = Model::options()
        .dims("M", [5, 9])
        .met(shapes(7, 5))
        .met(shapes(7, 6))
        .parse("m", &proto.encode_to_vec())
        .unwrap();
    let ready: Vec<_> = model.ready_shapes().map(|shapes| shapes[0].clone()).collect();
    assert_eq!(ready, [[1, 5], [1, 9], [7, 5]]);
    assert_eq!(model.outputs()[0].sizes().collect::<Vec<_>>(), [None, None]);
    let said = model.parameters().iter().find(|(name, _)| name == "listed_sizes");
    assert_eq!(said.unwrap().1, "M=5,9");
    let tensor = |m| Tensor::build::<f32>(&[3, m], |_| {}).unwrap();
    assert!(model.run([("x", tensor(9)), ("y", tensor(9))]).is_ok());
    let refused = line(model.run([("x", tensor(6)), ("y", tensor(6))]));
    assert!(refused.contains("deployed for [5, 9]"), "{refused}");
}

#[test]
fn a_size_without_a_name_can_be_left_open() {
    let mut proto = ModelProto::decode(&*dense()).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    graph.input[0] = floats("x", vec![Dimension::default(), fixed(64)]);
    let model = Model::options()
        .open_shape("x", [None, Some(64)])
        .parse("m", &proto.encode_to_vec())
        .unwrap();
    twos(&model, 1);
    twos(&model, 5);
}

#[test]
fn one_dimension_of_two_inputs_has_one_size() {
    let model = Model::options().parse("m", &arithmetic()).unwrap();
    let tensor = |rows| Tensor::build::<f32>(&[rows, 2], |_| {}).unwrap();
    let refused = line(model.run([("x", tensor(2)), ("y", tensor(3))]));
    assert!(refused.contains("the dimension N has size 3 here and 2 elsewhere"), "{refused}");
}

#[test]
fn a_name_that_is_no_name_elsewhere_is_one_here() {
    let mut proto = ModelProto::decode(&*dense()).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    graph.input[0] = floats("x", vec![open("p2o.Dim-0"), fixed(64)]);
    let file = proto.encode_to_vec();
    let model = Model::options().dims("p2o.Dim-0", [2, 3]).parse("m", &file).unwrap();
    twos(&model, 3);
    twos(&Model::options().dim("p2o.Dim-0", 5).parse("m", &file).unwrap(), 5);
}

/// `if rows == 1 { x } else { the sum of its rows }`: which it is follows from the shape.
fn branch_on_shape() -> Vec<u8> {
    let graph = |name: &str, graph: GraphProto| AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Graph as i32,
        g: Some(graph),
        ..AttributeProto::default()
    };
    let whole = |name: &str, number: i64| TensorProto {
        name: name.to_owned(),
        dims: vec![1],
        data_type: DataType::Int64 as i32,
        int64_data: vec![number],
        ..TensorProto::default()
    };
    let body = |operator: NodeProto, output: &str| GraphProto {
        node: vec![operator],
        output: vec![ValueInfoProto { name: output.to_owned(), ..ValueInfoProto::default() }],
        ..GraphProto::default()
    };
    let mut decide = node("If", "decide", &["single"], "y");
    let squeeze = node("Squeeze", "first", &["x", "zero"], "a");
    let sum = node("Identity", "all", &["x"], "b");
    decide.attribute =
        vec![graph("then_branch", body(squeeze, "a")), graph("else_branch", body(sum, "b"))];
    file(GraphProto {
        input: vec![floats("x", vec![open("N"), fixed(2)])],
        output: vec![floats("y", vec![])],
        initializer: vec![whole("one", 1), whole("zero", 0)],
        node: vec![
            node("Shape", "shape", &["x"], "sizes"),
            node("Gather", "rows", &["sizes", "zero"], "row"),
            node("Equal", "equal", &["row", "one"], "single"),
            decide,
        ],
        ..GraphProto::default()
    })
}

#[test]
fn a_branch_that_the_shape_decides_is_the_only_one_there_is() {
    for (rows, shape) in [(1, &[2][..]), (3, &[3, 2])] {
        let model = Model::options().dim("N", rows).parse("m", &branch_on_shape()).unwrap();
        let x = Tensor::build::<f32>(&[rows, 2], |numbers| numbers.fill(1.0)).unwrap();
        let outputs = model.run([("x", x)]).unwrap();
        assert_eq!(outputs.get("y").unwrap().shape(), shape);
    }
}

/// A pool of 3 by 3 in steps of 2, and the mean of all of it.
fn pools() -> Vec<u8> {
    use super::ml::ints;
    let attribute = vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2])];
    file(GraphProto {
        input: vec![floats("x", vec![fixed(1), fixed(1), open("H"), open("W")])],
        output: vec![floats("y", vec![fixed(1), fixed(1), fixed(1), fixed(1)])],
        node: vec![
            NodeProto { attribute, ..node("MaxPool", "pool", &["x"], "pooled") },
            node("GlobalAveragePool", "mean", &["pooled"], "y"),
        ],
        ..GraphProto::default()
    })
}

#[test]
fn a_window_larger_than_its_picture_answers_as_for_that_size_alone_or_not_at_all() {
    let ask = |model: &Model, side: usize| {
        let picture: Vec<f32> = (1_u8..).map(f32::from).take(side * side).collect();
        let outputs = model.run([("x", Tensor::new(&[1, 1, side, side], &picture)?)])?;
        Ok(outputs.get("y")?.as_slice::<f32>()?[0])
    };
    let open = Model::options().any("H", [5]).any("W", [5]).parse("m", &pools()).unwrap();
    assert_eq!(ask(&open, 5).unwrap(), 19.0);
    for side in [2, 3] {
        let fixed = Model::options().dim("H", side).dim("W", side).parse("m", &pools()).unwrap();
        assert_eq!(ask(&open, side).unwrap(), ask(&fixed, side).unwrap(), "{side}");
    }
    let refused = line(ask(&open, 1));
    assert!(
        refused.contains("\"pool\": its window of 3 is larger than what it slides over"),
        "{refused}"
    );
    assert!(line(Model::options().dim("H", 1).dim("W", 1).parse("m", &pools())).contains("of 3"));
}
