//! What is known of one arena's pages, and what has to be done to make them fresh again.
//!
//! Apart from the calls that do it, so that all of this runs in Miri and against a model. A page of a fresh memory may
//! only be read, unless it is *hot*: requests of its template write it, so it is made anew after each of them, written or
//! not. The first write to another page is a fault; it is noted, and the page opened for this request, with the more pages
//! behind it the more there were before, because heaps grow upwards. Beyond a number of faults all pages are opened, and
//! the arena is laid anew afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::runs::{Run, Runs};

/// Faults of one request that can be noted, whatever the machine allows.
pub const FAULTS_MOST: usize = 16;
/// Faults that open one page each; from then on twice as many each time.
const SINGLE: u32 = 4;

/// Changes how an arena's pages are mapped. Runs are of pages, from the arena's first.
pub trait Ground {
    /// Why it cannot.
    type Error;

    /// Maps fresh contents that may only be read into the first `pages`, and nothing into those up to `before`.
    fn lay(&self, pages: u32, before: u32) -> Result<(), Self::Error>;
    /// Lets a run be written to.
    fn open(&self, run: Run) -> Result<(), Self::Error>;
    /// Lets a run be read only.
    fn close(&self, run: Run) -> Result<(), Self::Error>;
    /// Lets nobody at a run.
    fn shut(&self, run: Run) -> Result<(), Self::Error>;
    /// Makes a run's contents fresh by dropping its pages.
    fn forget(&self, run: Run) -> Result<(), Self::Error>;
    /// Makes a run's contents fresh by writing them; it has to be open.
    fn refresh(&self, run: Run);
    /// Gives an open run pages of its own before they are asked for; for speed only.
    fn populate(&self, run: Run);
}

/// Which pages an instance may have written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// Hot ones at most.
    Hot,
    /// These besides.
    Noted(Runs),
    /// Any.
    Any,
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    /// Of a fresh memory.
    pages: u32,
    hot: Arc<Runs>,
    /// Whether every page is open.
    all: AtomicBool,
    /// Faults that may be noted.
    limit: u32,
    noted: AtomicU32,
    /// Start and end of what each fault opened.
    runs: [AtomicU64; FAULTS_MOST],
    /// Pages of the memory now.
    grown: AtomicU32,
}

impl Book {
    /// Of an arena without pages, whose requests may have so many faults noted.
    #[must_use]
    pub fn new(faults: usize) -> Self {
        Self {
            pages: 0,
            hot: Arc::default(),
            all: AtomicBool::new(false),
            limit: u32::try_from(faults.min(FAULTS_MOST)).unwrap_or(0),
            noted: AtomicU32::new(0),
            runs: Default::default(),
            grown: AtomicU32::new(0),
        }
    }

    /// Lays a fresh memory. Without a set of hot pages all are open: who asks wants to see which are written.
    ///
    /// # Errors
    /// What the ground says; the arena has to be laid again before it is used.
    pub fn lay<G: Ground>(
        &mut self,
        ground: &G,
        pages: u32,
        hot: Option<Arc<Runs>>,
    ) -> Result<(), G::Error> {
        let before = self.pages.max(self.grown.load(Relaxed));
        // Should a step fail, the next attempt is to cover all that may be mapped.
        self.pages = self.pages.max(pages);
        if before > 0 && self.touched() != Touched::Hot {
            // First, in steps: a mapping that is replaced gives back all of its pages at once, which nobody waits for
            // gladly.
            ground.forget(0..before)?;
        }
        ground.lay(pages, before)?;
        (self.pages, self.grown, self.noted) = (pages, AtomicU32::new(pages), AtomicU32::new(0));
        self.all = AtomicBool::new(hot.is_none());
        self.hot = hot.unwrap_or_default();
        if *self.all.get_mut() {
            return open(ground, 0..pages);
        }
        for run in self.hot_below(pages) {
            ground.open(run.clone())?;
            ground.populate(run);
        }
        Ok(())
    }

    /// A page was written to that may only be read: which pages to open, or nothing if that is no write to a clean page.
    /// By whoever has the memory: it may be called in a signal handler, and never by two at once.
    pub fn fault(&self, page: u32) -> Option<Run> {
        if page >= self.pages || self.all.load(Relaxed) || self.hot.contains(page) {
            return None;
        }
        let noted = self.noted.load(Relaxed);
        let mut end = self.pages.min(page.saturating_add(1 << noted.saturating_sub(SINGLE - 1)));
        for run in self.noted() {
            if run.contains(&page) {
                return None;
            }
            if run.start > page {
                end = end.min(run.start);
            }
        }
        if noted >= self.limit {
            self.all.store(true, Relaxed);
            return Some(0..self.pages);
        }
        end = self.hot.next(page, end);
        let run = u64::from(page) << 32 | u64::from(end);
        self.runs[noted as usize].store(run, Relaxed);
        self.noted.store(noted + 1, Relaxed);
        Some(page..end)
    }

    /// The memory has so many pages now, all of them new ones open.
    ///
    /// # Errors
    /// What the ground says; nothing is changed then.
    pub fn grow<G: Ground>(&self, ground: &G, pages: u32) -> Result<(), G::Error> {
        let before = self.grown.load(Relaxed);
        if pages > before {
            open(ground, before..pages)?;
            self.grown.store(pages, Relaxed);
        }
        Ok(())
    }

    /// Pages of the memory now.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.grown.load(Relaxed)
    }

    /// What may have been written to; what was grown is hot or not, and not in it.
    #[must_use]
    pub fn touched(&self) -> Touched {
        if self.all.load(Relaxed) {
            return Touched::Any;
        }
        match self.noted().collect::<Vec<_>>() {
            runs if runs.is_empty() => Touched::Hot,
            runs => Touched::Noted(Runs::of(runs)),
        }
    }

    /// Pages that [`Self::renew`] has to see to, of which it writes the hot ones.
    #[must_use]
    pub fn work(&self) -> u32 {
        let grown = self.len() - self.pages;
        let noted: u32 = match self.touched() {
            Touched::Hot => 0,
            Touched::Noted(runs) => runs.pages(),
            Touched::Any => self.pages,
        };
        self.hot.pages() + noted + grown
    }

    /// Makes the memory fresh, and hot what is hot from now on.
    ///
    /// # Errors
    /// What the ground says; the arena has to be laid before it is used again.
    pub fn renew<G: Ground>(&mut self, ground: &G, hot: Option<Arc<Runs>>) -> Result<(), G::Error> {
        let same = hot.as_ref().is_some_and(|hot| Arc::ptr_eq(hot, &self.hot));
        let noted = match self.touched() {
            Touched::Hot if same => None,
            Touched::Noted(runs) if same => Some(runs),
            _ => return self.lay(ground, self.pages, hot),
        };
        for run in self.hot_below(self.len()) {
            ground.refresh(run);
        }
        for run in noted.iter().flat_map(|runs| runs.as_slice()) {
            ground.forget(run.clone())?;
            ground.close(run.clone())?;
        }
        self.noted = AtomicU32::new(0);
        self.shrink(ground)
    }

    /// Takes back what was grown; its hot pages are fresh already, and stay for who grows again.
    fn shrink<G: Ground>(&mut self, ground: &G) -> Result<(), G::Error> {
        let len = self.len();
        if len == self.pages {
            return Ok(());
        }
        let mut from = self.pages;
        for run in self.hot_below(len).filter(|run| run.end > self.pages) {
            if run.start > from {
                ground.forget(from..run.start)?;
            }
            from = run.end;
        }
        if from < len {
            ground.forget(from..len)?;
        }
        ground.shut(self.pages..len)?;
        self.grown = AtomicU32::new(self.pages);
        Ok(())
    }

    fn hot_below(&self, len: u32) -> impl Iterator<Item = Run> {
        let below = move |run: &Run| run.start..run.end.min(len);
        self.hot.as_slice().iter().map(below).filter(|run| run.start < run.end)
    }

    fn noted(&self) -> impl Iterator<Item = Run> {
        let noted = self.noted.load(Relaxed) as usize;
        self.runs[..noted].iter().map(|run| {
            let run = run.load(Relaxed);
            let low = |n: u64| u32::try_from(n & u64::from(u32::MAX)).unwrap_or(0);
            low(run >> 32)..low(run)
        })
    }
}

fn open<G: Ground>(ground: &G, run: Run) -> Result<(), G::Error> {
    if run.is_empty() { Ok(()) } else { ground.open(run) }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
