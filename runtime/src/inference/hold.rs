//! The memory that all inference requests of a process may take together, beside their instances'.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use mayfly_core::limits::node;

use super::refusal::Refusal;

/// Bytes that are left.
static ROOM: AtomicUsize = AtomicUsize::new(node::INFERENCE_BUFFERS_BYTES);

/// One request's part of it; given back when dropped.
#[derive(Default)]
pub(super) struct Hold(usize);

impl Hold {
    /// Takes room for so many more bytes.
    ///
    /// # Errors
    /// 503 when all of it is taken.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        if ROOM.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(bytes)).is_err() {
            let busy = Refusal::new(503, "too many inference requests are under way; retry soon");
            return Err(busy.retry_after(1));
        }
        self.0 += bytes;
        Ok(())
    }

    /// An answer that keeps its room until the client has it: one that reads slowly would else hold memory that nobody
    /// counts.
    pub(super) fn around(self, answer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Held { answer, _hold: self })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        ROOM.fetch_add(self.0, Relaxed);
    }
}

struct Held {
    answer: Vec<u8>,
    _hold: Hold,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_and_given_back_with_the_last_byte_of_the_answer() {
        let all = node::INFERENCE_BUFFERS_BYTES;
        let mut hold = Hold::default();
        hold.grow(all - 1).unwrap();
        assert!(Hold::default().grow(2).is_err());
        hold.grow(1).unwrap();
        assert!(hold.grow(1).is_err());
        let mut answer = hold.around(vec![7; 9]);
        let first = answer.split_to(3);
        drop(answer);
        assert!(Hold::default().grow(1).is_err(), "{first:?} is still there");
        drop(first);
        Hold::default().grow(all).unwrap();
    }
}
