//! `Tokenizer` (`com.microsoft`): characters, what is between separators, or what a regular expression meets.

use tract_onnx::tract_core::internal::*;

use super::super::ml::attributes::Attributes;
use super::super::ml::{Kernel, Kind, slice};
use super::regex::{Regex, Search};

#[derive(Debug)]
struct Tokenizer {
    how: How,
    /// Characters of the shortest token.
    least: usize,
    /// Whether each row begins and ends with a mark.
    mark: bool,
    /// Behind the tokens of a short row.
    pad: String,
    /// Tokens of the longest row.
    longest: TDim,
}

#[derive(Debug)]
enum How {
    Characters,
    Separators(Vec<Regex>),
    Tokens(Regex),
}

const START: &str = "\u{2}";
const END: &str = "\u{3}";

pub(super) fn tokenizer(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    for needed in ["mark", "mincharnum", "pad_value"] {
        ensure!(attributes.has(needed), "it needs `{needed}`");
    }
    let least = attributes.int("mincharnum", 1);
    let least = usize::try_from(least).ok().filter(|&least| least > 0);
    let least = least.context("its `mincharnum` is not positive")?;
    let how = how(attributes)?;
    ensure!(
        least == 1 || !matches!(how, How::Characters),
        "it makes tokens of one character, and its `mincharnum` is {least}"
    );
    Ok(Box::new(Tokenizer {
        how,
        least,
        mark: attributes.int("mark", 0) != 0,
        pad: attributes.string("pad_value", "")?.to_owned(),
        longest: attributes.unknown(),
    }))
}

fn how(attributes: &Attributes<'_>) -> TractResult<How> {
    if attributes.has("separators") {
        let separators = attributes.strings("separators")?;
        ensure!(!separators.is_empty(), "its `separators` are empty");
        if separators == [""] {
            return Ok(How::Characters);
        }
        let regexes = separators.iter().map(|separator| {
            let regex = Regex::new(separator)?;
            ensure!(!regex.may_be_empty(), "its separator {separator:?} can be nothing at all");
            Ok(regex)
        });
        return Ok(How::Separators(regexes.collect::<TractResult<_>>()?));
    }
    match attributes.string("tokenexp", "")? {
        "" => bail!("it needs one of `separators` and `tokenexp`"),
        "." => Ok(How::Characters),
        pattern => Ok(How::Tokens(Regex::new(pattern)?)),
    }
}

impl Kernel for Tokenizer {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let input = super::text(inputs)?;
        let rank = input.shape.len();
        ensure!(
            rank == 1 || rank == 2,
            "it takes [N] or [N, texts], and its input is {:?}",
            input.shape
        );
        let mut shape = input.shape.clone();
        shape.push(self.longest.clone());
        Ok(vec![Kind::new(DatumType::String, shape)])
    }

    fn is_sized_by_run(&self) -> bool {
        true
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let texts = slice::<String>(inputs[0])?;
        let mut search = Search::default();
        let rows: Vec<_> = texts.iter().map(|text| self.tokens(&mut search, text)).collect();
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = if longest > 0 && self.mark { longest + 2 } else { longest };
        let cells = rows.len().checked_mul(width);
        let pads = rows.iter().map(|row| longest - row.len()).sum::<usize>();
        super::fits(cells, pads.checked_mul(self.pad.len()))?;
        let mut cells = Vec::with_capacity(rows.len() * width);
        for row in rows.iter().filter(|_| width > 0) {
            let all = cells.len() + width;
            let mark = |mark| self.mark.then_some(mark);
            let tokens = mark(START).into_iter().chain(row.iter().copied()).chain(mark(END));
            cells.extend(tokens.map(str::to_owned));
            cells.resize(all, self.pad.clone());
        }
        let shape = [inputs[0].shape(), &[width]].concat();
        Ok(vec![tensor1(&cells).into_shape(&shape)?])
    }
}

impl Tokenizer {
    fn tokens<'t>(&self, search: &mut Search, text: &'t str) -> Vec<&'t str> {
        match &self.how {
            How::Characters => text.split_inclusive(|_: char| true).collect(),
            How::Separators(separators) => {
                let mut pieces = vec![text];
                for separator in separators {
                    let apart = pieces.iter().flat_map(|piece| apart(separator, search, piece));
                    pieces = apart.filter(|piece| self.is_long(piece)).collect();
                }
                pieces
            }
            How::Tokens(regex) => self.met(regex, search, text),
        }
    }

    fn is_long(&self, token: &str) -> bool {
        token.len() >= self.least && token.chars().take(self.least).count() == self.least
    }

    /// What is long enough of what `regex` meets.
    fn met<'t>(&self, regex: &Regex, search: &mut Search, text: &'t str) -> Vec<&'t str> {
        let (mut tokens, mut from) = (Vec::new(), 0);
        if !self.is_long(text) {
            return tokens;
        }
        while let Some((start, end)) = regex.find(search, text, from) {
            let token = &text[start..end];
            if self.is_long(token) {
                tokens.push(token);
                from = end;
            } else {
                // Once more from the next character, within what was met.
                from = start + text[start..].chars().next().map_or(1, char::len_utf8);
            }
        }
        tokens
    }
}

/// The pieces of `text` between separators, which are never nothing.
fn apart<'t>(separator: &Regex, search: &mut Search, text: &'t str) -> Vec<&'t str> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    while let Some((start, end)) = separator.find(search, text, from) {
        pieces.push(&text[from..start]);
        from = end;
    }
    pieces.push(&text[from..]);
    pieces
}
