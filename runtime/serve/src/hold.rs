//! Memory that requests of a node take together beside their instances', each byte of it counted before it is taken.

use bytes::Bytes;
use mayfly_core::shares::Grant;

/// One request's part of it; given back when dropped.
pub(crate) struct Hold(Grant);

/// All of it is taken, or this function or client has its share.
#[derive(Debug)]
pub(crate) struct NoRoom;

impl Hold {
    /// What a grant has room for.
    pub(crate) fn new(grant: Grant) -> Self {
        Self(grant)
    }

    /// Takes room for so many more bytes.
    ///
    /// # Errors
    /// [`NoRoom`]; what there was is kept.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        if self.0.grow(bytes) { Ok(()) } else { Err(NoRoom) }
    }

    /// So many bytes are not held any more.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        self.0.shrink(bytes);
    }

    /// No more than so many bytes are.
    pub(crate) fn keep(&mut self, bytes: usize) {
        let all = self.0.amount();
        self.shrink(all.saturating_sub(bytes));
    }

    /// Appends to a vector whose whole capacity is held, and that grows to `most` bytes at the most.
    ///
    /// # Errors
    /// As [`Hold::grow`].
    pub(crate) fn extend(
        &mut self,
        all: &mut Vec<u8>,
        part: &[u8],
        most: usize,
    ) -> Result<(), NoRoom> {
        let needed = all.len() + part.len();
        if needed > all.capacity() {
            let capacity = needed.max(all.capacity().saturating_mul(2).min(most));
            self.grow(capacity - all.capacity())?;
            all.reserve_exact(capacity - all.len());
        }
        all.extend_from_slice(part);
        Ok(())
    }

    /// Bytes that keep their room until the last of them is gone: a client that takes an answer slowly, or a function its
    /// body, would else hold memory that nobody counts.
    pub(crate) fn around(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Held { bytes, _hold: self })
    }
}

struct Held {
    bytes: Vec<u8>,
    _hold: Hold,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use mayfly_core::shares::Pot;

    use super::*;

    /// A hold on a room of this size, as one function's.
    pub(crate) fn of(room: usize) -> (Arc<Pot>, Hold) {
        let pot = Pot::new(room);
        let grant = pot.grant(Some(Arc::default()), [127, 0, 0, 1].into());
        (pot, Hold(grant))
    }

    #[test]
    fn room_is_taken_and_given_back_with_the_last_byte() {
        let (pot, mut hold) = of(20);
        hold.grow(9).unwrap();
        assert!(hold.grow(2).is_err(), "more than half");
        let mut answer = hold.around(vec![7; 9]);
        let first = answer.split_to(3);
        drop(answer);
        assert_eq!(pot.free(), 11, "{first:?} is still there");
        drop(first);
        assert_eq!(pot.free(), 20);
    }

    #[test]
    fn what_grows_is_held_at_its_capacity_and_not_beyond_what_it_may_have() {
        let (pot, mut hold) = of(2000);
        let mut all = Vec::new();
        for _ in 0..100 {
            hold.extend(&mut all, &[1; 7], 700).unwrap();
            assert_eq!(pot.free(), 2000 - all.capacity());
        }
        assert_eq!((all.len(), all.capacity()), (700, 700));
        assert!(hold.extend(&mut all, &[1; 301], 2000).is_err());
    }
}
