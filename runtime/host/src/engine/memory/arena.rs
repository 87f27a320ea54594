//! One instance's memory: its pages, and the book of them.

use std::io;
use std::sync::Arc;

use super::book::{Book, Ground as _, Touched};
use super::ground::Pages;
use super::image::Image;
use super::runs::{Run, Runs};
use crate::engine::pages;

/// See the module. Shared with the instance while there is one; changed by who has it alone.
#[derive(Debug)]
pub struct Arena {
    pages: Pages,
    book: Book,
}

impl Arena {
    pub(super) fn new(pages: Pages, faults: usize) -> Self {
        Self { pages, book: Book::new(faults) }
    }

    /// Lays a fresh memory of so many bytes; see [`Book::lay`].
    pub(super) fn lay(
        &mut self,
        image: Option<Arc<Image>>,
        bytes: u64,
        hot: Option<Arc<Runs>>,
    ) -> io::Result<()> {
        self.pages.set_image(image);
        self.book.lay(&self.pages, self.page_of(bytes), hot)
    }

    /// Drops all contents: nothing is mapped but address space.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.lay(None, 0, Some(Arc::default()))
    }

    /// Makes the memory fresh; see [`Book::renew`].
    pub(super) fn renew(&mut self, hot: Option<Arc<Runs>>) -> io::Result<()> {
        self.book.renew(&self.pages, hot)
    }

    /// Which pages beside hot ones the request wrote to, and whether the kernel said so: if it does not tell, those that
    /// were opened, or none where all were; nothing if there are none.
    pub(super) fn written(&self) -> Option<(Runs, bool)> {
        let len = self.book.len();
        let (among, untold) = match self.book.touched() {
            Touched::Hot => return None,
            Touched::Noted(runs) => (runs.clone(), runs),
            Touched::Any => (Runs::one(0..len), Runs::default()),
        };
        let mut exact = Vec::new();
        for run in among.as_slice() {
            let Some(written) = self.private(run) else { return Some((untold, false)) };
            exact.extend(written);
        }
        Some((Runs::of(exact), true))
    }

    /// The first byte.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.pages.base()
    }

    /// Bytes of the memory now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.book.len() as usize * self.pages.page_bytes()
    }

    /// Bytes that making it fresh has to see to.
    #[must_use]
    pub fn work_bytes(&self) -> usize {
        self.book.work() as usize * self.pages.page_bytes()
    }

    /// A write to this address was not allowed. Whether it is now: then it is to be tried again. In a signal handler.
    pub fn fault(&self, address: usize) -> bool {
        let offset = address.wrapping_sub(self.base().addr());
        let Ok(page) = u32::try_from(offset / self.pages.page_bytes()) else { return false };
        self.book.fault(page).is_some_and(|run| self.pages.open(run).is_ok())
    }

    /// The memory is to have so many bytes.
    pub(super) fn grow(&self, bytes: usize) -> io::Result<()> {
        self.book.grow(&self.pages, self.page_of(bytes as u64))
    }

    fn page_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(self.pages.page_bytes() as u64)).unwrap_or(u32::MAX)
    }

    /// Pages of a run that are this arena's alone, as the kernel says.
    fn private(&self, run: &Run) -> Option<Vec<Run>> {
        let page = self.pages.page_bytes();
        let at = self.base().addr() + run.start as usize * page;
        let found = pages::private(at, (run.end - run.start) as usize, page)?;
        Some(found.into_iter().map(|r| run.start + r.start..run.start + r.end).collect())
    }
}
