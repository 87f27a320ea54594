//! Functions and classes.

use super::super::lex::Kind;
use super::{Done, Parser, Refused};

/// Before members: what of it is TypeScript's, and what is JavaScript's.
const MODIFIERS: &[&str] =
    &["public", "private", "protected", "readonly", "override", "abstract", "declare"];
const PROPERTY: &str = "a parameter that is also a property is code that TypeScript generates; declare the property and \
                        assign it in the constructor";

impl Parser<'_> {
    /// Type parameters, parameters, return type and body; false if there is no body, as of an overload.
    pub(super) fn function_rest(&mut self) -> Result<bool, Refused> {
        self.type_parameters()?;
        self.parameters()?;
        self.annotation()?;
        if !self.is("{") {
            return Ok(false);
        }
        self.fresh(Self::block)?;
        Ok(true)
    }

    /// `(a: T, b?: U, ...c)`
    pub(super) fn parameters(&mut self) -> Done {
        if !self.is("(") {
            return self
                .refuse(&format!("parameters were expected here, and not '{}'", self.shown()));
        }
        let end = self.tokens.other[self.at];
        self.at += 1;
        let before = std::mem::replace(&mut self.in_condition, false);
        while self.at < end {
            let from = self.at;
            if self.is("this")
                && (self.is_ahead(1, ":") || self.is_ahead(1, ",") || self.is_ahead(1, ")"))
            {
                self.at += 1;
                if self.eat(":") {
                    self.whole_type()?;
                }
                self.eat(",");
                self.blank_since(from);
                continue;
            }
            if MODIFIERS.contains(&self.text())
                && (self.tokens.all[self.at + 1].kind == Kind::Word
                    || self.is_ahead(1, "{")
                    || self.is_ahead(1, "["))
            {
                return self.refuse(PROPERTY);
            }
            self.eat("...");
            self.binding()?;
            if self.at < end {
                self.expect(",")?;
            }
        }
        self.in_condition = before;
        self.at = end + 1;
        Ok(())
    }

    /// A name or a pattern, with its type and its default.
    pub(super) fn binding(&mut self) -> Done {
        self.pattern()?;
        if self.is("?") || self.is("!") {
            self.at += 1;
            self.blank(self.at - 1, self.at);
        }
        self.annotation()?;
        if self.eat("=") {
            self.assignment()?;
        }
        Ok(())
    }

    fn pattern(&mut self) -> Done {
        if !self.is("{") && !self.is("[") {
            return self.word();
        }
        let (end, is_object) = (self.tokens.other[self.at], self.is("{"));
        self.at += 1;
        while self.at < end {
            if self.eat(",") || self.eat("...") {
                continue;
            }
            if is_object {
                self.property_name()?;
                if self.eat(":") {
                    self.nested(Self::pattern)?;
                }
            } else {
                self.nested(Self::pattern)?;
            }
            if self.eat("=") {
                self.assignment()?;
            }
            if self.at < end && !self.is(",") {
                return self.refuse(&format!("'{}' was not expected here", self.shown()));
            }
        }
        self.at = end + 1;
        Ok(())
    }

    /// `class A<T> extends B<T> implements C { ... }`
    pub(super) fn class(&mut self) -> Done {
        self.expect("class")?;
        if self.kind() == Kind::Word && !matches!(self.text(), "extends" | "implements") {
            self.at += 1;
        }
        self.type_parameters()?;
        if self.eat("extends") {
            self.fresh(Self::operand)?;
        }
        if self.is("implements") {
            let from = self.at;
            self.at += 1;
            loop {
                self.whole_type()?;
                if !self.eat(",") {
                    break;
                }
            }
            self.blank_since(from);
        }
        self.class_body()
    }

    fn class_body(&mut self) -> Done {
        if !self.is("{") {
            return self
                .refuse(&format!("a class's body was expected here, and not '{}'", self.shown()));
        }
        let end = self.tokens.other[self.at];
        self.at += 1;
        let before = std::mem::replace(&mut self.in_condition, false);
        while self.at < end {
            if !self.eat(";") {
                self.nested(Self::member)?;
            }
        }
        self.in_condition = before;
        self.at = end + 1;
        Ok(())
    }

    fn member(&mut self) -> Done {
        if self.is("@") {
            return self.refuse("decorators are not in JavaScript yet");
        }
        let from = self.at;
        if self.is("static") && self.is_ahead(1, "{") {
            self.at += 1;
            return self.block();
        }
        let mut erased = false;
        loop {
            let is_name =
                matches!(self.ahead(1), "(" | "=" | ";" | ":" | "?" | "!" | "<" | "}" | ",");
            let word = self.text();
            if self.kind() != Kind::Word || is_name {
                break;
            }
            if MODIFIERS.contains(&word) {
                erased |= matches!(word, "abstract" | "declare");
                self.at += 1;
                self.blank(self.at - 1, self.at);
            } else if matches!(word, "static" | "async" | "get" | "set" | "accessor")
                && !(word == "async" && self.newline(1))
            {
                self.at += 1;
            } else {
                break;
            }
        }
        self.eat("*");
        if self.is("[") && self.tokens.all[self.at + 1].kind == Kind::Word && self.is_ahead(2, ":")
        {
            // `[key: string]: T`
            self.at = self.tokens.other[self.at] + 1;
            self.annotation()?;
            self.semicolon()?;
            self.blank_statement(from);
            return Ok(());
        }
        self.property_name()?;
        self.member_rest(from, erased)
    }

    fn member_rest(&mut self, from: usize, erased: bool) -> Done {
        if self.is("?") || self.is("!") {
            self.at += 1;
            self.blank(self.at - 1, self.at);
        }
        if self.is("(") || self.is("<") {
            if !self.function_rest()? {
                self.semicolon()?;
                self.blank_statement(from);
            }
            return Ok(());
        }
        let colon = self.at;
        let typed = self.is(":");
        self.annotation()?;
        if erased {
            self.semicolon()?;
            self.blank_statement(from);
            return Ok(());
        }
        if self.eat("=") {
            self.assignment()?;
        } else if typed && !self.is(";") && !self.is("}") {
            // The next line's bracket would belong to it.
            self.marks.insert(self.tokens.all[colon].start, ';');
        }
        self.semicolon()
    }
}
