//! `StringNormalizer`: one case, and no stop words.

use std::collections::HashSet;

use tract_onnx::tract_core::internal::*;

use super::super::ml::attributes::Attributes;
use super::super::ml::{Kernel, Kind, slice};

#[derive(Debug)]
struct Normalizer {
    case: Case,
    /// Whether stop words are such in one case only.
    exact: bool,
    /// In lower case, if the case is nothing.
    stop: HashSet<String>,
    /// How many words are left.
    left: TDim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    AsIs,
    Lower,
    Upper,
}

pub(super) fn normalizer(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let case = match attributes.string("case_change_action", "NONE")? {
        "NONE" => Case::AsIs,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => bail!("its case_change_action {other:?} is none of NONE, LOWER and UPPER"),
    };
    let locale = attributes.string("locale", "en_US.UTF-8")?;
    let language = locale.split(['_', '-', '.', '@']).next().unwrap_or_default();
    ensure!(
        // Their i has a dot or none in either case; and the locale of no language has ASCII only.
        !["az", "crh", "ku", "tr", "tt"].contains(&language) && !["C", "POSIX"].contains(&locale),
        "its locale {locale:?} changes case by rules of its own, which are not supported; export it \
         with the locale \"en_US.UTF-8\""
    );
    let exact = attributes.int("is_case_sensitive", 0) != 0;
    let stop = attributes.strings("stopwords")?.into_iter();
    let stop = stop.map(|word| if exact { word } else { Case::Lower.of(&word) }).collect();
    Ok(Box::new(Normalizer { case, exact, stop, left: attributes.unknown() }))
}

impl Kernel for Normalizer {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let input = super::text(inputs)?;
        let (rows, words) = match input.shape.as_slice() {
            [words] => (None, words),
            [rows, words] => (Some(rows), words),
            _ => (None, &TDim::Val(0)),
        };
        let one = rows.is_none_or(|rows| rows.to_usize().is_ok_and(|rows| rows == 1));
        ensure!(
            one && words.to_usize().unwrap_or(1) > 0,
            "it takes one row of words, [N] or [1, N], and its input is {:?}",
            input.shape
        );
        let mut shape = input.shape.clone();
        if let Some(words) = shape.last_mut().filter(|_| !self.stop.is_empty()) {
            *words = self.left.clone();
        }
        Ok(vec![Kind::new(DatumType::String, shape)])
    }

    fn is_sized_by_run(&self) -> bool {
        !self.stop.is_empty()
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let is_left = |word: &&String| match self.exact {
            true => !self.stop.contains(*word),
            false => !self.stop.contains(&Case::Lower.of(word)),
        };
        let words = slice::<String>(inputs[0])?.iter();
        let mut left: Vec<_> = match self.stop.is_empty() {
            true => words.map(|word| self.case.of(word)).collect(),
            false => words.filter(is_left).map(|word| self.case.of(word)).collect(),
        };
        if left.is_empty() {
            left.push(String::new());
        }
        let shape = match inputs[0].rank() {
            1 => tvec![left.len()],
            _ => tvec![1, left.len()],
        };
        Ok(vec![tensor1(&left).into_shape(&shape)?])
    }
}

impl Case {
    fn of(self, text: &str) -> String {
        match self {
            Self::AsIs => text.to_owned(),
            Self::Lower => text.chars().map(lower).collect(),
            Self::Upper => text.chars().map(upper).collect(),
        }
    }
}

/// One character for one, as the C library has it: `ß` has no capital letter.
fn lower(c: char) -> char {
    single(c.to_lowercase()).unwrap_or(if c == 'İ' { 'i' } else { c })
}

fn upper(c: char) -> char {
    // Letters with an iota below have one of their own for the start of a word.
    let title = match u32::from(c) {
        code @ (0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7) => code + 8,
        code @ (0x1fb3 | 0x1fc3 | 0x1ff3) => code + 9,
        code => code,
    };
    single(c.to_uppercase()).or_else(|| char::from_u32(title)).unwrap_or(c)
}

fn single(mut chars: impl Iterator<Item = char>) -> Option<char> {
    let first = chars.next();
    if chars.next().is_none() { first } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_character_becomes_one() {
        assert_eq!(Case::Upper.of("straße ǆ ᾳ ŉ"), "STRAßE Ǆ ᾼ ŉ");
        assert_eq!(Case::Lower.of("ÉCOLE İ ΑΣ Ǆ"), "école i ας ǆ".replace('ς', "σ"));
        assert_eq!(Case::AsIs.of("aB"), "aB");
    }
}
