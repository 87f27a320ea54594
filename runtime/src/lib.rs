//! What the binary `mayfly` is beside the crates along the two flows, which ARCHITECTURE.md draws: how a node is put
//! together of them, its configuration and certificates, and the verbs that need none.
#![forbid(unsafe_code)]

pub mod assemble;
pub mod certificates;
pub mod check;
pub mod config;
pub mod dev;
pub mod run;
pub mod verify;
