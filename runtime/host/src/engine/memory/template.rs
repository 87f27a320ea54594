//! What fresh memories of a revision look like, and those that stand ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::arena::Arena;
use super::image::Image;
use super::runs::Runs;
use super::stripes::Stripes;
use super::{Arenas, Lease, OutOfArenas};

/// Requests whose arenas are open everywhere, to see what they write; what both write is hot.
const BARE: u64 = 2;
/// Instances that write nothing before that is taken for what requests do.
const BLANK: u64 = 8;
/// Hot runs with so many clean pages between them are one: copying a page costs 0.1 us.
const GAP_PAGES: u32 = 4;
/// Hot pages beyond which an idle arena holds much: 64 of 4 KiB, as little as a slot ever kept.
const MUCH_PAGES: u32 = 64;
/// Runs that are remembered of pages that were written once.
const ONCE_RUNS: usize = 1_024;

/// The memory of a revision's instances: what is in it at first, and which pages requests write.
#[derive(Debug)]
pub struct Template {
    arenas: Arenas,
    image: Option<Arc<Image>>,
    bytes: u64,
    /// Nothing as long as that is not known.
    hot: ArcSwapOption<Runs>,
    learned: Mutex<Learned>,
    idle: Stripes<Arc<Arena>>,
    /// When one was last taken, by the clock of [`Arenas`].
    used: AtomicU64,
}

#[derive(Debug, Default)]
struct Learned {
    /// Requests that wrote to other than hot pages.
    requests: u64,
    /// Instances that wrote nothing at all.
    blank: u64,
    once: Runs,
    again: Runs,
}

impl Template {
    pub(super) fn new(arenas: Arenas, image: Option<Arc<Image>>, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            arenas,
            image,
            bytes,
            hot: ArcSwapOption::empty(),
            learned: Mutex::default(),
            idle: Stripes::default(),
            used: AtomicU64::new(0),
        })
    }

    /// Bytes of a fresh memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that come from the image; the rest is zero.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        self.image.as_ref().map_or(0, |image| image.bytes() as u64)
    }

    /// Pages that are made anew after each request; nothing as long as they are not known.
    #[must_use]
    pub fn hot_pages(&self) -> Option<u32> {
        self.hot.load().as_ref().map(|hot| hot.pages())
    }

    /// Whether an idle arena keeps so much that it is worth clearing it when memory is short.
    pub(super) fn holds_much(&self) -> bool {
        self.hot_pages().is_none_or(|pages| pages > MUCH_PAGES)
    }

    /// Arenas that stand ready.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// A fresh memory: one that stands ready, or one that is laid now.
    ///
    /// # Errors
    /// [`OutOfArenas`].
    pub fn take(self: &Arc<Self>) -> Result<Lease, OutOfArenas> {
        let now = self.arenas.now();
        if self.used.load(Relaxed) != now {
            self.used.store(now, Relaxed);
        }
        if let Some(arena) = self.pop() {
            return Ok(Lease::new(arena, self.clone()));
        }
        let mut arena = self.arenas.obtain()?;
        let laid = Arc::get_mut(&mut arena)
            .map(|arena| arena.lay(self.image.clone(), self.bytes, self.hot.load_full()));
        match laid {
            Some(Ok(())) => Ok(Lease::new(arena, self.clone())),
            laid => {
                self.arenas.put_back(arena);
                Err(OutOfArenas::Unmapped(laid.and_then(Result::err)))
            }
        }
    }

    /// Takes one that stands ready, for whoever asks.
    pub(super) fn pop(&self) -> Option<Arc<Arena>> {
        self.idle.pop()
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// After a request: makes the arena fresh, and keeps it ready.
    pub(super) fn give_back(&self, mut arena: Arc<Arena>) {
        let Some(alone) = Arc::get_mut(&mut arena) else {
            // Somebody still has the instance: its memory is nobody else's, ever.
            tracing::error!("an instance outlived its memory's lease; the memory is lost");
            std::mem::forget(arena);
            return;
        };
        let limits = self.arenas.limits();
        if let Some((written, exact)) = alone.written() {
            self.learn(&written, exact, limits);
        }
        if self.arenas.is_short() && self.holds_much() {
            self.arenas.put_back(arena);
            return;
        }
        if let Err(error) = alone.renew(self.hot.load_full()) {
            tracing::warn!(%error, "a memory could not be made fresh; it is laid anew when it is needed");
            self.arenas.put_back(arena);
            return;
        }
        self.idle.push(arena);
    }

    /// A request wrote to these pages beside hot ones. What comes again becomes hot; less and less often, because all
    /// arenas are laid anew for that.
    fn learn(&self, written: &Runs, exact: bool, limits: Limits) {
        let mut learned = self.learned.lock();
        if exact && written.pages() == 0 && learned.blank < BLANK {
            // An instance that was only made, as a trial is, tells nothing of requests.
            learned.blank += 1;
            return;
        }
        learned.requests += 1;
        let again = learned.once.and(written);
        learned.again = learned.again.or(&again);
        learned.once = learned.once.or(written);
        if learned.once.as_slice().len() > ONCE_RUNS {
            learned.once = Runs::default();
        }
        let known = learned.requests >= BARE || !exact;
        if known && (learned.requests.is_power_of_two() || !exact) {
            let hot = learned.again.within(limits.hot_runs, limits.hot_pages, GAP_PAGES);
            if self.hot.load().as_deref() != Some(&hot) {
                self.hot.store(Some(Arc::new(hot)));
            }
        }
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        for arena in self.idle.drain() {
            self.arenas.put_back(arena);
        }
    }
}

/// What one arena's hot pages may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Runs of them: each is two mappings.
    pub hot_runs: usize,
    /// Pages of them, which stay in memory while the arena is idle.
    pub hot_pages: u32,
    /// Faults of one request that are noted: each is two mappings.
    pub faults: usize,
}
