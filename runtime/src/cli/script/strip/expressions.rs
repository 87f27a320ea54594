//! Expressions: what is needed of them to find the types in them.

use super::super::lex::Kind;
use super::{Done, Parser};

/// Between two operands. `>`, and what begins with it, comes in pieces.
const BINARY: &[&str] = &[
    "=",
    "+=",
    "-=",
    "*=",
    "/=",
    "%=",
    "&=",
    "|=",
    "^=",
    "**=",
    "<<=",
    "&&=",
    "||=",
    "??=",
    "==",
    "!=",
    "===",
    "!==",
    "<",
    "<=",
    "&&",
    "||",
    "??",
    "+",
    "-",
    "*",
    "/",
    "%",
    "&",
    "|",
    "^",
    "**",
    "<<",
    "in",
    "instanceof",
];
const PREFIX: &[&str] = &["!", "~", "+", "-", "++", "--", "typeof", "void", "delete", "await"];

impl Parser<'_> {
    /// Several, with commas between.
    pub(super) fn expression(&mut self) -> Done {
        self.assignment()?;
        while self.eat(",") {
            self.assignment()?;
        }
        Ok(())
    }

    pub(super) fn assignment(&mut self) -> Done {
        self.nested(Self::operands)
    }

    fn operands(&mut self) -> Done {
        if self.is("yield") {
            self.at += 1;
            self.eat("*");
            if self.newline(0) || matches!(self.text(), ")" | "]" | "}" | "," | ";" | ":") {
                return Ok(());
            }
            return self.assignment();
        }
        loop {
            self.operand()?;
            self.casts()?;
            if self.is("?") {
                self.at += 1;
                let before = std::mem::replace(&mut self.in_condition, true);
                let middle = self.assignment();
                self.in_condition = before;
                middle?;
                self.expect(":")?;
                return self.assignment();
            }
            if self.is(">") {
                self.at += 1;
                while self.is(">") || self.is("=") {
                    self.at += 1;
                }
                continue;
            }
            if !BINARY.contains(&self.text()) || !matches!(self.kind(), Kind::Punct | Kind::Word) {
                return Ok(());
            }
            self.at += 1;
        }
    }

    /// `as T` and `satisfies T`, as many as there are.
    fn casts(&mut self) -> Done {
        while matches!(self.text(), "as" | "satisfies")
            && self.kind() == Kind::Word
            && !self.newline(0)
        {
            let from = self.at;
            self.at += 1;
            if !(self.is("const") && self.tokens.is(from, "as")) {
                self.whole_type()?;
            } else {
                self.at += 1;
            }
            self.blank_since(from);
            if self.newline(0) && (matches!(self.text(), "(" | "[") || self.is_template()) {
                // The next line would be a call, or a place in it.
                self.marks.insert(self.tokens.all[from].start, ';');
            }
        }
        Ok(())
    }

    pub(super) fn operand(&mut self) -> Done {
        while matches!(self.kind(), Kind::Punct | Kind::Word) && PREFIX.contains(&self.text()) {
            // `await` and its like may be names.
            if self.kind() == Kind::Word
                && matches!(self.ahead(1), "=>" | "=" | "," | ")" | "." | ":" | ";")
            {
                break;
            }
            self.at += 1;
        }
        if self.is("new") && !self.is_ahead(1, ".") {
            self.at += 1;
            return self.operand();
        }
        self.primary()?;
        self.members()
    }

    /// What follows an operand: places, calls, templates, `!`.
    fn members(&mut self) -> Done {
        loop {
            match self.kind() {
                _ if self.is_template() => self.template()?,
                Kind::Punct if self.is(".") || self.is("?.") => {
                    self.at += 1;
                    if self.kind() == Kind::Word {
                        self.at += 1;
                    }
                }
                Kind::Punct if self.is("[") || self.is("(") => self.bracketed()?,
                Kind::Punct if self.is("!") && !self.newline(0) => {
                    self.at += 1;
                    self.blank(self.at - 1, self.at);
                }
                Kind::Punct if (self.is("++") || self.is("--")) && !self.newline(0) => {
                    self.at += 1;
                    return Ok(());
                }
                Kind::Punct if self.is("<") => {
                    let from = self.at;
                    let found = self.attempt(|own| {
                        own.type_arguments()?;
                        let calls = own.is("(") || own.is_template();
                        let ends = matches!(
                            own.text(),
                            ")" | "]" | "," | ";" | ":" | "}" | "." | "?." | "{" | "implements"
                        ) || own.is_end()
                            || own.newline(0);
                        if calls || ends { Ok(()) } else { own.refuse("") }
                    });
                    if !found {
                        return Ok(());
                    }
                    self.blank_since(from);
                }
                _ => return Ok(()),
            }
        }
    }

    /// Arguments, elements or a place.
    fn bracketed(&mut self) -> Done {
        let end = self.tokens.other[self.at];
        self.at += 1;
        let before = std::mem::replace(&mut self.in_condition, false);
        while self.at < end {
            if self.eat(",") || self.eat("...") {
                continue;
            }
            self.assignment()?;
            if self.at < end && !self.is(",") {
                return self.refuse(&format!("'{}' was not expected here", self.shown()));
            }
        }
        self.in_condition = before;
        self.at = end + 1;
        Ok(())
    }

    /// Whether a template begins here, and not only goes on behind a hole.
    fn is_template(&self) -> bool {
        matches!(self.kind(), Kind::Template | Kind::TemplateOpen) && self.text().starts_with('`')
    }

    fn template(&mut self) -> Done {
        while self.kind() == Kind::TemplateOpen {
            let end = self.tokens.other[self.at];
            self.at += 1;
            let before = std::mem::replace(&mut self.in_condition, false);
            self.expression()?;
            self.in_condition = before;
            if self.at != end {
                return self.refuse(&format!("'{}' was not expected here", self.shown()));
            }
        }
        self.at += 1;
        Ok(())
    }

    fn primary(&mut self) -> Done {
        match self.kind() {
            Kind::Number | Kind::Text | Kind::Regex => self.at += 1,
            Kind::Template | Kind::TemplateOpen => return self.template(),
            Kind::Word => return self.word_expression(),
            Kind::Punct if self.is("(") => {
                return if self.arrow()? { Ok(()) } else { self.bracketed() };
            }
            Kind::Punct if self.is("[") => return self.bracketed(),
            Kind::Punct if self.is("{") => return self.object(),
            Kind::Punct if self.is("<") => {
                if self.arrow()? {
                    return Ok(());
                }
                return self.refuse("a cast as <T>x cannot be erased; write it as x as T");
            }
            Kind::Punct if self.is("@") => {
                return self.refuse("decorators are not in JavaScript yet");
            }
            _ => {
                return self.refuse(&format!(
                    "an expression was expected here, and not '{}'",
                    self.shown()
                ));
            }
        }
        Ok(())
    }

    fn word_expression(&mut self) -> Done {
        if self.is("function")
            || (self.is("async") && self.is_ahead(1, "function") && !self.newline(1))
        {
            self.eat("async");
            self.at += 1;
            self.eat("*");
            if self.kind() == Kind::Word {
                self.at += 1;
            }
            return self.function_rest().map(drop);
        }
        if self.is("class") {
            return self.class();
        }
        if self.is("async") && !self.newline(1) {
            if (self.is_ahead(1, "(") || self.is_ahead(1, "<")) && self.attempt_arrow(1)? {
                return Ok(());
            }
            if self.tokens.all[self.at + 1].kind == Kind::Word && self.is_ahead(2, "=>") {
                self.at += 1;
            }
        }
        self.at += 1;
        if self.is("=>") && !self.newline(0) {
            self.at += 1;
            return self.arrow_body();
        }
        Ok(())
    }

    /// A part in which a colon is nobody else's.
    pub(super) fn fresh(&mut self, part: impl FnOnce(&mut Self) -> Done) -> Done {
        let before = std::mem::replace(&mut self.in_condition, false);
        let done = part(self);
        self.in_condition = before;
        done
    }

    fn object(&mut self) -> Done {
        let end = self.tokens.other[self.at];
        self.at += 1;
        let before = std::mem::replace(&mut self.in_condition, false);
        while self.at < end {
            self.property()?;
            if self.at < end {
                self.expect(",")?;
            }
        }
        self.in_condition = before;
        self.at = end + 1;
        Ok(())
    }

    fn property(&mut self) -> Done {
        if self.eat("...") {
            return self.assignment();
        }
        self.accessor_words(&["async", "get", "set"]);
        self.eat("*");
        self.property_name()?;
        if self.is("(") || self.is("<") {
            return self.function_rest().map(drop);
        }
        if self.eat(":") || self.eat("=") {
            return self.assignment();
        }
        Ok(())
    }

    /// Over words before a name that are none themselves.
    pub(super) fn accessor_words(&mut self, words: &[&str]) {
        while self.kind() == Kind::Word
            && words.contains(&self.text())
            && !matches!(self.ahead(1), "(" | "," | ":" | "=" | "}" | "<" | ";" | "?" | "!")
        {
            self.at += 1;
        }
    }

    pub(super) fn property_name(&mut self) -> Done {
        match self.kind() {
            Kind::Word | Kind::Text | Kind::Number => self.at += 1,
            Kind::Punct if self.is("[") => return self.bracketed(),
            _ => {
                return self
                    .refuse(&format!("a name was expected here, and not '{}'", self.shown()));
            }
        }
        Ok(())
    }
}
