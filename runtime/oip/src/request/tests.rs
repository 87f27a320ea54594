use super::*;
use mayfly_abi::TensorsHead;

fn model() -> Model {
    Model::parse(
        br#"{"inputs":[{"name":"a","datatype":"FP32","shape":[-1,2]},
                       {"name":"b","datatype":"INT64","shape":[1]}],
             "outputs":[{"name":"y","datatype":"FP32","shape":[-1]},
                        {"name":"z","datatype":"FP32","shape":[-1]}]}"#,
    )
    .unwrap()
}

fn parse(json: &str, binary_bytes: u64) -> Result<InferRequest, Error> {
    let bounds = Bounds { binary_bytes, frame_bytes: 1 << 20 };
    InferRequest::parse(json.as_bytes(), &model(), bounds)
}

const A: &str = r#"{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]}"#;
const B: &str = r#"{"name":"b","shape":[1],"datatype":"INT64","data":[7]}"#;
const A_FOLLOWS: &str =
    r#"{"name":"a","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}"#;
const B_FOLLOWS: &str =
    r#"{"name":"b","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}"#;

fn of(inputs: &[&str]) -> String {
    format!("{{\"inputs\":[{}]}}", inputs.join(","))
}

fn with(inputs: &[&str], more: &str) -> String {
    format!("{{{more},\"inputs\":[{}]}}", inputs.join(","))
}

#[test]
fn a_request_becomes_a_frame() {
    let request = parse(&with(&[A, B], r#""id":"42""#), 0).unwrap();
    assert_eq!(request.id.as_deref(), Some("42"));
    assert_eq!((request.outputs.is_none(), request.binary), (true, false));
    let head = request.frame_head().unwrap();
    let infos: Vec<_> = TensorsHead::decode(&head).unwrap().collect();
    assert_eq!((infos[0].name, infos[0].bytes), ("a", 8));
    assert_eq!((infos[1].name, infos[1].bytes), ("b", 8));
    let Data::Here(data) = &request.inputs[1].data else { panic!("{request:?}") };
    assert_eq!(*data, 7i64.to_le_bytes());
    assert_eq!(request.data_bytes(), 16);
}

#[test]
fn what_follows_the_json_stands_last_and_in_its_order() {
    let names = |json: &str, bytes| {
        let request = parse(json, bytes).unwrap();
        let names = request.inputs.into_iter().map(|input| (input.name, input.data));
        names.map(|(name, data)| (name, matches!(data, Data::Follows(8)))).collect::<Vec<_>>()
    };
    assert_eq!(names(&of(&[A_FOLLOWS, B]), 8), [("b".into(), false), ("a".into(), true)]);
    assert_eq!(names(&of(&[B_FOLLOWS, A_FOLLOWS]), 16), [("b".into(), true), ("a".into(), true)]);
}

#[test]
fn outputs_are_taken_as_asked_for() {
    let wanted = |more: &str| parse(&with(&[A, B], more), 0).unwrap();
    let one = wanted(r#""outputs":[{"name":"z","parameters":{"binary_data":true}}]"#);
    assert_eq!(one.outputs, Some(vec![Wanted { name: "z".into(), binary: true }]));
    let all = wanted(r#""parameters":{"binary_data_output":true}"#);
    assert_eq!((all.outputs, all.binary), (None, true));
    let mixed = wanted(
        r#""parameters":{"binary_data_output":true},"outputs":[{"name":"y"},{"name":"z","parameters":{"binary_data":false}}]"#,
    );
    let binary: Vec<_> = mixed.outputs.unwrap().into_iter().map(|w| w.binary).collect();
    assert_eq!(binary, [true, false]);
    assert_eq!(wanted(r#""outputs":[]"#).outputs, None);
}

#[test]
fn each_wrong_request_says_what_is_wrong() {
    let edit = |from: &str, to: &str| of(&[&A.replace(from, to), B]);
    for (json, expected) in [
        (String::new(), "expected an object with inputs"),
        ("{".into(), "EOF"),
        ("[]".into(), "expected an object with inputs"),
        ("{}".into(), "missing field `inputs`"),
        (of(&[]), "missing inputs: \"a\" FP32 [-1, 2], \"b\" INT64 [1]"),
        (of(&[A]), "missing inputs: \"b\""),
        (of(&[A, A, B]), "input \"a\": it is given twice"),
        (edit("\"a\"", "\"c\""), "no input \"c\"; its inputs: \"a\" FP32 [-1, 2]"),
        (edit("FP32", "FP8"), "there is no datatype \"FP8\"; there are BOOL"),
        (edit("FP32", "FP64"), "the model takes FP32 [-1, 2], and it is FP64 [1, 2]"),
        (edit("[1,2],\"d", "[2,1],\"d"), "the model takes FP32 [-1, 2], and it is FP32 [2, 1]"),
        (edit("[1,2],\"d", "[-1,2],\"d"), "negative size"),
        (edit("[1,2],\"d", "[4611686018427387904,2],\"d"), "needs 9223372036854775808"),
        (edit("[1,2],\"d", "[9223372036854775807,2],\"d"), "needs 18446744073709551614"),
        (
            edit("[1,2],\"d", "[134217728,2],\"d"),
            "2 elements, and its shape [134217728, 2] needs 268435456",
        ),
        (edit("[1,2]}", "[1,NaN]}"), "JSON has no NaN"),
        (edit("[1,2]}", "[1,-Infinity]}"), "JSON has no NaN and no Infinity"),
        (edit("[1,2]}", "[1,\"NaN\"]}"), "FP32 needs a number"),
        (edit("[1,2]}", "[1]}"), "1 elements"),
        (edit(",\"data\":[1,2]", ""), "it has no data"),
        (edit("\"data\"", "\"parameters\":{\"binary_data_size\":8},\"data\""), "both data and"),
        (edit("\"shape\"", "\"shape\":[1],\"shape\""), "duplicate field `shape`"),
        (with(&[A, B], r#""outputs":[{"name":"x"}]"#), "no output \"x\"; its outputs: \"y\" FP32"),
        (with(&[A, B], r#""outputs":[{"name":"y"},{"name":"y"}]"#), "asked for twice"),
        (
            with(&[A, B], r#""outputs":[{"name":"y","parameters":{"classification":3}}]"#),
            "classification",
        ),
        (with(&[A, B], r#""parameters":{"sequence_id":3}"#), "no state outlives"),
        (
            edit("\"data\"", "\"parameters\":{\"shared_memory_region\":\"r\"},\"data\""),
            "shared_memory",
        ),
        (with(&[A, B], &format!("\"id\":\"{}\"", "x".repeat(257))), "256 characters"),
    ] {
        let error = parse(&json, 0).expect_err(&json);
        assert_eq!(error.status(), 400, "{error}");
        assert!(error.to_string().contains(expected), "{json}: {error}");
    }
}

#[test]
fn what_follows_must_be_there_and_fit() {
    let claim = |bytes: &str| of(&[&A_FOLLOWS.replace(":8", &format!(":{bytes}")), B]);
    for (json, after, expected) in [
        (claim("8"), 0, "its binary_data_size is 8, and the body has 0 bytes after its JSON"),
        (
            claim("8"),
            9,
            "the body has 9 bytes after its JSON, and the inputs' binary_data_size add up to 8",
        ),
        (claim("1073741824"), 20, "its binary_data_size is 1073741824, and FP32 [1, 2] takes 8"),
        (claim("-8"), 8, "invalid value"),
        (of(&[A, B]), 1, "the body has 1 bytes after its JSON"),
    ] {
        let error = parse(&json, after).expect_err(&json);
        assert_eq!(error.status(), 400, "{error}");
        assert!(error.to_string().contains(expected), "{json}: {error}");
    }
    // A claim that its shape bears out, in a body that cannot hold it.
    let honest = A_FOLLOWS.replace("[1,2]", "[134217728,2]").replace(":8", ":1073741824");
    let error = parse(&of(&[&honest, B]), 20).unwrap_err();
    assert!(error.to_string().contains("the body has 20 bytes"), "{error}");
    assert_eq!(error.status(), 400);
}

#[test]
fn more_than_the_function_takes_is_too_large() {
    let large = A_FOLLOWS.replace("[1,2]", "[200000,2]").replace(":8", ":1600000");
    let error = parse(&of(&[&large, B]), 1_600_000).unwrap_err();
    assert_eq!(error.status(), 413, "{error}");
}

#[test]
fn a_list_without_end_is_cut_off() {
    let many = vec![A; PORTS + 1];
    assert!(parse(&of(&many), 0).unwrap_err().to_string().contains("a list of at most 256"));
    let deep = A.replace("[1,2],\"d", &format!("[{}1],\"d", "1,".repeat(20)));
    assert!(parse(&of(&[&deep, B]), 0).unwrap_err().to_string().contains("16 dimensions"));
}
