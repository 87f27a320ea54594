//! TypeScript without its types: they are overwritten with spaces, so that every line and column stays what it was.
//!
//! Only what can be erased is taken: enums, namespaces with code and parameter properties are code that TypeScript
//! generates, and are refused by name. Parsers that know all of TypeScript (oxc, swc) take more than a minute and a half of
//! a build, which is more than all else that a script needs.

mod arrows;
mod classes;
mod expressions;
mod modules;
mod statements;
mod types;

use std::collections::{BTreeMap, HashSet};

use super::lex::{Kind, Tokens, tokens};

/// Why a text is no JavaScript, or no TypeScript that can be erased.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The byte.
    pub(super) at: usize,
    pub(super) why: String,
}

/// How deeply expressions and types may be nested: this program's own stack has room for many more.
const DEPTH: usize = 256;

type Done = Result<(), Refused>;

struct Parser<'t> {
    tokens: Tokens<'t>,
    at: usize,
    depth: usize,
    /// Ranges of bytes that become spaces.
    blanks: Vec<(usize, usize)>,
    /// Characters that are put where there was something else.
    marks: BTreeMap<usize, char>,
    /// Names that an import brings: the name's token, and the tokens to blank if no value has that name.
    imported: Vec<(usize, (usize, usize))>,
    /// Import statements: their tokens, and how many names they bring.
    statements: Vec<(usize, usize, Vec<usize>)>,
    /// Within the middle of a conditional expression, where a colon is its own.
    in_condition: bool,
}

/// A place to go back to.
struct Mark {
    at: usize,
    blanks: usize,
    marks: BTreeMap<usize, char>,
    depth: usize,
}

/// The text without types.
///
/// # Errors
/// What is no TypeScript that can be erased, and where.
pub(super) fn types(text: &str) -> Result<String, Refused> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        blanks: Vec::new(),
        marks: BTreeMap::new(),
        imported: Vec::new(),
        statements: Vec::new(),
        in_condition: false,
    };
    while !parser.is_end() {
        parser.statement()?;
    }
    parser.drop_imports();
    Ok(parser.written(text))
}

impl Parser<'_> {
    fn text(&self) -> &str {
        self.tokens.text(self.at)
    }

    fn ahead(&self, by: usize) -> &str {
        self.tokens.text(self.at + by)
    }

    fn kind(&self) -> Kind {
        self.tokens.all[self.at.min(self.tokens.all.len() - 1)].kind
    }

    fn is_end(&self) -> bool {
        self.kind() == Kind::End
    }

    fn is(&self, text: &str) -> bool {
        self.tokens.is(self.at, text)
    }

    fn is_ahead(&self, by: usize, text: &str) -> bool {
        self.tokens.is(self.at + by, text)
    }

    fn newline(&self, by: usize) -> bool {
        self.tokens
            .all
            .get(self.at + by)
            .is_none_or(|token| token.newline || token.kind == Kind::End)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.is(text);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, text: &str) -> Done {
        match self.eat(text) {
            true => Ok(()),
            false => {
                self.refuse(&format!("'{text}' was expected here, and not '{}'", self.shown()))
            }
        }
    }

    fn shown(&self) -> String {
        if self.is_end() { "the end".to_owned() } else { self.text().chars().take(20).collect() }
    }

    fn refuse<T>(&self, why: &str) -> Result<T, Refused> {
        self.refuse_at(self.at, why)
    }

    fn refuse_at<T>(&self, token: usize, why: &str) -> Result<T, Refused> {
        let last = self.tokens.all.len() - 1;
        Err(Refused { at: self.tokens.all[token.min(last)].start, why: why.to_owned() })
    }

    /// Tokens from one up to the one before another become spaces.
    fn blank(&mut self, from: usize, to: usize) {
        if from < to {
            self.blanks.push((self.tokens.all[from].start, self.tokens.all[to - 1].end));
        }
    }

    fn blank_since(&mut self, from: usize) {
        self.blank(from, self.at);
    }

    /// What stands alone becomes an empty statement, so that what is before and behind it do not grow together.
    fn blank_statement(&mut self, from: usize) {
        self.blank_since(from);
        let (start, end) = (self.tokens.all[from].start, self.tokens.all[self.at - 1].end);
        self.marks.retain(|at, _| !(start..end).contains(at));
        self.marks.insert(start, ';');
    }

    fn save(&self) -> Mark {
        Mark {
            at: self.at,
            blanks: self.blanks.len(),
            marks: self.marks.clone(),
            depth: self.depth,
        }
    }

    fn back(&mut self, mark: Mark) {
        self.at = mark.at;
        self.blanks.truncate(mark.blanks);
        self.marks = mark.marks;
        self.depth = mark.depth;
    }

    /// Tries something, and leaves no trace of it if it fails.
    fn attempt(&mut self, part: impl FnOnce(&mut Self) -> Done) -> bool {
        let mark = self.save();
        let done = part(self).is_ok();
        if !done {
            self.back(mark);
        }
        done
    }

    fn nested(&mut self, part: impl FnOnce(&mut Self) -> Done) -> Done {
        if self.depth >= DEPTH {
            return self.refuse("this is nested too deeply");
        }
        self.depth += 1;
        let done = part(self);
        self.depth -= 1;
        done
    }

    /// A statement's end, where none need be written.
    fn semicolon(&mut self) -> Done {
        if self.eat(";") || self.is("}") || self.is_end() || self.newline(0) {
            return Ok(());
        }
        self.refuse(&format!("'{}' was not expected here", self.shown()))
    }

    fn is_blank(&self, byte: usize) -> bool {
        self.blanks.iter().any(|(from, to)| (*from..*to).contains(&byte))
    }

    /// Imports of what is only used as a type are no imports at all.
    fn drop_imports(&mut self) {
        let declared: HashSet<usize> = self.imported.iter().map(|(name, _)| *name).collect();
        let inside =
            |at: usize| self.statements.iter().any(|(from, to, _)| (*from..*to).contains(&at));
        let used: HashSet<&str> = (0..self.tokens.all.len())
            .filter(|at| {
                self.tokens.all[*at].kind == Kind::Word && !declared.contains(at) && !inside(*at)
            })
            .filter(|at| *at == 0 || !matches!(self.tokens.text(at - 1), "." | "?."))
            .filter(|at| !self.is_blank(self.tokens.all[*at].start))
            .map(|at| self.tokens.text(at))
            .collect();
        let unused: HashSet<usize> =
            declared.iter().filter(|at| !used.contains(self.tokens.text(**at))).copied().collect();
        let ranges = self.imported.clone();
        for (from, to, names) in std::mem::take(&mut self.statements) {
            if !names.is_empty() && names.iter().all(|name| unused.contains(name)) {
                self.blank(from, to);
                self.marks.insert(self.tokens.all[from].start, ';');
                continue;
            }
            for (name, (from, to)) in &ranges {
                if names.contains(name) && unused.contains(name) {
                    self.blank(*from, *to);
                }
            }
        }
    }

    fn written(mut self, text: &str) -> String {
        self.blanks.sort_unstable();
        let mut out = String::with_capacity(text.len());
        let mut blanks = self.blanks.into_iter().peekable();
        let mut end = 0;
        for (at, c) in text.char_indices() {
            while let Some((from, to)) = blanks.peek()
                && *from <= at
            {
                end = end.max(*to);
                blanks.next();
            }
            match self.marks.get(&at) {
                Some(mark) => out.push(*mark),
                None if at < end && !matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}') => {
                    out.push(' ')
                }
                None => out.push(c),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
