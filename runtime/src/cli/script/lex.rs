//! JavaScript and TypeScript as tokens.

use super::strip::Refused;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Number,
    Text,
    /// A template without holes, or from its last hole to its end.
    Template,
    /// A template up to a hole, or from one to the next.
    TemplateOpen,
    Regex,
    Punct,
    End,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether it is on another line than the one before.
    pub(super) newline: bool,
}

/// All tokens, the last an [`Kind::End`], and where each bracket's other half is.
pub(super) struct Tokens<'t> {
    pub(super) text: &'t str,
    pub(super) all: Vec<Token>,
    pub(super) other: Vec<usize>,
}

impl<'t> Tokens<'t> {
    pub(super) fn text(&self, at: usize) -> &'t str {
        self.all.get(at).map_or("", |token| &self.text[token.start..token.end])
    }

    pub(super) fn is(&self, at: usize, text: &str) -> bool {
        matches!(self.all.get(at), Some(token) if matches!(token.kind, Kind::Word | Kind::Punct))
            && self.text(at) == text
    }
}

/// A `>` is never part of a longer one: it may end the arguments of a type.
const PUNCTS: &[&str] = &[
    "...", "===", "!==", "**=", "<<=", "&&=", "||=", "??=", "=>", "==", "!=", "<=", "&&", "||",
    "??", "?.", "++", "--", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<", "**",
];
/// Words behind which an expression begins.
const OPERATORS: &[&str] = &[
    "return",
    "typeof",
    "instanceof",
    "in",
    "of",
    "new",
    "delete",
    "void",
    "throw",
    "case",
    "do",
    "else",
    "yield",
    "await",
    "default",
    "extends",
    "as",
    "satisfies",
];

struct Lexer<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    newline: bool,
    all: Vec<Token>,
    other: Vec<usize>,
    /// Brackets that are open: the token, and for a brace whether it is an expression's.
    open: Vec<(usize, bool)>,
}

/// Takes a text apart.
///
/// # Errors
/// What has no end, and where it begins.
pub(super) fn tokens(text: &str) -> Result<Tokens<'_>, Refused> {
    let at = if text.starts_with("#!") { text.find('\n').unwrap_or(text.len()) } else { 0 };
    let mut lexer = Lexer {
        text,
        bytes: text.as_bytes(),
        at,
        newline: true,
        all: Vec::new(),
        other: Vec::new(),
        open: Vec::new(),
    };
    while lexer.next()? {}
    if let Some((open, _)) = lexer.open.last() {
        let at = lexer.all[*open].start;
        return Err(Refused { at, why: format!("this '{}' is never closed", &text[at..=at]) });
    }
    lexer.add(Kind::End, text.len());
    Ok(Tokens { text, all: lexer.all, other: lexer.other })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '\u{200c}' | '\u{200d}')
}

impl Lexer<'_> {
    fn add(&mut self, kind: Kind, end: usize) {
        self.all.push(Token { kind, start: self.at, end, newline: self.newline });
        self.other.push(usize::MAX);
        self.at = end;
        self.newline = false;
    }

    fn refused<T>(&self, why: &str) -> Result<T, Refused> {
        Err(Refused { at: self.at, why: why.to_owned() })
    }

    /// The next token; false at the end.
    fn next(&mut self) -> Result<bool, Refused> {
        self.skip()?;
        let rest = &self.text[self.at..];
        let Some(c) = rest.chars().next() else { return Ok(false) };
        match c {
            '"' | '\'' => self.quoted(c as u8)?,
            '`' => self.template(1)?,
            '0'..='9' => self.number(),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            '/' if self.wants_operand() => self.regex()?,
            c if is_word(c) || c == '#' || c == '\\' || c == '@' => {
                let first = c.len_utf8();
                let length = rest[first..]
                    .find(|c| !is_word(c) && c != '\\')
                    .map_or(rest.len(), |n| n + first);
                // A decorator is told apart by its mark.
                let (kind, length) = if c == '@' { (Kind::Punct, 1) } else { (Kind::Word, length) };
                self.add(kind, self.at + length);
            }
            '(' | '[' | '{' => {
                let is_value = c == '{' && self.brace_is_value();
                self.open.push((self.all.len(), is_value));
                self.add(Kind::Punct, self.at + 1);
            }
            ')' | ']' | '}' => self.close(c)?,
            _ => {
                let found = PUNCTS.iter().find(|punct| rest.starts_with(**punct));
                let found = found.filter(|punct| {
                    **punct != "?." || !rest[2..].starts_with(|c: char| c.is_ascii_digit())
                });
                self.add(Kind::Punct, self.at + found.map_or(c.len_utf8(), |punct| punct.len()));
            }
        }
        Ok(true)
    }

    /// Over spaces and comments.
    fn skip(&mut self) -> Result<(), Refused> {
        loop {
            let rest = &self.text[self.at..];
            let length = if rest.starts_with("//") {
                rest.find(['\n', '\u{2028}', '\u{2029}']).unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                match rest.find("*/") {
                    Some(end) => end + 2,
                    None => return self.refused("this comment has no end"),
                }
            } else {
                rest.find(|c: char| !c.is_whitespace() && c != '\u{feff}').unwrap_or(rest.len())
            };
            if length == 0 {
                return Ok(());
            }
            self.newline |= rest[..length].contains(['\n', '\r', '\u{2028}', '\u{2029}']);
            self.at += length;
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<(), Refused> {
        let mut at = self.at + 1;
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'\\' => at += 2,
                b'\n' => break,
                byte if *byte == quote => {
                    self.add(Kind::Text, at + 1);
                    return Ok(());
                }
                _ => at += 1,
            }
        }
        self.refused("this text has no end")
    }

    /// A template's next piece, which begins with a mark of so many bytes.
    fn template(&mut self, mark: usize) -> Result<(), Refused> {
        let mut at = self.at + mark;
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'\\' => at += 2,
                b'`' => {
                    self.add(Kind::Template, at + 1);
                    return Ok(());
                }
                b'$' if self.bytes.get(at + 1) == Some(&b'{') => {
                    self.open.push((self.all.len(), true));
                    self.add(Kind::TemplateOpen, at + 2);
                    return Ok(());
                }
                _ => at += 1,
            }
        }
        self.refused("this template has no end")
    }

    fn close(&mut self, c: char) -> Result<(), Refused> {
        let Some((open, _)) = self.open.pop() else {
            return self.refused("this bracket closes nothing");
        };
        let token = self.all[open];
        let opening = self.bytes[token.end - 1];
        if !matches!((opening, c), (b'(', ')') | (b'[', ']') | (b'{', '}')) {
            return self.refused("this bracket closes another kind");
        }
        self.other[open] = self.all.len();
        let own = self.all.len();
        match token.kind {
            Kind::TemplateOpen => self.template(1)?,
            _ => self.add(Kind::Punct, self.at + 1),
        }
        self.other[own] = self.other[own].min(open);
        Ok(())
    }

    fn number(&mut self) {
        let mut at = self.at + 1;
        while let Some(byte) = self.bytes.get(at) {
            let sign = matches!(byte, b'+' | b'-')
                && matches!(self.bytes[at - 1], b'e' | b'E')
                && self.bytes[self.at..].get(1) != Some(&b'x');
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || sign) {
                break;
            }
            at += 1;
        }
        self.add(Kind::Number, at);
    }

    fn regex(&mut self) -> Result<(), Refused> {
        let (mut at, mut in_class) = (self.at + 1, false);
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                b'\n' => break,
                b'[' => in_class = true,
                b']' => in_class = false,
                b'/' if !in_class => {
                    at += 1;
                    while self.bytes.get(at).is_some_and(u8::is_ascii_alphabetic) {
                        at += 1;
                    }
                    self.add(Kind::Regex, at);
                    return Ok(());
                }
                _ => {}
            }
            at += 1;
        }
        self.refused("this regular expression has no end")
    }

    /// Whether a `/` here begins a regular expression.
    fn wants_operand(&self) -> bool {
        let Some(last) = self.all.len().checked_sub(1) else { return true };
        let token = self.all[last];
        let text = &self.text[token.start..token.end];
        match token.kind {
            Kind::Number | Kind::Text | Kind::Template | Kind::Regex => false,
            Kind::TemplateOpen | Kind::End => true,
            Kind::Word => OPERATORS.contains(&text) && !self.follows_dot(last),
            Kind::Punct => match text {
                "]" | "++" | "--" => false,
                ")" => {
                    let before = self.other[last].checked_sub(1).map(|at| &self.all[at]);
                    before.is_some_and(|token| {
                        matches!(
                            &self.text[token.start..token.end],
                            "if" | "while" | "for" | "with"
                        )
                    })
                }
                "}" => !self.was_value(last),
                _ => true,
            },
        }
    }

    fn follows_dot(&self, at: usize) -> bool {
        at > 0 && matches!(&self.text[self.all[at - 1].start..self.all[at - 1].end], "." | "?.")
    }

    /// Whether a brace that closed was an object's.
    fn was_value(&self, close: usize) -> bool {
        self.value_after(self.other[close])
    }

    fn brace_is_value(&self) -> bool {
        self.value_after(self.all.len())
    }

    /// Whether a brace at this token is an object's, by what is before it.
    fn value_after(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return false };
        let token = self.all[before];
        let text = &self.text[token.start..token.end];
        match token.kind {
            Kind::Word => OPERATORS.contains(&text) && !matches!(text, "do" | "else" | "default"),
            Kind::Punct => !matches!(text, ")" | ";" | "{" | "}" | "=>" | ">" | "]"),
            Kind::TemplateOpen => true,
            Kind::Number | Kind::Text | Kind::Template | Kind::Regex | Kind::End => false,
        }
    }
}
