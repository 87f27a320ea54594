//! Mayfly's bench harness: fixed definitions of what a cold start is, interleaved measurements, raw samples kept.
//!
//! A run goes [`definitions`] -> [`plan`] -> [`scenarios`] (which drive [`server`]s by [`load`] and the public CLI, and
//! one [`micro`] level inside this process) -> [`record`] -> [`report`]. [`compare`] reads two records.
#![deny(unsafe_code)]

pub mod compare;
pub mod definitions;
pub mod guests;
pub mod load;
pub mod machine;
pub mod mayfly;
pub mod micro;
pub mod peers;
pub mod plan;
pub mod process;
pub mod record;
pub mod report;
pub mod scenarios;
pub mod server;
pub mod stats;
pub mod warnings;
