//! Sets of pages as runs of neighbours, sorted and apart: what a request wrote, and what requests write again and again.

use std::ops::Range;

/// Pages, counted from a memory's first.
pub type Run = Range<u32>;

/// Some pages of a memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// These, in any order.
    #[must_use]
    pub fn of(mut runs: Vec<Run>) -> Self {
        runs.retain(|run| run.start < run.end);
        runs.sort_by_key(|run| run.start);
        let mut joined: Vec<Run> = Vec::with_capacity(runs.len());
        for run in runs {
            match joined.last_mut() {
                Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                _ => joined.push(run),
            }
        }
        Self(joined)
    }

    /// These, which are neighbours.
    #[must_use]
    pub fn one(run: Run) -> Self {
        Self(Vec::from_iter((run.start < run.end).then_some(run)))
    }

    /// In order, with at least one page between two.
    #[must_use]
    pub fn as_slice(&self) -> &[Run] {
        &self.0
    }

    /// How many pages there are.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.0.iter().map(|run| run.end - run.start).sum()
    }

    /// Whether a page is among them.
    #[must_use]
    pub fn contains(&self, page: u32) -> bool {
        self.0.iter().any(|run| run.contains(&page))
    }

    /// The first page of the first run behind a page, or `end`.
    #[must_use]
    pub fn next(&self, page: u32, end: u32) -> u32 {
        self.0.iter().map(|run| run.start).find(|start| *start > page).map_or(end, |s| s.min(end))
    }

    /// Those of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            both.push(a.start.max(b.start)..a.end.min(b.end));
            if a.end <= b.end {
                mine.next();
            } else {
                theirs.next();
            }
        }
        Self::of(both)
    }

    /// Those of either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self::of([&self.0[..], &other.0[..]].concat())
    }

    /// In at most `runs` runs and `pages` pages. Runs with up to `gap` pages between them become one, the gap with them:
    /// to restore a clean page costs less than one more mapping. Of what is left the largest stay; of the last one that
    /// fits in part, its beginning.
    #[must_use]
    pub fn within(&self, runs: usize, pages: u32, gap: u32) -> Self {
        let mut joined: Vec<Run> = Vec::new();
        for run in &self.0 {
            match joined.last_mut() {
                Some(last) if run.start - last.end <= gap => last.end = run.end,
                _ => joined.push(run.clone()),
            }
        }
        joined.sort_by_key(|run| std::cmp::Reverse(run.end - run.start));
        joined.truncate(runs);
        let mut left = pages;
        for run in &mut joined {
            run.end = run.end.min(run.start + left);
            left -= run.end - run.start;
        }
        Self::of(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::single_range_in_vec_init, reason = "sets of one run are meant")]
    #[test]
    fn runs_are_sorted_joined_and_apart() {
        let runs = Runs::of(vec![8..9, 1..3, 3..4, 2..3, 5..5, 6..8]);
        assert_eq!(runs.as_slice(), [1..4, 6..9]);
        assert_eq!(runs.pages(), 6);
        let inside: Vec<_> = (0..10).filter(|page| runs.contains(*page)).collect();
        assert_eq!(inside, [1, 2, 3, 6, 7, 8]);
        assert_eq!((runs.next(0, 20), runs.next(1, 20), runs.next(7, 20)), (1, 6, 20));
        assert_eq!(runs.next(4, 5), 5);
        let other = Runs::of(vec![0..2, 3..7, 8..20]);
        assert_eq!(runs.and(&other).as_slice(), [1..2, 3..4, 6..7, 8..9]);
        assert_eq!(runs.or(&other).as_slice(), [0..20]);
    }

    #[expect(clippy::single_range_in_vec_init, reason = "sets of one run are meant")]
    #[test]
    fn what_is_too_much_is_left_out() {
        let runs = Runs::of(vec![0..2, 4..5, 100..110, 200..203]);
        assert_eq!(runs.within(8, 100, 0), runs);
        assert_eq!(runs.within(8, 100, 2).as_slice(), [0..5, 100..110, 200..203]);
        assert_eq!(runs.within(2, 100, 2).as_slice(), [0..5, 100..110]);
        assert_eq!(runs.within(2, 12, 2).as_slice(), [0..2, 100..110]);
        assert_eq!(runs.within(2, 3, 2).as_slice(), [100..103]);
        assert_eq!(runs.within(0, 3, 2), Runs::default());
    }
}
