//! Functions with arrows.

use super::{Done, Parser, Refused};

impl Parser<'_> {
    pub(super) fn attempt_arrow(&mut self, skip: usize) -> Result<bool, Refused> {
        self.at += skip;
        let found = self.arrow()?;
        if !found {
            self.at -= skip;
        }
        Ok(found)
    }

    /// A function that begins with its parameters, if this is one.
    pub(super) fn arrow(&mut self) -> Result<bool, Refused> {
        let open = match self.is("<") {
            true => {
                let mark = self.save();
                let parameters = self.type_parameters();
                let open = self.at;
                self.back(mark);
                if parameters.is_err() || !self.tokens.is(open, "(") {
                    return Ok(false);
                }
                open
            }
            false => self.at,
        };
        let close = self.tokens.other[open];
        let is_plain = self.tokens.is(close + 1, "=>");
        if !is_plain && !self.tokens.is(close + 1, ":") {
            return Ok(false);
        }
        let mark = self.save();
        let head = self.type_parameters().and_then(|()| self.parameters()).and_then(|()| {
            let from = self.at;
            self.annotation()?;
            if !self.is("=>") || self.newline(0) && self.at == from {
                return self.refuse("no function");
            }
            self.join_lines(close, from);
            self.at += 1;
            Ok(())
        });
        if let Err(why) = head {
            self.back(mark);
            return if is_plain { Err(why) } else { Ok(false) };
        }
        if is_plain || !self.in_condition {
            return self.arrow_body().map(|()| true);
        }
        // `a ? (b) : c => d`: a function with a type only if a colon is left for the condition.
        if self.arrow_body().is_ok() && self.is(":") {
            return Ok(true);
        }
        self.back(mark);
        Ok(false)
    }

    /// An arrow stands on the line of its parameters' end: where a type over several lines was between them, so that end is
    /// moved.
    fn join_lines(&mut self, close: usize, from: usize) {
        let between = from..self.at;
        if between.is_empty()
            || !between.clone().chain([self.at]).any(|at| self.tokens.all[at].newline)
        {
            return;
        }
        let (old, new) = (self.tokens.all[close].start, self.tokens.all[self.at - 1].end - 1);
        self.marks.insert(old, ' ');
        self.marks.insert(new, ')');
    }

    pub(super) fn arrow_body(&mut self) -> Done {
        if self.is("{") { self.fresh(Self::block) } else { self.assignment() }
    }
}
