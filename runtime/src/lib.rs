//! What the binary `mayfly` is beside a node: its configuration, and the verbs that need none.
//!
//! A node itself is put together in `main.rs`, out of the crates along the two flows: ARCHITECTURE.md draws them.
#![forbid(unsafe_code)]

pub mod check;
pub mod config;
pub mod run;
pub mod verify;
