//! The binary as an operator meets it: processes, sockets, exit codes.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod develop;
mod kill;
mod lengths;
mod node;
mod outbound;
mod profile;
mod proxied;
mod secured;
mod wasi;
mod words;

use serde_json::Value;

use node::{GREETING, Node, module};

#[test]
fn a_function_is_deployed_called_shown_and_there_after_a_restart() {
    let mut node = Node::start(tempfile::tempdir().unwrap());
    let wasm = node.file("greet.wasm", &module("hello"));
    let deployed = node.ok(&["deploy", &wasm, "--route", "/api/...", "--limit", "memory=16MiB"]);
    assert!(deployed.contains("compile") && deployed.contains("/greet"), "{deployed}");
    assert_eq!(node.ok(&["invoke", "greet"]), "hello");
    assert_eq!(node.get("/greet/below?x=1"), (200, "hello".into()));
    assert_eq!(node.get("/api/x"), (200, "hello".into()));
    let list: Value = serde_json::from_str(&node.ok(&["list", "--output", "json"])).unwrap();
    assert_eq!(list["functions"][0]["revision"]["limits"]["memory"], "16MiB");
    let logs = node.ok(&["logs", "greet", "--output", "json"]);
    assert!(logs.contains(GREETING), "{logs}");
    assert!(node.metrics().contains("mayfly_compiles_total 1\n"));

    assert_eq!(node.stop(), Some(0));
    let mut node = Node::start(node.into_dir());
    assert_eq!(node.get("/greet"), (200, "hello".into()));
    assert!(node.metrics().contains("mayfly_compiles_total 0\n"));
    assert!(node.ok(&["inspect", "greet"]).contains("memory=16MiB"));
    let told = node.ok(&["remove", "greet"]);
    assert_eq!(told, "greet is removed\n  routes     gone with it: /api/...\n");
    assert_eq!(node.get("/greet").0, 404);
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_failed_deploy_says_why_and_leaves_the_old_one() {
    let node = Node::start(tempfile::tempdir().unwrap());
    let good = node.file("good.wasm", &module("first"));
    node.ok(&["deploy", &good, "--name", "f"]);
    let import = r#"(module (import "env" "nope" (func)) (memory (export "memory") 1) (func (export "_start")))"#;
    let bad = node.file("bad.wasm", &wat::parse_str(import).unwrap());
    let (code, error) = node.fails(&["deploy", &bad, "--name", "f"]);
    assert_eq!(code, 1);
    for part in ["'validate'", "env::nope", "hint:", "untouched"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert_eq!(node.get("/f"), (200, "first".into()));
    let second = node.file("second.wasm", &module("second"));
    assert!(node.ok(&["deploy", &second, "--name", "f"]).contains("version 2"));
    assert_eq!(node.get("/f"), (200, "second".into()));
}

#[test]
fn a_redeploy_keeps_what_it_does_not_name() {
    let node = Node::start(tempfile::tempdir().unwrap());
    let first = node.file("api.wasm", &module("first"));
    let second = node.file("second.wasm", &module("second"));
    node.ok(&["deploy", &first, "-l", "memory=16MiB", "-e", "KEY=secret", "-r", "/api/..."]);
    let told = node.ok(&["deploy", &second, "--name", "api"]);
    let kept = "kept       limit memory=16MiB, variable KEY, route /api/...";
    assert!(told.contains(kept), "{told}");
    assert_eq!(node.get("/api/x"), (200, "second".into()));
    assert!(node.ok(&["inspect", "api"]).contains("variables  KEY"));
    let reset = node.ok(&["deploy", &first, "--name", "api", "--reset=routes,env"]);
    assert!(reset.contains("kept       limit memory=16MiB (") && !reset.contains("KEY"), "{reset}");
    let all = node.ok(&["deploy", &first, "--name", "api", "--reset"]);
    assert!(!all.contains("kept"), "{all}");
    let shown = node.ok(&["inspect", "api"]);
    assert!(shown.contains("routes     none") && shown.contains("memory=128MiB"), "{shown}");
}

#[test]
fn a_removed_function_is_gone_at_once_and_its_requests_end() {
    let node = Node::start(tempfile::tempdir().unwrap());
    node.ok(&["deploy", &guest(&node, "naps"), "--name", "naps", "-l", "wall=20s"]);
    let under_way = node.get_later("/naps");
    while !node.metrics().contains("http_server_active_requests 1\n") && !under_way.is_finished() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let told = node.ok(&["remove", "naps"]);
    assert!(told.starts_with("naps is removed"), "{told}");
    assert_eq!(node.get("/naps").0, 404);
    assert_eq!(under_way.join().unwrap(), (200, "ok".into()));
}

#[test]
fn a_broken_file_in_the_directory_does_not_stop_who_needs_none_of_it() {
    let node = Node::start(tempfile::tempdir().unwrap());
    node.file("mayfly.toml", b"[gateway]\nworkers = \"many\"\nnonsense = 1\n");
    assert!(node.ok(&["list"]).contains("no functions yet"));
    node.file("mayfly.toml", b"[gateway\n");
    assert!(node.ok(&["list"]).contains("no functions yet"));
    let (code, error) = node.fails(&["serve", "--print-config"]);
    assert!(code == 78 && error.contains("mayfly.toml"), "{error}");
}

#[test]
fn routes_that_meet_are_told_of() {
    let node = Node::start(tempfile::tempdir().unwrap());
    let wasm = |body: &str| node.file(&format!("{body}.wasm"), &module(body));
    node.ok(&["deploy", &wasm("hello")]);
    let site = node.ok(&["deploy", &wasm("site"), "--route", "/..."]);
    assert!(site.contains("/... leaves others the paths"), "{site}");
    assert_eq!(node.get("/hello"), (200, "hello".into()));
    let deep = node.ok(&["deploy", &wasm("deep"), "--route", "/hello/deep/..."]);
    assert!(
        deep.contains("note: /hello/deep/... takes its paths from the function 'hello'"),
        "{deep}"
    );
    let (code, error) = node.fails(&["deploy", &wasm("other"), "--route", "/hello/..."]);
    assert!(code == 1 && error.contains("belongs to the function 'hello'"), "{error}");
    let list = node.ok(&["list"]);
    assert!(
        list.contains("taken out of /hello/... of 'hello': /hello/deep/... of 'deep'"),
        "{list}"
    );
    let list: Value = serde_json::from_str(&node.ok(&["list", "--output", "json"])).unwrap();
    assert_eq!(list["functions"][0]["takes"][1]["within"], "/hello/...", "{list}");
    assert_eq!(node.get("/hello/deep/x"), (200, "deep".into()));
}

#[test]
fn what_a_node_writes_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o775)).unwrap();
    };
    let shut = |path: &std::path::Path| {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    };
    // The root of a volume, which is not the node's alone; then a directory of its own that was left open.
    for (found, state) in [(Some("lost+found"), "state/mayfly"), (None, "state")] {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("state");
        std::fs::create_dir(&named).unwrap();
        if let Some(name) = found {
            std::fs::create_dir(named.join(name)).unwrap();
        }
        open(&named);
        let mut node = Node::start(dir);
        let wasm = node.file("greet.wasm", &module("hello"));
        // The verbs find the token where it is.
        node.ok(&["deploy", &wasm, "--env", "KEY=secret"]);
        assert_eq!(node.stop(), Some(0));
        let dir = node.into_dir();
        let state = dir.path().join(state);
        let look = || {
            let mut left = vec![state.clone()];
            let mut seen = 0;
            while let Some(path) = left.pop() {
                shut(&path);
                seen += 1;
                if path.is_dir() {
                    left.extend(
                        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()),
                    );
                }
            }
            assert!(seen >= 9, "{seen}");
        };
        look();
        // As when a volume's group is given everything that is in it.
        for path in
            [&state, &state.join("token"), &state.join("mayfly.redb"), &state.join("artifacts")]
        {
            open(path);
        }
        let mut node = Node::start(dir);
        assert_eq!(node.ok(&["invoke", "greet"]), "hello");
        assert_eq!(node.stop(), Some(0));
        look();
    }
}

#[test]
fn mistakes_have_their_exit_codes() {
    let node = Node::start(tempfile::tempdir().unwrap());
    for (arguments, expect, text) in [
        (&["nonsense"][..], 64, "unrecognized"),
        (&["serve", "--gateway-workers", "0"], 78, "gateway.workers (from --gateway-workers)"),
        (&["list", "--admin", "http://127.0.0.1:9"], 69, "cannot reach the node"),
        (&["list", "--state-dir", "/nowhere"], 77, "/nowhere/token"),
        (&["inspect", "nothing"], 1, "'nothing' is not deployed"),
        (&["invoke", "nothing"], 1, "hint: `mayfly list` shows"),
        (&["deploy", "/nowhere.wasm"], 1, "cannot read /nowhere.wasm"),
    ] {
        let (code, error) = node.fails(arguments);
        assert_eq!(code, expect, "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
    // A second node on the same state.
    let (code, _) =
        node.fails(&["serve", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
}

#[test]
fn help_and_print_config_end_well() {
    let node = Node::start(tempfile::tempdir().unwrap());
    assert!(node.ok(&["help"]).contains("deploy"));
    assert!(
        node.ok(&["serve", "--print-config", "--log-format", "json"]).contains("format = \"json\"")
    );
    assert!(node.ok(&["completions", "bash"]).contains("mayfly"));
    assert_eq!(node.ok(&["health"]), "ready\n");
}

/// One of `functions/faults`, as a file beside the state.
fn guest(node: &Node, name: &str) -> String {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/faults");
    node.file(&format!("{name}.wasm"), &wat::parse_file(format!("{dir}/{name}.wat")).unwrap())
}

#[test]
fn a_drain_lets_a_request_end() {
    let mut node = Node::start(tempfile::tempdir().unwrap());
    node.ok(&["deploy", &guest(&node, "naps"), "--name", "naps"]);
    let under_way = node.get_later("/naps");
    // Until it is under way: the gauge counts requests with a head and without an end.
    while !node.metrics().contains("http_server_active_requests 1\n") {
        std::thread::sleep(std::time::Duration::from_millis(1));
        if under_way.is_finished() {
            break;
        }
    }
    assert_eq!(node.stop(), Some(0));
    assert_eq!(under_way.join().unwrap(), (200, "ok".into()));
}

#[test]
fn loops_on_every_core_and_twice_that_leave_the_others_their_answers() {
    let node = Node::start(tempfile::tempdir().unwrap());
    node.ok(&["deploy", &guest(&node, "loops"), "--name", "loops", "--limit", "wall=2s"]);
    node.ok(&["deploy", &guest(&node, "answers"), "--name", "answers"]);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let loops: Vec<_> = (0..2 * cores).map(|_| node.get_later("/loops")).collect();
    let mut answers = 0;
    while !loops.iter().all(std::thread::JoinHandle::is_finished) {
        assert_eq!(node.get("/answers"), (200, "ok".into()));
        node.metrics();
        answers += 1;
    }
    for ended in loops {
        assert_eq!(ended.join().unwrap().0, 504);
    }
    // Starved, there would be a handful in two seconds; how fast they come is the bench's to say.
    assert!(answers >= 20, "only {answers} answers while the loops ran");
}
