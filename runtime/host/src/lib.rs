//! Everything that a guest runs in.
//!
//! In reading order: the [`engine`] and its instances' memory; who may have a slot ([`admission`]); where guest and client meet
//! ([`exchange`]) and how long they may take ([`meter`]), and where that went
//! ([`profile`]); one request's state ([`sandbox`]); what it may call
//! ([`imports`], [`kernels`]); its code, linked ([`program`]); a deploy as it is served ([`revision`]); and the map by
//! which publishing and serving meet ([`catalog`]).
#![deny(unsafe_code)]

pub mod admission;
pub mod catalog;
pub mod descriptors;
pub mod engine;
pub mod exchange;
pub mod imports;
#[allow(
    unsafe_code,
    reason = "the second of two places: native arithmetic on checked ranges of guest memory"
)]
pub mod kernels;
pub mod meter;
pub mod profile;
pub mod program;
pub mod revision;
pub mod sandbox;
pub mod traps;
