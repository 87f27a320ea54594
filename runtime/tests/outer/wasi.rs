//! WASI preview 1 where no directory is open: what each call answers, and that it is what wasmtime's own runner answers.
//!
//! Modules are written here, from tables of calls. Without a wasmtime to compare with (`MAYFLY_WASMTIME`, or what
//! `make bench-peers` installed), only the tables' own expectations are checked, and that is said.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mayfly_host::imports::{WASI, WASI_FUNCTIONS};

/// What a run shows from outside.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    exit: Option<i32>,
    stdout: Vec<u8>,
}

/// A trap's exit code: both runners follow the shell's 128 + SIGABRT.
const TRAPPED: i32 = 134;

const BADF: u8 = 8;
const FAULTS: &str = "a trap or EFAULT";

/// Calls on descriptors that are not open, and on paths below them: all of them, as nothing beyond 0, 1 and 2 is.
const NOTHING_OPEN: &[(&str, u8)] = &[
    ("fd_advise 3 0 0 0", BADF),
    ("fd_allocate 3 0 0", BADF),
    ("fd_close 3", BADF),
    ("fd_close -1", BADF),
    ("fd_datasync 3", BADF),
    ("fd_fdstat_get 3 1024", BADF),
    ("fd_fdstat_set_flags 3 0", BADF),
    ("fd_fdstat_set_rights 3 0 0", BADF),
    ("fd_filestat_get 3 1024", BADF),
    ("fd_filestat_set_size 3 0", BADF),
    ("fd_filestat_set_times 3 0 0 0", BADF),
    ("fd_pread 3 16 1 0 1024", BADF),
    ("fd_prestat_get 3 1024", BADF),
    ("fd_prestat_dir_name 3 1024 8", BADF),
    ("fd_pwrite 3 16 1 0 1024", BADF),
    ("fd_read 3 16 1 1024", BADF),
    ("fd_readdir 3 1024 64 0 1152", BADF),
    ("fd_renumber 3 4", BADF),
    ("fd_renumber 1 4", BADF),
    ("fd_seek 3 0 0 1024", BADF),
    ("fd_sync 3", BADF),
    ("fd_tell 3 1024", BADF),
    ("fd_write 3 16 1 1024", BADF),
    ("path_create_directory 3 64 1", BADF),
    ("path_filestat_get 3 0 64 1 1024", BADF),
    ("path_filestat_set_times 3 0 64 1 0 0 0", BADF),
    ("path_link 3 0 64 1 3 64 1", BADF),
    ("path_open 3 0 64 1 0 0 0 0 1024", BADF),
    ("path_readlink 3 64 1 1024 8 1152", BADF),
    ("path_remove_directory 3 64 1", BADF),
    ("path_rename 3 64 1 3 64 1", BADF),
    ("path_symlink 64 1 3 64 1", BADF),
    ("path_unlink_file 3 64 1", BADF),
    ("sock_accept 3 0 1024", BADF),
    ("sock_recv 3 16 1 0 1024 1152", BADF),
    ("sock_send 3 16 1 0 1024", BADF),
    ("sock_shutdown 3 1", BADF),
];

/// Calls that the standard streams take or refuse, and those that need no descriptor. What they answer is asserted by
/// comparison; a few that programs rely on are named below.
const STREAMS: &[&str] = &[
    "fd_fdstat_get 0 1024",
    "fd_fdstat_get 1 1056",
    "fd_fdstat_get 2 1088",
    "fd_filestat_get 0 1152",
    "fd_filestat_get 1 1216",
    "fd_filestat_get 2 1280",
    "fd_advise 0 0 0 0",
    "fd_allocate 1 0 0",
    "fd_datasync 1",
    "fd_sync 0",
    "fd_fdstat_set_flags 1 0",
    "fd_fdstat_set_rights 1 0 0",
    "fd_filestat_set_size 1 0",
    "fd_filestat_set_times 1 0 0 0",
    "fd_prestat_get 0 1344",
    "fd_prestat_dir_name 1 1344 1",
    "fd_pread 0 16 1 0 1344",
    "fd_pwrite 1 32 1 0 1344",
    "fd_read 1 16 1 1344",
    "fd_write 0 32 1 1344",
    "fd_readdir 0 1344 64 0 1408",
    "fd_seek 0 0 1 1344",
    "fd_seek 1 0 0 1344",
    "fd_tell 0 1344",
    "fd_tell 2 1344",
    "fd_write 1 32 0 1344",
    "fd_write 2 32 0 1344",
    "path_open 0 0 64 1 0 0 0 0 1344",
    "path_filestat_get 1 0 64 1 1344",
    "path_create_directory 2 64 1",
    "sock_accept 0 0 1344",
    "sock_recv 0 16 1 0 1344 1408",
    "sock_send 1 32 1 0 1344",
    "sock_shutdown 1 1",
    "clock_res_get 0 1472",
    "clock_res_get 1 1472",
    "clock_res_get 2 1472",
    "clock_res_get 3 1472",
    "clock_time_get 0 1 1472",
    "clock_time_get 1 1 1472",
    "clock_time_get 2 1 1472",
    "clock_time_get 3 1 1472",
    "random_get 1536 0",
    "random_get 1536 32",
    "sched_yield",
    "proc_raise 6",
    "args_sizes_get 1472 1480",
    "environ_sizes_get 1472 1480",
    // Nothing to wait for; a clock that is due; a stream that is ready.
    "poll_oneoff 2048 3072 0 1472",
    "poll_oneoff 2048 3072 1 1472",
    "poll_oneoff 2096 3072 1 1472",
    "poll_oneoff 2048 3072 2 1472",
    "fd_close 2",
    "fd_close 2",
    "fd_write 2 32 1 1344",
    "fd_close 0",
    "fd_read 0 16 1 1344",
];

/// Pointers beyond memory, and numbers that are no clock and no event: never anything but a trap or an error.
const SENSELESS: &[&str] = &[
    "args_get -4 0",
    "args_sizes_get -4 0",
    "environ_sizes_get -2 0",
    "clock_time_get 0 1 65532",
    "random_get 65530 32",
    "random_get -1 2",
    "fd_write 1 65532 1 1344",
    "fd_write 1 48 1 1344",
    "fd_write 1 32 1 65534",
    "fd_read 0 48 1 1344",
    "fd_fdstat_get 1 65530",
    "poll_oneoff 65500 3072 1 1472",
    "poll_oneoff 2048 65530 1 1472",
    "fd_write 1 32 -1 1344",
    "clock_res_get 4 1472",
    "clock_time_get 9 1 1472",
    "poll_oneoff 2144 3072 1 1472",
    "fd_seek 1 0 7 1344",
    "fd_advise 1 0 0 99",
];

/// Imports of all of WASI, and memory: an iovec to read into at 16, one to write at 32, one that points nowhere at 48,
/// a name at 64, subscriptions from 2048.
fn module(body: &str) -> Vec<u8> {
    let mut text = String::from("(module\n");
    for (name, types) in WASI_FUNCTIONS {
        let (params, results) = types.split_once(':').unwrap();
        let list = |word: &str, letters: &str| {
            let types = letters.chars().map(|letter| if letter == 'I' { " i64" } else { " i32" });
            format!("({word}{})", types.collect::<String>())
        };
        let (params, results) = (list("param", params), list("result", results));
        writeln!(text, "(import \"{WASI}\" \"{name}\" (func ${name} {params} {results}))").unwrap();
    }
    let clock = subscription(0, &[1, 1_000_000, 0, 0]);
    let read = subscription(1, &[0, 0, 0, 0]);
    let unknown = subscription(7, &[0, 0, 0, 0]);
    write!(
        text,
        r#"(memory (export "memory") 1)
        (data (i32.const 16) "\00\04\00\00\00\00\00\00") (data (i32.const 32) "\40\00\00\00\05\00\00\00")
        (data (i32.const 48) "\f0\ff\ff\ff\40\00\00\00") (data (i32.const 64) "hello")
        (data (i32.const 2048) "{clock}{read}{unknown}")
        (func (export "_start") {body}))"#
    )
    .unwrap();
    wat::parse_str(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

/// As WASI lays it out: a word of the program's, the kind, and the kind's own four fields.
fn subscription(kind: u8, fields: &[u64; 4]) -> String {
    let mut bytes = 42_u64.to_le_bytes().to_vec();
    bytes.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// `fd_close 3` in the text format, with constants of the types that the function takes.
fn call(words: &str) -> String {
    let mut words = words.split(' ');
    let name = words.next().unwrap();
    let types = WASI_FUNCTIONS.iter().find(|(known, _)| *known == name).unwrap().1;
    let arguments = words.zip(types.chars()).map(|(word, letter)| {
        let kind = if letter == 'I' { "i64" } else { "i32" };
        format!(" ({kind}.const {word})")
    });
    format!("(call ${name}{})", arguments.collect::<String>())
}

/// Makes each call, notes its error code, and writes all of them to stdout, which must still be open.
fn errnos(calls: &[&str]) -> Vec<u8> {
    let mut body = String::new();
    for (i, words) in calls.iter().enumerate() {
        writeln!(body, "(i32.store8 (i32.const {}) {})", 4096 + i, call(words)).unwrap();
    }
    write!(
        body,
        "(i32.store (i32.const 16) (i32.const 4096)) (i32.store (i32.const 20) (i32.const {}))
         (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 1344)))",
        calls.len()
    )
    .unwrap();
    module(&body)
}

/// The target directory: the binary under test is `debug/mayfly` in it.
fn target() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_mayfly")).ancestors().nth(2).unwrap().to_owned()
}

struct Runners {
    dir: tempfile::TempDir,
    wasmtime: Option<PathBuf>,
}

impl Runners {
    fn new() -> Self {
        let installed = target().join("bench-peers/bin/wasmtime");
        let wasmtime = std::env::var_os("MAYFLY_WASMTIME").map_or(installed, PathBuf::from);
        let wasmtime = wasmtime.is_file().then_some(wasmtime);
        if wasmtime.is_none() {
            eprintln!("SKIPPED: no wasmtime to compare with; `make bench-peers` installs one");
        }
        Self { dir: tempfile::tempdir().unwrap(), wasmtime }
    }

    fn file(&self, wasm: &[u8]) -> PathBuf {
        let path = self.dir.path().join("case.wasm");
        std::fs::write(&path, wasm).unwrap();
        path
    }

    /// Runs a module with both; gives what Mayfly showed.
    fn run(&self, what: &str, path: &Path, args: &[&str], stdin: &[u8]) -> Shown {
        let mut mayfly = Command::new(env!("CARGO_BIN_EXE_mayfly"));
        mayfly.args(["run", "--env", "A=b c", "--env", "EMPTY="]).arg(path).args(args);
        let mine = shown(mayfly, stdin);
        if let Some(wasmtime) = &self.wasmtime {
            let mut theirs = Command::new(wasmtime);
            theirs.args(["run", "--env", "A=b c", "--env", "EMPTY="]).arg(path).args(args);
            let theirs = shown(theirs, stdin);
            assert_eq!(mine, theirs, "{what}: mayfly left, wasmtime right");
        }
        mine
    }
}

fn shown(mut command: Command, stdin: &[u8]) -> Shown {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut pipe, stdin) = (child.stdin.take().unwrap(), stdin.to_vec());
    // A program need not read what it is given.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    // Shown by the test runner if the test fails.
    eprint!("{stderr}");
    // Wasmtime has another exit code, 1, where it is a call to the host that traps. A program may end with 1 as well.
    let failed = stderr.contains("failed to run main module");
    let exit = if failed { Some(TRAPPED) } else { output.status.code() };
    Shown { exit, stdout: output.stdout }
}

#[test]
fn what_is_not_open_is_said_so() {
    let runners = Runners::new();
    let (calls, expected): (Vec<_>, Vec<_>) = NOTHING_OPEN.iter().copied().unzip();
    let shown = runners.run("nothing open", &runners.file(&errnos(&calls)), &[], b"");
    assert_eq!(shown.exit, Some(0));
    for (i, (call, expected)) in calls.iter().zip(&expected).enumerate() {
        assert_eq!(shown.stdout.get(i), Some(expected), "{call}");
    }
    let called = calls.iter().map(|words| words.split(' ').next().unwrap());
    let files = WASI_FUNCTIONS
        .iter()
        .filter(|(name, _)| ["fd_", "path_", "sock_"].iter().any(|p| name.starts_with(p)));
    for (name, _) in files {
        assert!(called.clone().any(|called| called == *name), "{name} is called nowhere");
    }
}

#[test]
fn streams_clocks_and_waits_answer_as_elsewhere() {
    let runners = Runners::new();
    let shown = runners.run("streams", &runners.file(&errnos(STREAMS)), &["one", "two"], b"input");
    assert_eq!(shown.exit, Some(0));
    let errno = |call: &str| {
        let at = STREAMS.iter().rposition(|known| *known == call).unwrap();
        shown.stdout[shown.stdout.len() - STREAMS.len() + at]
    };
    for call in [
        "fd_fdstat_get 1 1056",
        "clock_time_get 0 1 1472",
        "clock_time_get 1 1 1472",
        "random_get 1536 32",
        "sched_yield",
        "poll_oneoff 2048 3072 1 1472",
        "poll_oneoff 2096 3072 1 1472",
        "args_sizes_get 1472 1480",
    ] {
        assert_eq!(errno(call), 0, "{call}");
    }
    for call in [
        "fd_prestat_get 0 1344",
        "fd_seek 1 0 0 1344",
        "poll_oneoff 2048 3072 0 1472",
        "fd_close 2",
    ] {
        assert_ne!(errno(call), 0, "{call}");
    }
}

#[test]
fn what_cannot_be_meant_fails() {
    let runners = Runners::new();
    for words in SENSELESS {
        let body = format!("(call $proc_exit {})", call(words));
        let shown = runners.run(words, &runners.file(&module(&body)), &["x"], b"input");
        let exit = shown.exit.unwrap();
        assert!(exit == TRAPPED || (1..126).contains(&exit), "{words}: {exit} is not {FAULTS}");
    }
}

#[test]
fn programs_end_as_they_say() {
    let runners = Runners::new();
    for (body, exit) in [
        ("", 0),
        ("(call $proc_exit (i32.const 0)) unreachable", 0),
        ("(call $proc_exit (i32.const 1))", 1),
        ("(call $proc_exit (i32.const 125))", 125),
        ("(call $proc_exit (i32.const 126))", TRAPPED),
        ("(call $proc_exit (i32.const -1))", TRAPPED),
        ("unreachable", TRAPPED),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", TRAPPED),
        ("(drop (i32.load (i32.const 65536)))", TRAPPED),
    ] {
        let shown = runners.run(body, &runners.file(&module(body)), &[], b"");
        assert_eq!(shown.exit, Some(exit), "{body}");
    }
}

#[test]
fn a_standard_library_finds_its_way() {
    let path = target().join("wasm32-wasip1/guest/wasi-std.wasm");
    assert!(path.is_file(), "{} is not there: run `make guests`", path.display());
    let runners = Runners::new();
    let run = |case: &str, stdin: &[u8]| {
        let args: Vec<_> = case.split(' ').collect();
        let shown = runners.run(case, &path, &args, stdin);
        (shown.exit.unwrap(), String::from_utf8(shown.stdout).unwrap())
    };
    assert_eq!(run("args --x y", b""), (0, "\"--x\"\n\"y\"\n".into()));
    let (exit, text) = run("env", b"");
    assert!(exit == 0 && text.starts_with("A=\"b c\"\nEMPTY=\"\"\nErr(NotPresent)"), "{text}");
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| b"0123456789\n"[(n % 11) as usize]).collect();
    assert_eq!(run("copy", &large), (0, String::from_utf8(large.clone()).unwrap()));
    assert_eq!(run("lines", b"a\n\nb"), (0, "0: Ok(\"a\")\n1: Ok(\"\")\n2: Ok(\"b\")\n".into()));
    let (exit, text) = run("files", b"");
    assert!(exit == 0 && text.lines().filter(|line| line.contains("Err(")).count() >= 13, "{text}");
    let (exit, text) = run("sockets", b"");
    assert!(exit == 0 && text.lines().all(|line| line.contains("Unsupported")), "{text}");
    assert_eq!(run("threads", b""), (0, "Err(Unsupported)\n".into()));
    let clocks = "the calendar is plausible: true\nthe clock went back 0 times\n";
    assert_eq!(run("clocks", b""), (0, clocks.into()));
    assert_eq!(run("sleep", b""), (0, "true\n".into()));
    assert_eq!(run("random", b""), (0, "1000 different draws of 1000\n".into()));
    let (exit, text) = run("large", b"");
    assert_eq!((exit, text.len()), (0, 4096 * 1025));
    assert_eq!(run("exit 7", b"").0, 7);
    for case in ["panic", "abort", "overflow"] {
        assert_eq!(run(case, b"").0, TRAPPED, "{case}");
    }
}
