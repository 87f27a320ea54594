//! Mayfly: a fresh, sandboxed wasm instance for every HTTP request.
//!
//! Two flows, each a chain of modules. **Publish** turns untrusted bytes into a routable revision, once:
//! [`publish`] -> [`artifact`] -> [`engine`]. **Serve** turns one request into one instance and back:
//! [`gateway`] -> [`invocation`] -> [`sandbox`] -> [`imports`]. They meet at one value, the [`catalog`].
#![deny(unsafe_code)]

pub mod accepting;
pub mod admin;
pub mod admission;
pub mod artifact;
pub mod catalog;
pub mod check;
pub mod child;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod engine;
pub mod exchange;
pub mod forwarded;
pub mod gateway;
mod hold;
pub mod imports;
pub mod inference;
pub mod invocation;
#[allow(
    unsafe_code,
    reason = "the second of two places: native arithmetic on checked ranges of guest memory"
)]
pub mod kernels;
pub mod logs;
pub mod meter;
pub mod metrics;
pub mod node;
pub mod program;
pub mod publish;
pub mod records;
pub mod revision;
pub mod run;
pub mod sandbox;
pub mod self_test;
pub mod state_dir;
pub mod telemetry;
mod traps;
pub mod unread;
pub mod verify;
