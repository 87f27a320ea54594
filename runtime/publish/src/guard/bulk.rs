//! Functions that stand in for what may take long: a thunk for each import, and helpers that move memory in pieces.
//!
//! A helper traps where the instruction traps, and before the first byte: a range that does not fit goes to the
//! instruction whole, and one that fits goes in pieces, each behind the head of a loop. Memory never shrinks.

use wasm_encoder::{BlockType, Function, InstructionSink, ValType};

use super::PIECE_BYTES;

/// What a helper does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Helper {
    /// `memory.fill`.
    Fill,
    /// `memory.copy`.
    Copy,
    /// `memory.init` of one data segment.
    Init {
        /// The segment.
        segment: u32,
    },
}

/// Parameters of each of the three instructions, as of its helper.
const DESTINATION: u32 = 0;
const SOURCE: u32 = 1;
const LENGTH: u32 = 2;

/// Calls an import with the thunk's own arguments.
pub fn thunk(import: u32, parameters: u32) -> Vec<u8> {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for parameter in 0..parameters {
        code.local_get(parameter);
    }
    code.call(import).end();
    function.into_raw_body()
}

impl Helper {
    /// The body. `segment_bytes` is the length of the segment; others have none.
    pub fn body(self, segment_bytes: u32) -> Vec<u8> {
        let mut function = Function::new([]);
        let mut code = function.instructions();
        code.local_get(LENGTH).i32_const(PIECE_BYTES.cast_signed()).i32_gt_u();
        code.if_(BlockType::Empty);
        self.whole_fits(&mut code, segment_bytes);
        code.if_(BlockType::Empty);
        match self {
            Self::Fill => self.ascend(&mut code),
            Self::Init { .. } => self.ascend(&mut code),
            Self::Copy => {
                code.local_get(DESTINATION).local_get(SOURCE).i32_le_u();
                code.if_(BlockType::Empty);
                self.ascend(&mut code);
                code.else_();
                self.descend(&mut code);
                code.end();
            }
        }
        code.end().end();
        self.rest(&mut code);
        code.end();
        function.into_raw_body()
    }

    /// The instruction with what the parameters are now: the last piece, or a whole that is short or traps.
    fn rest(self, code: &mut InstructionSink<'_>) {
        code.local_get(DESTINATION).local_get(SOURCE).local_get(LENGTH);
        self.instruction(code);
    }

    fn instruction(self, code: &mut InstructionSink<'_>) {
        match self {
            Self::Fill => code.memory_fill(0),
            Self::Copy => code.memory_copy(0, 0),
            Self::Init { segment } => code.memory_init(0, segment),
        };
    }

    /// Whether both ranges are in bounds; 64 bits wide, so that no sum wraps.
    fn whole_fits(self, code: &mut InstructionSink<'_>, segment_bytes: u32) {
        let end = |code: &mut InstructionSink<'_>, start| {
            code.local_get(start).i64_extend_i32_u().local_get(LENGTH).i64_extend_i32_u().i64_add();
        };
        let memory = |code: &mut InstructionSink<'_>| {
            code.memory_size(0).i64_extend_i32_u().i64_const(16).i64_shl().i64_le_u();
        };
        end(code, DESTINATION);
        memory(code);
        match self {
            Self::Fill => {}
            Self::Copy => {
                end(code, SOURCE);
                memory(code);
                code.i32_and();
            }
            // One that was dropped has no bytes: then the first piece traps.
            Self::Init { .. } => {
                end(code, SOURCE);
                code.i64_const(i64::from(segment_bytes)).i64_le_u().i32_and();
            }
        }
    }

    /// Whole pieces from the front; what is left has one piece or less.
    fn ascend(self, code: &mut InstructionSink<'_>) {
        let piece = PIECE_BYTES.cast_signed();
        code.loop_(BlockType::Empty);
        code.local_get(DESTINATION).local_get(SOURCE).i32_const(piece);
        self.instruction(code);
        code.local_get(DESTINATION).i32_const(piece).i32_add().local_set(DESTINATION);
        if self != Self::Fill {
            code.local_get(SOURCE).i32_const(piece).i32_add().local_set(SOURCE);
        }
        code.local_get(LENGTH).i32_const(piece).i32_sub().local_tee(LENGTH);
        code.i32_const(piece).i32_gt_u().br_if(0).end();
    }

    /// Whole pieces from the back.
    fn descend(self, code: &mut InstructionSink<'_>) {
        let piece = PIECE_BYTES.cast_signed();
        code.loop_(BlockType::Empty);
        code.local_get(LENGTH).i32_const(piece).i32_sub().local_set(LENGTH);
        for start in [DESTINATION, SOURCE] {
            code.local_get(start).local_get(LENGTH).i32_add();
        }
        code.i32_const(piece);
        self.instruction(code);
        code.local_get(LENGTH).i32_const(piece).i32_gt_u().br_if(0).end();
    }
}

/// Parameters of every helper.
pub const PARAMETERS: [ValType; 3] = [ValType::I32; 3];
