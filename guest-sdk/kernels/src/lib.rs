//! The arithmetic behind `mayfly_kernels_v1`: matrix products, convolutions and pooling on plain slices.
//!
//! One body of code serves three readers.
//! The host instantiates it with its CPU's vectors and runs it on guest memory; the SDK instantiates it with wasm's
//! vectors when the host offers no kernels; tests instantiate it with scalars as the reference.
//! What crosses the sandbox's wall is a descriptor of `u32` words ([`wire`]); its layout and the packing formats are
//! part of the ABI (`docs/kernels.md`) and never depend on a CPU, so a snapshot taken on one machine runs on another.
//!
//! Every struct here has a `check` that proves its slices long enough and its work bounded before `run` touches them.
#![forbid(unsafe_code)]

mod check;
pub mod gemm;
pub mod map;
mod math;
pub mod pack;
pub mod pieces;
pub mod plane;
pub mod simd;
mod slice;
mod tile;
pub mod winograd;
pub mod wire;
pub mod work;

pub use check::Refused;
pub use gemm::{Epilogue, Gemm, Left, Right};
pub use map::Map;
pub use pieces::{PIECE_MAX, Pieces};
pub use plane::{Plane, PlaneOp};
pub use simd::Simd;
pub use tile::clamp;
pub use winograd::Winograd;
pub use work::WORK_MAX;

/// Rows of a packed left panel: a panel holds `k` groups of this many floats.
pub const LEFT_ROWS: usize = 6;
/// Columns of a packed right panel: a panel holds `k` groups of this many floats.
pub const RIGHT_COLS: usize = 16;
/// Multiply-adds that one call may ask for: about a millisecond on a core with 256-bit vectors, so that a guest's
/// deadline, checked between calls, stays meaningful.
pub const MACS_MAX: u64 = 1 << 26;
/// Floats that one call may produce, or read in an order that caches cannot foresee.
pub const FLOATS_MAX: u64 = 1 << 22;
/// Scratch floats that let every call work: a slice of each operand of the largest tile.
pub const SCRATCH_MIN: usize = 16 << 10;
/// Scratch floats beyond which matrix products gain nothing: with the left operand it fills half of a 1 MiB L2.
pub const SCRATCH_GEMM: usize = 96 << 10;

#[cfg(test)]
mod tests;
