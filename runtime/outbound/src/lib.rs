//! Calls of functions to others: what is allowed is asked first, then the name is resolved, every address of the answer is
//! judged, and the socket is opened to the very address that was judged.
//!
//! Nothing here exists for a function that was not allowed to call out: an [`Access`] is made when a revision that may is
//! loaded. Connections and TLS sessions belong to one function; nothing of them crosses to another.
#![forbid(unsafe_code)]

mod access;
mod client;
mod connect;
mod fault;
mod fetch;
mod names;
mod pool;
mod send;
mod upload;

pub use access::{Access, Call, denied};
pub use client::{Client, Inside, OutboundConfig, Roots, Waiting};
pub use fault::{Code, Fault};
pub use fetch::{AnswerBody, Fetch};
pub use names::{Hickory, Names, Resolving};
pub use upload::{BoxError, CallBody, Upload};

#[cfg(test)]
mod tests;
