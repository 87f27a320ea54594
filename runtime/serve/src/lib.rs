//! From a connection to a fresh instance and back.
//!
//! [`gateway`] takes requests off the wire; [`inference`] and [`invocation`] run them, with what all requests of a process
//! share ([`node`]). Beside them: what proxies say of a request ([`forwarded`]), what nobody reads of a body ([`unread`]),
//! and TLS ([`tls`]).
#![forbid(unsafe_code)]

pub mod accepting;
pub mod forwarded;
pub mod gateway;
mod hold;
pub mod inference;
pub mod inside;
pub mod invocation;
pub mod node;
pub mod tls;
pub mod unread;
