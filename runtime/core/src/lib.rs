//! The leaves of Mayfly: what needs neither wasmtime nor a socket.
//!
//! In reading order: what a function is called ([`name`]), what it may use ([`limits`]), how a request finds it
//! ([`router`]), where it may call out to ([`outbound`]), how an invocation ends ([`outcome`]), what is kept of a deploy
//! ([`record`]), which versions serve ([`deployment`]), who may change it ([`auth`], [`artifact_key`]), and how tenants share what all use ([`shares`]).
#![forbid(unsafe_code)]

pub mod artifact_key;
pub mod auth;
pub mod deployment;
pub mod limits;
pub mod name;
pub mod outbound;
pub mod outcome;
pub mod record;
pub mod router;
pub mod shares;
pub mod units;

pub use artifact_key::{ArtifactKey, ArtifactKeyParts, Mac, MacKey};
pub use deployment::Deployment;
pub use limits::Limits;
pub use name::{Digest, DigestBuilder, FunctionName, RequestId};
pub use outcome::{Outcome, Phase, Problem};
