//! The book against a model that copies everything: whatever is written, in whatever order, a renewed memory is fresh,
//! every write is let through, and nothing behind the memory can be reached.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::*;

const SPACE: u32 = 96;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    None,
    Read,
    Write,
}

/// Pages as numbers: 0 is a zero page, what an image has is its place and 1,000, and what a guest writes is above that.
struct Model {
    image: u32,
    /// What of the image is in the memory.
    laid: Cell<u32>,
    contents: RefCell<Vec<u32>>,
    access: RefCell<Vec<Access>>,
    calls: Cell<u32>,
    /// Fails after so many calls.
    fails: Cell<Option<u32>>,
}

#[derive(Debug)]
struct Failed;

impl Model {
    fn new(image: u32) -> Self {
        let space = SPACE as usize;
        Self {
            image,
            laid: Cell::new(0),
            contents: RefCell::new(vec![0; space]),
            access: RefCell::new(vec![Access::None; space]),
            calls: Cell::new(0),
            fails: Cell::new(None),
        }
    }

    fn fresh(&self, page: u32) -> u32 {
        if page < self.laid.get() { 1_000 + page } else { 0 }
    }

    fn call(&self) -> Result<(), Failed> {
        self.calls.set(self.calls.get() + 1);
        match self.fails.get() {
            Some(0) => Err(Failed),
            left => {
                self.fails.set(left.map(|n| n - 1));
                Ok(())
            }
        }
    }

    fn set(&self, run: Run, access: Access) -> Result<(), Failed> {
        self.call()?;
        assert!(!run.is_empty(), "a call for nothing");
        run.for_each(|page| self.access.borrow_mut()[page as usize] = access);
        Ok(())
    }

    fn renew(&self, run: Run) {
        run.for_each(|page| self.contents.borrow_mut()[page as usize] = self.fresh(page));
    }

    /// What a guest's write does: it faults until it may.
    fn write(&self, book: &Book, page: u32, value: u32) -> bool {
        for _ in 0..2 {
            if self.access.borrow()[page as usize] == Access::Write {
                self.contents.borrow_mut()[page as usize] = value;
                return true;
            }
            match book.fault(page) {
                Some(run) => {
                    assert!(run.contains(&page), "{page} of {run:?}");
                    self.open(run).unwrap();
                }
                None => return false,
            }
        }
        panic!("page {page} faults again after it was opened");
    }

    fn assert_fresh(&self, pages: u32, hot: &Runs, all: bool) {
        for page in 0..SPACE {
            let (contents, access) =
                (self.contents.borrow()[page as usize], self.access.borrow()[page as usize]);
            let expected = match page < pages {
                true if all || hot.contains(page) => Access::Write,
                true => Access::Read,
                false => Access::None,
            };
            assert_eq!(access, expected, "page {page} of {pages}, hot {hot:?}");
            // Zeros behind the memory: it may grow.
            assert_eq!(contents, self.fresh(page), "page {page}");
        }
    }
}

impl Ground for Model {
    type Error = Failed;

    fn lay(&self, pages: u32, before: u32) -> Result<(), Failed> {
        self.call()?;
        self.laid.set(self.image.min(pages));
        for page in 0..pages.max(before) {
            let access = if page < pages { Access::Read } else { Access::None };
            self.access.borrow_mut()[page as usize] = access;
        }
        self.renew(0..pages);
        // What was behind the memory is dropped, and zero should it be mapped again.
        (pages..before).for_each(|page| self.contents.borrow_mut()[page as usize] = 0);
        Ok(())
    }

    fn open(&self, run: Run) -> Result<(), Failed> {
        self.set(run, Access::Write)
    }

    fn close(&self, run: Run) -> Result<(), Failed> {
        self.set(run, Access::Read)
    }

    fn shut(&self, run: Run) -> Result<(), Failed> {
        self.set(run, Access::None)
    }

    fn forget(&self, run: Run) -> Result<(), Failed> {
        self.call()?;
        assert!(!run.is_empty(), "a call for nothing");
        self.renew(run);
        Ok(())
    }

    fn refresh(&self, run: Run) {
        let access = self.access.borrow();
        assert!(run.clone().all(|page| access[page as usize] == Access::Write), "{run:?}");
        drop(access);
        self.renew(run);
    }

    fn populate(&self, _: Run) {}
}

/// Numbers without a dependency: a linear congruence is random enough to choose pages.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap() % n
    }
}

fn runs(dice: &mut Dice) -> Arc<Runs> {
    let some = (0..dice.below(4)).map(|_| {
        let start = dice.below(SPACE);
        start..(start + dice.below(9)).min(SPACE)
    });
    Arc::new(Runs::of(some.collect()))
}

#[test]
fn whatever_is_written_a_renewed_memory_is_fresh() {
    let rounds = if cfg!(miri) { 20 } else { 3_000 };
    for seed in 0..rounds {
        let mut dice = Dice(seed);
        let faults = usize::try_from(dice.below(18)).unwrap();
        let model = Model::new(dice.below(40));
        let mut book = Book::new(faults);
        let mut pages = dice.below(64);
        let mut hot = (dice.below(4) > 0).then(|| runs(&mut dice));
        book.lay(&model, pages, hot.clone()).unwrap();
        for _ in 0..6 {
            let applied = hot.clone().unwrap_or_default();
            model.assert_fresh(pages, &applied, hot.is_none());
            let mut len = pages;
            for value in 0..dice.below(60) {
                if dice.below(12) == 0 && len < SPACE {
                    len += dice.below(SPACE - len) + 1;
                    book.grow(&model, len).unwrap();
                    assert_eq!(book.len(), len);
                }
                let page = dice.below(SPACE);
                let written = model.write(&book, page, 10_000 + value);
                assert_eq!(written, page < len, "page {page} of {len}");
            }
            match dice.below(4) {
                0 => hot = (dice.below(4) > 0).then(|| runs(&mut dice)),
                1 => {
                    // Another revision's memory.
                    (pages, hot) = (dice.below(64), Some(runs(&mut dice)));
                    book.lay(&model, pages, hot.clone()).unwrap();
                    continue;
                }
                _ => {}
            }
            book.renew(&model, hot.clone()).unwrap();
        }
    }
}

/// After any call that fails, laying the arena again makes it fresh.
#[test]
fn what_fails_half_way_is_made_good_by_laying_it_again() {
    for seed in 0..if cfg!(miri) { 10 } else { 1_000 } {
        let mut dice = Dice(seed);
        let model = Model::new(dice.below(40));
        let mut book = Book::new(3);
        let hot = runs(&mut dice);
        book.lay(&model, 50, Some(hot.clone())).unwrap();
        for _ in 0..dice.below(9) {
            model.write(&book, dice.below(50), 10_000);
        }
        book.grow(&model, 60).unwrap();
        model.write(&book, 55, 10_001);
        model.fails.set(Some(dice.below(8)));
        let renewed = book.renew(&model, Some(hot.clone()));
        model.fails.set(None);
        if renewed.is_err() {
            book.lay(&model, 50, Some(hot.clone())).unwrap();
        }
        model.assert_fresh(50, &hot, false);
    }
}

#[test]
fn a_request_that_writes_hot_pages_only_costs_no_call() {
    let model = Model::new(8);
    let hot = Arc::new(Runs::of(vec![2..4, 10..12]));
    let mut book = Book::new(16);
    book.lay(&model, 32, Some(hot.clone())).unwrap();
    let before = model.calls.get();
    for page in [2, 3, 10, 11] {
        assert!(model.write(&book, page, 10_000));
    }
    assert_eq!(book.touched(), Touched::Hot);
    assert_eq!(book.work(), 4);
    book.renew(&model, Some(hot.clone())).unwrap();
    assert_eq!(model.calls.get(), before);
    model.assert_fresh(32, &hot, false);
}

#[expect(clippy::single_range_in_vec_init, reason = "a set of one run is meant")]
#[test]
fn faults_open_more_and_more_and_then_everything() {
    let model = Model::new(0);
    let mut book = Book::new(8);
    book.lay(&model, 90, Some(Arc::new(Runs::of(vec![40..41])))).unwrap();
    let mut opened = Vec::new();
    let mut page = 0;
    while let Some(run) = book.fault(page) {
        page = if run.end == 40 { 41 } else { run.end };
        opened.push(run);
        if page >= 90 {
            break;
        }
    }
    // One page four times, then twice as many each time, up to the hot page, and all of it at the ninth.
    assert_eq!(opened, [0..1, 1..2, 2..3, 3..4, 4..6, 6..10, 10..18, 18..34, 0..90]);
    assert_eq!(book.fault(89), None);
    assert_eq!(book.touched(), Touched::Any);
}

#[expect(clippy::single_range_in_vec_init, reason = "a set of one run is meant")]
#[test]
fn a_fault_that_is_no_write_to_a_clean_page_is_the_guests_own() {
    let model = Model::new(4);
    let mut book = Book::new(4);
    book.lay(&model, 8, Some(Arc::new(Runs::of(vec![0..1])))).unwrap();
    assert_eq!(book.fault(0), None, "hot, and so open");
    assert_eq!(book.fault(8), None, "behind the memory");
    assert_eq!(book.fault(u32::MAX), None);
    assert_eq!(book.fault(5), Some(5..6));
    assert_eq!(book.fault(5), None, "open already");
    book.grow(&model, 10).unwrap();
    assert_eq!(book.fault(9), None, "grown, and so open");
}
