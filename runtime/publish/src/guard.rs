//! Makes every guest meet a check of its time within bounded work: wasm in, wasm out, the last step before code is made.
//!
//! The engine looks at the clock at a function's entry and at the head of a loop, and nowhere else. So, in each module:
//! - each import gets a *thunk*, a function that only calls it, and every use of the import moves to the thunk;
//! - an empty loop stands wherever a path would otherwise be longer than [`LIMIT`] without a check, or where the end of
//!   a function after a call, done once for each of thousands of frames, would be more than [`TAIL`];
//! - memory is filled, copied and initialised in pieces of [`PIECE_BYTES`], by functions at the module's end.
//!
//! Nothing else changes: no index, no trap, no result. [`check`] is the other half. It knows nothing of how a module
//! was rewritten, and refuses one in which anything of the above does not hold.

mod bulk;
mod check;
mod graph;
mod origins;
mod parts;
mod path;
mod places;
mod rewrite;
pub mod work;

use mayfly_core::limits::node;

pub use check::{Unguarded, check};
pub use origins::{Origin, Origins};
pub use rewrite::{GuardError, guard, without_data};

/// Instructions on the longest path from one check to the next.
pub const LIMIT: u32 = node::UNCHECKED_STEPS;
/// Bytes of memory that one instruction may move.
pub const PIECE_BYTES: u32 = node::BULK_PIECE_BYTES;
/// Bytes that an instruction may move where it stands, if its length is a constant.
pub const SMALL_BYTES: u32 = 64 << 10;
/// Bytes that count as one instruction.
pub const BYTES_PER_STEP: u32 = 256;
/// What a frame may do after a call that may have been thousands deep, before its next check or its return: if each of
/// 16,000 frames has the whole of it, that is 260,000 pages, of which no more are met for the first time than the memory has.
pub const TAIL: u32 = node::UNCHECKED_TAIL;
/// What a memory access counts of [`TAIL`], where other instructions count 1: each may be the first to two pages, if it
/// lies across their edge.
pub const TAIL_ACCESS: u32 = 96;
/// What an access counts of it to a page that the frame has been to since: the line may have left the cache.
pub const TAIL_KNOWN_ACCESS: u32 = 8;
/// What a helper may have done since its last check: one piece.
const AFTER_BULK: u32 = 500;
/// What a thunk may have done since the host function returned.
const AFTER_HOST: u32 = 50;
/// What `memory.grow` and `table.grow` count.
const AFTER_GROW: u32 = 500;

#[cfg(test)]
mod tests;
