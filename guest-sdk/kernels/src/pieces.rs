//! A call done in pieces, between which whoever runs it may do something else.
//!
//! What memory costs cannot be told from a descriptor: the same element may be in a register's reach or in a page that
//! the system has yet to find. So nothing is guessed: after each piece, which is small even if every element of it costs
//! a page, the host looks at its clock.

use crate::simd::Simd;

/// Cost of one piece at most, in multiply-adds as in [`work`](crate::work): 0.1 ms.
pub const PIECE_MAX: u64 = 1 << 23;

/// A cache line from memory, in an order that the CPU does not foresee: 8 ns, a dozen of them at a time.
pub(crate) const LINE: u64 = 512;

/// What a line's part is for each of many elements so far apart.
pub(crate) fn strided(elements: usize, stride: usize) -> u64 {
    elements as u64 * (LINE / 16) * stride.clamp(1, 16) as u64
}

/// A checked call.
pub trait Pieces {
    /// How far a call has come.
    type At: Default + Send;

    /// Goes on from `at` until all is done, which is true, or until `stop` says so after a piece: it is told what the
    /// piece cost. Check the call first: what `check` refuses would panic here.
    fn go_on<S: Simd>(
        &mut self,
        s: S,
        at: &mut Self::At,
        stop: &mut impl FnMut(u64) -> bool,
    ) -> bool;

    /// All at once.
    #[inline(always)]
    fn run<S: Simd>(&mut self, s: S) {
        self.go_on(s, &mut Self::At::default(), &mut |_| false);
    }
}
