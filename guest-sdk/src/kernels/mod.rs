//! Fast arithmetic for tract: its convolutions, matrix products and pools replaced by calls of `mayfly-kernels`.
//!
//! Where the host offers native kernels (`mayfly_kernels_v1.version` answers 1 or more) a call crosses to it with a
//! descriptor of addresses; else the same code runs here with wasm's vectors. Weights are packed once, at load, in
//! the ABI's formats, so a snapshot serves both.

mod call;
mod conv;
mod fuse;
mod images;
mod indices;
mod lookup;
mod map;
mod opaque;
mod plane;
mod product;
mod relocate;
mod rewrite;
mod rows;
mod tail;
mod toom;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod vectors;

pub use call::{native, release_scratch};
pub use relocate::relocate;
pub use rewrite::rewrite;
pub(crate) use rows::Rows;
