//! What a client sends and nobody reads.
//!
//! A socket that is closed while bytes of its client are unread is reset, and a reset destroys the answer that is on its
//! way (RFC 9112, section 9.6). So whatever a request's answer left of its body is read to its end and thrown away, and
//! a connection that is closed all the same lingers until its client has closed its side: both within bounds, because
//! a client could go on for ever.

mod end;
mod linger;
mod pace;
mod rest;

pub use end::End;
pub use linger::{Linger, Lingering};
pub use pace::Pace;
pub use rest::{ToTheEnd, Told, close};
