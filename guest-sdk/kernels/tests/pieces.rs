//! No piece of a call is more than a piece, whatever the call: counted, not timed.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../examples/grid/shapes.rs"]
mod shapes;

use mayfly_kernels::simd::Scalar;
use mayfly_kernels::{PIECE_MAX, Pieces};

/// Pieces of a call that are looked at: those after them are like those before.
const LOOKED_AT: usize = 200;
/// One call of so many is looked at, which is no multiple of what the grid varies by.
const ONE_IN: usize = 11;

struct Count {
    calls: usize,
    largest: (u64, String),
}

impl shapes::Visit for Count {
    fn visit<C: Pieces>(&mut self, name: &str, call: &mut C) {
        self.calls += 1;
        if !self.calls.is_multiple_of(ONE_IN) {
            return;
        }
        let (mut at, mut pieces, mut largest) = (C::At::default(), 0, 0);
        call.go_on(Scalar, &mut at, &mut |cost| {
            (pieces, largest) = (pieces + 1, largest.max(cost));
            pieces >= LOOKED_AT
        });
        assert!(largest <= PIECE_MAX, "{name}: a piece of {largest}");
        if largest > self.largest.0 {
            self.largest = (largest, name.to_owned());
        }
    }
}

#[test]
fn a_piece_is_no_more_than_it_may_be() {
    let mut count = Count { calls: 0, largest: (0, String::new()) };
    shapes::all(&mut count, 16 << 20);
    assert!(count.calls > 500, "{}", count.calls);
    assert!(count.largest.0 > PIECE_MAX / 4, "{:?}", count.largest);
}
