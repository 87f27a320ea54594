//! A build or a test that a function's file names: run in its directory, heard line by line, and ended with all that it
//! started.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often a running command is looked at: what that adds to a build is not seen.
const LOOK: Duration = Duration::from_millis(5);
/// From the request to end to the end: compilers remove what they have half written.
const GRACE: Duration = Duration::from_millis(500);
/// For the last lines of a command that has ended. What it left running may hold its output open for ever.
const LAST_LINES: Duration = Duration::from_millis(200);

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The program and its arguments, as a shell would split them.
    pub command: &'a str,
    /// Whether a shell does.
    pub shell: bool,
    /// Variables beside those of this process.
    pub env: &'a BTreeMap<String, String>,
    /// Where it runs.
    pub dir: &'a Path,
}

/// Why nothing ran.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such program.
    #[error("there is no program '{program}' on the PATH")]
    NotFound {
        /// As the file names it.
        program: String,
    },
    /// Anything else.
    #[error("'{program}' cannot be started: {why}")]
    Start {
        /// As the file names it.
        program: String,
        /// What the system says.
        why: std::io::Error,
    },
}

impl Task<'_> {
    /// The program's name.
    #[must_use]
    pub fn program(&self) -> String {
        if self.shell {
            return "sh".to_owned();
        }
        shlex::split(self.command).unwrap_or_default().into_iter().next().unwrap_or_default()
    }

    /// Runs it to its end with this process's own streams; a signal from the terminal reaches both.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn run(&self) -> Result<ExitStatus, CommandError> {
        self.prepared().status().map_err(|why| self.failed(why))
    }

    /// Runs it to its end, or until `stop`, in a process group of its own. Its lines, of both streams, go to `line`.
    /// Stopped, it gives nothing.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn watch(
        &self,
        stop: &AtomicBool,
        line: &mut dyn FnMut(&str),
    ) -> Result<Option<ExitStatus>, CommandError> {
        let (output, input) = std::io::pipe().map_err(|why| self.failed(why))?;
        let again = input.try_clone().map_err(|why| self.failed(why))?;
        let mut command = self.prepared();
        command.stdin(Stdio::null()).stdout(input).stderr(again).process_group(0);
        let mut child = command.spawn().map_err(|why| self.failed(why))?;
        // It holds this process's ends of the pipe, which would keep the reader waiting.
        drop(command);
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            while output.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                if send.send(text).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let ended = wait(&mut child, stop, &lines, line);
        let until = Instant::now() + LAST_LINES;
        while let Ok(text) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            line(&text);
        }
        ended.map_err(|why| self.failed(why))
    }

    fn prepared(&self) -> Command {
        let words = match self.shell {
            true => ["sh", "-c", self.command].map(str::to_owned).to_vec(),
            false => shlex::split(self.command).unwrap_or_default(),
        };
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(self.dir).envs(self.env);
        command
    }

    fn failed(&self, why: std::io::Error) -> CommandError {
        let program = self.program();
        match why.kind() {
            std::io::ErrorKind::NotFound => CommandError::NotFound { program },
            _ => CommandError::Start { program, why },
        }
    }
}

fn wait(
    child: &mut Child,
    stop: &AtomicBool,
    lines: &Receiver<String>,
    line: &mut dyn FnMut(&str),
) -> std::io::Result<Option<ExitStatus>> {
    let group = Pid::from_child(child);
    let mut asked = None;
    let mut closed = false;
    loop {
        match lines.recv_timeout(if closed { Duration::ZERO } else { LOOK }) {
            Ok(text) => line(&text),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if closed => std::thread::sleep(LOOK),
            Err(RecvTimeoutError::Disconnected) => closed = true,
        }
        if let Some(status) = child.try_wait()? {
            if asked.is_some() {
                // What it started may still be there, and the group is theirs.
                let _ = kill_process_group(group, Signal::KILL);
                return Ok(None);
            }
            return Ok(Some(status));
        }
        match asked {
            None if stop.load(Ordering::Relaxed) => {
                asked = Some(Instant::now());
                let _ = kill_process_group(group, Signal::TERM);
            }
            Some(at) if at.elapsed() > GRACE => {
                let _ = kill_process_group(group, Signal::KILL);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task<'a>(command: &'a str, env: &'a BTreeMap<String, String>, dir: &'a Path) -> Task<'a> {
        Task { command, shell: true, env, dir }
    }

    #[test]
    fn a_command_is_heard_and_its_code_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let env = [("WORD".to_owned(), "there".to_owned())].into();
        let mut lines = Vec::new();
        let command = "echo hello $WORD; pwd >&2; exit 3";
        let never = AtomicBool::new(false);
        let status = task(command, &env, dir.path())
            .watch(&never, &mut |line| lines.push(line.to_owned()))
            .unwrap()
            .unwrap();
        assert_eq!(status.code(), Some(3));
        let here = dir.path().canonicalize().unwrap().display().to_string();
        assert_eq!(lines, ["hello there".to_owned(), here]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let (env, dir) = (BTreeMap::new(), Path::new("/"));
        let task = Task { shell: false, ..task("no-such-compiler -O2", &env, dir) };
        let error = task.run().unwrap_err();
        assert_eq!(error.to_string(), "there is no program 'no-such-compiler' on the PATH");
    }

    #[test]
    fn a_stop_ends_what_the_command_started_too() {
        let dir = tempfile::tempdir().unwrap();
        let (env, stop) = (BTreeMap::new(), AtomicBool::new(false));
        // One that does not listen, and a child in the background.
        let command = "trap '' TERM; (sleep 3; touch late) & echo begun; sleep 3; touch late";
        let began = Instant::now();
        let ended = task(command, &env, dir.path())
            .watch(&stop, &mut |_| stop.store(true, Ordering::Relaxed))
            .unwrap();
        assert!(ended.is_none() && began.elapsed() < Duration::from_secs(2));
        std::thread::sleep(Duration::from_secs(3));
        assert!(!dir.path().join("late").exists());
    }

    #[test]
    fn a_child_that_stays_does_not_hold_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let (env, never) = (BTreeMap::new(), AtomicBool::new(false));
        let began = Instant::now();
        let command = "sleep 3 & echo built";
        let ended = task(command, &env, dir.path()).watch(&never, &mut |_| ()).unwrap();
        assert!(ended.is_some_and(|status| status.success()));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
