//! What the verbs and a start say when something is wrong.

use std::time::Duration;

use crate::guest;
use crate::node::{Node, module, refused};

#[test]
fn a_gateway_is_told_from_the_admin_api() {
    let node = Node::start(tempfile::tempdir().unwrap());
    let gateway = format!("http://{}", node.address());
    for verb in [&["list"][..], &["inspect", "f"], &["remove", "f"]] {
        let (code, error) = node.fails(&[verb, &["--admin", &gateway]].concat());
        assert_eq!(code, 69, "{error}");
        assert!(error.contains(&format!("{gateway} is a gateway")), "{error}");
        assert!(error.contains("--admin") && !error.contains("No such function"), "{error}");
    }
}

#[test]
fn an_error_of_invoke_stands_on_a_line_of_its_own_and_leads_to_its_log() {
    let node = Node::start(tempfile::tempdir().unwrap());
    // Its answer begins, and breaks off at the limit.
    node.ok(&["deploy", &guest(&node, "loops-after-head"), "-n", "loops", "-l", "wall=300ms"]);
    let broken = node.run_with(&["invoke", "loops"], &[]);
    let error = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert_eq!(broken.status.code(), Some(1), "{error}");
    assert!(error.trim_start().starts_with("error: the response broke off"), "{error}");
    assert!(error.contains("hint: `mayfly logs loops --request "), "{error}");
    assert_eq!(error.starts_with('\n'), !broken.stdout.is_empty(), "{error}");
    node.ok(&["deploy", &guest(&node, "traps"), "-n", "traps"]);
    let (_, error) = node.fails(&["invoke", "traps"]);
    assert!(error.starts_with("\nerror: the function answered 502"), "{error}");
    let hint = error.lines().find_map(|line| line.strip_prefix("hint: `mayfly ")).unwrap();
    let command = hint.split('`').next().unwrap();
    assert!(command.starts_with("logs traps --request "), "{error}");
    let command: Vec<_> = command.split(' ').collect();
    // The log has a thread of its own, which a busy machine may keep waiting.
    let written = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        node.try_run(&command)
    });
    assert!(written, "{command:?} finds nothing");
    let told = node.ok(&command);
    assert!(told.lines().count() >= 1 && told.contains("502 trap"), "{told}");
    let (code, error) = node.fails(&["logs", "traps", "--request", "another"]);
    assert!(code == 1 && error.contains("of the request 'another'"), "{error}");
}

#[test]
fn what_invoke_cannot_send_is_refused_at_once() {
    let node = Node::start(tempfile::tempdir().unwrap());
    for (arguments, expected) in [
        (&["-H", "Content-Length: 5", "--data", "abc"][..], "the body has 3 bytes"),
        (&["--path", "a b"], "as in 'a%20b'"),
        (&["--gateway", "localhost"], "write http://HOST:PORT or https://HOST for --gateway"),
    ] {
        let (code, error) = node.fails(&[&["invoke", "f"][..], arguments].concat());
        assert!(code == 64 && error.contains(expected), "{error}");
    }
}

#[test]
fn a_removal_says_what_the_configuration_still_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greet.wasm");
    std::fs::write(&path, module("hello")).unwrap();
    let deploy = format!("greet={}", path.display());
    let node = Node::start_with(dir, &["--deploy", &deploy, "--routes", "/x/...=greet"]);
    let told = node.ok(&["remove", "greet"]);
    assert!(
        told.contains("/x/... is 404") && told.contains("next start deploys it again"),
        "{told}"
    );
}

#[test]
fn a_file_of_the_configuration_that_has_gone_leaves_what_is_deployed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greet.wasm");
    std::fs::write(&path, module("hello")).unwrap();
    let deploy = format!("greet={}", path.display());
    let mut node = Node::start_with(dir, &["--deploy", &deploy]);
    assert_eq!(node.stop(), Some(0));
    std::fs::remove_file(&path).unwrap();
    let node = Node::start_with(node.into_dir(), &["--deploy", &deploy]);
    assert!(node.ok(&["invoke", "greet"]).contains("hello"));
}

#[test]
fn a_variable_that_is_off_is_named_with_the_nearest() {
    let node = Node::start(tempfile::tempdir().unwrap());
    let variables = [("MAYFLY_STATEDIR", "/nowhere"), ("MAYFLY_PORT", "tcp://10.0.0.1:80")];
    let output = node.run_with(&["list"], &variables);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    let expected = "warning: the variable MAYFLY_STATEDIR is none that Mayfly reads: did you mean MAYFLY_STATE_DIR?\n";
    assert_eq!(error, expected);
}

#[test]
fn an_address_in_use_is_said_once() {
    let node = Node::start(tempfile::tempdir().unwrap());
    let error = refused(&tempfile::tempdir().unwrap(), node.address());
    assert_eq!(error.matches("in use").count(), 1, "{error}");
    assert!(error.contains("gateway.listen"), "{error}");
}

#[test]
fn a_damaged_file_of_the_state_is_named_with_the_way_out() {
    let mut node = Node::start(tempfile::tempdir().unwrap());
    assert_eq!(node.stop(), Some(0));
    let dir = node.into_dir();
    for (name, damaged, way_out) in [
        ("token", &b""[..], "or remove it"),
        ("mac.key", b"short", "or remove it"),
        ("mayfly.redb", &[0xa5; 9000], "move this file away"),
    ] {
        let path = dir.path().join("state").join(name);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, damaged).unwrap();
        let error = refused(&dir, "127.0.0.1:0");
        assert!(error.contains(&format!("state/{name} is damaged")), "{error}");
        assert!(error.contains(way_out), "{error}");
        std::fs::write(&path, whole).unwrap();
    }
    let mut node = Node::start(dir);
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_run_has_its_limits_and_the_program_its_options() {
    let node = Node::start(tempfile::tempdir().unwrap());
    let wasm = node.file("greet.wasm", &module("hello"));
    assert!(node.ok(&["run", &wasm, "-l", "response-body=1B", "--help"]).ends_with("hello"));
    let (code, error) = node.fails(&["run", "-l", "response-body=1B", &wasm]);
    assert!(code == 64 && error.contains("it has wall, cpu, memory, table"), "{error}");
}
