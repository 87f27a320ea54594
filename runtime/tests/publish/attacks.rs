//! The children of publish in a hostile guest's hands: an init that broke out of the sandbox and makes system calls, one
//! that wants to live on, and one that hands back what our own child never would.

use std::io::{Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use mayfly_core::record::Settings;
use mayfly_publish::child::{Caps, Children, confine, wire};
use mayfly_publish::preinit::{End, Report};
use mayfly_publish::probe::Said;
use mayfly_publish::snapshot::{Left, Value};

use crate::node::{MAYFLY, TestNode, reactor, says, state};

/// Runs an ignored test of this file in a process of its own.
fn elsewhere(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("attacks::{test}"), "--ignored", "--nocapture"]);
    command
}

/// What an attack does, once its process is confined; true if it got what it wanted.
type Attack = fn() -> bool;

/// What the kernel does about it.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// An error: libraries probe for such calls.
    Refused,
    /// SIGSYS: only an attacker makes this one.
    Killed,
    /// SIGXFSZ: it wrote too much.
    TooMuch,
}

const ATTACKS: &[(&str, Attack, Answer)] = &[
    ("reads a file", || std::fs::read("/etc/passwd").is_ok(), Answer::Refused),
    ("lists a directory", || std::fs::read_dir("/").is_ok(), Answer::Refused),
    ("makes a file", || std::fs::write("/tmp/mayfly-attack", "x").is_ok(), Answer::Refused),
    ("removes a file", || std::fs::remove_file("/tmp/mayfly-attack").is_ok(), Answer::Refused),
    (
        "follows its own descriptors",
        || std::fs::read_link("/proc/self/exe").is_ok(),
        Answer::Refused,
    ),
    ("connects", || std::net::TcpStream::connect("127.0.0.1:1").is_ok(), Answer::Killed),
    ("listens", || std::net::TcpListener::bind("127.0.0.1:0").is_ok(), Answer::Killed),
    ("talks to a socket", || std::os::unix::net::UnixStream::pair().is_ok(), Answer::Killed),
    (
        "becomes another program",
        || Command::new("/bin/true").exec().kind() == std::io::ErrorKind::Other,
        Answer::Killed,
    ),
    ("starts another program", || Command::new("/bin/true").spawn().is_ok(), Answer::Refused),
    (
        "signals others",
        || rustix::process::test_kill_process(rustix::process::Pid::INIT).is_ok(),
        Answer::Refused,
    ),
    ("makes a descriptor send signals", makes_a_descriptor_send_signals, Answer::Refused),
    ("raises its limits", raises_its_limits, Answer::Refused),
    ("takes its priority back", || rustix::process::nice(-5).is_ok(), Answer::Refused),
    ("lets others look into it", lets_others_look, Answer::Refused),
    ("takes all memory", || Vec::<u8>::new().try_reserve_exact(2 << 30).is_ok(), Answer::Refused),
    ("takes all descriptors", takes_all_descriptors, Answer::Refused),
    ("writes without end", writes_without_end, Answer::TooMuch),
];

fn makes_a_descriptor_send_signals() -> bool {
    let asynchronous = rustix::fs::OFlags::from_bits_retain(libc::O_ASYNC.cast_unsigned());
    rustix::fs::fcntl_setfl(std::io::stdin(), asynchronous).is_ok()
}

fn raises_its_limits() -> bool {
    let more = rustix::process::Rlimit { current: Some(1000), maximum: Some(1000) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, more).is_ok()
}

fn lets_others_look() -> bool {
    let behavior = rustix::process::DumpableBehavior::Dumpable;
    rustix::process::set_dumpable_behavior(behavior).is_ok()
}

fn takes_all_descriptors() -> bool {
    let make = || rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC);
    (0..12).map(|_| make()).collect::<Result<Vec<_>, _>>().is_ok()
}

fn writes_without_end() -> bool {
    let file = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    std::fs::File::from(file).write_all(&vec![0; 2 << 20]).is_ok()
}

const CAPS: Caps = Caps { cpu_s: 20, data_bytes: 1 << 30, output_bytes: 1 << 20 };

#[test]
#[ignore = "run by the test below, in a process that is confined"]
fn attack() {
    let name = std::env::var("MAYFLY_TEST_ATTACK").unwrap();
    let (_, attack, _) = ATTACKS.iter().find(|(known, ..)| *known == name).unwrap();
    // Filters are of the thread, as is what follows; the harness waits in another one.
    confine::confine(&CAPS).unwrap();
    std::process::exit(if attack() { 1 } else { 0 });
}

#[test]
fn a_child_that_was_broken_out_of_reaches_nothing() {
    for (name, _, expected) in ATTACKS {
        let status = elsewhere("attack").env("MAYFLY_TEST_ATTACK", name).output().unwrap().status;
        assert_eq!(answer(status).as_ref(), Some(expected), "{name}: {status}");
    }
}

fn answer(status: ExitStatus) -> Option<Answer> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Some(Answer::Refused),
        (_, Some(libc::SIGSYS)) => Some(Answer::Killed),
        (_, Some(libc::SIGXFSZ)) => Some(Answer::TooMuch),
        _ => None,
    }
}

#[tokio::test]
#[ignore = "run by the test below, in a process that is killed"]
async fn deploy_without_end() {
    let state = std::env::var("MAYFLY_TEST_STATE").unwrap();
    let node = TestNode::open(Path::new(&state));
    let init = r#"(func (export "mayfly_init") (loop $on (br $on)))"#;
    let settings = crate::node::limits(&["init=599s"]);
    let _ = node.deploy("f", &reactor(0, init), settings).await;
}

fn children_of(parent: u32) -> Vec<u32> {
    let of = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("PPid:"))?;
        (line[5..].trim() == parent.to_string()).then_some(pid)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

fn runs_init(pid: u32) -> bool {
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.contains("__preinit")
}

#[test]
fn an_init_does_not_outlive_its_node() {
    let state = state();
    let mut node =
        elsewhere("deploy_without_end").env("MAYFLY_TEST_STATE", state.path()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    let child = loop {
        if let Some(child) = children_of(node.id()).into_iter().find(|pid| runs_init(*pid)) {
            break child;
        }
        assert!(Instant::now() < patience, "no init was started");
        std::thread::sleep(Duration::from_millis(5));
    };
    node.kill().unwrap();
    node.wait().unwrap();
    while runs_init(child) {
        assert!(Instant::now() < patience, "init {child} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a forger hands back in place of a snapshot, by name: what it says of it, and the blobs.
fn forgery(name: &str) -> (Option<(Left, Said)>, Vec<Vec<u8>>) {
    let left = |memory_bytes| {
        let said = Said::Answers { seeds: None, weights: None };
        Some((Left { memory_bytes, globals: Vec::new() }, said))
    };
    let place = |start: u64, length: u64| [start.to_le_bytes(), length.to_le_bytes()].concat();
    match name {
        "elf" => {
            let elf = std::fs::read(MAYFLY).unwrap()[..4096].to_vec();
            (left(1 << 16), vec![elf.clone(), elf])
        }
        "nothing" => (None, Vec::new()),
        "no memory" => (left(0), vec![Vec::new(), Vec::new()]),
        "large" => (left(60_000 << 16), vec![Vec::new(), Vec::new()]),
        "no page" => (left((1 << 16) + 1), vec![Vec::new(), Vec::new()]),
        "reaches out" => (left(1 << 16), vec![place(65_000, 4_096), vec![1; 4_096]]),
        "less than it says" => (left(1 << 16), vec![place(0, 4_096), vec![1; 100]]),
        "more than it says" => (left(1 << 16), vec![Vec::new(), vec![1; 100]]),
        "more globals" => {
            let mut left = left(1 << 16);
            left.iter_mut().for_each(|(left, _)| left.globals.push(Value::I32(1)));
            (left, vec![Vec::new(), Vec::new()])
        }
        _ => panic!("{name}"),
    }
}

const FORGERIES: [&str; 9] = [
    "elf",
    "nothing",
    "no memory",
    "large",
    "no page",
    "reaches out",
    "less than it says",
    "more than it says",
    "more globals",
];

#[test]
#[ignore = "run as a child of publish by the test below"]
fn forge() {
    let name = std::env::var("MAYFLY_TEST_FORGERY").unwrap();
    let mut answer = std::fs::OpenOptions::new().write(true).open("/proc/self/fd/1").unwrap();
    // What the test harness has written so far is in the way.
    answer.set_len(0).unwrap();
    answer.rewind().unwrap();
    let (left, blobs) = forgery(&name);
    let report = Report { end: End::Done, log: String::new(), init_us: 1, left };
    wire::write(&mut answer, &report, &blobs).unwrap();
    std::process::exit(0);
}

/// A program that compiles as ours does, and forges what init leaves.
fn forger(dir: &Path, name: &str) -> Children {
    let path = dir.join("forger");
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = __preinit ]; then\n  MAYFLY_TEST_FORGERY='{name}' exec '{}' --exact attacks::forge --ignored --nocapture\nfi\nexec '{MAYFLY}' \"$@\"\n",
        own.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    Children::of(path)
}

#[tokio::test]
async fn a_forged_snapshot_is_refused_and_changes_nothing() {
    let init = r#"(func (export "mayfly_init"))"#;
    for name in FORGERIES {
        let (state, scripts) = (state(), tempfile::tempdir().unwrap());
        let honest = TestNode::open(state.path());
        honest.deploy("f", &says("old"), Settings::default()).await.unwrap();
        drop(honest);
        let node = TestNode::open_with(state.path(), forger(scripts.path(), name));
        node.publisher.restore().await.unwrap();
        let error = node.deploy("f", &reactor(1, init), Settings::default()).await.unwrap_err();
        assert!((400..600).contains(&error.status()), "{name}: {error}");
        assert!(!error.to_string().is_empty() && error.hint().is_some(), "{name}");
        assert_eq!(node.get("/f").await, (200, "old".into()), "{name}");
        drop(node);
        // Nothing of it is there after a restart, either.
        let node = TestNode::open(state.path());
        node.publisher.restore().await.unwrap();
        assert_eq!(node.get("/f").await, (200, "old".into()), "{name}");
    }
}
