//! Publishing with real child processes: what a deploy makes, what it refuses, and what a crash leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod attacks;
mod children;
mod crash;
mod deploy;
mod init;
mod loading;
mod measure;
mod node;
mod rebuild;
mod restart;
mod secrets;
mod start;
mod versions;
