//! Numbers that have no room where tract keeps sizes.

use tract_onnx::pb::tensor_proto::DataType;

use super::ml::ints;
use super::standard::{load, port, refused, whole};
use super::*;

const WIDE: i64 = (1 << 32) + 2;

#[test]
fn what_would_be_cut_to_32_bits_is_refused_by_node() {
    let x = || port("x", DataType::Float, &[2, 4]);
    let places: [(&str, &[i64]); 6] = [
        ("Reshape", &[WIDE, 4]),
        ("Expand", &[WIDE, 2, 4]),
        ("Gather", &[WIDE]),
        ("Pad", &[0, WIDE, 0, 0]),
        ("TopK", &[WIDE]),
        ("Tile", &[1, -WIDE]),
    ];
    for (operator, numbers) in places {
        let given = whole("given", &[numbers.len() as i64], numbers);
        let said = refused(x(), vec![given], node(operator, "it", &["x"], "y"));
        assert!(said.contains(&format!("the {operator} \"it\": its input \"given\"")), "{said}");
    }
    let conv = |name: &str, of: &[i64]| {
        let kernel = weights("w", &[1, 1, 3, 3], vec![0.5; 9]);
        let it = NodeProto { attribute: vec![ints(name, of)], ..node("Conv", "it", &["x"], "y") };
        refused(port("x", DataType::Float, &[1, 1, 8, 8]), vec![kernel], it)
    };
    let pads = conv("pads", &[1 << 40, 0, 0, 0]);
    assert!(pads.contains("the Conv \"it\": its pads has 1099511627776"), "{pads}");
    let still = conv("strides", &[0, 1]);
    assert!(still.contains("its strides are below 1"), "{still}");
}

#[test]
fn a_number_is_followed_to_where_it_is_used_and_bounds_may_be_endless() {
    let x = || port("x", DataType::Float, &[2, 4]);
    let numbers = |name: &str, of: i64| whole(name, &[1], &[of]);
    let mut join = node("Concat", "join", &["wide", "four"], "shape");
    join.attribute.push(super::ml::int("axis", 0));
    let shape = node("Reshape", "it", &["x", "shape"], "y");
    let said = line(load(x(), vec![numbers("wide", WIDE), numbers("four", 4)], vec![join, shape]));
    assert!(said.contains("the Reshape \"it\": its input \"shape\""), "{said}");
    let slice = node("Slice", "cut", &["x", "from", "to"], "y");
    let all = || vec![numbers("from", 1), numbers("to", i64::MAX)];
    load(x(), all(), vec![slice]).unwrap();
    // As exporters write around attention: what comes of the bound is a size, and not the bound.
    let sizes = vec![
        node("Shape", "sizes", &["x"], "s"),
        node("Slice", "cut", &["s", "from", "to"], "last"),
        node("Reshape", "it", &["x", "shape"], "y"),
    ];
    let mut join = node("Concat", "join", &["two", "last"], "shape");
    join.attribute.push(super::ml::int("axis", 0));
    let nodes = [&sizes[..2], &[join], &sizes[2..]].concat();
    let model = load(x(), [all(), vec![numbers("two", 2)]].concat(), nodes).unwrap();
    assert_eq!(model.outputs()[0].fixed_shape(), Some(vec![2, 4]));
}

#[test]
fn a_name_is_given_once_and_a_constant_has_a_shape_that_there_can_be() {
    let x = || port("x", DataType::Float, &[2, 4]);
    let twice = vec![node("Relu", "one", &["x"], "y"), node("Neg", "two", &["x"], "y")];
    let said = line(load(x(), vec![], twice));
    assert!(
        said.contains("the Neg \"two\" gives \"y\", which another node gives already"),
        "{said}"
    );
    for dims in [[1 << 62, 4], [-1, 4], [1 << 20, 1 << 20]] {
        let said = refused(x(), vec![weights("w", &dims, vec![])], node("Add", "it", &["x"], "y"));
        assert!(said.contains("the constant \"w\" has the shape"), "{said}");
    }
}
