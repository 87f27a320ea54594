//! Operators of the standard that are put right or refused here. `mended_cases.py` has what single ones compute.

use super::ml::{int, ints, text};
use super::*;
use crate::onnx::Element;

pub(super) fn port(name: &str, kind: DataType, dims: &[i64]) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim: dims.iter().map(|size| fixed(*size)).collect() });
    let tensor = TensorType { elem_type: kind as i32, shape };
    let r#type = TypeProto { value: Some(Type::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), ..ValueInfoProto::default() }
}

fn untyped(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() }
}

pub(super) fn whole(name: &str, dims: &[i64], int64_data: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Int64 as i32,
        int64_data: int64_data.to_vec(),
        ..TensorProto::default()
    }
}

/// From `x` to `y`.
pub(super) fn load(
    x: ValueInfoProto,
    constants: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
) -> crate::Result<Model> {
    let graph = GraphProto {
        input: vec![x],
        output: vec![untyped("y")],
        initializer: constants,
        node: nodes,
        ..GraphProto::default()
    };
    // The check draws numbers, and some of these have no answer for all.
    Model::options().check(false).parse("m", &file(graph))
}

fn answer<X: Element, Y: Element>(model: &Model, shape: &[usize], x: &[X]) -> Vec<Y> {
    let outputs = model.run([("x", Tensor::new(shape, x).unwrap())]).unwrap();
    outputs.get("y").unwrap().as_slice::<Y>().unwrap().to_vec()
}

#[test]
fn products_of_whole_numbers_are_exact_and_begin_again_beyond_their_type() {
    let square = || vec![node("Mul", "square", &["x", "x"], "y")];
    let model = load(port("x", DataType::Int32, &[3]), vec![], square()).unwrap();
    assert_eq!(
        answer::<i32, i32>(&model, &[3], &[4097, i32::MAX - 1, i32::MIN]),
        [4097 * 4097, 4, 0]
    );
    let model = load(port("x", DataType::Int64, &[2]), vec![], square()).unwrap();
    assert_eq!(
        answer::<i64, i64>(&model, &[2], &[-94_906_267, 1 << 32]),
        [9_007_199_515_875_289, 0]
    );
    let model = load(port("x", DataType::Uint8, &[2]), vec![], square()).unwrap();
    assert_eq!(answer::<u8, u8>(&model, &[2], &[15, 17]), [225, 33]);
    let power = vec![node("Pow", "power", &["x", "two"], "y")];
    let model = load(port("x", DataType::Int64, &[1]), vec![whole("two", &[], &[2])], power);
    assert_eq!(answer::<i64, i64>(&model.unwrap(), &[1], &[94_906_267]), [9_007_199_515_875_289]);
}

#[test]
fn sizes_are_divided_like_other_whole_numbers() {
    for (operator, by, right) in [
        ("Div", i64::MAX, [0, 0]),
        ("Div", -2, [-3, -1]),
        ("Mod", -4, [-1, -2]),
        ("Mul", 1 << 40, [7 << 40, 2 << 40]),
        ("Mul", -3, [-21, -6]),
        ("Add", 1 << 33, [(1 << 33) + 7, (1 << 33) + 2]),
        ("Sub", 8, [-1, -6]),
        ("Pow", 2, [49, 4]),
    ] {
        let sizes = node("Shape", "sizes", &["x"], "s");
        let nodes = vec![sizes, node(operator, "it", &["s", "by"], "y")];
        let by = vec![whole("by", &[], &[by])];
        let model = load(port("x", DataType::Float, &[7, 2]), by, nodes).unwrap();
        let x = Tensor::new(&[7, 2], &[0f32; 14]).unwrap();
        let outputs = model.run([("x", x)]).unwrap();
        let given = outputs.get("y").unwrap().clone().into_inner();
        let given = given.cast_to::<i64>().unwrap().into_owned();
        let given = given.try_as_plain_ram().unwrap().as_slice::<i64>().unwrap().to_vec();
        assert_eq!(given, right, "{operator}");
    }
    // Numbers of a request beside a size.
    for operator in ["Max", "Add"] {
        let table = weights("table", &[7, 2], vec![0.0; 14]);
        let nodes = vec![
            node("Shape", "sizes", &["table"], "s"),
            node(operator, "it", &["s", "x"], "sized"),
            node("Cast", "numbers", &["sized"], "y"),
        ];
        let mut nodes = nodes;
        nodes[2].attribute.push(int("to", i64::from(DataType::Float as i32)));
        let model = load(port("x", DataType::Int64, &[2]), vec![table], nodes).unwrap();
        let right = if operator == "Max" { [8.0, 2.0] } else { [15.0, 2.0] };
        assert_eq!(answer::<i64, f32>(&model, &[2], &[8, 0]), right);
        let large = line(model.run([("x", Tensor::new(&[2], &[1i64 << 33, 0]).unwrap())]));
        assert!(large.contains(&format!("the {operator} \"it\": beside a size")), "{large}");
    }
    let sizes = node("Shape", "sizes", &["x"], "s");
    let nodes = vec![sizes, node("Max", "it", &["s", "by"], "y")];
    let by = vec![whole("by", &[], &[1 << 33])];
    let large = line(load(port("x", DataType::Float, &[7, 2]), by, nodes));
    assert!(large.contains("the Max \"it\": one of its inputs is a size of a tensor"), "{large}");
}

#[test]
fn constants_of_unsigned_numbers_keep_their_type() {
    let constant = |dims: &[i64], listed: &[u64], kind: DataType| TensorProto {
        name: "c".to_owned(),
        dims: dims.to_vec(),
        data_type: kind as i32,
        uint64_data: listed.to_vec(),
        ..TensorProto::default()
    };
    let x = || port("x", DataType::Float, &[1]);
    let flat = || vec![node("Reshape", "flat", &["c", "shape"], "y")];
    let shape = || whole("shape", &[1], &[-1]);
    let listed = constant(&[1, 2], &[7, 4_000_000_000], DataType::Uint32);
    let model = load(x(), vec![listed, shape()], flat()).unwrap();
    assert_eq!(answer::<f32, u32>(&model, &[1], &[0.0]), [7, 4_000_000_000]);
    let listed = constant(&[1, 1], &[u64::MAX], DataType::Uint64);
    let model = load(x(), vec![listed, shape()], flat()).unwrap();
    assert_eq!(answer::<f32, u64>(&model, &[1], &[0.0]), [u64::MAX]);
    let none = constant(&[0, 2], &[], DataType::Uint32);
    let model = load(x(), vec![none.clone(), whole("shape", &[2], &[0, 0])], flat()).unwrap();
    assert_eq!(answer::<f32, u32>(&model, &[1], &[0.0]), [0u32; 0]);
    let mut value =
        super::ml::attribute("value", tract_onnx::pb::attribute_proto::AttributeType::Tensor);
    value.t = Some(TensorProto { data_type: DataType::Uint64 as i32, ..none });
    let mut inside = node("Constant", "none", &[], "c");
    inside.attribute.push(value);
    let shape = whole("shape", &[2], &[0, 0]);
    let model = load(x(), vec![shape], [vec![inside], flat()].concat()).unwrap();
    assert_eq!(answer::<f32, u64>(&model, &[1], &[0.0]), [0u64; 0]);
}

/// What is said of one node that reads `x` and then the constants.
pub(super) fn refused(x: ValueInfoProto, constants: Vec<TensorProto>, mut it: NodeProto) -> String {
    it.input.extend(constants.iter().map(|constant| constant.name.clone()));
    line(load(x, constants, vec![it]))
}

#[test]
fn what_would_be_another_number_is_refused_by_node_with_the_next_step() {
    let image = || port("x", DataType::Float, &[1, 1, 4, 4]);
    let kernel = || weights("w", &[1, 1, 3, 3], vec![0.5; 9]);
    let with = |operator: &str, attribute: Vec<_>| NodeProto {
        attribute,
        ..node(operator, "it", &["x"], "y")
    };
    let empty = refused(port("x", DataType::Float, &[3, 0]), vec![], with("Hardmax", vec![]));
    assert!(empty.contains("the Hardmax \"it\": its input has a dimension of 0"), "{empty}");
    let empty = refused(port("x", DataType::Double, &[3, 0]), vec![], with("Softmax", vec![]));
    assert!(empty.contains("the Softmax \"it\": its input has a dimension of 0"), "{empty}");
    for more in [ints("output_padding", &[1, 0]), ints("output_shape", &[8, 8])] {
        let auto = vec![text("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2]), more];
        let padded = refused(image(), vec![kernel()], with("ConvTranspose", auto));
        assert!(padded.contains("the ConvTranspose \"it\": auto_pad with"), "{padded}");
        assert!(padded.contains("give it pads in place of auto_pad"), "{padded}");
    }
    let small = vec![ints("output_shape", &[5, 6])];
    let small = refused(image(), vec![kernel()], with("ConvTranspose", small));
    assert!(small.contains("an output_shape smaller than"), "{small}");
    let cubic = || {
        let mode = text("coordinate_transformation_mode", "pytorch_half_pixel");
        with("Resize", vec![text("mode", "cubic"), mode])
    };
    let scales = weights("scales", &[4], vec![1.0, 1.0, 0.25, 2.0]);
    let roi = weights("roi", &[0], vec![]);
    let one = refused(image(), vec![roi.clone(), scales], cubic());
    assert!(one.contains("the Resize \"it\": pytorch_half_pixel to a size of 1"), "{one}");
    let scales = weights("scales", &[0], vec![]);
    let sizes = whole("sizes", &[4], &[1, 1, 2, 1]);
    let one = refused(image(), vec![roi, scales, sizes], cubic());
    assert!(one.contains("use half_pixel or linear"), "{one}");
}

#[test]
fn a_scale_for_no_place_and_a_size_of_numbers_are_refused_by_node() {
    let attributes = || vec![int("axis", 1)];
    for (operator, kind) in
        [("QuantizeLinear", DataType::Float), ("DequantizeLinear", DataType::Uint8)]
    {
        let it = NodeProto { attribute: attributes(), ..node(operator, "it", &["x"], "y") };
        let none = refused(port("x", kind, &[2, 0]), vec![weights("scale", &[0], vec![])], it);
        assert!(none.contains("\"it\": it is quantised along an axis of size 0"), "{none}");
    }
    let places = node("NonZero", "places", &["x"], "p");
    let nodes = vec![places, node("Size", "count", &["p"], "y")];
    let count = line(load(port("x", DataType::Float, &[3]), vec![], nodes));
    assert!(count.contains("the Size \"count\": it gives a size that depends on"), "{count}");
    assert!(count.contains("leave that output out"), "{count}");
}

#[test]
fn an_if_is_refused_whose_one_branch_gives_nothing_and_the_other_cannot_be_made() {
    let branch = |name: &str, nodes: Vec<NodeProto>| {
        let output = vec![untyped(&nodes.last().unwrap().output[0])];
        let graph = GraphProto { output, node: nodes, ..GraphProto::default() };
        let kind = tract_onnx::pb::attribute_proto::AttributeType::Graph;
        let mut attribute = super::ml::attribute(name, kind);
        attribute.g = Some(graph);
        attribute
    };
    let most = NodeProto {
        attribute: vec![int("keepdims", 0)],
        ..node("ReduceMax", "most", &["none"], "a")
    };
    let mut choice = node("If", "choice", &["x"], "y");
    choice.attribute.push(branch("then_branch", vec![most]));
    choice.attribute.push(branch("else_branch", vec![node("Neg", "less", &["none"], "b")]));
    let none = weights("none", &[4, 1, 0], vec![]);
    let error = line(load(port("x", DataType::Bool, &[]), vec![none], vec![choice]));
    assert!(error.contains("one branch of the If that makes \"y\" gives nothing"), "{error}");
    assert!(error.contains("the ReduceMax \"most\""), "{error}");
}

#[test]
fn products_of_f16_are_summed_in_f32_and_rounded_once() {
    const HALF: i64 = DataType::Float16 as i64;
    let to = |kind: i64, from: &str, made: &str| NodeProto {
        attribute: vec![int("to", kind)],
        ..node("Cast", made, &[from], made)
    };
    for (operator, shapes) in
        [("MatMul", [&[1, 1024][..], &[1024, 1]]), ("Conv", [&[1, 1024, 1, 1], &[1, 1024, 1, 1]])]
    {
        let weights = weights("w", shapes[1], vec![0.1; 1024]);
        let nodes = vec![
            to(HALF, "x", "narrow"),
            to(HALF, "w", "weights"),
            node(operator, "it", &["narrow", "weights"], "z"),
            to(DataType::Float as i64, "z", "y"),
        ];
        let model = load(port("x", DataType::Float, shapes[0]), vec![weights], nodes).unwrap();
        let shape: Vec<_> = shapes[0].iter().map(|size| usize::try_from(*size).unwrap()).collect();
        // 1,024 times 0.0999756, which is 0.1 in f16. With each sum rounded it would be far beyond.
        assert_eq!(answer::<f32, f32>(&model, &shape, &[1.0; 1024]), [102.375], "{operator}");
    }
}
