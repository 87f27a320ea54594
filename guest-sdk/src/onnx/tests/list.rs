//! The list of operators that the stock runner carries, for who looks at a model without running anything.

use std::collections::BTreeSet;

use super::super::{load, operators, proto};

/// What tract has by its feature `transformers` alone, which a runner has not.
const TRANSFORMERS: [&str; 3] = ["Attention", "GroupQueryAttention", "MultiHeadAttention"];

#[test]
fn the_list_has_the_operators_that_models_may_have() {
    let onnx = load::taught();
    let mut names: BTreeSet<&str> = onnx.op_register.0.keys().map(String::as_str).collect();
    names.extend(operators::EXPANDED);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/onnx/operators.txt");
    let kept = std::fs::read_to_string(path).unwrap();
    if cfg!(feature = "transformers") {
        names.retain(|name| !TRANSFORMERS.contains(name) || kept.lines().any(|kept| kept == *name));
    }
    let domains = proto::DOMAINS.iter().filter(|domain| !domain.is_empty());
    let domains = domains.map(|domain| format!("domain {domain}"));
    let lines = domains.chain(names.iter().map(|name| (*name).to_owned()));
    let list: String = lines.map(|line| format!("{line}\n")).collect();
    if std::env::var_os("MAYFLY_BLESS").is_some() {
        std::fs::write(path, &list).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(kept == list, "operators.txt is stale: run this test with MAYFLY_BLESS=1");
}
