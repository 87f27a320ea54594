//! Imports and exports.

use super::super::imports::source_of;
use super::super::lex::Kind;
use super::{Done, Parser};

impl Parser<'_> {
    pub(super) fn import(&mut self) -> Done {
        let from = self.at;
        let is_type =
            self.is_ahead(1, "type") && !self.is_ahead(2, "from") && !self.is_ahead(2, ",")
                || self.is_ahead(1, "type") && self.is_ahead(2, "from") && self.is_ahead(3, "from");
        if self.is_ahead(2, "=") || (is_type && self.is_ahead(3, "=")) {
            return self.refuse(
                "`import x = ...` is code that TypeScript generates; use `import x from ...`",
            );
        }
        let Some(source) = source_of(&self.tokens, from) else {
            return self.refuse("this import has no source");
        };
        let mut names = Vec::new();
        self.at += 1;
        while self.at < source && !is_type {
            if self.is("{") {
                self.specifiers(&mut names)?;
                continue;
            }
            let own = self.at;
            if self.kind() == Kind::Word
                && !matches!(self.text(), "from" | "as")
                && self.at + 1 < source
            {
                // A default, or the name of all; with the comma behind it.
                let until = if self.is_ahead(1, ",") { own + 2 } else { own + 1 };
                let begin =
                    if own > from + 1 && self.tokens.is(own - 1, "as") { own - 2 } else { own };
                self.imported.push((own, (begin, until)));
                names.push(own);
            }
            self.at += 1;
        }
        self.at = source + 1;
        if (self.is("with") || self.is("assert")) && self.is_ahead(1, "{") {
            self.at = self.tokens.other[self.at + 1] + 1;
        }
        self.semicolon()?;
        if is_type {
            self.blank_statement(from);
            return Ok(());
        }
        self.statements.push((from, self.at, names));
        Ok(())
    }

    /// `{ a, b as c, type D }`
    fn specifiers(&mut self, names: &mut Vec<usize>) -> Done {
        let end = self.tokens.other[self.at];
        self.at += 1;
        while self.at < end {
            let from = self.at;
            let is_type = self.is("type")
                && self.at + 1 < end
                && !self.is_ahead(1, ",")
                && (!self.is_ahead(1, "as") || self.is_ahead(2, "as") || self.is_ahead(3, "as"));
            while self.at < end && !self.is(",") {
                self.at += 1;
            }
            let name = self.at - 1;
            self.eat(",");
            if is_type {
                self.blank_since(from);
            } else {
                self.imported.push((name, (from, self.at)));
                names.push(name);
            }
        }
        self.at = end + 1;
        Ok(())
    }

    pub(super) fn export(&mut self) -> Done {
        let from = self.at;
        self.at += 1;
        if self.is("type") && (self.is_ahead(1, "{") || self.is_ahead(1, "*")) {
            return self.exported_names(from, true);
        }
        if self.is("{") || self.is("*") {
            return self.exported_names(from, false);
        }
        if self.is("=") {
            return self
                .refuse("`export =` is code that TypeScript generates; use `export default`");
        }
        if self.is("as") && self.is_ahead(1, "namespace") {
            return self.refuse("`export as namespace` is for declarations only");
        }
        if self.eat("default") {
            return self.exported_default(from);
        }
        let before = self.blanks.len();
        let (begin, text) = (self.at, self.tokens.all[self.at].start);
        self.statement()?;
        // What was erased whole takes its `export` with it.
        let end = self.tokens.all[self.at - 1].end;
        if self.blanks[before..].iter().any(|(from, to)| *from == text && *to == end)
            && self.tokens.all[begin].kind == Kind::Word
            && !self.is_abstract(begin)
        {
            self.marks.remove(&text);
            self.blank_statement(from);
        }
        Ok(())
    }

    fn is_abstract(&self, at: usize) -> bool {
        self.tokens.is(at, "abstract")
    }

    fn exported_default(&mut self, from: usize) -> Done {
        if self.is("interface") && self.tokens.all[self.at + 1].kind == Kind::Word {
            self.interface()?;
            self.blank_statement(from);
            return Ok(());
        }
        if self.is("abstract") && self.is_ahead(1, "class") {
            self.at += 1;
            self.blank(self.at - 1, self.at);
        }
        if self.is("class") {
            return self.class();
        }
        if self.is("function") || (self.is("async") && self.is_ahead(1, "function")) {
            let own = self.tokens.all[self.at].start;
            self.function()?;
            if self.marks.get(&own) == Some(&';') {
                self.marks.remove(&own);
                self.blank_statement(from);
            }
            return Ok(());
        }
        self.assignment()?;
        self.semicolon()
    }

    fn exported_names(&mut self, from: usize, is_type: bool) -> Done {
        self.eat("type");
        if self.is("*") {
            self.at += 1;
            if self.eat("as") {
                self.at += 1;
            }
        } else {
            let end = self.tokens.other[self.at];
            self.at += 1;
            while self.at < end {
                let own = self.at;
                let only_type = self.is("type")
                    && self.tokens.all[self.at + 1].kind == Kind::Word
                    && !self.is_ahead(1, "as");
                while self.at < end && !self.is(",") {
                    self.at += 1;
                }
                self.eat(",");
                if only_type {
                    self.blank_since(own);
                }
            }
            self.at = end + 1;
        }
        if self.eat("from") {
            self.at += 1;
            if (self.is("with") || self.is("assert")) && self.is_ahead(1, "{") {
                self.at = self.tokens.other[self.at + 1] + 1;
            }
        }
        self.semicolon()?;
        if is_type {
            self.blank_statement(from);
        }
        Ok(())
    }
}
