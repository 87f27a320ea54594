//! Wasm in, outcome out, no sockets: most of what Mayfly promises is tested here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod bodiless;
mod cgi;
mod clients;
mod faults;
mod harness;
mod host_work;
mod inference;
mod learn;
mod lengths;
mod logs;
mod memory;
mod outbound;
mod outbound_cost;
mod own;
mod pauses;
mod profile;
mod proxied;
mod samples;
mod scripts;
mod straight;
mod timing;
mod triton;
mod words;
