//! Indices that come with a request: right, from the end, and outside.

use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::*;

fn integers(name: &str, dim: Vec<Dimension>) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim });
    let tensor = TensorType { elem_type: DataType::Int64 as i32, shape };
    let r#type = TypeProto { value: Some(Type::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), ..ValueInfoProto::default() }
}

/// A model that looks up `ids` in a table of the numbers from 0 on.
fn lookup(operator: &str, axis: Option<i64>, table: &[i64], ids: &[i64], out: usize) -> Model {
    let mut gather = node(operator, "look up", &["table", "ids"], "rows");
    gather.attribute.extend(axis.map(|i| AttributeProto {
        name: "axis".to_owned(),
        r#type: AttributeType::Int as i32,
        i,
        ..AttributeProto::default()
    }));
    let entries = (0..table.iter().product::<i64>()).map(|n| n as f32).collect();
    let open_output = (0..out).map(|i| open(&format!("d{i}"))).collect();
    let graph = GraphProto {
        name: "lookup".to_owned(),
        input: vec![integers("ids", ids.iter().map(|size| fixed(*size)).collect())],
        output: vec![floats("rows", open_output)],
        initializer: vec![weights("table", table, entries)],
        node: vec![gather],
        ..GraphProto::default()
    };
    Model::options().parse("lookup", &file(graph)).unwrap()
}

fn rows(model: &Model, shape: &[usize], ids: &[i64]) -> Result<Vec<f32>, String> {
    let ids = Tensor::new(shape, ids).unwrap();
    let outputs = model.run([("ids", ids)]).map_err(|error| format!("{error:#}"))?;
    Ok(outputs.get("rows").unwrap().as_slice::<f32>().unwrap().to_vec())
}

#[test]
fn an_id_beyond_its_table_is_an_error_and_no_panic() {
    let model = lookup("Gather", Some(0), &[4, 2], &[2], 2);
    assert_eq!(rows(&model, &[2], &[3, -4]).unwrap(), [6.0, 7.0, 0.0, 1.0]);
    // The last is 0 in a machine's word of 32 bits.
    for outside in [4, -5, i64::MAX, i64::MIN, 1 << 32] {
        let error = rows(&model, &[2], &[0, outside]).unwrap_err();
        let expected = format!("the index {outside} is outside of the 4 entries of axis 0");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn an_index_beyond_its_axis_is_not_one_of_the_next_row() {
    let model = lookup("Gather", Some(1), &[2, 3], &[1], 2);
    assert_eq!(rows(&model, &[1], &[2]).unwrap(), [2.0, 5.0]);
    assert!(rows(&model, &[1], &[3]).unwrap_err().contains("of the 3 entries of axis 1"));
    let model = lookup("GatherElements", Some(1), &[2, 3], &[2, 1], 2);
    assert_eq!(rows(&model, &[2, 1], &[2, -3]).unwrap(), [2.0, 3.0]);
    assert!(rows(&model, &[2, 1], &[0, 3]).unwrap_err().contains("the index 3 is outside"));
}

#[test]
fn indices_of_several_axes_are_each_of_their_own() {
    let model = lookup("GatherND", None, &[2, 3], &[2, 2], 1);
    assert_eq!(rows(&model, &[2, 2], &[1, 2, 0, -1]).unwrap(), [5.0, 2.0]);
    for (ids, axis) in [([2, 0, 0, 0], 0), ([0, 0, 0, 3], 1), ([0, 0, -3, 0], 0)] {
        let error = rows(&model, &[2, 2], &ids).unwrap_err();
        assert!(error.contains(&format!("entries of axis {axis}")), "{error}");
    }
}
