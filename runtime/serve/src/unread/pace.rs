//! How fast a client has to send.

use std::time::Duration;

use mayfly_core::limits::node;

/// What came in which time.
#[derive(Debug, Default)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts a piece that was waited for so long; says whether its client is fast enough.
    pub fn holds(&mut self, waited: Duration, bytes: usize) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        self.waited <= node::BODY_RATE_GRACE
            || u128::from(self.bytes) * 1000
                >= u128::from(node::BODY_RATE) * self.waited.as_millis()
    }

    /// How much longer may be waited for the next piece, after the waits that were counted.
    pub fn left(&self) -> Duration {
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / node::BODY_RATE);
        earned.max(node::BODY_RATE_GRACE).saturating_sub(self.waited)
    }

    /// What came so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_be_slow_for_a_while_and_then_has_a_rate() {
        let second = Duration::from_secs(1);
        let grace = node::BODY_RATE_GRACE;
        let mut pace = Pace::default();
        assert!(pace.holds(grace, 1));
        assert!(!pace.holds(second, 1), "a byte a second");
        let rate = usize::try_from(node::BODY_RATE).unwrap();
        let mut pace = Pace::default();
        assert!((0..100).all(|_| pace.holds(second, rate)));
        assert!(!pace.holds(Duration::from_millis(10), 0), "a little too slow");
        // Who sends nothing more is late at the same moment.
        assert_eq!(Pace::default().left(), grace);
        let mut pace = Pace::default();
        pace.holds(second, 100 * rate);
        assert_eq!(pace.left(), 99 * second);
        // What came fast before counts.
        let mut pace = Pace::default();
        assert!(pace.holds(Duration::ZERO, 100 * rate) && pace.holds(100 * second, 0));
    }
}
