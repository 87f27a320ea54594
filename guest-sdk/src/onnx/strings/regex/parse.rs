//! A regular expression's text, read.

use anyhow::{bail, ensure};
use tract_onnx::prelude::TractResult;

use super::set::Set;
use super::{Edge, Step, push};

/// Groups inside each other.
const DEPTH_MAX: usize = 100;
/// What RE2 lets repeat.
const REPEAT_MAX: usize = 1000;

/// A piece of an expression.
#[derive(Debug)]
pub(super) enum Piece {
    Edge(Edge),
    One(Set),
    Row(Vec<Piece>),
    Either(Vec<Piece>),
    Repeat { piece: Box<Piece>, least: usize, most: Option<usize> },
}

pub(super) fn parse(pattern: &str) -> TractResult<Piece> {
    let mut reader = Reader { pattern, rest: pattern, depth: 0 };
    let piece = reader.either(Flags::default())?;
    ensure!(reader.rest.is_empty(), "{}", reader.wrong("a ) without its ("));
    Ok(piece)
}

/// What `(?i)` and its kin switch on.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    /// `i`: letters in both cases.
    fold: bool,
    /// `m`: `^` and `$` at each line.
    lines: bool,
    /// `s`: the dot takes the end of a line as well.
    dot: bool,
}

/// Characters of an expression that an error shows.
const SHOWN: usize = 60;

struct Reader<'p> {
    pattern: &'p str,
    rest: &'p str,
    depth: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &str) -> String {
        let at = self.pattern.len() - self.rest.len();
        // What is wrong would be lost behind a long one.
        let start: String = self.pattern.chars().take(SHOWN).collect();
        let more = if start.len() < self.pattern.len() { "..." } else { "" };
        format!("the regular expression {start:?}{more} has {what}, before byte {at}")
    }

    fn eat(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    fn folded(&self, set: Set) -> TractResult<Set> {
        const CASE: &str =
            "a character that is not ASCII where case is ignored, (?i), which is not supported";
        set.folded().ok_or_else(|| anyhow::anyhow!(self.wrong(CASE)))
    }

    fn char(&mut self) -> TractResult<char> {
        self.next().ok_or_else(|| anyhow::anyhow!(self.wrong("no end")))
    }

    fn one(&self, c: char, flags: Flags) -> TractResult<Set> {
        let set = Set::of(&[(c, c)]);
        // What has no other case is itself in any.
        let cased = c.to_lowercase().next() != c.to_uppercase().next();
        if flags.fold && (cased || c.is_ascii()) { self.folded(set) } else { Ok(set) }
    }

    /// Ways to go on, up to the end or a `)`.
    fn either(&mut self, mut flags: Flags) -> TractResult<Piece> {
        ensure!(self.depth < DEPTH_MAX, "{}", self.wrong("groups too deep in each other"));
        self.depth += 1;
        let mut ways = Vec::new();
        loop {
            ways.push(self.row(&mut flags)?);
            if !self.eat("|") {
                break;
            }
        }
        self.depth -= 1;
        Ok(Piece::Either(ways))
    }

    fn row(&mut self, flags: &mut Flags) -> TractResult<Piece> {
        let mut row = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
            if self.eat("\\Q") {
                let (text, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                for c in text.chars() {
                    row.push(Piece::One(self.one(c, *flags)?));
                }
                continue;
            }
            if let Some(piece) = self.repeatable(flags)? {
                row.push(self.repeated(piece)?);
            }
        }
        Ok(Piece::Row(row))
    }

    /// What may have a repetition behind it; nothing where flags were set.
    fn repeatable(&mut self, flags: &mut Flags) -> TractResult<Option<Piece>> {
        Ok(Some(match self.char()? {
            '(' => return self.group(flags),
            '[' => Piece::One(self.class(*flags)?),
            '.' if flags.dot => Piece::One(Set::all()),
            '.' => Piece::One(Set::of(&[('\n', '\n')]).complement()),
            '^' if flags.lines => Piece::Edge(Edge::LineStart),
            '^' => Piece::Edge(Edge::TextStart),
            '$' if flags.lines => Piece::Edge(Edge::LineEnd),
            '$' => Piece::Edge(Edge::TextEnd),
            '*' | '+' | '?' => bail!(self.wrong("a repetition of nothing")),
            '\\' => self.escape(*flags)?,
            c => Piece::One(self.one(c, *flags)?),
        }))
    }

    fn repeated(&mut self, piece: Piece) -> TractResult<Piece> {
        let Some((least, most)) = self.repetition()? else { return Ok(piece) };
        // Whether the shorter match is preferred is nothing here: it is the longest that counts, or all.
        self.eat("?");
        ensure!(self.repetition()?.is_none(), "{}", self.wrong("a repetition of a repetition"));
        Ok(Piece::Repeat { piece: Box::new(piece), least, most })
    }

    fn repetition(&mut self) -> TractResult<Option<(usize, Option<usize>)>> {
        for (sign, least, most) in [("*", 0, None), ("+", 1, None), ("?", 0, Some(1))] {
            if self.eat(sign) {
                return Ok(Some((least, most)));
            }
        }
        // Braces that hold something else stand for themselves.
        let Some((inside, rest)) = self.rest.strip_prefix('{').and_then(|r| r.split_once('}'))
        else {
            return Ok(None);
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().unwrap_or(usize::MAX))
        };
        let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
        let (Some(least), most) = (number(least), (most, number(most))) else { return Ok(None) };
        let most = match most {
            ("", _) => None,
            (_, Some(most)) => Some(most),
            (_, None) => return Ok(None),
        };
        self.rest = rest;
        let most_or_least = most.unwrap_or(least);
        ensure!(
            least <= most_or_least && most_or_least <= REPEAT_MAX,
            "{}",
            self.wrong("a repetition of more than 1000, or of at least more than at most")
        );
        Ok(Some((least, most)))
    }

    /// Behind a `(`.
    fn group(&mut self, flags: &mut Flags) -> TractResult<Option<Piece>> {
        let mut inner = *flags;
        if self.eat("?P<") || self.eat("?<") {
            let name = self.rest.split_once('>').filter(|(name, _)| {
                !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
            });
            let Some((_, rest)) = name else { bail!(self.wrong("no name for a group")) };
            self.rest = rest;
        } else if self.eat("?") {
            let (mut on, mut any) = (true, false);
            loop {
                match self.char()? {
                    'i' => inner.fold = on,
                    'm' => inner.lines = on,
                    's' => inner.dot = on,
                    // Which match is preferred.
                    'U' => {}
                    '-' if on => {
                        (on, any) = (false, false);
                        continue;
                    }
                    ':' if on || any => break,
                    ')' if any => {
                        *flags = inner;
                        return Ok(None);
                    }
                    _ => bail!(self.wrong("a group that is not supported")),
                }
                any = true;
            }
        }
        let piece = self.either(inner)?;
        ensure!(self.eat(")"), "{}", self.wrong("a ( without its )"));
        Ok(Some(piece))
    }

    /// Behind a backslash.
    fn escape(&mut self, flags: Flags) -> TractResult<Piece> {
        let rest = self.rest;
        let c = self.char()?;
        if let Some(set) = Set::perl(c, flags.fold) {
            return Ok(Piece::One(set));
        }
        Ok(match c {
            'b' => Piece::Edge(Edge::Word),
            'B' => Piece::Edge(Edge::NotWord),
            'A' => Piece::Edge(Edge::TextStart),
            'z' => Piece::Edge(Edge::TextEnd),
            'p' | 'P' => bail!(self.wrong("a class of Unicode's, which is not supported")),
            _ => {
                self.rest = rest;
                let c = self.escaped()?;
                Piece::One(self.one(c, flags)?)
            }
        })
    }

    /// The one character that is written by what is behind a backslash.
    fn escaped(&mut self) -> TractResult<char> {
        let c = self.char()?;
        let octal = |c: &char| c.is_digit(8);
        let code = match c {
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            'x' => self.hexadecimal()?,
            '1'..='7' if !self.rest.chars().next().is_some_and(|c| octal(&c)) => {
                bail!(self.wrong("a reference back, which is not supported"))
            }
            '0'..='7' => {
                let more = self.rest.chars().take(2).take_while(octal).count();
                let digits = format!("{c}{}", &self.rest[..more]);
                self.rest = &self.rest[more..];
                u32::from_str_radix(&digits, 8)?
            }
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' => c.into(),
            _ => bail!(self.wrong("an escape that is not supported")),
        };
        char::from_u32(code).ok_or_else(|| anyhow::anyhow!(self.wrong("the code of no character")))
    }

    fn hexadecimal(&mut self) -> TractResult<u32> {
        let braced = self.rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let (digits, rest) = match braced {
            Some(both) => both,
            None => self.rest.split_at_checked(2).unwrap_or(("", "")),
        };
        let code = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = code.then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        self.rest = rest;
        code.ok_or_else(|| anyhow::anyhow!(self.wrong("\\x without its digits")))
    }

    /// Behind a `[`.
    fn class(&mut self, flags: Flags) -> TractResult<Set> {
        let complement = self.eat("^");
        let mut set = Set::default();
        let mut first = true;
        while first || !self.eat("]") {
            first = false;
            set.join(self.member(flags)?);
        }
        Ok(if complement { set.complement() } else { set })
    }

    fn member(&mut self, flags: Flags) -> TractResult<Set> {
        let posix = self.rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]"));
        if let Some((name, rest)) = posix {
            let known = Set::posix(name.strip_prefix('^').unwrap_or(name));
            let Some(set) = known else { bail!(self.wrong("a class of an unknown name")) };
            self.rest = rest;
            let set = if flags.fold { self.folded(set)? } else { set };
            return Ok(if name.starts_with('^') { set.complement() } else { set });
        }
        if let Some(escaped) = self.rest.strip_prefix('\\').and_then(|rest| rest.chars().next()) {
            if let Some(set) = Set::perl(escaped, flags.fold) {
                self.rest = &self.rest[2..];
                return Ok(set);
            }
            let unicode = matches!(escaped, 'p' | 'P');
            ensure!(!unicode, "{}", self.wrong("a class of Unicode's, which is not supported"));
        }
        let from = self.class_char()?;
        let mut to = from;
        if self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1 {
            self.eat("-");
            to = self.class_char()?;
        }
        ensure!(from <= to, "{}", self.wrong("a range that ends before it begins"));
        let set = Set::of(&[(from, to)]);
        if flags.fold { self.folded(set) } else { Ok(set) }
    }

    fn class_char(&mut self) -> TractResult<char> {
        match self.char()? {
            '\\' => self.escaped(),
            c => Ok(c),
        }
    }
}

impl Piece {
    pub(super) fn write(&self, steps: &mut Vec<Step>) -> TractResult<()> {
        match self {
            Self::Edge(edge) => drop(push(steps, Step::Edge(*edge))?),
            Self::One(set) => drop(push(steps, Step::Take(set.class()))?),
            Self::Row(row) => row.iter().try_for_each(|piece| piece.write(steps))?,
            Self::Either(ways) => write_ways(ways, steps)?,
            Self::Repeat { piece, least, most } => {
                for _ in 0..*least {
                    let before = steps.len();
                    piece.write(steps)?;
                    // However often nothing is repeated, it is nothing.
                    if steps.len() == before {
                        return Ok(());
                    }
                }
                match most {
                    None => {
                        let fork = push(steps, Step::Fork(0, 0))?;
                        piece.write(steps)?;
                        push(steps, Step::Jump(fork))?;
                        steps[fork] = Step::Fork(fork + 1, steps.len());
                    }
                    Some(most) => {
                        let mut forks = Vec::new();
                        for _ in *least..*most {
                            forks.push(push(steps, Step::Fork(0, 0))?);
                            piece.write(steps)?;
                        }
                        for fork in forks {
                            steps[fork] = Step::Fork(fork + 1, steps.len());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn write_ways(ways: &[Piece], steps: &mut Vec<Step>) -> TractResult<()> {
    let Some((last, others)) = ways.split_last() else { return Ok(()) };
    let mut ends = Vec::new();
    for way in others {
        let fork = push(steps, Step::Fork(0, 0))?;
        way.write(steps)?;
        ends.push(push(steps, Step::Jump(0))?);
        steps[fork] = Step::Fork(fork + 1, steps.len());
    }
    last.write(steps)?;
    for end in ends {
        steps[end] = Step::Jump(steps.len());
    }
    Ok(())
}
