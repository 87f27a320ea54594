//! One at a time of a name, in the order of arrival, and as many names at once as there are.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// The turns of all names that somebody has or waits for.
pub(super) struct Turns<K>(Mutex<HashMap<K, Arc<Turn<()>>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// Waits for this name's turn, which ends when it is dropped.
    pub(super) async fn turn(&self, name: &K) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock();
            // Whoever waits holds a count; the rest is history.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(name.clone()).or_default().clone()
        };
        turn.lock_owned().await
    }
}
