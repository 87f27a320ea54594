//! The instances with a large linear memory, so that the one that holds too much can be found and ended.
//!
//! Small ones are not here: they are counted whole when they are admitted, and a request of theirs pays nothing. Each
//! thread writes to a part of its own; only the thread that watches memory looks into all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::usage::Usage;
use crate::meter::Meter;

/// An instance whose memory is large.
#[derive(Debug, Clone)]
pub struct Large {
    /// Ends it.
    pub meter: Arc<Meter>,
    /// Of its revision.
    pub usage: Arc<Usage>,
    /// Where its memory is; 0 as long as a start function runs, when nobody knows.
    pub base: usize,
    /// How long its memory is.
    pub bytes: usize,
}

/// All of them.
#[derive(Debug)]
pub struct Registry {
    shards: Box<[Mutex<Shard>]>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    entries: Vec<Option<Large>>,
    free: Vec<usize>,
}

/// Where one stands.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    shard: usize,
    index: usize,
}

impl Registry {
    /// For so many instances at once.
    pub fn new(slots: usize) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        // Workers, guest threads and resets: two of them in one part meet rarely, and then for 50 ns.
        let shard = || {
            let entries = Vec::with_capacity(slots.div_ceil(threads));
            Mutex::new(Shard { entries, free: Vec::with_capacity(slots.div_ceil(threads)) })
        };
        Self { shards: (0..4 * threads).map(|_| shard()).collect(), count: AtomicUsize::new(0) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Adds one.
    pub fn add(&self, large: Large) -> Key {
        self.count.fetch_add(1, Ordering::Relaxed);
        let shard = own_number() % self.shards.len();
        let mut entries = self.shards[shard].lock();
        if let Some(index) = entries.free.pop() {
            entries.entries[index] = Some(large);
            return Key { shard, index };
        }
        entries.entries.push(Some(large));
        Key { shard, index: entries.entries.len() - 1 }
    }

    /// Its memory is here by now, and this long.
    pub fn update(&self, key: Key, base: Option<usize>, bytes: usize) {
        if let Some(large) = &mut self.shards[key.shard].lock().entries[key.index] {
            large.base = base.unwrap_or(large.base);
            large.bytes = bytes;
        }
    }

    /// Takes one out.
    pub fn remove(&self, key: Key) {
        let mut shard = self.shards[key.shard].lock();
        let large = shard.entries[key.index].take();
        shard.free.push(key.index);
        drop(shard);
        drop(large);
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Copies all of them to the end of `all`.
    pub fn list(&self, all: &mut Vec<Large>) {
        for shard in &self.shards {
            all.extend(shard.lock().entries.iter().flatten().cloned());
        }
    }
}

/// A number for each thread.
fn own_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    OWN.try_with(|own| *own).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use mayfly_core::{FunctionName, Limits};

    use super::*;

    #[test]
    fn places_are_used_again() {
        let registry = Registry::new(4);
        let usage = Arc::new(Usage::new(FunctionName::new("f").unwrap(), 0));
        let meter = Arc::new(Meter::new(Instant::now(), &Limits::default()));
        let large = |bytes| Large { meter: meter.clone(), usage: usage.clone(), base: 0, bytes };
        let first = registry.add(large(1));
        let second = registry.add(large(2));
        registry.remove(first);
        let third = registry.add(large(3));
        registry.update(third, Some(4096), 5);
        let mut all = Vec::new();
        registry.list(&mut all);
        all.sort_by_key(|large| large.bytes);
        let seen: Vec<_> = all.iter().map(|large| (large.base, large.bytes)).collect();
        assert_eq!(seen, [(0, 2), (4096, 5)]);
        registry.remove(second);
        registry.remove(third);
        assert_eq!(registry.len(), 0);
    }
}
