//! The load generator: one thread that polls its sockets without ever sleeping, so that it adds microseconds and not
//! timer steps. Closed loops find a server's capacity; open loops ask what clients see who do not wait for each other.

mod connection;
mod generate;
pub mod http1;

pub use generate::{Load, Measured, Pace, generate};

use std::net::SocketAddr;

/// A request that is sent over and over: its bytes are made once.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where to.
    pub address: SocketAddr,
    /// Everything that goes over the wire.
    pub bytes: Vec<u8>,
}

impl Request {
    /// A `GET`, or a `POST` if there is a body.
    #[must_use]
    pub fn new(address: SocketAddr, path: &str, body: Option<(&str, &[u8])>) -> Self {
        let method = if body.is_some() { "POST" } else { "GET" };
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n").into_bytes();
        if let Some((content_type, body)) = body {
            let head =
                format!("content-type: {content_type}\r\ncontent-length: {}\r\n\r\n", body.len());
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(body);
        } else {
            bytes.extend_from_slice(b"\r\n");
        }
        Self { address, bytes }
    }
}
