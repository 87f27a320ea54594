//! A store of things that are all alike, for many threads: each has a place of its own there, and looks into the others'
//! when that is empty. So no lock is shared by workers while each gives back as much as it takes.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

/// Places at most: beyond so many cores, some share one.
const MOST: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Stripes<T> {
    places: Box<[Mutex<Vec<T>>]>,
    count: AtomicUsize,
}

impl<T> Default for Stripes<T> {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let places = (0..cores.min(MOST)).map(|_| Mutex::default()).collect();
        Self { places, count: AtomicUsize::new(0) }
    }
}

impl<T> Stripes<T> {
    /// Takes one that was put there, the last of this thread's if there is one.
    pub fn pop(&self) -> Option<T> {
        if self.len() == 0 {
            return None;
        }
        let (first, places) = (thread(), self.places.len());
        let popped =
            (first..first + places).find_map(|at| self.places[at % places].lock().pop())?;
        self.count.fetch_sub(1, Relaxed);
        Some(popped)
    }

    /// Puts one there.
    pub fn push(&self, item: T) {
        // Counted first, so that the count is never below what there is.
        self.count.fetch_add(1, Relaxed);
        self.places[thread() % self.places.len()].lock().push(item);
    }

    /// How many there are, or are about to be.
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// All of them, by who has this alone.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.places.iter_mut().flat_map(|place| std::mem::take(place.get_mut()))
    }
}

fn thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! { static MINE: Cell<usize> = Cell::new(THREADS.fetch_add(1, Relaxed)); }
    MINE.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_puts_there_another_finds() {
        let mut stripes = Stripes::default();
        std::thread::scope(|scope| {
            for n in 0..40 {
                let stripes = &stripes;
                scope.spawn(move || stripes.push(n));
            }
        });
        assert_eq!(stripes.len(), 40);
        let mut found: Vec<_> = std::iter::from_fn(|| stripes.pop()).collect();
        found.sort_unstable();
        assert_eq!(found, (0..40).collect::<Vec<_>>());
        stripes.push(1);
        assert_eq!(stripes.drain().count(), 1);
    }
}
