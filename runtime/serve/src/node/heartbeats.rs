//! Whether the gateway's workers get round to their work: each says so a few times a second.
//!
//! A worker that is held up answers nobody, and nothing on it can say that. So it is asked elsewhere, and a node with
//! such a worker is not ready.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mayfly_core::limits::node;
use parking_lot::Mutex;

/// The workers that there are.
#[derive(Debug)]
pub struct Heartbeats {
    began: Instant,
    workers: Mutex<Vec<Weak<AtomicU64>>>,
}

/// One worker's; it counts until this is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    began: Instant,
    /// Milliseconds since `began`.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self { began: Instant::now(), workers: Mutex::default() }
    }
}

impl Heartbeats {
    /// One more worker, which is well now.
    #[must_use]
    pub fn join(&self) -> Heartbeat {
        let heartbeat = Heartbeat { began: self.began, last: Arc::default() };
        heartbeat.beat();
        let mut workers = self.workers.lock();
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(&heartbeat.last));
        heartbeat
    }

    /// Workers that were not heard of for `WORKER_SILENCE`.
    #[must_use]
    pub fn silent(&self) -> usize {
        self.silent_at(self.began.elapsed())
    }

    fn silent_at(&self, now: Duration) -> usize {
        let workers = self.workers.lock();
        let last = workers.iter().filter_map(Weak::upgrade);
        let heard = last.map(|last| Duration::from_millis(last.load(Ordering::Relaxed)));
        heard.filter(|&heard| now.saturating_sub(heard) > node::WORKER_SILENCE).count()
    }
}

impl Heartbeat {
    /// The worker is well now.
    pub fn beat(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(ms, Ordering::Relaxed);
    }

    /// Says so until it is dropped, on the worker's own runtime.
    pub async fn go_on(self) {
        loop {
            tokio::time::sleep(node::WORKER_HEARTBEAT).await;
            self.beat();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_missed_once_it_has_been_silent_and_no_more_when_it_is_gone() {
        let all = Heartbeats::default();
        let (one, two) = (all.join(), all.join());
        let last = |worker: &Heartbeat| Duration::from_millis(worker.last.load(Ordering::Relaxed));
        assert_eq!(all.silent_at(last(&two) + node::WORKER_SILENCE), 0);
        let late = last(&two) + node::WORKER_SILENCE + Duration::from_millis(1);
        assert_eq!(all.silent_at(late), 2);
        one.last.fetch_add(1000, Ordering::Relaxed);
        assert_eq!(all.silent_at(late), 1);
        drop(two);
        assert_eq!(all.silent_at(late), 0);
    }
}
