use serde_json::Value;

use super::onnx::{Dim, Onnx};
use super::*;

/// Fields of a protobuf message.
pub(super) fn message(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn input(name: &str, dims: &[&str]) -> Vec<u8> {
    port(11, name, dims)
}

fn port(field: u32, name: &str, dims: &[&str]) -> Vec<u8> {
    let dims: Vec<u8> = dims
        .iter()
        .flat_map(|dim| {
            message(
                1,
                &match dim.parse::<u8>() {
                    Ok(size) => vec![0x08, size],
                    Err(_) => message(2, dim.as_bytes()),
                },
            )
        })
        .collect();
    let tensor = [vec![0x08, 1], message(2, &dims)].concat();
    message(field, &[message(1, name.as_bytes()), message(2, &message(1, &tensor))].concat())
}

fn model(inputs: &[(&str, &[&str])]) -> Vec<u8> {
    let weight = message(5, &[message(8, b"w"), message(9, &[0; 16])].concat());
    let inputs = inputs.iter().flat_map(|(name, dims)| input(name, dims));
    message(7, &[weight, input("w", &["3"]), inputs.collect()].concat())
}

/// A runner of this build with these operators.
fn stock(operators: &str) -> Vec<u8> {
    let [version, ..] = mayfly_abi::RUNNER_CONFIG.to_le_bytes();
    let module = format!(
        r#"(module (func (export "mayfly_tensors_1"))
            (@custom "mayfly.runner" "\{version:02x}\00\00\00") (@custom "mayfly.operators" "{operators}"))"#
    );
    wat::parse_str(module).unwrap()
}

/// A node of the standard's domain, or of another.
fn step(name: &str, domain: &str, operator: &str) -> Vec<u8> {
    let own = [message(2, b"made"), message(3, name.as_bytes()), message(4, operator.as_bytes())];
    message(1, &[own.concat(), message(7, domain.as_bytes())].concat())
}

#[test]
fn a_check_says_what_a_deploy_would() {
    let dir = tempfile::tempdir().unwrap();
    let runner = dir.path().join(runner::NAME);
    std::fs::write(&runner, stock("domain ai.onnx.ml\\nIf\\nRelu\\n")).unwrap();
    let args = |dims: &[&str]| ModelArgs { runner: Some(runner.clone()), ..args(&[], dims) };
    let branch = message(6, &step("inner", "com.example", "Odd"));
    let condition = [message(3, b"if"), message(4, b"If"), message(5, &branch)].concat();
    let graph = |nodes: &[Vec<u8>]| message(7, &[nodes.concat(), input("x", &["N", "3"])].concat());
    let good = graph(&[step("a", "", "Relu"), step("b", "ai.onnx.ml", "Relu")]);
    let path = Path::new("m.onnx");
    let seen = args(&["N=1"]).check(path, &good).unwrap();
    assert_eq!(
        (seen.inputs, seen.nodes, seen.notes.len()),
        (vec!["x FP32 [N, 3]".to_owned()], 2, 0)
    );
    // Dimensions that are open, in the words and with the code of a deploy.
    let (checked, packed) = (args(&[]).check(path, &good), args(&[]).pack(path, &good));
    let (checked, packed) = (checked.unwrap_err(), packed.unwrap_err());
    assert_eq!((checked.code, &checked.text), (packed.code, &packed.text));
    assert!(checked.text.contains("instance with\n  --dim N=1\n"), "{}", checked.text);
    // Operators, those of graphs within among them.
    let odd = graph(&[step("", "", "Relu"), message(1, &condition), step("", "org.other", "Relu")]);
    let refused = args(&["N=1"]).check(path, &odd).unwrap_err().text;
    let expected =
        "m.onnx: operators that are not supported: inner (com.example.Odd), made (org.other.Relu)";
    assert_eq!(refused, expected);
    let many = graph(&vec![step("n", "", "Odd"); 30]);
    assert!(args(&["N=1"]).check(path, &many).unwrap_err().text.ends_with(" and 10 more"));
}

fn onnx(inputs: &[(&str, &[&str])]) -> Onnx {
    Onnx::read(&model(inputs)).unwrap()
}

fn args(input: &[&str], dim: &[&str]) -> ModelArgs {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    ModelArgs { input: owned(input), dim: owned(dim), ..ModelArgs::default() }
}

#[test]
fn inputs_are_read_and_weights_among_them_passed_over() {
    let onnx = onnx(&[("x", &["N", "3", "?", "7"])]);
    assert_eq!(onnx.inputs.len(), 1);
    let expected = [Dim::Named("N".into()), Dim::Fixed(3), Dim::Open, Dim::Fixed(7)];
    assert_eq!(onnx.inputs[0].shape, expected);
    assert_eq!(onnx.list(), "  x FP32 [N, 3, ?, 7]");
    assert_eq!(onnx.example(), "x=1x3x320x7");
    for wrong in [&b"\x7fELF\0\0\0\0"[..], b"", b"not a model"] {
        assert!(Onnx::read(wrong).unwrap_err().contains("no ONNX model"));
    }
}

#[test]
fn open_dimensions_are_asked_for_with_a_command_that_would_do() {
    let onnx = onnx(&[("ids", &["batch", "sequence"]), ("mask", &["batch", "sequence"])]);
    let nothing = ModelArgs::default();
    let question =
        |args: &ModelArgs| missing(&onnx, &args.shapes(&onnx).unwrap(), &args.dims(&onnx).unwrap());
    let asked = question(&nothing).unwrap();
    assert!(asked.contains("ids FP32 [batch, sequence]"), "{asked}");
    assert!(asked.contains("\n  --dim batch=1 --dim sequence=128\nor"), "{asked}");
    assert_eq!(question(&args(&[], &["batch=1", "sequence=any"])), None);
    assert_eq!(question(&args(&["ids=1x8", "mask=1,8"], &[])), None);
    let half = question(&args(&["ids=1x8"], &["batch=1"])).unwrap();
    assert!(half.contains("with\n  --dim sequence=128\n"), "{half}");
}

#[test]
fn sizes_are_one_or_several_or_any() {
    let onnx = onnx(&[("ids", &["batch", "sequence"]), ("x", &["?", "4"])]);
    let args = args(&["x=?x4"], &["batch=any, 1", "sequence=16,64"]);
    let sizes = |sizes: &[u64], any| Sizes { sizes: sizes.to_vec(), any };
    let dims = args.dims(&onnx).unwrap();
    assert_eq!(dims["batch"], sizes(&[1], true));
    assert_eq!(dims["sequence"], sizes(&[16, 64], false));
    let shapes = args.shapes(&onnx).unwrap();
    assert_eq!(shapes["x"], [None, Some(4)]);
    assert_eq!(missing(&onnx, &shapes, &dims), None);
}

#[test]
fn what_panicked_when_it_was_tried_is_left_out_the_next_time() {
    let mut args = ModelArgs::default();
    let failure =
        |what: &str| format!("why\ninit wrote: thread panicked\n  {PANICKED}{what}\nhint");
    assert!(!args.leaves_out("init wrote: thread panicked"));
    assert!(args.leaves_out(&failure("all sizes")) && args.leaves_out(&failure("h=224, w=224")));
    assert!(!args.leaves_out(&failure("all sizes")), "that was left out");
    assert_eq!(args.left_out, ["all sizes", "h=224, w=224"]);
    assert!((0..9).filter(|n| args.leaves_out(&failure(&n.to_string()))).count() == LEFT_OUT - 2);
}

#[test]
fn a_dimension_without_a_usable_name_is_asked_for_by_the_whole_shape() {
    let onnx = onnx(&[("x", &["p.0", "3", "?", "p.1"])]);
    let asked = missing(&onnx, &BTreeMap::new(), &BTreeMap::new()).unwrap();
    assert!(asked.contains("\n  --input 'x=1x3x320x320'\n"), "{asked}");
}

#[test]
fn a_model_that_reads_lines_of_text_is_given_one() {
    let asked = |shape: &[&str], output: &[&str]| {
        let graph = [input("x", shape), port(12, "y", output)].concat();
        Onnx::read(&message(7, &graph)).unwrap().example()
    };
    // The outputs say which it is: characters by the step, boxes by the place, a picture.
    assert_eq!(asked(&["N", "3", "?", "W"], &["N", "T", "97"]), "x=1x3x48x320");
    assert_eq!(asked(&["N", "H", "W", "3"], &["N", "T", "97"]), "x=1x48x320x3");
    assert_eq!(asked(&["N", "3", "?", "W"], &["N", "44", "4"]), "x=1x3x320x320");
    assert_eq!(asked(&["N", "3", "H", "W"], &["N", "1", "H", "W"]), "x=1x3x320x320");
}

#[test]
fn what_is_said_about_a_model_must_fit_it() {
    let onnx = onnx(&[("x", &["N", "64"])]);
    for (input, dim, expected) in [
        (&["x"][..], &[][..], "write NAME=SHAPE, as in x=1x64"),
        (&["y=1x64"], &[], "there is no input 'y'; the inputs are\n  x FP32 [N, 64]"),
        (&["x=1x63"], &[], "it does not fit x FP32 [N, 64]"),
        (&["x=0x64"], &[], "does not fit"),
        (&["x=1xtwo"], &[], "is no shape"),
        (&[], &["N"], "write NAME=SIZE"),
        (&[], &["M=1"], "no input has a dimension 'M'; there are: N"),
        (&[], &["N=0"], "'0' is no size"),
        (&[], &["N=1,"], "'' is no size"),
        (&["x=?x63"], &[], "it does not fit x FP32 [N, 64]"),
        (&["x=1x?"], &[], "it does not fit x FP32 [N, 64]"),
    ] {
        let args = args(input, dim);
        let said = args.shapes(&onnx).map(drop).and_then(|()| args.dims(&onnx).map(drop));
        let error = said.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_picture_is_described_by_what_is_given_and_by_the_shape() {
    let none = BTreeMap::new();
    let image = |dims: &[&str], mean: Option<&str>, scale: Option<&str>, layout: Option<&str>| {
        let args = ModelArgs {
            mean: mean.map(Into::into),
            scale: scale.map(Into::into),
            layout: layout.map(Into::into),
            ..ModelArgs::default()
        };
        args.image(&onnx(&[("x", dims)]), &none)
    };
    assert_eq!(image(&["1", "3", "8", "8"], None, None, None), Ok(None));
    let planes = image(&["1", "3", "8", "8"], Some("127"), Some("128"), None).unwrap().unwrap();
    assert_eq!(
        planes,
        json!({"mean": [127.0, 127.0, 127.0], "scale": [128.0, 128.0, 128.0], "layout": "nchw", "fit": "crop"})
    );
    let mixed = image(&["1", "8", "8", "3"], Some("1, 2,3.5"), None, None).unwrap().unwrap();
    let expected =
        json!({"mean": [1.0, 2.0, 3.5], "scale": [1.0, 1.0, 1.0], "layout": "nhwc", "fit": "crop"});
    assert_eq!(mixed, expected);
    let picture = onnx(&[("x", &["1", "3", "8", "8"])]);
    let told = |image| picture::note(&picture, &none, image).unwrap();
    assert!(told(Some(&planes)).contains("the middle cut out"));
    assert!(told(None).contains("looks like a picture: with --mean and --scale"));
    assert_eq!(picture::note(&onnx(&[("x", &["N", "64"])]), &none, None), None);
    for (dims, mean, scale, layout) in [
        (&["1", "4", "8", "8"][..], Some("1"), None, None),
        (&["1", "3", "8", "8"], Some("1,2"), None, None),
        (&["1", "3", "8", "8"], None, Some("0"), None),
        (&["1", "3", "8", "8"], None, None, Some("chwn")),
    ] {
        assert!(image(dims, mean, scale, layout).is_err());
    }
}

#[test]
fn model_and_configuration_become_assets_of_the_runner() {
    let dir = tempfile::tempdir().unwrap();
    let runner = dir.path().join(runner::NAME);
    let args = ModelArgs { runner: Some(runner.clone()), ..args(&[], &["N=2"]) };
    let model = model(&[("x", &["N", "64"])]);
    std::fs::write(&runner, b"\0asm\x01\0\0\0").unwrap();
    let refused = args.pack(Path::new("m.onnx"), &model).err().unwrap().text;
    assert!(refused.contains("is no runner"), "{refused}");
    // Of before runners had a version, and of another one.
    for version in
        ["", r#"(@custom "mayfly.runner" "\00\00\00\00")"#, r#"(@custom "mayfly.runner" "\01")"#]
    {
        let module = format!(r#"(module (func (export "mayfly_tensors_1")) {version})"#);
        std::fs::write(&runner, wat::parse_str(module).unwrap()).unwrap();
        let refused = args.pack(Path::new("m.onnx"), &model).err().unwrap().text;
        assert!(
            refused.contains("is of another build") && refused.contains("make guests"),
            "{refused}"
        );
    }
    std::fs::write(&runner, stock("Relu")).unwrap();
    let packed = args.pack(Path::new("m.onnx"), &model).unwrap();
    assert_eq!((packed.memory_bytes, packed.notes.len()), (256 * MIB, 0));
    let sections: BTreeMap<String, Vec<u8>> = wasmparser::Parser::new(0)
        .parse_all(&packed.wasm)
        .filter_map(|payload| match payload.unwrap() {
            wasmparser::Payload::CustomSection(s) => Some((s.name().into(), s.data().into())),
            _ => None,
        })
        .collect();
    assert_eq!(sections["mayfly.asset/model.onnx"], model);
    let config: Value = serde_json::from_slice(&sections["mayfly.asset/config.json"]).unwrap();
    let dims = json!({"N": {"sizes": [2], "any": false}});
    assert_eq!(
        config,
        json!({"dims": dims, "shapes": {}, "image": null, "labels": false, "left_out": []})
    );
}
