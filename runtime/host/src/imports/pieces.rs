//! Host work whose amount is a guest's number: piece by piece, with a look at the clock between two pieces.
//!
//! Nothing interrupts a host function, and one that never has to wait never lets others run either. So none does more
//! than a piece (`HOSTCALL_BYTES`, about 10 us of copying) before it has looked whether its guest is at a limit, and
//! none goes on for longer than a tick before it has let others run.

use mayfly_core::limits::node;
use wasmtime::{AsContextMut, Caller, Memory, Result};

use crate::meter::Tick;
use crate::sandbox::{Sandbox, Stop};

/// The data of a store whose guest's time somebody counts.
pub trait Timed: Send + 'static {
    /// Whether the guest should let others run now.
    ///
    /// # Errors
    /// The error that ends a guest at its limit.
    fn look(&mut self) -> Result<bool>;
}

impl Timed for Sandbox {
    fn look(&mut self) -> Result<bool> {
        match self.meter.look() {
            Tick::GoOn => Ok(false),
            Tick::Over(outcome) => Err(Stop(outcome).into()),
            Tick::Yield => {
                self.exchange.set_overran();
                self.exchange.wake_client();
                Ok(true)
            }
        }
    }
}

/// Between two pieces: ends the guest at its limit, lets others run when it is time.
///
/// # Errors
/// The error that ends a guest at its limit.
pub async fn pause<T: Timed>(caller: &mut Caller<'_, T>) -> Result<()> {
    if caller.data_mut().look()? {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The pieces of a range of `len` bytes: where each begins and ends.
pub fn pieces(len: usize) -> impl Iterator<Item = (usize, usize)> {
    let starts = (0..len).step_by(node::HOSTCALL_BYTES);
    starts.map(move |start| (start, len.min(start + node::HOSTCALL_BYTES)))
}

/// Copies bytes of the host's into guest memory at `at`, where room for all of them was seen to be.
///
/// # Errors
/// When the guest is at its limit, or the range is outside memory.
pub async fn copy_in<T: Timed>(
    caller: &mut Caller<'_, T>,
    memory: Memory,
    at: u32,
    bytes: &[u8],
) -> Result<()> {
    for (start, end) in pieces(bytes.len()) {
        if start > 0 {
            pause(caller).await?;
        }
        memory.write(caller.as_context_mut(), at as usize + start, &bytes[start..end])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_and_none_is_larger_than_a_host_call() {
        for len in [0, 1, node::HOSTCALL_BYTES, node::HOSTCALL_BYTES + 1, 1 << 20] {
            let mut next = 0;
            for (start, end) in pieces(len) {
                assert_eq!(start, next);
                assert!(end > start && end - start <= node::HOSTCALL_BYTES);
                next = end;
            }
            assert_eq!(next, len);
        }
    }
}
