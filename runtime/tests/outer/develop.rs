//! The developer's loop: `new`, `build`, `dev`, `test`, and a deploy of a directory. The build is a copy, so that no
//! toolchain is needed; `make templates` has those.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::node::{Node, module, request};

/// A build that is not there by then does not come.
const PATIENCE: Duration = Duration::from_secs(30);

fn mayfly(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mayfly"));
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(dir).args(arguments);
    command
}

fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = mayfly(dir, arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A function whose build is this command, and whose source is a module that answers `first`.
fn project(command: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "name = \"greet\"\n[build]\nshell = true\ncommand = \"{command}\"\noutput = \"out.wasm\"\n\
         [deploy]\nroutes = [\"/api/...\"]\nlimits = {{ memory = \"16MiB\" }}\n"
    );
    std::fs::write(dir.path().join("function.toml"), text).unwrap();
    std::fs::write(dir.path().join("source.wasm"), module("first")).unwrap();
    dir
}

/// As editors with a safe save do it: the new content takes the old one's place.
fn save_by_rename(dir: &Path, body: &str) {
    let source = dir.join("source.wasm");
    std::fs::rename(&source, dir.join("source.wasm~")).unwrap();
    std::fs::write(dir.join("4913"), module(body)).unwrap();
    std::fs::rename(dir.join("4913"), &source).unwrap();
    std::fs::remove_file(dir.join("source.wasm~")).unwrap();
}

/// A running `mayfly dev`.
struct Dev {
    dir: TempDir,
    process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    gateway: String,
}

impl Dev {
    fn start(dir: TempDir) -> Self {
        Self::start_with(dir, &[])
    }

    fn start_with(dir: TempDir, more: &[&str]) -> Self {
        let any = ["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut command = mayfly(dir.path(), &[&any[..], more].concat());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        let mut dev = Self { dir, process, lines, seen: Vec::new(), gateway: String::new() };
        let line = dev.until("serving on http://");
        let address = line.split("http://").nth(1).unwrap();
        dev.gateway = address.split(',').next().unwrap().to_owned();
        dev
    }

    /// Waits for a line with this text.
    fn until(&mut self, text: &str) -> String {
        let patience = Instant::now() + PATIENCE;
        loop {
            let left = patience.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with '{text}' in {:#?}", self.seen),
            }
        }
    }

    /// Waits until the function answers so.
    fn answers(&mut self, body: &str) {
        let patience = Instant::now() + PATIENCE;
        let mut found = (0, String::new());
        while Instant::now() < patience {
            found = self.get("/greet");
            if found == (200, body.to_owned()) {
                self.seen.extend(self.lines.try_iter());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.seen.extend(self.lines.try_iter());
        panic!("{found:?} in place of {body}: {:#?}", self.seen);
    }

    fn get(&self, path: &str) -> (u16, String) {
        request(&self.gateway, path, "")
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Lines so far with this text.
    fn count(&mut self, text: &str) -> usize {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let patience = Instant::now() + Duration::from_secs(10);
        while Instant::now() < patience
            && self.process.try_wait().is_ok_and(|ended| ended.is_none())
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_save_is_served_however_it_is_written() {
    let mut dev = Dev::start(project("cp source.wasm out.wasm"));
    dev.answers("first");
    assert_eq!(dev.get("/api/x"), (200, "first".into()));
    let path = dev.path();
    std::fs::write(path.join("source.wasm"), module("in place")).unwrap();
    dev.answers("in place");
    save_by_rename(&path, "by rename");
    dev.answers("by rename");
    // A second one: a watch of the file itself would have gone with the first.
    save_by_rename(&path, "by rename again");
    dev.answers("by rename again");
    // A new directory, and a file in it.
    let before = dev.count("build ");
    std::fs::create_dir_all(path.join("deep/deeper")).unwrap();
    std::fs::write(path.join("deep/deeper/new.c"), "").unwrap();
    dev.until("deep/deeper/new.c changed");
    dev.until("version");
    // The output lies in the tree and is written by each build: that starts none.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(dev.count("build "), before + 1, "{:#?}", dev.seen);
    assert!(dev.count("GET /greet 200") > 0, "{:#?}", dev.seen);
}

#[test]
fn a_build_that_fails_leaves_what_serves_and_says_why() {
    let mut dev = Dev::start(project(
        "if test -e broken; then echo main.c:1: no >&2; exit 1; fi; cp source.wasm out.wasm",
    ));
    dev.answers("first");
    std::fs::write(dev.path().join("broken"), "").unwrap();
    dev.until("| main.c:1: no");
    dev.until("error: the build failed: sh ended with exit code 1");
    dev.until("version 1 still serves");
    assert_eq!(dev.get("/greet"), (200, "first".into()));
    std::fs::remove_file(dev.path().join("broken")).unwrap();
    save_by_rename(&dev.path(), "second");
    dev.answers("second");
    // What is no module is told as by a deploy.
    std::fs::write(dev.path().join("source.wasm"), wat::parse_str("(component)").unwrap()).unwrap();
    dev.until("a WebAssembly component");
    assert_eq!(dev.get("/greet"), (200, "second".into()));
}

#[test]
fn a_save_during_a_build_ends_it_with_all_that_it_started() {
    let mut dev = Dev::start(project(
        "cp source.wasm x.o; if test -e slow; then (sleep 3; touch late) & sleep 3; fi; cp source.wasm out.wasm; rm x.o",
    ));
    dev.answers("first");
    std::fs::write(dev.path().join("slow"), "").unwrap();
    dev.until("slow changed");
    std::thread::sleep(Duration::from_millis(300));
    std::fs::remove_file(dev.path().join("slow")).unwrap();
    save_by_rename(&dev.path(), "second");
    dev.until("a save during the build");
    dev.answers("second");
    std::thread::sleep(Duration::from_secs(3));
    assert!(!dev.path().join("late").exists());
}

#[test]
fn two_hundred_saves_in_ten_seconds_are_few_builds_and_the_last_is_served() {
    let mut dev = Dev::start(project("cp source.wasm out.wasm"));
    dev.answers("first");
    let before = dev.count("version");
    let began = Instant::now();
    for n in 0..200u32 {
        let due = began + n * Duration::from_millis(50);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        save_by_rename(&dev.path(), &format!("save {n}"));
    }
    dev.answers("save 199");
    let builds = dev.count("version") - before;
    // Three at the pace of the clock; a machine that stalls for longer than the quiet makes a pause of its own.
    assert!(builds <= 4, "{builds} builds: {:#?}", dev.seen);
}

#[test]
fn a_build_that_writes_its_own_sources_comes_to_rest() {
    let mut dev = Dev::start(project("date +%N > made.c; cp source.wasm out.wasm"));
    dev.until("made.c changed during three builds in a row");
    let before = dev.count("version");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(dev.count("version"), before, "{:#?}", dev.seen);
    save_by_rename(&dev.path(), "second");
    dev.answers("second");
}

#[test]
fn without_events_the_sources_are_looked_at() {
    let mut dev = Dev::start_with(project("cp source.wasm out.wasm"), &["--poll"]);
    dev.answers("first");
    save_by_rename(&dev.path(), "second");
    dev.answers("second");
    // A change of the file itself: another name, other routes.
    let file = dev.path().join("function.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("/api/...", "/v9/...")).unwrap();
    dev.until("function.toml changed");
    dev.until("version");
    assert_eq!(dev.get("/v9/x"), (200, "second".into()));
    assert_eq!(dev.get("/api/x").0, 404);
}

#[test]
fn a_port_that_is_taken_is_told_with_who_has_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dir = project("true");
    let (code, _, error) = run(dir.path(), &["dev", "--listen", &address]);
    let who = format!("(process {}) does", std::process::id());
    assert_eq!(code, 1, "{error}");
    assert!(error.contains(&who) && error.contains("another port with --listen"), "{error}");
}

#[test]
fn a_build_says_what_is_wrong_and_what_to_do() {
    let dir = project("true");
    let fails = |arguments: &[&str], expect: i32, parts: &[&str]| {
        let (code, _, error) = run(dir.path(), arguments);
        assert_eq!(code, expect, "{error}");
        parts.iter().for_each(|part| assert!(error.contains(part), "{part}: {error}"));
    };
    fails(&["build", "/"], 64, &["there is no function.toml in /", "mayfly new"]);
    fails(&["build"], 1, &["there is no ", "out.wasm", "output, below [build]"]);
    let file = dir.path().join("function.toml");
    let with = |command: &str| {
        let text =
            format!("name = \"f\"\n[build]\ncommand = \"{command}\"\noutput = \"out.wasm\"\n");
        std::fs::write(&file, text).unwrap();
    };
    with("no-such-compiler -O2");
    fails(&["build"], 1, &["there is no program 'no-such-compiler'", "change command"]);
    // The toolchain is known, and not on this path.
    with("zig build-exe main.zig");
    fails(&["build"], 1, &["there is no program 'zig'", "https://ziglang.org/download/"]);
    fails(&["doctor"], 1, &["missing"]);
    std::fs::write(&file, "name = \"f\"\n[build]\noutptu = \"x\"\n").unwrap();
    fails(&["build"], 78, &["unknown field `outptu`", "function.toml"]);
    fails(&["deploy"], 78, &["unknown field `outptu`"]);
}

#[test]
fn a_template_is_written_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    let (code, told, error) = run(dir.path(), &["new", "hello", "-t", "c"]);
    assert_eq!(code, 0, "{error}");
    assert!(told.contains("cd hello\n  mayfly dev"), "{told}");
    assert!(dir.path().join("hello/mayfly.h").is_file());
    let (code, _, error) = run(dir.path(), &["new", "hello", "-t", "go"]);
    assert!(code == 1 && error.contains("hello is not empty: nothing was written"), "{error}");
    assert!(!dir.path().join("hello/main.go").exists());
    let (code, _, error) = run(dir.path(), &["new", "x", "-t", "cobol"]);
    assert!(code == 64 && error.contains("there are rust, rust-command"), "{error}");
    let (_, list, _) = run(dir.path(), &["new", "-t", "list"]);
    assert_eq!(list.lines().count(), 12, "{list}");
}

#[test]
fn cases_pass_and_fail_over_http() {
    let dir = project("cp source.wasm out.wasm");
    let cases = "[[case]]\nname = \"greets\"\nexpect = { body = \"first\", outcome = \"answered\", log = \"somebody called\" }\n\
                 [[case]]\nname = \"has a route\"\nrequest = { path = \"/api/x\" }\nexpect = { contains = \"fir\", wall = \"20s\" }\n\
                 [[case]]\nname = \"is elsewhere\"\nrequest = { path = \"/other\" }\nexpect = { status = 404 }\n";
    let file = dir.path().join("tests.toml");
    std::fs::write(&file, cases).unwrap();
    let (code, told, error) = run(dir.path(), &["test"]);
    assert_eq!(code, 0, "{told}{error}");
    assert!(told.ends_with("3 passed, 0 failed\n"), "{told}");
    std::fs::write(&file, cases.replace("\"first\"", "\"second\"")).unwrap();
    let (code, told, _) = run(dir.path(), &["test", "--junit", "junit.xml"]);
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("FAIL  greets") && told.contains("body is \"first\" in place of \"second\"")
    );
    assert!(told.contains("> somebody called") && told.ends_with("2 passed, 1 failed\n"), "{told}");
    let xml = std::fs::read_to_string(dir.path().join("junit.xml")).unwrap();
    assert!(xml.contains("tests=\"3\" failures=\"1\""), "{xml}");
    let (code, told, _) = run(dir.path(), &["test", "--filter", "route"]);
    assert!(code == 0 && told.ends_with("1 passed, 0 failed\n"), "{told}");
    let (code, _, error) = run(dir.path(), &["test", "--filter", "nothing"]);
    assert!(code == 64 && error.contains("no case of 3"), "{error}");
}

#[test]
fn tests_in_the_functions_language_come_first_and_find_mayfly() {
    let dir = project("cp source.wasm out.wasm");
    let file = dir.path().join("function.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let with = |command: &str| {
        std::fs::write(&file, format!("{text}[test]\nshell = true\ncommand = \"{command}\"\n"))
            .unwrap();
    };
    with("mayfly run --test out.wasm");
    let (code, told, error) = run(dir.path(), &["test"]);
    assert_eq!(code, 0, "{told}{error}");
    assert!(told.contains("first") && told.ends_with("0 passed, 0 failed\n"), "{told}");
    with("exit 7");
    let (code, _, error) = run(dir.path(), &["test"]);
    assert!(
        code == 1 && error.contains("tests failed: 'exit 7' ended with exit status: 7"),
        "{error}"
    );
}

#[test]
fn a_deploy_without_a_path_is_of_the_directory() {
    let node = Node::start(project("cp source.wasm out.wasm"));
    let told = node.ok(&["deploy", "-e", "KEY=value"]);
    assert!(told.contains("version 1 answers at"), "{told}");
    assert_eq!(node.get("/api/x"), (200, "first".into()));
    assert!(node.ok(&["inspect", "greet"]).contains("memory=16MiB"));
    // The file says nothing of variables: the one that was set stays.
    node.file("source.wasm", &module("second"));
    let told = node.ok(&["deploy"]);
    assert!(told.contains("kept       variable KEY ("), "{told}");
    assert_eq!(node.get("/greet"), (200, "second".into()));
}
