//! Regular expressions as RE2 has them: ONNX Runtime runs that, so it is what exporters write for. Nothing is ever
//! tried twice: a step of the expression is at a place of the text or is not, so time grows with the one times the
//! other, whatever a model and its clients come up with.

use tract_onnx::prelude::TractResult;

mod parse;
mod set;

use set::Class;

/// Steps of an expression, its repetitions written out.
const STEPS_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Regex(Vec<Step>);

/// What an expression does at one place; the first one is where it begins.
#[derive(Debug)]
enum Step {
    /// All of it was met.
    End,
    /// Goes on in two ways.
    Fork(usize, usize),
    /// Goes on elsewhere.
    Jump(usize),
    /// Goes on if the place is such a one.
    Edge(Edge),
    /// Takes one character of these.
    Take(Class),
}

/// Places between characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    TextStart,
    TextEnd,
    LineStart,
    LineEnd,
    Word,
    NotWord,
}

/// Where a search has come to; one serves for many.
#[derive(Debug, Default)]
pub(super) struct Search {
    now: Threads,
    next: Threads,
    /// Steps to follow.
    open: Vec<usize>,
}

/// Steps that take a character or end, with the place where each one's match began, the earliest first.
#[derive(Debug, Default)]
struct Threads {
    all: Vec<(usize, usize)>,
    /// Which of the steps were reached here.
    seen: Vec<bool>,
}

/// The characters at both sides of a place.
type Sides = (Option<char>, Option<char>);

impl Regex {
    /// # Errors
    /// When RE2 refuses it, and for classes that need tables of Unicode; says where.
    pub(super) fn new(pattern: &str) -> TractResult<Self> {
        let mut steps = Vec::new();
        parse::parse(pattern)?.write(&mut steps)?;
        push(&mut steps, Step::End)?;
        Ok(Self(steps))
    }

    /// The first match from `from` on, and of those that begin there the longest: its start and its end.
    pub(super) fn find(
        &self,
        search: &mut Search,
        text: &str,
        from: usize,
    ) -> Option<(usize, usize)> {
        let mut best: Option<(usize, usize)> = None;
        search.walk(self, text, from, |threads, at| {
            for &(step, start) in threads {
                let better = best.is_none_or(|(first, _)| start <= first);
                if matches!(self.0[step], Step::End) && better {
                    best = Some((start, at));
                }
            }
            best.map(|(start, _)| start)
        });
        best
    }

    /// Whether all of `text` is one match.
    pub(super) fn is_all(&self, search: &mut Search, text: &str) -> bool {
        let mut all = false;
        search.walk(self, text, 0, |threads, at| {
            let ends = |&(step, _): &(usize, usize)| matches!(self.0[step], Step::End);
            all = at == text.len() && threads.iter().any(ends);
            // None may begin later.
            Some(0)
        });
        all
    }

    /// Whether it may match nothing at all, somewhere.
    pub(super) fn may_be_empty(&self) -> bool {
        let (mut open, mut seen) = (vec![0], vec![false; self.0.len()]);
        while let Some(step) = open.pop() {
            if std::mem::replace(&mut seen[step], true) {
                continue;
            }
            match self.0[step] {
                Step::End => return true,
                Step::Fork(one, other) => open.extend([one, other]),
                Step::Jump(to) => open.push(to),
                Step::Edge(_) => open.push(step + 1),
                Step::Take(_) => {}
            }
        }
        false
    }
}

impl Search {
    /// Goes through `text` from `from` on and shows `look` the threads at each place. Once that gives the start of a
    /// match, no thread is kept that began later.
    fn walk(
        &mut self,
        regex: &Regex,
        text: &str,
        from: usize,
        mut look: impl FnMut(&[(usize, usize)], usize) -> Option<usize>,
    ) {
        let Some((head, tail)) = text.split_at_checked(from) else { return };
        let mut before = head.chars().next_back();
        let mut latest = None;
        let mut rest = tail.chars();
        self.now.clear(regex);
        loop {
            let at = text.len() - rest.as_str().len();
            let after = rest.as_str().chars().next();
            if latest.is_none() {
                self.now.add(regex, 0, at, (before, after), &mut self.open);
            }
            latest = look(&self.now.all, at);
            let Some(c) = rest.next() else { return };
            let sides = (after, rest.as_str().chars().next());
            self.next.clear(regex);
            for &(step, start) in &self.now.all {
                if latest.is_some_and(|latest| start > latest) {
                    break;
                }
                if let Step::Take(class) = &regex.0[step]
                    && class.has(c)
                {
                    self.next.add(regex, step + 1, start, sides, &mut self.open);
                }
            }
            std::mem::swap(&mut self.now, &mut self.next);
            if self.now.all.is_empty() && latest.is_some() {
                return;
            }
            before = after;
        }
    }
}

impl Threads {
    fn clear(&mut self, regex: &Regex) {
        self.all.clear();
        self.seen.clear();
        self.seen.resize(regex.0.len(), false);
    }

    /// The steps that `step` leads to without taking a character. One that is there already began earlier.
    fn add(
        &mut self,
        regex: &Regex,
        step: usize,
        start: usize,
        sides: Sides,
        open: &mut Vec<usize>,
    ) {
        open.push(step);
        while let Some(step) = open.pop() {
            if std::mem::replace(&mut self.seen[step], true) {
                continue;
            }
            match regex.0[step] {
                Step::Fork(one, other) => open.extend([other, one]),
                Step::Jump(to) => open.push(to),
                Step::Edge(edge) if edge.is(sides) => open.push(step + 1),
                Step::Edge(_) => {}
                Step::End | Step::Take(_) => self.all.push((step, start)),
            }
        }
    }
}

impl Edge {
    fn is(self, (before, after): Sides) -> bool {
        let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        match self {
            Self::TextStart => before.is_none(),
            Self::TextEnd => after.is_none(),
            Self::LineStart => before.is_none_or(|c| c == '\n'),
            Self::LineEnd => after.is_none_or(|c| c == '\n'),
            Self::Word => word(before) != word(after),
            Self::NotWord => word(before) == word(after),
        }
    }
}

fn push(steps: &mut Vec<Step>, step: Step) -> TractResult<usize> {
    anyhow::ensure!(
        steps.len() < STEPS_MAX,
        "the regular expression has more than {STEPS_MAX} steps, its repetitions written out"
    );
    steps.push(step);
    Ok(steps.len() - 1)
}

#[cfg(test)]
mod tests;
