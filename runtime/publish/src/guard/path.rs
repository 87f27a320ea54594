//! The longest way to each point of a function that meets no check: what a linear count would miss, because a guest
//! can jump over any check that merely stands between two instructions.

use wasmparser::Operator;

use super::places::Places;
use super::work::{Class, class};
use super::{
    AFTER_BULK, AFTER_GROW, AFTER_HOST, BYTES_PER_STEP, LIMIT, TAIL, TAIL_ACCESS, TAIL_KNOWN_ACCESS,
};

/// What may have been done since the last check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Since {
    /// Instructions of this function and of the ends of those that it called.
    pub steps: u32,
    /// The weight of what was done since a call returned that may have been thousands deep, if one did. Each of its
    /// frames may have done as much.
    pub tail: Option<u32>,
}

impl Since {
    fn or(self, other: Self) -> Self {
        Self { steps: self.steps.max(other.steps), tail: self.tail.max(other.tail) }
    }
}

/// What comes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callee {
    /// A function whose end is known, and that does not lead back to the caller.
    Known(Since),
    /// One that may be the caller again.
    Deep,
}

#[derive(Debug)]
struct Frame {
    is_loop: bool,
    /// At the condition, for `else`, or for the `end` of an `if` that has none.
    condition: Option<Since>,
    /// Of all branches to the end.
    branches: Option<Since>,
}

/// A walk through one function.
#[derive(Debug)]
pub struct Path {
    /// Nothing where no path leads.
    now: Option<Since>,
    frames: Vec<Frame>,
    /// The constant that the last instruction left, if it did.
    constant: Option<u32>,
    /// The constant under an empty loop that may end with the next instruction: it changes nothing on the stack.
    under_loop: Option<u32>,
    /// Where memory was accessed since the last check.
    places: Places,
}

fn or(a: Option<Since>, b: Option<Since>) -> Option<Since> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.or(b)),
        (a, b) => a.or(b),
    }
}

impl Path {
    /// At the entry of a function, which is a check.
    pub fn new() -> Self {
        let frame = Frame { is_loop: false, condition: None, branches: None };
        Self {
            now: Some(Since::default()),
            frames: vec![frame],
            constant: None,
            under_loop: None,
            places: Places::default(),
        }
    }

    /// Whether a check must stand before this instruction.
    pub fn is_due(&self, operator: &Operator<'_>) -> bool {
        let Some(now) = self.now else { return false };
        let (steps, tail) = self.weight(operator);
        // Nothing is too large to come right after a check.
        let fits = now == Since::default()
            || now.steps + steps <= LIMIT && now.tail.is_none_or(|before| before + tail <= TAIL);
        !fits
    }

    /// A check stands here.
    pub fn checked(&mut self) {
        self.places.forget();
        if self.now.is_some() {
            self.now = Some(Since::default());
        }
    }

    /// The constant that a bulk operation here has as its length.
    pub fn constant(&self) -> Option<u32> {
        self.constant
    }

    fn weight(&self, operator: &Operator<'_>) -> (u32, u32) {
        // No code is made of it; with a loop's head before it, it is a check.
        if matches!(operator, Operator::End) {
            return (0, 0);
        }
        match class(operator) {
            Class::Plain | Class::Control | Class::Off => (1, 1),
            // The callee's entry is a check.
            Class::Call => (0, 0),
            Class::Access if self.places.knows(operator) => (1, TAIL_KNOWN_ACCESS),
            Class::Access => (1, TAIL_ACCESS),
            Class::MemoryBulk => {
                let steps = 1 + self.constant.unwrap_or(u32::MAX / 2) / BYTES_PER_STEP;
                (steps.min(LIMIT), TAIL)
            }
            Class::TableBulk => (LIMIT, TAIL),
            Class::Grow => (AFTER_GROW, TAIL),
        }
    }

    /// Goes past one instruction. `callee` is asked only for a direct call.
    pub fn step(&mut self, operator: &Operator<'_>, callee: impl FnOnce(u32) -> Callee) {
        let (steps, tail) = self.weight(operator);
        if let Some(now) = &mut self.now {
            now.steps += steps;
            now.tail = now.tail.map(|before| before + tail);
        }
        self.places.step(operator);
        let (constant, under_loop) = (self.constant.take(), self.under_loop.take());
        match operator {
            Operator::I32Const { value } => self.constant = Some(value.cast_unsigned()),
            Operator::Loop { .. } => self.under_loop = constant,
            Operator::End => self.constant = under_loop,
            _ => {}
        }
        match operator {
            Operator::Block { .. } => self.enter(false, None),
            Operator::Loop { .. } => {
                self.checked();
                self.enter(true, None);
            }
            Operator::If { .. } => self.enter(false, self.now),
            Operator::Else => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.branches = or(frame.branches, self.now);
                    self.now = frame.condition.take();
                }
            }
            Operator::End => {
                if let Some(frame) = self.frames.pop() {
                    self.now = or(or(self.now, frame.branches), frame.condition);
                }
            }
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth);
                self.now = None;
            }
            Operator::BrIf { relative_depth } => self.branch(*relative_depth),
            Operator::BrTable { targets } => {
                self.branch(targets.default());
                for target in targets.targets().flatten() {
                    self.branch(target);
                }
                self.now = None;
            }
            Operator::Return => {
                self.branch(u32::try_from(self.frames.len()).unwrap_or(u32::MAX).saturating_sub(1));
                self.now = None;
            }
            Operator::Unreachable => self.now = None,
            Operator::Call { function_index } => self.called(callee(*function_index)),
            Operator::CallIndirect { .. } => self.called(Callee::Deep),
            _ => {}
        }
    }

    /// What may have been done since the last check when the function has returned.
    pub fn at_return(&self) -> Since {
        self.now.unwrap_or_default()
    }

    /// What this frame has been to before a call is no other page after it.
    fn called(&mut self, callee: Callee) {
        if self.now.is_some() {
            self.now = Some(match callee {
                Callee::Known(since) => since,
                Callee::Deep => Since { steps: 0, tail: Some(0) },
            });
        }
    }

    fn enter(&mut self, is_loop: bool, condition: Option<Since>) {
        self.frames.push(Frame { is_loop, condition, branches: None });
    }

    fn branch(&mut self, depth: u32) {
        let at = (self.frames.len()).checked_sub(depth as usize + 1);
        let Some(frame) = at.and_then(|at| self.frames.get_mut(at)) else { return };
        // The head of a loop is a check.
        if !frame.is_loop {
            frame.branches = or(frame.branches, self.now);
        }
    }
}

/// The end of a helper that moves memory: one piece since its last check.
pub const BULK: Callee = Callee::Known(Since { steps: AFTER_BULK, tail: None });
/// The end of a thunk: the host's own work has limits of its own.
pub const HOST: Callee = Callee::Known(Since { steps: AFTER_HOST, tail: None });
