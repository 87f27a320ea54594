//! What a listener does when it cannot accept.

use std::io::{Error, ErrorKind};
use std::time::{Duration, Instant};

/// Between two tries while the process has no descriptor or memory for a connection.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two lines of the log about it.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// One listener's failures.
#[derive(Debug)]
pub struct Failures {
    listener: &'static str,
    said: Option<Instant>,
    since: usize,
}

impl Failures {
    /// Of the listener of this name.
    #[must_use]
    pub fn of(listener: &'static str) -> Self {
        Self { listener, said: None, since: 0 }
    }

    /// Waits as long as the error asks for. Errors of a single connection are its own; those of the process need a
    /// pause, without which the loop would take a core.
    pub async fn wait(&mut self, error: &Error) {
        use ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        if let Some(failures) = self.count(Instant::now()) {
            let listener = self.listener;
            tracing::warn!(%error, listener, failures, "connections cannot be accepted; trying on");
        }
        tokio::time::sleep(PAUSE).await;
    }

    /// One more; gives how many there are to be told of, now and then.
    fn count(&mut self, now: Instant) -> Option<usize> {
        self.since += 1;
        if self.said.is_some_and(|said| now < said + SAID_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_first_failure_and_then_a_count() {
        let (mut failures, start) = (Failures::of("gateway"), Instant::now());
        let lines: Vec<_> = (0..500).filter_map(|i| failures.count(start + PAUSE * i)).collect();
        assert_eq!(lines, [1, 200, 200]);
    }
}
