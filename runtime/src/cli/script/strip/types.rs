//! Where a type ends. What is in it is not looked at more than that takes.

use super::super::lex::Kind;
use super::{Done, Parser};

impl Parser<'_> {
    /// `: T`, blanked, if it is there.
    pub(super) fn annotation(&mut self) -> Done {
        if !self.is(":") {
            return Ok(());
        }
        let from = self.at;
        self.at += 1;
        self.type_or_predicate()?;
        self.blank_since(from);
        Ok(())
    }

    /// `<T, U extends V = W>`, blanked, if it is there.
    pub(super) fn type_parameters(&mut self) -> Done {
        if !self.is("<") {
            return Ok(());
        }
        let from = self.at;
        self.at += 1;
        while !self.is(">") {
            while matches!(self.text(), "const" | "in" | "out")
                && self.tokens.all[self.at + 1].kind == Kind::Word
                && !self.is_ahead(1, "extends")
            {
                self.at += 1;
            }
            self.word()?;
            if self.eat("extends") {
                self.whole_type()?;
            }
            if self.eat("=") {
                self.whole_type()?;
            }
            if !self.eat(",") {
                break;
            }
        }
        self.expect(">")?;
        self.blank_since(from);
        Ok(())
    }

    /// `<A, B>`, not blanked.
    pub(super) fn type_arguments(&mut self) -> Done {
        self.expect("<")?;
        loop {
            self.whole_type()?;
            if !self.eat(",") {
                break;
            }
        }
        self.expect(">")
    }

    /// A return type: a type, or what a function says of an argument.
    pub(super) fn type_or_predicate(&mut self) -> Done {
        if self.is("asserts")
            && self.tokens.all[self.at + 1].kind == Kind::Word
            && !self.newline(1)
            && !self.is_ahead(1, "is")
        {
            self.at += 2;
            if self.eat("is") {
                self.whole_type()?;
            }
            return Ok(());
        }
        if self.kind() == Kind::Word && self.is_ahead(1, "is") && !self.newline(1) {
            self.at += 2;
        }
        self.whole_type()
    }

    pub(super) fn whole_type(&mut self) -> Done {
        self.nested(Self::conditional_type)
    }

    fn conditional_type(&mut self) -> Done {
        if self.is_function_type() {
            return self.function_type();
        }
        self.union_type()?;
        if self.is("extends") && !self.newline(0) {
            self.at += 1;
            self.conditional_part()?;
            self.expect("?")?;
            self.whole_type()?;
            self.expect(":")?;
            self.whole_type()?;
        }
        Ok(())
    }

    /// What is behind `extends`, whose own `?` is the condition's.
    fn conditional_part(&mut self) -> Done {
        if self.is_function_type() { self.function_type() } else { self.union_type() }
    }

    fn is_function_type(&self) -> bool {
        let mut at = self.at;
        if self.tokens.is(at, "abstract") && self.tokens.is(at + 1, "new") {
            at += 1;
        }
        if self.tokens.is(at, "new") || self.tokens.is(at, "<") {
            return true;
        }
        self.tokens.is(at, "(") && self.tokens.is(self.tokens.other[at] + 1, "=>")
    }

    fn function_type(&mut self) -> Done {
        self.eat("abstract");
        self.eat("new");
        self.type_parameters()?;
        if !self.is("(") {
            return self.refuse("a function's type has its parameters here");
        }
        self.at = self.tokens.other[self.at] + 1;
        self.expect("=>")?;
        self.type_or_predicate()
    }

    fn union_type(&mut self) -> Done {
        let _ = self.eat("|") || self.eat("&");
        loop {
            if self.is_function_type() {
                self.function_type()?;
            } else {
                self.operator_type()?;
            }
            if !self.eat("|") && !self.eat("&") {
                return Ok(());
            }
        }
    }

    fn operator_type(&mut self) -> Done {
        let next_begins = matches!(
            self.tokens.all[(self.at + 1).min(self.tokens.all.len() - 1)].kind,
            Kind::Word | Kind::Text | Kind::TemplateOpen | Kind::Template | Kind::Number
        ) || matches!(self.ahead(1), "(" | "[" | "{");
        if matches!(self.text(), "keyof" | "unique" | "readonly") && next_begins {
            self.at += 1;
            return self.nested(Self::operator_type);
        }
        if self.is("infer") && next_begins {
            self.at += 1;
            self.word()?;
            // `infer T extends U`, unless this is the condition's own.
            self.attempt(|own| {
                own.expect("extends")?;
                own.union_type()?;
                if own.is("?") { own.refuse("") } else { Ok(()) }
            });
            return Ok(());
        }
        self.primary_type()?;
        while !self.newline(0) {
            if self.is("[") {
                self.at = self.tokens.other[self.at] + 1;
            } else {
                break;
            }
        }
        Ok(())
    }

    fn primary_type(&mut self) -> Done {
        match self.kind() {
            Kind::Text | Kind::Number | Kind::Template => self.at += 1,
            Kind::TemplateOpen => {
                while self.kind() == Kind::TemplateOpen {
                    self.at = self.tokens.other[self.at];
                }
                self.at += 1;
            }
            Kind::Word => return self.named_type(),
            Kind::Punct if matches!(self.text(), "(" | "[" | "{") => {
                self.at = self.tokens.other[self.at] + 1
            }
            Kind::Punct if self.is("-") && self.tokens.all[self.at + 1].kind == Kind::Number => {
                self.at += 2
            }
            _ => {
                return self
                    .refuse(&format!("a type was expected here, and not '{}'", self.shown()));
            }
        }
        Ok(())
    }

    fn named_type(&mut self) -> Done {
        self.eat("typeof");
        if self.is("import") && self.is_ahead(1, "(") {
            self.at = self.tokens.other[self.at + 1] + 1;
        } else {
            self.word()?;
        }
        while self.is(".") {
            self.at += 1;
            self.word()?;
        }
        if self.is("<") && !self.newline(0) {
            self.type_arguments()?;
        }
        Ok(())
    }

    pub(super) fn word(&mut self) -> Done {
        if self.kind() != Kind::Word {
            return self.refuse(&format!("a name was expected here, and not '{}'", self.shown()));
        }
        self.at += 1;
        Ok(())
    }
}
