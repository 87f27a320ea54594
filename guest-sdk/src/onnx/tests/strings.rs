//! Operators on text: what is made of it, and what is refused. `text_cases.py` has many more of the former.

use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::ml::{attribute, int, ints, text, texts};
use super::*;

fn words(name: &str, dim: Vec<Dimension>) -> ValueInfoProto {
    let mut input = floats(name, dim);
    if let Some(Type::TensorType(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        tensor.elem_type = DataType::String as i32;
    }
    input
}

/// One node after the other, from `x` of words in `shape`; the last one's output is `y`.
fn chain(shape: &[i64], nodes: Vec<(&str, Vec<AttributeProto>)>) -> crate::Result<Model> {
    let last = nodes.len() - 1;
    let name = |at: usize| if at == last { "y".to_owned() } else { format!("v{at}") };
    let nodes = nodes.into_iter().enumerate().map(|(at, (operator, attribute))| {
        let input = if at == 0 { "x".to_owned() } else { name(at - 1) };
        NodeProto { attribute, ..node(operator, &format!("n{at}"), &[&input], &name(at)) }
    });
    let graph = GraphProto {
        node: nodes.collect(),
        input: vec![words("x", shape.iter().map(|&size| fixed(size)).collect())],
        output: vec![ValueInfoProto { name: "y".into(), ..ValueInfoProto::default() }],
        ..GraphProto::default()
    };
    Model::options().parse("m", &file(graph))
}

fn run(model: &Model, shape: &[usize], x: &[&str]) -> crate::Result<Tensor> {
    let x: Vec<_> = x.iter().map(|&word| word.to_owned()).collect();
    let outputs = model.run([("x", Tensor::from_strings(shape, &x)?)])?;
    outputs.get("y").cloned()
}

fn tokenizer(how: AttributeProto) -> (&'static str, Vec<AttributeProto>) {
    ("Tokenizer", vec![int("mark", 0), int("mincharnum", 1), text("pad_value", "#"), how])
}

fn vectorizer(pool: &[&str], counts: &[i64]) -> (&'static str, Vec<AttributeProto>) {
    let indexes: Vec<_> = (0..).take(pool.len()).collect();
    let attributes = vec![
        text("mode", "TF"),
        int("min_gram_length", 1),
        int("max_gram_length", 1),
        int("max_skip_count", 0),
        ints("ngram_counts", counts),
        ints("ngram_indexes", &indexes),
        texts("pool_strings", pool),
    ];
    ("TfIdfVectorizer", attributes)
}

#[test]
fn sizes_that_only_a_run_tells_go_through_to_the_end() {
    let normalizer = vec![text("case_change_action", "LOWER"), texts("stopwords", &["the end"])];
    let nodes = vec![
        ("StringNormalizer", normalizer),
        tokenizer(text("tokenexp", "[a-z]+")),
        ("Flatten", vec![int("axis", 1)]),
        vectorizer(&["cat", "dog"], &[0]),
    ];
    let model = chain(&[3], nodes).unwrap();
    let counts = run(&model, &[3], &["A CAT, a cat", "THE END", "Dog."]).unwrap();
    assert_eq!(
        (counts.shape(), counts.as_slice::<f32>().unwrap()),
        (&[2, 2][..], &[2., 0., 0., 1.][..])
    );
    let counts = run(&model, &[3], &["the end", "The End", "THE END"]).unwrap();
    assert_eq!((counts.shape(), counts.as_slice::<f32>().unwrap()), (&[1, 2][..], &[0.; 2][..]));
}

#[test]
fn a_text_that_would_become_too_much_is_the_clients_error() {
    let model = chain(&[1500], vec![tokenizer(text("tokenexp", "."))]).unwrap();
    let long = "a".repeat(1000);
    let mut many = vec![""; 1500];
    many[0] = &long;
    let error = line(run(&model, &[1500], &many));
    assert!(
        error.contains("1048576 elements") && error.contains("the Tokenizer \"n0\""),
        "{error}"
    );
    let model = chain(&[1], vec![("Cast", vec![int("to", 1)])]).unwrap();
    let error = line(run(&model, &[1], &["12abc"]));
    assert!(error.contains("the Cast \"n0\": element 0: a text is no number"), "{error}");
}

#[test]
fn what_cannot_be_done_to_text_is_refused_by_name() {
    let refused = |shape: &[i64], node| line(chain(shape, vec![node]));
    let turkish = ("StringNormalizer", vec![text("locale", "tr_TR.UTF-8")]);
    assert!(
        refused(&[1], turkish).contains("the StringNormalizer \"n0\": its locale \"tr_TR.UTF-8\"")
    );
    let rows = ("StringNormalizer", vec![]);
    assert!(refused(&[2, 2], rows).contains("one row of words"));
    let nothing = tokenizer(texts("separators", &[" *"]));
    assert!(refused(&[1], nothing).contains("can be nothing"));
    let unicode = tokenizer(text("tokenexp", r"\p{L}+"));
    assert!(refused(&[1], unicode).contains("a class of Unicode's"));
    let pattern = attribute("pattern", AttributeType::String);
    let ahead = ("RegexFullMatch", vec![AttributeProto { s: b"(?=a)".to_vec(), ..pattern }]);
    assert!(refused(&[1], ahead).contains("a group that is not supported"));
    assert!(refused(&[1], vectorizer(&["a", "a"], &[0])).contains("twice"));
    assert!(refused(&[1], vectorizer(&["a"], &[2])).contains("`ngram_counts`"));
}
