//! Statements and declarations.

use super::super::lex::Kind;
use super::{Done, Parser};

impl Parser<'_> {
    pub(super) fn block(&mut self) -> Done {
        if !self.is("{") {
            return self.refuse(&format!("'{{' was expected here, and not '{}'", self.shown()));
        }
        let end = self.tokens.other[self.at];
        self.at += 1;
        while self.at < end {
            self.statement()?;
        }
        self.at = end + 1;
        Ok(())
    }

    pub(super) fn statement(&mut self) -> Done {
        self.nested(Self::one_statement)
    }

    fn one_statement(&mut self) -> Done {
        match self.kind() {
            Kind::Punct if self.is("{") => return self.block(),
            Kind::Punct if self.is(";") => {
                self.at += 1;
                return Ok(());
            }
            Kind::Word if !self.is_label() => {
                if let Some(done) = self.typescript() {
                    return done;
                }
                if let Some(done) = self.keyword() {
                    return done;
                }
            }
            Kind::Word => {
                self.at += 2;
                return self.statement();
            }
            _ => {}
        }
        self.expression()?;
        self.semicolon()
    }

    fn is_label(&self) -> bool {
        self.is_ahead(1, ":") && !matches!(self.text(), "default" | "case")
    }

    /// A statement by its first word; nothing if it is an expression.
    fn keyword(&mut self) -> Option<Done> {
        Some(match self.text() {
            "const" | "let" | "var" | "using" if self.begins_binding() => {
                self.variables().and_then(|()| self.semicolon())
            }
            "function" => self.function(),
            "async" if self.is_ahead(1, "function") && !self.newline(1) => self.function(),
            "class" => self.class(),
            "import" if !self.is_ahead(1, "(") && !self.is_ahead(1, ".") => self.import(),
            "export" => self.export(),
            "if" | "while" | "with" | "switch" => self.condition(),
            "for" => self.for_loop(),
            "do" => self.do_loop(),
            "try" => self.try_block(),
            "return" | "throw" => {
                self.at += 1;
                match self.newline(0) || self.is(";") || self.is("}") {
                    true => self.semicolon(),
                    false => self.expression().and_then(|()| self.semicolon()),
                }
            }
            "break" | "continue" | "debugger" => {
                self.at += 1;
                if self.kind() == Kind::Word && !self.newline(0) {
                    self.at += 1;
                }
                self.semicolon()
            }
            "else" | "case" | "default" | "finally" | "catch" => {
                self.refuse(&format!("'{}' was not expected here", self.shown()))
            }
            _ => return None,
        })
    }

    fn begins_binding(&self) -> bool {
        self.tokens.all[self.at + 1].kind == Kind::Word
            && !matches!(self.ahead(1), "in" | "of" | "instanceof")
            || self.is_ahead(1, "{")
            || self.is_ahead(1, "[")
    }

    /// A declaration that is TypeScript's own; nothing if it is none.
    fn typescript(&mut self) -> Option<Done> {
        let named = self.tokens.all[self.at + 1].kind == Kind::Word && !self.newline(1);
        let from = self.at;
        let done = match self.text() {
            "interface" if named => self.interface(),
            "type" if named && !self.is_ahead(1, "of") => self.alias(),
            "declare" if named || self.is_ahead(1, "global") => {
                self.at += 1;
                self.declared()
            }
            "abstract" if self.is_ahead(1, "class") && !self.newline(1) => {
                self.at += 1;
                self.blank(from, self.at);
                return Some(self.class());
            }
            "enum" if named => {
                return Some(self.refuse(
                    "an enum is code that TypeScript generates; use an object with `as const`",
                ));
            }
            "const" if self.is_ahead(1, "enum") => {
                return Some(self.refuse(
                    "an enum is code that TypeScript generates; use an object with `as const`",
                ));
            }
            "namespace" | "module" if named => {
                return Some(self.refuse(
                    "a namespace is code that TypeScript generates; use a module of its own",
                ));
            }
            _ => return None,
        };
        Some(done.map(|()| self.blank_statement(from)))
    }

    pub(super) fn interface(&mut self) -> Done {
        self.at += 1;
        self.word()?;
        self.type_parameters()?;
        if self.eat("extends") {
            loop {
                self.whole_type()?;
                if !self.eat(",") {
                    break;
                }
            }
        }
        self.over_braces()
    }

    fn alias(&mut self) -> Done {
        self.at += 1;
        self.word()?;
        self.type_parameters()?;
        self.expect("=")?;
        self.whole_type()?;
        self.semicolon()
    }

    /// What is behind `declare`: to its end, whatever it is.
    fn declared(&mut self) -> Done {
        match self.text() {
            "namespace" | "module" | "global" | "enum" => {
                while !self.is("{") && !self.is_end() {
                    self.at += 1;
                }
                self.over_braces()
            }
            "const" if self.is_ahead(1, "enum") => {
                self.at += 3;
                self.over_braces()
            }
            "interface" => self.interface(),
            "type" => self.alias(),
            "abstract" => {
                self.at += 1;
                self.class()
            }
            _ => self.statement(),
        }
    }

    fn over_braces(&mut self) -> Done {
        if !self.is("{") {
            return self.refuse(&format!("'{{' was expected here, and not '{}'", self.shown()));
        }
        self.at = self.tokens.other[self.at] + 1;
        Ok(())
    }

    fn variables(&mut self) -> Done {
        self.at += 1;
        loop {
            self.binding()?;
            if !self.eat(",") {
                return Ok(());
            }
        }
    }

    pub(super) fn function(&mut self) -> Done {
        let from = self.at;
        self.eat("async");
        self.at += 1;
        self.eat("*");
        if self.kind() == Kind::Word {
            self.at += 1;
        }
        if !self.function_rest()? {
            self.semicolon()?;
            self.blank_statement(from);
        }
        Ok(())
    }

    fn condition(&mut self) -> Done {
        let word = self.text().to_owned();
        self.at += 1;
        self.parenthesised()?;
        if word == "switch" {
            return self.cases();
        }
        self.statement()?;
        if word == "if" && self.eat("else") {
            self.statement()?;
        }
        Ok(())
    }

    fn parenthesised(&mut self) -> Done {
        self.expect("(")?;
        self.fresh(Self::expression)?;
        self.expect(")")
    }

    fn cases(&mut self) -> Done {
        if !self.is("{") {
            return self.refuse("'{' was expected here");
        }
        let end = self.tokens.other[self.at];
        self.at += 1;
        while self.at < end {
            if self.is("case") {
                self.at += 1;
                // Its own colon ends it, and is no type's.
                let before = std::mem::replace(&mut self.in_condition, true);
                let value = self.expression();
                self.in_condition = before;
                value?;
                self.expect(":")?;
            } else if self.is("default") && self.is_ahead(1, ":") {
                self.at += 2;
            } else {
                self.statement()?;
            }
        }
        self.at = end + 1;
        Ok(())
    }

    fn for_loop(&mut self) -> Done {
        self.at += 1;
        self.eat("await");
        if !self.is("(") {
            return self.refuse("'(' was expected here");
        }
        let end = self.tokens.other[self.at];
        self.at += 1;
        if matches!(self.text(), "const" | "let" | "var" | "using") && self.begins_binding() {
            self.variables()?;
        }
        while self.at < end {
            if !self.eat(";") && !self.eat("of") && !self.eat("in") {
                self.expression()?;
            }
        }
        self.at = end + 1;
        self.statement()
    }

    fn do_loop(&mut self) -> Done {
        self.at += 1;
        self.statement()?;
        self.expect("while")?;
        self.parenthesised()?;
        self.eat(";");
        Ok(())
    }

    fn try_block(&mut self) -> Done {
        self.at += 1;
        self.block()?;
        if self.eat("catch") {
            if self.is("(") {
                self.parameters()?;
            }
            self.block()?;
        }
        if self.eat("finally") {
            self.block()?;
        }
        Ok(())
    }
}
