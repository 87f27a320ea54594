//! What is done to text, which tract lacks: case, stop words, tokens, n-grams, patterns, numbers of text and text of
//! numbers. As ONNX Runtime has them, since that is what people have tested their models with.
//!
//! Text comes from clients: its length is bounded by the request, and what an operator makes of it by [`fits`].

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

use super::ml::{self, Kind, OfNumbers, Parse};

mod cast;
mod join;
mod ngrams;
mod normalize;
mod regex;
mod tokenize;

const OPERATORS: [(&str, Parse); 6] = [
    ("RegexFullMatch", join::full_match),
    ("StringConcat", join::concat),
    ("StringNormalizer", normalize::normalizer),
    ("StringSplit", join::split),
    ("TfIdfVectorizer", ngrams::vectorizer),
    ("Tokenizer", tokenize::tokenizer),
];

/// Elements of a tensor of text that an operator makes, and bytes in all of them.
const ELEMENTS_MAX: usize = 1 << 20;
const BYTES_MAX: usize = 1 << 26;

/// Teaches tract these operators, and a `Cast` from and to text.
pub(super) fn register(onnx: &mut Onnx) {
    for (name, _) in OPERATORS {
        onnx.op_register.insert(name, build);
    }
    onnx.op_register.insert("Cast", cast::build);
}

fn build(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    ml::make(context, node, &OPERATORS)
}

/// Refuses to make more text than there is room for, before any of it is made.
fn fits(elements: Option<usize>, bytes: Option<usize>) -> TractResult<()> {
    let few = elements.is_some_and(|elements| elements <= ELEMENTS_MAX);
    if !few || bytes.is_none_or(|bytes| bytes > BYTES_MAX) {
        bail!(OfNumbers("it would make more than 1048576 elements of text, or 64 MiB of it"));
    }
    Ok(())
}

/// The one input, of text.
fn text(inputs: &[Kind]) -> TractResult<&Kind> {
    let [input] = inputs else { bail!("it takes one input, and has {}", inputs.len()) };
    input.among(&[DatumType::String])?;
    Ok(input)
}
