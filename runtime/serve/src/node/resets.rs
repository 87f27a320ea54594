//! Where large instances are taken down: threads of their own, so that no worker spends milliseconds on memory that it
//! gives back to the system.
//!
//! The slot stays taken until its reset is done, which is what holds back a function whose resets cost more than its
//! calls. Functions take turns, so that one of those does not make the others wait for their slots.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use mayfly_host::admission::{GUEST_NICE, Slot};
use mayfly_host::engine::memory::Hosted;
use mayfly_host::exchange::Exchange;
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Sandbox;
use parking_lot::{Condvar, Mutex};

use super::Node;

/// An instance that has ended, with the slot that it is still in.
pub struct Ended {
    /// Where it ran.
    pub node: Arc<Node>,
    /// Everything of it.
    pub store: Hosted<Sandbox>,
    /// What it was of.
    pub revision: Arc<Revision>,
    /// Given back at the end.
    pub slot: Slot,
    /// Whether its call came to its end.
    pub finished: bool,
}

/// The threads, which end once this is dropped and all is done.
#[derive(Debug)]
pub struct Resets(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    turns: Turns<Ended>,
    closed: bool,
}

impl Resets {
    /// Starts one thread for each core.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let resets = Self(shared.clone());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            let shared = shared.clone();
            std::thread::Builder::new().name("mayfly-reset".into()).spawn(move || {
                let _ = rustix::process::nice(GUEST_NICE);
                while let Some(ended) = shared.next() {
                    ended.take_down();
                }
            })?;
        }
        Ok(resets)
    }

    /// Takes an instance off the caller's hands.
    pub fn take(&self, ended: Ended) {
        let whose = ended.slot.tenant_address();
        self.0.queue.lock().turns.push(whose, ended);
        self.0.more.notify_one();
    }
}

impl Drop for Resets {
    fn drop(&mut self) {
        // Not joined: it may be one of the threads itself that drops the last handle to the node.
        self.0.queue.lock().closed = true;
        self.0.more.notify_all();
    }
}

impl Shared {
    fn next(&self) -> Option<Ended> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(ended) = queue.turns.pop() {
                return Some(ended);
            }
            if queue.closed {
                return None;
            }
            self.more.wait(&mut queue);
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Ended {
    /// Drops the instance, which makes its memory fresh for the next.
    fn take_down(self) {
        let Self { node, store, revision, slot, finished } = self;
        let began = Instant::now();
        let exchange = store.data().exchange.clone();
        if let Some(memory) = store.data().memory {
            slot.note(memory.data(&*store), finished);
        }
        drop(store);
        revision.metrics.reset(began.elapsed());
        give_back(&node, slot, &exchange);
    }
}

/// What a slow client has not taken of a response is bounded by slots too.
fn give_back(node: &Node, slot: Slot, exchange: &Arc<Exchange>) {
    if exchange.is_nearly_taken() {
        return;
    }
    let exchange = exchange.clone();
    let taken = node.guests.spawn(async move {
        exchange.nearly_taken().await;
        drop(slot);
    });
    taken.detach();
}

/// A queue in which each of those that put something in has its turn.
struct Turns<T> {
    lines: VecDeque<(usize, VecDeque<T>)>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { lines: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    fn push(&mut self, whose: usize, item: T) {
        match self.lines.iter_mut().find(|(owner, _)| *owner == whose) {
            Some((_, line)) => line.push_back(item),
            None => self.lines.push_back((whose, VecDeque::from([item]))),
        }
    }

    fn pop(&mut self) -> Option<T> {
        let (owner, mut line) = self.lines.pop_front()?;
        let item = line.pop_front();
        if !line.is_empty() {
            self.lines.push_back((owner, line));
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn() {
        let mut turns = Turns::default();
        for (whose, item) in [(1, "a"), (1, "b"), (1, "c"), (2, "x"), (3, "y"), (2, "z")] {
            turns.push(whose, item);
        }
        let order: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, ["a", "x", "y", "b", "z", "c"]);
    }
}
