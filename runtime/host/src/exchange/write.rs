//! Writing a response in as many parts as there is room for.

use std::future::poll_fn;

use bytes::{Buf as _, Bytes};

use super::{Exchange, WriteError};

/// Waits until there is room, then pushes all of `bytes` in as many parts as it takes.
///
/// # Errors
/// As [`Exchange::push`].
pub async fn write_all(exchange: &Exchange, mut bytes: Bytes) -> Result<(), WriteError> {
    while bytes.has_remaining() {
        let room = poll_fn(|cx| exchange.poll_room(cx)).await?;
        let part = bytes.split_to(room.min(bytes.len()));
        exchange.push(part)?;
    }
    Ok(())
}
