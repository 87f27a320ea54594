//! Wasm in, outcome out, no sockets: most of what Mayfly promises is tested here.

mod faults;
mod harness;
mod inference;
mod samples;
