//! Which files a function is made of, and that something happened to one of them.
//!
//! Directories are watched, and never files: an editor that saves by renaming leaves the watch of a file on what it has
//! moved away. And only those that hold sources: `target` alone may have more of them than the system gives watches.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ignore::WalkBuilder;
use ignore::overrides::{Override, OverrideBuilder};
use mayfly_core::Digest;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::manifest::{Argument, FILE, Manifest};
use super::pace::Tree;

/// Directories that hold no sources, whether a `.gitignore` says so or not.
const LEFT_OUT: &[&str] = &[
    ".git",
    ".hg",
    ".idea",
    ".jj",
    ".mayfly",
    ".venv",
    ".vscode",
    ".zig-cache",
    "__pycache__",
    "node_modules",
    "target",
    "zig-cache",
    "zig-out",
];
/// Files at most: with more, the directory is hardly one function's.
const FILES: usize = 20_000;
/// A file that was written so recently may be written again within one tick of the file system's clock.
const RECENT: Duration = Duration::from_secs(1);

/// A project's sources.
pub struct Sources {
    root: PathBuf,
    output: Option<PathBuf>,
    globs: Override,
    /// What the globs need not name: what a deploy reads.
    always: Vec<PathBuf>,
    known: HashMap<PathBuf, Known>,
}

/// A file's content, and what its metadata were when that was read.
struct Known {
    stamp: Stamp,
    read: SystemTime,
    digest: Digest,
}

type Stamp = (u64, u64, u64, Option<SystemTime>);

/// What tells a directory from a later one of its name: an inode's number may be given again at once.
type Id = (u64, u64, Option<SystemTime>);

/// What there is.
pub struct Found {
    /// Files and contents.
    pub tree: Tree,
    /// Directories to watch.
    pub directories: HashMap<PathBuf, Id>,
}

impl Sources {
    /// Those of a directory.
    ///
    /// # Errors
    /// A glob that is none.
    pub fn new(root: &Path, manifest: &Manifest) -> Result<Self, String> {
        let build = &manifest.build;
        let mut globs = OverrideBuilder::new(root);
        for glob in &build.watch {
            globs.add(glob).map_err(|why| format!("build.watch: '{glob}' is no glob: {why}"))?;
        }
        let globs = globs.build().map_err(|why| format!("build.watch: {why}"))?;
        let scripts = manifest.deploy.args.iter().flatten().filter_map(|argument| match argument {
            Argument::File { file } => Some(file),
            Argument::Text(_) => None,
        });
        let read = scripts.chain(&manifest.model.labels);
        let mut always: Vec<_> = read.map(|file| root.join(file)).collect();
        always.push(root.join(FILE));
        // Without a build it is a source itself.
        let output = build.command.is_some().then(|| root.join(&build.output));
        if output.is_none() {
            always.push(root.join(&build.output));
        }
        Ok(Self { root: root.to_owned(), output, globs, always, known: HashMap::new() })
    }

    /// Looks at all of them.
    ///
    /// # Errors
    /// When there are too many.
    pub fn look(&mut self) -> Result<Found, String> {
        let mut found = Found { tree: Tree::new(), directories: HashMap::new() };
        let mut seen = HashMap::new();
        let walk = WalkBuilder::new(&self.root)
            .hidden(false)
            .parents(false)
            .git_global(false)
            .git_exclude(false)
            .require_git(false)
            .overrides(self.globs.clone())
            .filter_entry(|entry| !is_left_out(entry.file_name().to_str().unwrap_or_default()))
            .build();
        // What has gone since it was listed is a change like others.
        for entry in walk.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.into_path();
            if metadata.is_dir() {
                let id = (metadata.dev(), metadata.ino(), metadata.created().ok());
                found.directories.insert(path, id);
            } else if metadata.is_file() && !self.is_output(&path) {
                self.take(path, &metadata, &mut found.tree, &mut seen);
            }
            if found.tree.len() > FILES {
                return Err(format!(
                    "{} has more than {FILES} files that could be sources\nhint: name them in function.toml, as in \
                     watch = [\"src/**\"] below [build]",
                    self.root.display()
                ));
            }
        }
        for path in self.always.clone() {
            if let Ok(metadata) = std::fs::metadata(&path) {
                self.take(path, &metadata, &mut found.tree, &mut seen);
            }
        }
        self.known = seen;
        Ok(found)
    }

    /// Reads a file, unless it is sure to be as it was.
    fn take(
        &mut self,
        path: PathBuf,
        metadata: &Metadata,
        tree: &mut Tree,
        seen: &mut HashMap<PathBuf, Known>,
    ) {
        if tree.contains_key(&path) {
            return;
        }
        let modified = metadata.modified().ok();
        let stamp = (metadata.dev(), metadata.ino(), metadata.len(), modified);
        let sure = |known: &Known| {
            let age = modified.and_then(|at| known.read.duration_since(at).ok());
            known.stamp == stamp && age.is_some_and(|age| age > RECENT)
        };
        let known = match self.known.remove(&path).filter(sure) {
            Some(known) => known,
            None => {
                let read = SystemTime::now();
                let Ok(bytes) = std::fs::read(&path) else { return };
                Known { stamp, read, digest: Digest::of(&bytes) }
            }
        };
        tree.insert(path.clone(), known.digest);
        seen.insert(path, known);
    }

    /// The output, and what a linker writes beside it before.
    fn is_output(&self, path: &Path) -> bool {
        let Some(output) = &self.output else { return false };
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let begins = name(output).zip(name(path)).is_some_and(|(output, own)| {
            own.strip_prefix(&output).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        path.parent() == output.parent() && begins
    }
}

/// Directories without sources, and what editors leave behind while they save.
fn is_left_out(name: &str) -> bool {
    LEFT_OUT.contains(&name)
        || name == "4913"
        || name.ends_with(['~', '#'])
        || name.starts_with(".#")
        || [".swp", ".swx", ".swo"].iter().any(|end| name.ends_with(end))
}

/// The system's word that something happened.
pub struct Watch {
    watcher: RecommendedWatcher,
    watched: HashMap<PathBuf, Id>,
}

impl Watch {
    /// Calls `touched`, on a thread of its own, after each event.
    ///
    /// # Errors
    /// When the system gives no watch.
    pub fn new(touched: impl Fn() + Send + 'static) -> Result<Self, String> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // That somebody reads is no change, and this loop reads; an error says that events were lost.
            let close = AccessKind::Close(AccessMode::Write);
            let read =
                matches!(&event, Ok(Event { kind: EventKind::Access(kind), .. }) if *kind != close);
            if !read {
                touched();
            }
        });
        let watcher = watcher.map_err(|why| no_watch(&why))?;
        Ok(Self { watcher, watched: HashMap::new() })
    }

    /// Watches these directories and no others. Says whether there were new ones, in which something may have happened
    /// before.
    ///
    /// # Errors
    /// When the system gives no more watches.
    pub fn follow(&mut self, directories: &HashMap<PathBuf, Id>) -> Result<bool, String> {
        let gone: Vec<_> = self
            .watched
            .iter()
            .filter(|(path, id)| directories.get(*path) != Some(id))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            self.watched.remove(&path);
            // The system has dropped it with the directory.
            let _ = self.watcher.unwatch(&path);
        }
        let mut news = false;
        for (path, id) in directories {
            if self.watched.contains_key(path) {
                continue;
            }
            match self.watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), *id);
                    news = true;
                }
                // Gone again.
                Err(_) if !path.exists() => {}
                Err(why) => return Err(no_watch(&why)),
            }
        }
        Ok(news)
    }
}

fn no_watch(why: &notify::Error) -> String {
    format!(
        "the system gives no watch for the sources: {why}\nhint: --poll looks by itself, without watches; or raise \
         fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn project(command: &str, watch: &str) -> (tempfile::TempDir, Sources) {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("name = \"f\"\n[build]\noutput = \"f.wasm\"\n{command}{watch}");
        let manifest = Manifest::parse(&text).unwrap();
        let sources = Sources::new(dir.path(), &manifest).unwrap();
        (dir, sources)
    }

    fn names(sources: &mut Sources, dir: &Path) -> Vec<String> {
        let tree = sources.look().unwrap().tree;
        let name = |path: &PathBuf| path.strip_prefix(dir).unwrap().display().to_string();
        tree.keys().map(name).collect()
    }

    fn write(dir: &Path, files: &[&str]) {
        for file in files {
            std::fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.join(file), file).unwrap();
        }
    }

    #[test]
    fn sources_are_what_is_neither_output_nor_ignored_nor_an_editors() {
        let (dir, mut sources) = project("command = \"cc\"\n", "");
        let files = ["main.c", "src/a.c", ".cargo/config.toml", "function.toml"];
        write(dir.path(), &files);
        write(dir.path(), &["f.wasm", "f.wasm.o", "target/x", "node_modules/y", ".mayfly/z"]);
        write(dir.path(), &["main.c~", ".main.c.swp", "4913", "#main.c#", ".#main.c", "made.c"]);
        std::fs::write(dir.path().join(".gitignore"), "/made.c\n").unwrap();
        let found = names(&mut sources, dir.path());
        assert_eq!(
            found,
            [".cargo/config.toml", ".gitignore", "function.toml", "main.c", "src/a.c"]
        );
        // Without a build the output is what is watched.
        let (dir, mut sources) = project("", "");
        write(dir.path(), &["f.wasm", "function.toml"]);
        assert_eq!(names(&mut sources, dir.path()), ["f.wasm", "function.toml"]);
    }

    #[test]
    fn globs_say_what_is_watched_and_what_a_deploy_reads_is_besides() {
        let (dir, mut sources) = project("command = \"cc\"\n", "watch = [\"**/*.c\"]\n");
        write(dir.path(), &["main.c", "src/deep/a.c", "README.md", "function.toml"]);
        assert_eq!(names(&mut sources, dir.path()), ["function.toml", "main.c", "src/deep/a.c"]);
    }

    #[test]
    fn a_content_is_told_from_another_of_the_same_length_and_time() {
        let (dir, mut sources) = project("command = \"cc\"\n", "");
        let path = dir.path().join("main.c");
        let mut seen = std::collections::BTreeSet::new();
        for n in 10..60 {
            std::fs::write(&path, format!("{n}")).unwrap();
            seen.insert(sources.look().unwrap().tree[&path]);
        }
        assert_eq!(seen.len(), 50);
    }

    #[test]
    fn saves_of_every_kind_are_heard_and_reading_is_not() {
        let (dir, mut sources) = project("command = \"cc\"\n", "");
        write(dir.path(), &["main.c", "src/a.c"]);
        let (send, heard) = mpsc::channel();
        let mut watch = Watch::new(move || send.send(()).unwrap_or_default()).unwrap();
        let quiet = || while heard.recv_timeout(Duration::from_millis(200)).is_ok() {};
        let touched = || heard.recv_timeout(Duration::from_secs(5)).is_ok();
        assert!(watch.follow(&sources.look().unwrap().directories).unwrap());
        quiet();
        assert!(!watch.follow(&sources.look().unwrap().directories).unwrap());
        assert!(heard.recv_timeout(Duration::from_millis(200)).is_err(), "reading is heard");
        let main = dir.path().join("main.c");
        std::fs::write(&main, "in place").unwrap();
        assert!(touched());
        quiet();
        std::fs::write(dir.path().join("new"), "by rename").unwrap();
        std::fs::rename(dir.path().join("new"), &main).unwrap();
        assert!(touched());
        quiet();
        // The same file once more: a watch of the file itself would be with the old one.
        std::fs::write(dir.path().join("new"), "by rename again").unwrap();
        std::fs::rename(dir.path().join("new"), &main).unwrap();
        assert!(touched());
        // A directory that goes and comes back.
        std::fs::remove_dir_all(dir.path().join("src")).unwrap();
        write(dir.path(), &["src/b.c"]);
        assert!(watch.follow(&sources.look().unwrap().directories).unwrap());
        quiet();
        write(dir.path(), &["src/b.c"]);
        assert!(touched());
    }
}
