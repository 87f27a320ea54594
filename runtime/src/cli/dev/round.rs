//! One function's loop: what happens to its sources becomes builds, and builds become revisions.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mayfly_runtime::dev::command::CommandError;
use mayfly_runtime::dev::manifest::FILE;
use mayfly_runtime::dev::pace::{Act, Pace, Tree};
use mayfly_runtime::dev::project::{BuildError, Project};
use mayfly_runtime::dev::sources::{Sources, Watch};

use super::super::build::explain;
use super::super::local::Local;
use super::super::{Failure, code};
use super::tell::Tell;

/// Between two looks without events.
const POLL: Duration = Duration::from_millis(500);
/// Looks after which directories that keep appearing are left for the next event.
const NEW_DIRECTORIES: usize = 10;

/// What a round waits for.
pub(super) enum Event {
    /// Something below the directory may have changed.
    Touched,
    /// The build and deploy that ran has ended.
    Done(Box<Done>),
    /// End.
    Stop,
}

/// How a build and deploy ended.
pub(super) enum Done {
    /// A save ended it.
    Stopped,
    /// Why nothing new serves.
    Failed(String),
    /// A revision serves.
    Served { build: Duration, deploy: Duration, revision: u64, notes: Vec<String> },
}

/// One function's loop.
pub(super) struct Round {
    project: Project,
    node: Arc<Local>,
    tell: Tell,
    pace: Pace,
    sources: Sources,
    watch: Option<Watch>,
    send: Sender<Event>,
    events: Receiver<Event>,
    /// Ends the build that runs.
    stop: Arc<AtomicBool>,
    running: bool,
}

impl Round {
    pub(super) fn new(
        project: Project,
        node: Arc<Local>,
        tell: Tell,
        poll: bool,
        (send, events): (Sender<Event>, Receiver<Event>),
    ) -> Result<Self, Failure> {
        let failed = |why: String| Failure::new(code::FAILED, why);
        let sources = Sources::new(&project.dir, &project.manifest)
            .map_err(|why| Failure::new(code::CONFIG, why))?;
        let touched = send.clone();
        let watch = match poll {
            true => None,
            false => Some(Watch::new(move || drop(touched.send(Event::Touched))).map_err(failed)?),
        };
        tell.follow(&node, &project.manifest.name);
        Ok(Self {
            project,
            node,
            tell,
            pace: Pace::default(),
            sources,
            watch,
            send,
            events,
            stop: Arc::default(),
            running: false,
        })
    }

    /// Until it is stopped.
    pub(super) fn run(mut self) {
        self.pace.touch(Instant::now());
        loop {
            let due = self.pace.due();
            let wait = match due {
                Some(due) => due.saturating_duration_since(Instant::now()),
                None if self.watch.is_none() => POLL,
                None => Duration::MAX,
            };
            match self.events.recv_timeout(wait) {
                Ok(Event::Touched) => self.pace.touch(Instant::now()),
                Ok(Event::Done(done)) => self.ended(&done),
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if due.is_none() => self.pace.touch(Instant::now()),
                Err(RecvTimeoutError::Timeout) => self.look(),
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        while self.running {
            match self.events.recv() {
                Ok(Event::Done(_)) | Err(_) => self.running = false,
                Ok(_) => {}
            }
        }
    }

    fn look(&mut self) {
        let Some(tree) = self.tree() else { return };
        let act = self.pace.look(tree, Instant::now());
        self.act(act);
    }

    fn ended(&mut self, done: &Done) {
        self.running = false;
        self.tell.done(done, &self.node, &self.project.manifest.name);
        let Some(tree) = self.tree() else { return };
        let act = self.pace.ended(tree, Instant::now());
        self.act(act);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Nothing => {}
            Act::End => {
                self.tell.ending();
                self.stop.store(true, Ordering::Relaxed);
            }
            Act::Own(paths) => self.tell.own(&self.project.dir, &paths),
            Act::Build(changed) => {
                self.tell.changed(&self.project.dir, &changed);
                if changed.contains(&self.project.dir.join(FILE))
                    && let Err(why) = self.reopen()
                {
                    self.begin(move |_| Done::Failed(why));
                    return;
                }
                let (project, node) = (self.project.clone(), self.node.clone());
                let tell = self.tell.clone();
                self.begin(move |stop| work(&project, &node, &tell, stop));
            }
        }
    }

    /// Does the work on a thread of its own, which says when it has ended.
    fn begin(&mut self, work: impl FnOnce(&AtomicBool) -> Done + Send + 'static) {
        self.running = true;
        self.stop = Arc::default();
        let (stop, send) = (self.stop.clone(), self.send.clone());
        std::thread::spawn(move || {
            let done = work(&stop);
            let _ = send.send(Event::Done(Box::new(done)));
        });
    }

    /// Takes what the file says by now.
    fn reopen(&mut self) -> Result<(), String> {
        let project = Project::open(&self.project.dir).map_err(|why| why.to_string())?;
        if project == self.project {
            return Ok(());
        }
        self.sources = Sources::new(&project.dir, &project.manifest)?;
        let (old, new) = (&self.project.manifest.name, &project.manifest.name);
        if old != new {
            // It is not there under its old name any more.
            let _ = self.node.runtime().block_on(self.node.publisher().remove(old));
            self.tell.follow(&self.node, new);
        }
        self.project = project;
        if let Some(tree) = self.tree() {
            self.pace.rebase(tree);
        }
        Ok(())
    }

    /// The sources as they are now, all of them watched; nothing if they cannot be looked at, which is said.
    fn tree(&mut self) -> Option<Tree> {
        let mut looked = Err(String::new());
        // What was written into a new directory before it was watched is seen by the look after.
        for _ in 0..NEW_DIRECTORIES {
            looked = self.sources.look();
            let (Some(watch), Ok(found)) = (&mut self.watch, &looked) else { break };
            match watch.follow(&found.directories) {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) => {
                    self.tell.problem(&why);
                    break;
                }
            }
        }
        looked.map(|found| found.tree).map_err(|why| self.tell.problem(&why)).ok()
    }
}

/// Builds and deploys.
fn work(project: &Project, node: &Local, tell: &Tell, stop: &AtomicBool) -> Done {
    let began = Instant::now();
    if let Err(done) = compile(project, tell, stop) {
        return done;
    }
    let build = began.elapsed();
    let built = match project.built() {
        Ok(built) => built,
        Err(why) => return Done::Failed(why.to_string()),
    };
    let began = Instant::now();
    match node.publish(project, built) {
        Ok((report, mut notes)) => {
            notes.extend(report.init_log.lines().map(|line| format!("init: {line}")));
            Done::Served { build, deploy: began.elapsed(), revision: report.record.number, notes }
        }
        Err(failure) => Done::Failed(failure.text),
    }
}

fn compile(project: &Project, tell: &Tell, stop: &AtomicBool) -> Result<(), Done> {
    let Some(task) = project.build() else { return Ok(()) };
    let failed = |why: BuildError, dir: &Path| Done::Failed(explain(&why, &task.program(), dir));
    match task.watch(stop, &mut |line| tell.build(line)) {
        Ok(None) => Err(Done::Stopped),
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(failed(BuildError::of(&task, status), &project.dir)),
        Err(why @ (CommandError::NotFound { .. } | CommandError::Start { .. })) => {
            Err(failed(why.into(), &project.dir))
        }
    }
}
