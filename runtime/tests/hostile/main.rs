//! What clients and guests try, against the real gateway on loopback sockets.
//!
//! Counts decide here, not timings: these tests run beside others on two cores. `make soak` runs the same modules
//! with larger numbers (`MAYFLY_SOAK=n` multiplies them).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod aborts;
mod clocks;
mod crowds;
mod fuzzed;
mod http_limits;
mod imports;
mod isolation;
mod mutants;
#[path = "../middle/pauses.rs"]
mod pauses;
mod rig;
mod secured;
mod slow;
mod smuggling;
