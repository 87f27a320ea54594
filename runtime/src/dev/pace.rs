//! When the loop looks at the sources, builds, and ends a build: decided here, from what happened and when, without a clock
//! and without files.
//!
//! Events are hints: an editor that saves by renaming makes five, and some file systems make none for a while. What counts
//! is whether the sources' contents are others than those of the last build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mayfly_core::Digest;

/// The contents of all sources.
pub type Tree = BTreeMap<PathBuf, Digest>;

/// Without an event for so long, a save is thought to have ended: an editor's rename and write come within 10 ms.
const QUIET: Duration = Duration::from_millis(50);
/// Doublings of it while one build follows another: up to 800 ms.
const DOUBLINGS: u32 = 4;
/// What happens later than this after a build's end is not of the same burst.
const CALM: Duration = Duration::from_secs(1);
/// Events without a pause are looked at after so long all the same: a server's log may lie in the directory.
const PATIENCE: Duration = Duration::from_secs(8);
/// Builds in a row that changes may end; the next one runs through. One that writes its own sources would never end.
const ENDED: u32 = 3;
/// Builds in a row during which a file changed, after which the build is thought to write it.
const OWN: u32 = 3;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Build these sources; what is others since the last time is named, and at first nothing.
    Build(Vec<PathBuf>),
    /// End the build that is running.
    End,
    /// Say that the build writes these itself, so that their changes during it count for nothing.
    Own(Vec<PathBuf>),
}

/// The state of one project's loop.
#[derive(Debug, Default)]
pub struct Pace {
    /// What the last build began with.
    built: Option<Tree>,
    running: bool,
    /// The running build was told to end.
    ending: bool,
    /// The first and the last event that nothing was looked at after.
    touched: Option<(Instant, Instant)>,
    ended: Option<Instant>,
    /// Builds since the last calm.
    hot: u32,
    /// Builds in a row that were ended.
    cut: u32,
    /// In how many whole builds in a row a file changed.
    changed: BTreeMap<PathBuf, u32>,
    own: BTreeSet<PathBuf>,
}

impl Pace {
    /// Something below the directory may have changed.
    pub fn touch(&mut self, now: Instant) {
        let first = self.touched.map_or(now, |(first, _)| first);
        self.touched = Some((first, now));
    }

    /// When to look at the sources; `None` until something happens.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.touched?;
        let soon = |ended: Instant| first.saturating_duration_since(ended) < CALM;
        let doublings = match self.running || self.ended.is_some_and(soon) {
            true => (self.hot + 1).min(DOUBLINGS),
            false => 0,
        };
        Some((last + QUIET * 2u32.pow(doublings)).min(first + PATIENCE))
    }

    /// Takes what the sources are now.
    pub fn look(&mut self, tree: Tree, now: Instant) -> Act {
        self.touched = None;
        let changed = self.difference(&tree);
        if self.built.is_some() && changed.is_empty() {
            return Act::Nothing;
        }
        if !self.running {
            let changed = if self.built.is_some() { changed } else { Vec::new() };
            return self.begin(tree, changed, now);
        }
        let by_itself = changed.iter().all(|path| self.changed.contains_key(path));
        if self.ending || by_itself || self.cut == ENDED {
            // Its end looks again.
            return Act::Nothing;
        }
        self.ending = true;
        Act::End
    }

    /// The build that begins is of these sources: its file names others than the one before.
    pub fn rebase(&mut self, tree: Tree) {
        self.built = Some(tree);
    }

    /// The build has ended, and the sources are these.
    pub fn ended(&mut self, tree: Tree, now: Instant) -> Act {
        let was_cut = std::mem::take(&mut self.ending);
        self.running = false;
        self.ended = Some(now);
        self.cut = if was_cut { self.cut + 1 } else { 0 };
        let changed = self.difference(&tree);
        if !was_cut {
            self.count(&changed);
        }
        if changed.is_empty() {
            return Act::Nothing;
        }
        if !was_cut && changed.iter().all(|path| self.own.contains(path)) {
            self.built = Some(tree);
            let news = changed.iter().any(|path| self.changed.get(path) == Some(&OWN));
            return if news { Act::Own(changed) } else { Act::Nothing };
        }
        if self.touched.is_some() {
            // In a burst the next look decides.
            return Act::Nothing;
        }
        self.begin(tree, changed, now)
    }

    fn begin(&mut self, tree: Tree, changed: Vec<PathBuf>, now: Instant) -> Act {
        let calm = self.ended.is_none_or(|ended| now.duration_since(ended) > CALM);
        self.hot = if calm { 0 } else { self.hot + 1 };
        self.built = Some(tree);
        self.running = true;
        Act::Build(changed)
    }

    fn count(&mut self, changed: &[PathBuf]) {
        self.changed.retain(|path, _| changed.contains(path) || self.own.contains(path));
        for path in changed {
            let times = self.changed.entry(path.clone()).or_default();
            *times += 1;
            if *times >= OWN {
                self.own.insert(path.clone());
            }
        }
    }

    /// Files that are others than at the last build's beginning, gone ones among them.
    fn difference(&self, tree: &Tree) -> Vec<PathBuf> {
        let empty = Tree::new();
        let built = self.built.as_ref().unwrap_or(&empty);
        let paths: BTreeSet<_> = built.keys().chain(tree.keys()).collect();
        paths.into_iter().filter(|path| built.get(*path) != tree.get(*path)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop with a build that takes so long, on a clock of its own; milliseconds throughout.
    struct Rig {
        pace: Pace,
        start: Instant,
        build_ms: u64,
        /// When the running build will end.
        ends: Option<u64>,
        sources: Tree,
        /// What each build began with, and whether it ran through.
        builds: Vec<(Tree, bool)>,
        /// What the build writes into the tree when it ends, if anything.
        writes: Option<&'static str>,
        owned: Vec<PathBuf>,
        now: u64,
    }

    impl Rig {
        fn new(build_ms: u64) -> Self {
            let mut rig = Self {
                pace: Pace::default(),
                start: Instant::now(),
                build_ms,
                ends: None,
                sources: Tree::new(),
                builds: Vec::new(),
                writes: None,
                owned: Vec::new(),
                now: 0,
            };
            rig.save("main.c", "first");
            rig.run(5_000);
            assert_eq!(rig.builds.len(), 1);
            rig
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn save(&mut self, path: &str, text: &str) {
            self.sources.insert(path.into(), Digest::of(text.as_bytes()));
            self.pace.touch(self.at(self.now));
        }

        /// Lets time pass, a millisecond at a time.
        fn run(&mut self, ms: u64) {
            for _ in 0..ms {
                self.now += 1;
                let now = self.at(self.now);
                if self.ends.is_some_and(|ends| self.now >= ends) {
                    self.ends = None;
                    if let Some(path) = self.writes
                        && self.builds.last().is_some_and(|(_, whole)| *whole)
                    {
                        self.save(path, &self.now.to_string());
                    }
                    let act = self.pace.ended(self.sources.clone(), now);
                    self.act(act);
                }
                if self.pace.due().is_some_and(|due| due <= now) {
                    let act = self.pace.look(self.sources.clone(), now);
                    self.act(act);
                }
            }
        }

        fn act(&mut self, act: Act) {
            match act {
                Act::Nothing => {}
                Act::Build(_) => {
                    assert!(self.ends.is_none(), "two builds at once");
                    self.builds.push((self.sources.clone(), true));
                    self.ends = Some(self.now + self.build_ms);
                }
                Act::End => {
                    self.builds.last_mut().unwrap().1 = false;
                    self.ends = Some(self.now + 10);
                }
                Act::Own(paths) => self.owned = paths,
            }
        }

        fn settled(&self) -> bool {
            self.ends.is_none() && self.builds.last().unwrap() == &(self.sources.clone(), true)
        }
    }

    #[test]
    fn a_save_is_built_once_and_a_touch_is_not() {
        let mut rig = Rig::new(100);
        rig.save("main.c", "second");
        rig.run(60);
        assert_eq!(rig.builds.len(), 2);
        rig.run(2_000);
        // The same content, as an editor's second write of a file or a checkout has it.
        rig.save("main.c", "second");
        rig.run(2_000);
        assert_eq!(rig.builds.len(), 2);
        rig.sources.remove(std::path::Path::new("main.c"));
        rig.pace.touch(rig.at(rig.now));
        rig.run(2_000);
        assert_eq!(rig.builds.len(), 3);
    }

    #[test]
    fn a_save_by_rename_is_one_build() {
        let mut rig = Rig::new(100);
        // The old file is moved away, the new one is written, the backup goes.
        let old = rig.sources.remove(std::path::Path::new("main.c")).unwrap();
        rig.sources.insert("main.c~".into(), old);
        rig.pace.touch(rig.at(rig.now));
        rig.run(5);
        rig.save("main.c", "second");
        rig.run(5);
        rig.sources.remove(std::path::Path::new("main.c~"));
        rig.pace.touch(rig.at(rig.now));
        rig.run(2_000);
        assert_eq!(rig.builds.len(), 2);
        assert!(rig.settled());
    }

    #[test]
    fn a_save_during_a_build_ends_it_and_the_last_save_wins() {
        let mut rig = Rig::new(3_000);
        rig.save("main.c", "second");
        rig.run(1_000);
        rig.save("main.c", "third");
        rig.run(10_000);
        let whole: Vec<_> = rig.builds.iter().map(|(_, whole)| *whole).collect();
        assert_eq!(whole, [true, false, true]);
        assert!(rig.settled());
    }

    #[test]
    fn two_hundred_saves_in_ten_seconds_are_three_builds_at_most() {
        for (build_ms, every_ms) in [(30, 50), (300, 50), (300, 51), (2_000, 50), (2_000, 49)] {
            let mut rig = Rig::new(build_ms);
            let before = rig.builds.len();
            for n in 0..200 {
                rig.save("main.c", &n.to_string());
                rig.run(every_ms);
            }
            rig.run(10_000);
            assert!(rig.settled(), "{build_ms}, {every_ms}");
            let builds = rig.builds.len() - before;
            assert!(builds <= 3, "{builds} of {build_ms} ms, saves every {every_ms} ms");
        }
    }

    #[test]
    fn a_build_that_writes_its_sources_does_not_go_on_for_ever() {
        for build_ms in [20, 300, 4_000] {
            let mut rig = Rig::new(build_ms);
            rig.writes = Some("generated.c");
            rig.save("main.c", "second");
            rig.run(60_000);
            assert!(rig.builds.len() <= 8, "{} builds of {build_ms} ms", rig.builds.len());
            assert_eq!(rig.owned, [PathBuf::from("generated.c")]);
            // What a person does is still seen, the file that was the build's own included.
            let before = rig.builds.len();
            rig.save("main.c", "third");
            rig.run(20_000);
            assert_eq!(rig.builds.len(), before + 1);
            rig.save("generated.c", "by hand");
            rig.run(20_000);
            assert_eq!(rig.builds.len(), before + 2);
        }
    }
}
