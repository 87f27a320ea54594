//! Which memory accesses go where others of the same straight line went: a page is touched for the first time once.

use std::collections::HashMap;

use wasmparser::{
    BlockType, ContType, FrameKind, FuncType, MemArg, ModuleArity, Operator, RefType, SubType,
};

/// Bytes of a window: with the 16 of a vector more it lies in two pages at most.
const WINDOW: u64 = 2_048;
/// Windows that are remembered; compiled code has its frame and the two sides of a copy.
const WINDOWS: usize = 8;
/// Values on the stack that are remembered.
const VALUES: usize = 32;

/// A local, the number of a window behind it, and how often that was accessed.
type Window = (u32, u64, u32);

/// What is known at one point of a function. Whatever is not, is forgotten; that only costs checks.
#[derive(Debug, Default)]
pub struct Places {
    /// The last values on the stack: of each, the local that it was read from, if it was.
    stack: Vec<Option<u32>>,
    windows: Vec<Window>,
    frames: Vec<Frame>,
    /// Instructions so far, and the last of them that changed each local.
    now: u64,
    changed: HashMap<u32, u64>,
}

/// A block, a loop or an `if`, and what was known at its start: every path to its end has come by there.
#[derive(Debug)]
struct Frame {
    is_loop: bool,
    since: u64,
    windows: Vec<Window>,
}

impl Places {
    /// Whether an access that comes now can be to no page for the first time.
    pub fn knows(&self, operator: &Operator<'_>) -> bool {
        let Some(window) = access(operator).and_then(|access| self.window(access)) else {
            return false;
        };
        // A window's two pages may have been met by the first two.
        self.windows.iter().any(|&(local, number, times)| (local, number) == window && times >= 2)
    }

    /// Goes past one instruction.
    pub fn step(&mut self, operator: &Operator<'_>) {
        self.now += 1;
        if let Some(window) = access(operator).and_then(|access| self.window(access)) {
            self.touch(window);
        }
        match operator {
            Operator::LocalGet { local_index } => self.push(Some(*local_index)),
            Operator::LocalSet { local_index } => {
                self.stack.pop();
                self.changed(*local_index);
            }
            Operator::LocalTee { local_index } => {
                self.stack.pop();
                self.changed(*local_index);
                self.push(Some(*local_index));
            }
            // What comes after has come this way.
            Operator::BrIf { .. } => self.stack.clear(),
            Operator::Block { .. } | Operator::If { .. } => self.enter(false),
            Operator::Loop { .. } => {
                // Its head is reached from its end as well, where locals may have changed.
                self.forget();
                self.enter(true);
            }
            Operator::Else => {
                self.stack.clear();
                self.windows = self.frames.last().map(|f| f.windows.clone()).unwrap_or_default();
            }
            Operator::End => self.leave(),
            _ => self.pass(operator.operator_arity(&NoModule)),
        }
    }

    fn enter(&mut self, is_loop: bool) {
        self.stack.clear();
        self.frames.push(Frame { is_loop, since: self.now, windows: self.windows.clone() });
    }

    fn leave(&mut self) {
        self.stack.clear();
        // Nothing branches to the end of a loop: what was known before it is known behind it.
        let Some(frame) = self.frames.pop().filter(|frame| !frame.is_loop) else { return };
        self.windows = frame.windows;
        let changed = &self.changed;
        let same = |local: &u32| changed.get(local).is_none_or(|at| *at < frame.since);
        self.windows.retain(|(local, _, _)| same(local));
    }

    /// Values taken and left, where that is known of the instruction alone.
    fn pass(&mut self, arity: Option<(u32, u32)>) {
        let Some((taken, left)) = arity else { return self.stack.clear() };
        (0..taken).for_each(|_| _ = self.stack.pop());
        (0..left).for_each(|_| self.push(None));
    }

    /// As at the entry of a function, or at the head of a loop.
    pub fn forget(&mut self) {
        self.stack.clear();
        self.windows.clear();
    }

    fn push(&mut self, value: Option<u32>) {
        if self.stack.len() == VALUES {
            self.stack.remove(0);
        }
        self.stack.push(value);
    }

    fn changed(&mut self, local: u32) {
        self.changed.insert(local, self.now);
        self.windows.retain(|(of, _, _)| *of != local);
        for value in &mut self.stack {
            *value = value.filter(|of| *of != local);
        }
    }

    fn window(&self, access: Access) -> Option<(u32, u64)> {
        let (below, memory) = match access {
            Access::Load(memory) => (0, memory),
            Access::Store(memory) => (1, memory),
        };
        let at = self.stack.len().checked_sub(below + 1)?;
        Some((self.stack[at]?, memory.offset / WINDOW))
    }

    fn touch(&mut self, window: (u32, u64)) {
        let known = self.windows.iter_mut().find(|(local, at, _)| (*local, *at) == window);
        if let Some((_, _, times)) = known {
            *times += 1;
            return;
        }
        if self.windows.len() == WINDOWS {
            self.windows.remove(0);
        }
        self.windows.push((window.0, window.1, 1));
    }
}

/// A load has its address on top of the stack; a store has it below what it writes.
#[derive(Debug, Clone, Copy)]
enum Access {
    Load(MemArg),
    Store(MemArg),
}

/// Those that compilers use; the others' places are not known.
fn access(operator: &Operator<'_>) -> Option<Access> {
    Some(match operator {
        Operator::I32Load { memarg }
        | Operator::I64Load { memarg }
        | Operator::F32Load { memarg }
        | Operator::F64Load { memarg }
        | Operator::I32Load8S { memarg }
        | Operator::I32Load8U { memarg }
        | Operator::I32Load16S { memarg }
        | Operator::I32Load16U { memarg }
        | Operator::I64Load8S { memarg }
        | Operator::I64Load8U { memarg }
        | Operator::I64Load16S { memarg }
        | Operator::I64Load16U { memarg }
        | Operator::I64Load32S { memarg }
        | Operator::I64Load32U { memarg }
        | Operator::V128Load { memarg } => Access::Load(*memarg),
        Operator::I32Store { memarg }
        | Operator::I64Store { memarg }
        | Operator::F32Store { memarg }
        | Operator::F64Store { memarg }
        | Operator::I32Store8 { memarg }
        | Operator::I32Store16 { memarg }
        | Operator::I64Store8 { memarg }
        | Operator::I64Store16 { memarg }
        | Operator::I64Store32 { memarg }
        | Operator::V128Store { memarg } => Access::Store(*memarg),
        _ => return None,
    })
}

/// For instructions that need no module to say what they take.
struct NoModule;

impl ModuleArity for NoModule {
    fn sub_type_at(&self, _: u32) -> Option<&SubType> {
        None
    }

    fn tag_type_arity(&self, _: u32) -> Option<(u32, u32)> {
        None
    }

    fn type_index_of_function(&self, _: u32) -> Option<u32> {
        None
    }

    fn func_type_of_cont_type(&self, _: &ContType) -> Option<&FuncType> {
        None
    }

    fn sub_type_of_ref_type(&self, _: &RefType) -> Option<&SubType> {
        None
    }

    fn control_stack_height(&self) -> u32 {
        0
    }

    fn label_block(&self, _: u32) -> Option<(BlockType, FrameKind)> {
        None
    }
}
