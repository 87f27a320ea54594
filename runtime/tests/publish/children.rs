//! The walls round a child process.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mayfly_host::engine::codegen::base_config;
use mayfly_publish::child::{Answer, Caps, ChildError, Children, Verb};
use mayfly_publish::preinit::{Job, Report};
use mayfly_publish::probe::Ask;

use crate::node::MAYFLY;

const CAPS: Caps = Caps { cpu_s: 20, data_bytes: 1 << 30, output_bytes: 1 << 26 };

/// Runs an init in a child, with an init limit that is out of the way.
async fn preinit(init: &str, caps: Caps, wall: Duration) -> Result<Answer<Report>, ChildError> {
    let wasm = wat::parse_str(format!(
        r#"(module (memory (export "memory") 1) (func (export "mayfly_init") {init}))"#
    ))
    .unwrap();
    let instrumented = mayfly_publish::snapshot::instrument(&wasm).unwrap();
    let code =
        wasmtime::Engine::new(&base_config()).unwrap().precompile_module(&instrumented).unwrap();
    let job = Job {
        init: "mayfly_init".into(),
        assets: vec![],
        native_kernels: false,
        memory_bytes: 1 << 32,
        table_elements: 0,
        init_us: 60_000_000,
        ask: Ask::default(),
    };
    let blobs: Vec<Bytes> = vec![code.into()];
    Children::of(MAYFLY).run(Verb::Preinit, job, blobs, caps, wall).await
}

#[tokio::test]
async fn a_child_that_burns_cpu_is_stopped_by_the_kernel() {
    let caps = Caps { cpu_s: 1, ..CAPS };
    let error = preinit("(loop $on (br $on))", caps, Duration::from_secs(30)).await.unwrap_err();
    assert!(matches!(error, ChildError::Cpu(limit) if limit == Duration::from_secs(1)), "{error}");
    assert_eq!(error.to_string(), "limit reached: 1s of CPU time");
}

#[tokio::test]
async fn a_child_that_takes_too_long_is_killed() {
    let start = Instant::now();
    let wall = Duration::from_millis(300);
    let error = preinit("(loop $on (br $on))", CAPS, wall).await.unwrap_err();
    assert!(matches!(error, ChildError::Wall(_)), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_child_that_writes_too_much_is_stopped() {
    let caps = Caps { output_bytes: 100_000, ..CAPS };
    let fill = "(drop (memory.grow (i32.const 15))) (memory.fill (i32.const 0) (i32.const 1) (i32.const 1000000))";
    let error = preinit(fill, caps, Duration::from_secs(30)).await.unwrap_err();
    assert!(matches!(error, ChildError::Output(100_000)), "{error}");
}

#[tokio::test]
async fn a_child_that_needs_too_much_memory_is_stopped() {
    let caps = Caps { data_bytes: 96 << 20, ..CAPS };
    // Linear memory is not on the data limit's account until the snapshot copies it.
    let fill = "(drop (memory.grow (i32.const 1600))) (memory.fill (i32.const 0) (i32.const 1) (i32.const 100000000))";
    let error = preinit(fill, caps, Duration::from_secs(30)).await;
    let ends_well =
        matches!(&error, Ok((report, _)) if report.end != mayfly_publish::preinit::End::Done);
    assert!(ends_well || matches!(error, Err(ChildError::Memory(_))), "{error:?}");
}

#[tokio::test]
async fn what_is_no_job_is_no_crash_of_ours() {
    let children = Children::of(MAYFLY);
    let run = children.run::<_, Report>(Verb::Compile, "not a job", vec![], CAPS, CAPS_WALL);
    let error = run.await.unwrap_err();
    assert!(error.to_string().contains("reading the job"), "{error}");
    let children = Children::of("/bin/true");
    let run = children.run::<_, Report>(Verb::Compile, "job", vec![], CAPS, CAPS_WALL);
    assert!(matches!(run.await, Err(ChildError::Answer(_))));
    let children = Children::of("/nonexistent");
    let run = children.run::<_, Report>(Verb::Compile, "job", vec![], CAPS, CAPS_WALL);
    assert!(matches!(run.await, Err(ChildError::Run { .. })));
}

const CAPS_WALL: Duration = Duration::from_secs(30);

#[test]
fn a_hidden_verb_by_hand_is_refused() {
    for verb in ["__compile", "__preinit"] {
        let output = std::process::Command::new(MAYFLY).arg(verb).output().unwrap();
        assert_eq!(output.status.code(), Some(70));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("not by hand"), "{text}");
    }
}

/// The child of this process with this limit of CPU time; other tests have children too.
fn child_of_ours(cpu_s: u64) -> Option<u32> {
    let own = std::process::id();
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let status = status(pid)?;
        (command.contains(&format!("\0{cpu_s}\0")) && status.get("PPid")? == &own.to_string())
            .then_some(pid)
    })
}

fn status(pid: u32) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pair = |line: &str| line.split_once(':').map(|(k, v)| (k.into(), v.trim().into()));
    Some(text.lines().filter_map(pair).collect())
}

#[tokio::test]
async fn a_child_has_nothing_to_reach_out_with() {
    let caps = Caps { cpu_s: 77, ..CAPS };
    let run = tokio::spawn(preinit("(loop $on (br $on))", caps, Duration::from_secs(4)));
    let pid = loop {
        let found =
            child_of_ours(77).filter(|pid| status(*pid).is_some_and(|s| s["Seccomp"] == "2"));
        if let Some(pid) = found {
            break pid;
        }
        assert!(!run.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let status = status(pid).unwrap();
    assert_eq!(status["NoNewPrivs"], "1");
    let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "1000", "memory that runs out costs this process first");
    assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = std::fs::read_link(fd.path()).unwrap();
        let target = target.to_string_lossy();
        assert!(
            target.starts_with("/memfd:") || target.starts_with("pipe:"),
            "{target} {:?}",
            fd.path()
        );
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((limit("Max cpu time"), limit("Max core file size")), ("77".into(), "0".into()));
    assert_eq!(limit("Max data size"), (1u64 << 30).to_string());
    assert!(matches!(run.await.unwrap(), Err(ChildError::Wall(_))));
}

#[tokio::test]
async fn a_child_that_the_kernel_kills_ran_out_of_memory() {
    let caps = Caps { cpu_s: 78, ..CAPS };
    let run = tokio::spawn(preinit("(loop $on (br $on))", caps, Duration::from_secs(60)));
    let pid = loop {
        if let Some(pid) = child_of_ours(78) {
            break pid;
        }
        assert!(!run.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // As the kernel does when memory runs out.
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let error = run.await.unwrap().unwrap_err();
    assert!(matches!(error, ChildError::Killed) && error.is_limit(), "{error}");
    assert!(error.to_string().contains("memory"), "{error}");
}
