//! The last lines of each function, for `mayfly logs`, and those who wait for the next one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use mayfly_core::FunctionName;
use mayfly_core::limits::node;
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use super::record::Entry;
use super::source::Source;
use crate::metrics::RevisionMetrics;

/// As many followers as a node has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} others follow logs already, which is the limit", node::LOG_FOLLOWERS)]
pub struct TooManyFollowers;

#[derive(Default)]
struct Ring {
    /// Whose lines these are; nothing while the function has no code.
    source: Option<Arc<Source>>,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// Position in the node's log of the last entry: the ring with the smallest goes first when room is short.
    last: u64,
    followers: Option<broadcast::Sender<Arc<Entry>>>,
}

#[derive(Default)]
struct State {
    rings: HashMap<FunctionName, Ring>,
    bytes: usize,
    next: u64,
}

/// All rings. The log thread writes, the admin listener reads, publishes name sources; no request waits for this lock.
#[derive(Default)]
pub(super) struct Rings {
    state: Mutex<State>,
    /// Of requests that reached no function.
    node: Arc<Source>,
}

/// What a follower meets next.
#[derive(Debug)]
pub enum Followed {
    /// A line.
    Entry(Arc<Entry>),
    /// So many lines that it was too slow for.
    Gap(u64),
    /// The function was removed.
    End,
}

/// Someone who waits for a function's next lines.
#[derive(Debug)]
pub struct Follower(broadcast::Receiver<Arc<Entry>>);

impl Follower {
    /// The next line, or what came instead.
    pub async fn next(&mut self) -> Followed {
        match self.0.recv().await {
            Ok(entry) => Followed::Entry(entry),
            Err(RecvError::Lagged(lines)) => Followed::Gap(lines),
            Err(RecvError::Closed) => Followed::End,
        }
    }
}

impl Rings {
    /// Whoever logs for requests that reached no function.
    pub(super) fn node(&self) -> &Arc<Source> {
        &self.node
    }

    pub(super) fn source(&self, function: &FunctionName, metrics: &RevisionMetrics) -> Arc<Source> {
        let mut state = self.state.lock();
        let ring = state.rings.entry(function.clone()).or_default();
        let make = || Arc::new(Source::new(function.clone(), metrics.clone()));
        ring.source.get_or_insert_with(make).clone()
    }

    /// Keeps a line, unless its function is gone by now: the one of its name is another.
    pub(super) fn push(&self, source: &Arc<Source>, entry: &Arc<Entry>) {
        let Some(function) = source.function() else { return };
        let cost = entry.cost();
        let mut state = self.state.lock();
        state.next += 1;
        let next = state.next;
        let Some(ring) = state.rings.get_mut(function) else { return };
        if !ring.source.as_ref().is_some_and(|of| Arc::ptr_eq(of, source)) {
            return;
        }
        let before = ring.bytes;
        ring.last = next;
        ring.bytes += cost;
        ring.entries.push_back(Arc::clone(entry));
        while ring.entries.len() > node::LOG_LINES_KEPT || ring.bytes > node::LOG_RING_BYTES {
            let Some(old) = ring.entries.pop_front() else { break };
            ring.bytes -= old.cost();
        }
        if let Some(followers) = &ring.followers {
            // An error says that nobody follows any more.
            if followers.send(Arc::clone(entry)).is_err() {
                ring.followers = None;
            }
        }
        let after = ring.bytes;
        state.bytes = state.bytes + after - before;
        state.make_room();
    }

    pub(super) fn read(
        &self,
        function: &FunctionName,
        tail: usize,
        follow: bool,
    ) -> Result<(Vec<Arc<Entry>>, Option<Follower>), TooManyFollowers> {
        let mut state = self.state.lock();
        let entries = state.rings.get(function).map_or_else(Vec::new, |ring| {
            let skip = ring.entries.len().saturating_sub(tail);
            ring.entries.iter().skip(skip).cloned().collect()
        });
        if !follow {
            return Ok((entries, None));
        }
        let count = |ring: &Ring| ring.followers.as_ref().map_or(0, |f| f.receiver_count());
        if state.rings.values().map(count).sum::<usize>() >= node::LOG_FOLLOWERS {
            return Err(TooManyFollowers);
        }
        let followers = state
            .rings
            .entry(function.clone())
            .or_default()
            .followers
            .get_or_insert_with(|| broadcast::channel(node::LOG_FOLLOWER_QUEUE).0);
        let follower = Follower(followers.subscribe());
        Ok((entries, Some(follower)))
    }

    pub(super) fn forget(&self, function: &FunctionName) {
        let mut state = self.state.lock();
        if let Some(ring) = state.rings.remove(function) {
            state.bytes -= ring.bytes;
        }
    }
}

impl State {
    /// Empties the ring that was silent for longest until all fit. A search over all rings, but each one frees up
    /// to [`node::LOG_RING_BYTES`], so it is rare.
    fn make_room(&mut self) {
        while self.bytes > node::LOG_RINGS_BYTES {
            let oldest = self.rings.values_mut().filter(|r| r.bytes > 0).min_by_key(|r| r.last);
            let Some(ring) = oldest else { break };
            self.bytes -= ring.bytes;
            ring.bytes = 0;
            ring.entries = VecDeque::new();
        }
    }
}
