use super::*;

fn numbers(text: &str, datatype: DataType, shape: &[u64]) -> Result<Vec<u8>, String> {
    read(text, datatype, shape, shape.iter().product())
}

fn floats(text: &str, shape: &[u64]) -> Result<Vec<f32>, String> {
    let bytes = numbers(text, DataType::F32, shape)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

#[test]
fn data_may_be_flat_or_nested_as_the_shape_is() {
    let expected = Ok(vec![1.0, 2.5, -3e-7, 4.0, 5.0, 6.0]);
    for text in
        ["[1,2.5,-3e-7,4,5,6]", "[[1,2.5,-3e-7],[4,5,6]]", " [ [ 1 , 2.5,-3e-7 ] ,\n[4,5,6.0]]"]
    {
        assert_eq!(floats(text, &[2, 3]), expected, "{text}");
    }
    assert_eq!(floats("7", &[]), Ok(vec![7.0]));
    assert_eq!(floats("[7]", &[]), Ok(vec![7.0]));
    for (text, shape) in [("[]", &[0, 3][..]), ("[]", &[3, 0]), ("[[],[]]", &[2, 0])] {
        assert_eq!(floats(text, shape), Ok(vec![]), "{text} as {shape:?}");
    }
}

#[test]
fn data_of_another_form_say_what_is_wrong() {
    for (text, shape, expected) in [
        ("[1,2]", &[3][..], "its data have 2 elements, and its shape [3] needs 3"),
        ("[1,2,3,4]", &[3], "more than the 3 elements"),
        ("[]", &[3], "0 elements"),
        ("7", &[1], "not an array"),
        ("[[1,2],[3]]", &[2, 2], "1 entries in dimension 1"),
        ("[[1,2]]", &[2, 2], "1 entries in dimension 0"),
        ("[[],[]]", &[2, 2], "0 entries in dimension 1"),
        ("[1,[2]]", &[2, 1], "partly flat and partly nested"),
        ("[[1],2]", &[2, 1], "not nested evenly"),
        ("[[[1]]]", &[1, 1], "nested deeper"),
        ("[[1]]", &[1], "nested deeper"),
        ("[[1,2]]", &[1, 2, 1], "not nested evenly"),
    ] {
        let error = floats(text, shape).unwrap_err();
        assert!(error.contains(expected), "{text} as {shape:?}: {error}");
    }
}

#[test]
fn a_claim_of_a_gibibyte_costs_what_the_text_is_long() {
    let error = floats("[1,2,3]", &[1 << 28]).unwrap_err();
    assert!(error.contains("needs 268435456"), "{error}");
    let bytes = read("[1,2,3]", DataType::F32, &[3], 3).unwrap();
    assert!(bytes.capacity() <= 32);
}

#[test]
fn each_type_takes_its_own_range() {
    for (datatype, good, bytes) in [
        (DataType::Bool, "[true,false]", &[1, 0][..]),
        (DataType::U8, "[0,255]", &[0, 255]),
        (DataType::I8, "[-128,127]", &[0x80, 0x7f]),
        (DataType::U16, "[1,65535]", &[1, 0, 255, 255]),
        (DataType::I16, "[-1,2]", &[255, 255, 2, 0]),
        (DataType::F16, "[1,-2.0]", &[0, 0x3c, 0, 0xc0]),
        (DataType::Bf16, "[1,-2.0]", &[0x80, 0x3f, 0, 0xc0]),
        (DataType::Bytes, "[\"\",\"\\u00e9\\n\"]", &[0, 0, 0, 0, 3, 0, 0, 0, 0xc3, 0xa9, 0x0a]),
    ] {
        assert_eq!(numbers(good, datatype, &[2]).unwrap(), bytes, "{}", datatype.name());
    }
    let large = numbers("[18446744073709551615]", DataType::U64, &[1]).unwrap();
    assert_eq!(large, u64::MAX.to_le_bytes());
    let small = numbers("[-9223372036854775808]", DataType::I64, &[1]).unwrap();
    assert_eq!(small, i64::MIN.to_le_bytes());
    let exact = numbers("[0.1]", DataType::F64, &[1]).unwrap();
    assert_eq!(exact, 0.1f64.to_le_bytes());
}

#[test]
fn what_is_no_element_of_the_type_is_named_with_its_place() {
    for (text, datatype, expected) in [
        (
            "[0,256]",
            DataType::U8,
            "element 1 of its data is 256, and UINT8 needs a whole number of 0 to 255",
        ),
        ("[-1]", DataType::U32, "0 to 4294967295"),
        ("[1.5]", DataType::I32, "needs a whole number"),
        ("[1e39]", DataType::F32, "too large for FP32"),
        ("[70000]", DataType::F16, "too large for FP16"),
        ("[1e999]", DataType::F64, "too large for FP64"),
        ("[\"NaN\"]", DataType::F32, "element 0 of its data is \"NaN\", and FP32 needs a number"),
        ("[null]", DataType::F32, "null"),
        ("[true]", DataType::F32, "needs a number"),
        ("[1]", DataType::Bool, "needs true or false"),
        ("[1]", DataType::Bytes, "needs a string"),
        ("[{\"a\":1}]", DataType::F32, "needs a number"),
    ] {
        let elements = if text.contains(',') { 2 } else { 1 };
        let error = numbers(text, datatype, &[elements]).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
