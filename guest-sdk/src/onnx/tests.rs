use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as Type};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};

use super::{Model, Tensor};

fn fixed(size: i64) -> Dimension {
    Dimension { value: Some(Dim::DimValue(size)), ..Dimension::default() }
}

fn open(name: &str) -> Dimension {
    Dimension { value: Some(Dim::DimParam(name.to_owned())), ..Dimension::default() }
}

fn floats(name: &str, dim: Vec<Dimension>) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim });
    let tensor = TensorType { elem_type: DataType::Float as i32, shape };
    let r#type = TypeProto { value: Some(Type::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), ..ValueInfoProto::default() }
}

fn node(op_type: &str, name: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        name: name.to_owned(),
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn weights(name: &str, dims: &[i64], float_data: Vec<f32>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data,
        ..TensorProto::default()
    }
}

fn file(graph: GraphProto) -> Vec<u8> {
    let version = OperatorSetIdProto { domain: String::new(), version: 13 };
    ModelProto {
        ir_version: 8,
        opset_import: vec![version],
        graph: Some(graph),
        ..ModelProto::default()
    }
    .encode_to_vec()
}

/// `sum = x + y` and `product = x * y`, both over `[N, 2]`.
fn arithmetic() -> Vec<u8> {
    let shape = || vec![open("N"), fixed(2)];
    file(GraphProto {
        name: "arithmetic".to_owned(),
        input: vec![floats("x", shape()), floats("y", shape())],
        output: vec![floats("sum", shape()), floats("product", shape())],
        node: vec![
            node("Add", "add", &["x", "y"], "sum"),
            node("Mul", "mul", &["x", "y"], "product"),
        ],
        ..GraphProto::default()
    })
}

fn pair(a: f32, b: f32) -> Tensor {
    Tensor::new(&[1, 2], &[a, b]).unwrap()
}

/// An error with all of its causes on one line.
fn line<T: std::fmt::Debug>(result: crate::Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn inputs_go_in_and_outputs_come_out_by_name() {
    let model = Model::options().dim("N", 1).parse("m", &arithmetic()).unwrap();
    let outputs = model.run([("y", pair(3.0, 4.0)), ("x", pair(1.0, 2.0))]).unwrap();
    assert_eq!(outputs.get("sum").unwrap().as_slice::<f32>().unwrap(), [4.0, 6.0]);
    assert_eq!(outputs.get("product").unwrap().as_slice::<f32>().unwrap(), [3.0, 8.0]);
    assert_eq!(
        line(outputs.get("difference")),
        "m: no output \"difference\"; the outputs are \"sum\" f32 [1, 2], \"product\" f32 [1, 2]"
    );
}

#[test]
fn a_wrong_input_is_named_with_what_was_expected_and_what_was_given() {
    let model = Model::options().dim("N", 1).parse("m", &arithmetic()).unwrap();
    let x = || ("x", pair(1.0, 2.0));
    let wide = ("y", Tensor::new(&[1, 3], &[0.0f32; 3]).unwrap());
    assert_eq!(line(model.run([x(), wide])), "m: input \"y\": expected f32 [1, 2], got f32 [1, 3]");
    let whole = ("y", Tensor::new(&[1, 2], &[0i64; 2]).unwrap());
    assert_eq!(
        line(model.run([x(), whole])),
        "m: input \"y\": expected f32 [1, 2], got i64 [1, 2]"
    );
    assert_eq!(line(model.run([x()])), "m: input \"y\" f32 [1, 2] is missing");
    assert_eq!(line(model.run([x(), x()])), "m: input \"x\" is given twice");
    assert!(line(model.run([("z", pair(0.0, 0.0))])).starts_with("m: no input \"z\"; the inputs"));
}

#[test]
fn a_dimension_left_open_takes_any_size() {
    let model = Model::options().parse("m", &arithmetic()).unwrap();
    assert_eq!(model.inputs()[0].fixed_shape(), None);
    for n in [1, 3] {
        let ones = || Tensor::build::<f32>(&[n, 2], |numbers| numbers.fill(1.0)).unwrap();
        let outputs = model.run([("x", ones()), ("y", ones())]).unwrap();
        assert_eq!(outputs.get("sum").unwrap().shape(), [n, 2]);
    }
}

#[test]
fn a_dimension_or_an_input_that_is_not_there_is_an_error_that_lists_what_is() {
    let dim = Model::options().dim("batch", 1).parse("m", &arithmetic());
    assert_eq!(line(dim), "m: no input has a dimension \"batch\"; the open ones are \"N\"");
    let shape = Model::options().shape("z", [1, 2]).parse("m", &arithmetic());
    assert_eq!(line(shape), "m: no input \"z\" to give a shape to; the inputs are \"x\", \"y\"");
}

#[test]
fn unsupported_operators_are_listed_by_node_before_anything_runs() {
    let graph = GraphProto {
        input: vec![floats("x", vec![fixed(1)])],
        output: vec![floats("z", vec![fixed(1)])],
        node: vec![node("Frobnicate", "first", &["x"], "y"), node("Twiddle", "", &["y"], "z")],
        ..GraphProto::default()
    };
    assert_eq!(
        line(Model::options().parse("m", &file(graph))),
        "m: operators that are not supported: first (Frobnicate), z (Twiddle); export it with another \
         operator set (17 is the safest), or do the work of these nodes in a function"
    );
}

#[test]
fn a_constant_of_shape_without_a_value_is_f32_zeros() {
    let shape = TensorProto {
        name: "shape".to_owned(),
        dims: vec![1],
        data_type: DataType::Int64 as i32,
        int64_data: vec![2],
        ..TensorProto::default()
    };
    let graph = GraphProto {
        input: vec![floats("x", vec![fixed(2)])],
        output: vec![floats("y", vec![fixed(2)])],
        initializer: vec![shape],
        node: vec![
            node("ConstantOfShape", "zeros", &["shape"], "zero"),
            node("Add", "add", &["x", "zero"], "y"),
        ],
        ..GraphProto::default()
    };
    let model = Model::options().parse("m", &file(graph)).unwrap();
    let outputs = model.run([("x", Tensor::new(&[2], &[5.0f32, 6.0]).unwrap())]).unwrap();
    assert_eq!(outputs.get("y").unwrap().as_slice::<f32>().unwrap(), [5.0, 6.0]);
}

#[test]
fn shapes_that_do_not_fit_together_name_the_node() {
    let graph = GraphProto {
        input: vec![floats("x", vec![fixed(1), fixed(3)])],
        output: vec![floats("y", vec![fixed(1), fixed(2)])],
        initializer: vec![weights("w", &[2, 2], vec![0.0; 4])],
        node: vec![node("MatMul", "dense", &["x", "w"], "y")],
        ..GraphProto::default()
    };
    let error = line(Model::options().parse("m", &file(graph)));
    assert!(error.starts_with("m: working out types and shapes: "), "{error}");
    assert!(error.contains("dense"), "{error}");
}

#[test]
fn what_is_no_model_and_what_is_half_of_one_are_refused() {
    assert!(line(Model::options().parse("m", b"\xffnothing")).starts_with("m: not an ONNX file"));
    assert!(line(Model::options().parse("m", b"")).contains("holds no graph"));
    let mut outside = weights("w", &[2], Vec::new());
    outside.data_location = Some(DataLocation::External as i32);
    let graph = GraphProto { initializer: vec![outside], ..GraphProto::default() };
    assert_eq!(
        line(Model::options().parse("m", &file(graph))),
        "m: the weights \"w\" are in another file: leave that file beside the model, and `mayfly deploy` \
         packs it in, or save the model as one file"
    );
}

#[test]
fn a_tensor_holds_to_its_shape_and_type() {
    assert_eq!(
        line(Tensor::new(&[2, 2], &[1.0f32; 3])),
        "a tensor of shape [2, 2] has 4 elements, not 3"
    );
    let tensor = pair(1.0, 2.0);
    assert!(line(tensor.as_slice::<i32>()).starts_with("the tensor holds f32, not i32"));
    assert!(Tensor::new::<f32>(&[usize::MAX, 2], &[]).is_err());
}

mod contrib;
mod indices;
mod kernels;
mod list;
mod ml;
mod narrow;
mod shapes;
mod standard;
mod strings;

mod serving {
    use http::{Method, Request};
    use mayfly_abi::{CONTENT_TYPE_TENSORS, DataType, TensorsHead, TensorsWriter};

    use super::{Model, arithmetic};
    use crate::error::find;
    use crate::{Body, Error};

    fn frame(tensors: &[(&str, DataType, &[u64], &[u8])]) -> Vec<u8> {
        let mut frame = vec![0; 1024];
        let mut writer = TensorsWriter::new(&mut frame).unwrap();
        for (name, datatype, shape, data) in tensors {
            writer.tensor(name, *datatype, shape, data.len() as u64).unwrap();
        }
        let head = writer.finish().unwrap();
        frame.truncate(head);
        tensors.iter().for_each(|(_, _, _, data)| frame.extend_from_slice(data));
        frame
    }

    fn send(method: Method, kind: &str, body: Vec<u8>) -> Result<Vec<u8>, u16> {
        let model = Model::options().parse("arithmetic", &arithmetic()).unwrap();
        let request = Request::builder().method(method).header("content-type", kind);
        match model.serve(request.body(Body::from(body)).unwrap()) {
            Ok(response) => Ok(response.into_body().bytes().unwrap()),
            Err(error) => Err(find::<Error>(&error).unwrap().status().as_u16()),
        }
    }

    #[test]
    fn metadata_have_minus_one_for_an_open_dimension() {
        let json = String::from_utf8(send(Method::GET, "", Vec::new()).unwrap()).unwrap();
        let port = |name: &str| format!(r#"{{"name":"{name}","datatype":"FP32","shape":[-1,2]}}"#);
        let ports = |a, b| format!("[{},{}]", port(a), port(b));
        let (inputs, outputs) = (ports("x", "y"), ports("sum", "product"));
        let ready = r#"[{\"x\":[1,2],\"y\":[1,2]}]"#;
        let said = format!(
            r#""parameters":{{"ready_shapes":"{ready}","other_shapes":"one plan for all"}}"#
        );
        assert_eq!(json, format!(r#"{{"inputs":{inputs},"outputs":{outputs},{said}}}"#));
    }

    #[test]
    fn a_frame_of_inputs_gives_a_frame_of_outputs() {
        let numbers = |a: f32, b: f32| [a.to_le_bytes(), b.to_le_bytes()].concat();
        let (x, y) = (numbers(2.0, 3.0), numbers(5.0, 7.0));
        let shape: &[u64] = &[1, 2];
        let body = frame(&[("y", DataType::F32, shape, &y), ("x", DataType::F32, shape, &x)]);
        let answer = send(Method::POST, CONTENT_TYPE_TENSORS, body).unwrap();
        let head = TensorsHead::length(*answer.first_chunk().unwrap()).unwrap();
        let names: Vec<_> = TensorsHead::decode(&answer[..head]).unwrap().map(|t| t.name).collect();
        assert_eq!(names, ["sum", "product"]);
        assert_eq!(answer[head..], [numbers(7.0, 10.0), numbers(10.0, 21.0)].concat());
    }

    #[test]
    fn what_is_no_frame_for_this_model_is_the_clients_error() {
        let x: (&str, DataType, &[u64], &[u8]) = ("x", DataType::F32, &[1, 2], &[0; 8]);
        let whole = frame(&[x, ("y", DataType::F32, &[1, 2], &[0; 8])]);
        let tensors = |body| send(Method::POST, CONTENT_TYPE_TENSORS, body);
        for cut in 0..whole.len() {
            assert_eq!(tensors(whole[..cut].to_vec()), Err(400), "cut at {cut}");
        }
        assert_eq!(tensors(frame(&[x])), Err(400));
        assert_eq!(tensors(frame(&[x, x])), Err(400));
        assert_eq!(tensors(frame(&[("z", DataType::F32, &[1, 2], &[0; 8])])), Err(400));
        assert_eq!(tensors(frame(&[("x", DataType::I64, &[1], &[0; 8])])), Err(400));
        assert_eq!(tensors(b"{\"inputs\": []}".to_vec()), Err(400));
        assert_eq!(send(Method::POST, "application/json", whole.clone()), Err(415));
        assert_eq!(send(Method::PUT, CONTENT_TYPE_TENSORS, whole), Err(405));
    }
}
