//! The memory that all inference requests of a process may take together, beside their instances'.

use mayfly_core::limits::node;
use tokio::sync::Semaphore;

use super::refusal::Refusal;

const KIB: usize = 1 << 10;

static ROOM: Semaphore = Semaphore::const_new(node::INFERENCE_BUFFERS_BYTES / KIB);

/// One request's part of it; given back when dropped.
#[derive(Default)]
pub(super) struct Hold {
    bytes: usize,
    taken: usize,
}

impl Hold {
    /// Takes room for so many more bytes.
    ///
    /// # Errors
    /// 503 when all of it is taken.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes = self.bytes.saturating_add(bytes);
        let more = self.bytes.div_ceil(KIB) - self.taken;
        if more == 0 {
            return Ok(());
        }
        let wanted = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(permit) = ROOM.try_acquire_many(wanted) else {
            let busy = Refusal::new(503, "too many inference requests are being read; retry soon");
            return Err(busy.retry_after(1));
        };
        permit.forget();
        self.taken += more;
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        ROOM.add_permits(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_by_the_kibibyte_and_given_back() {
        let mut hold = Hold::default();
        hold.grow(1).unwrap();
        hold.grow(1023).unwrap();
        assert_eq!(hold.taken, 1);
        hold.grow(1).unwrap();
        assert_eq!(hold.taken, 2);
        assert!(hold.grow(node::INFERENCE_BUFFERS_BYTES).is_err());
        assert_eq!(hold.taken, 2);
    }
}
