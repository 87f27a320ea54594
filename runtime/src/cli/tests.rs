use clap::{CommandFactory as _, Parser as _};
use http::StatusCode;
use serde_json::json;

use super::*;

fn parse(line: &str) -> Result<Verb, clap::Error> {
    Cli::try_parse_from(["mayfly"].into_iter().chain(line.split(' '))).map(|cli| cli.verb)
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_variable_of_a_verb_is_known() {
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let known: Vec<_> = arguments.filter_map(|argument| argument.get_env()?.to_str()).collect();
    for name in
        ["MAYFLY_ADMIN", "MAYFLY_TOKEN", "MAYFLY_TOKEN_FILE", "MAYFLY_GATEWAY", "MAYFLY_RUNNER"]
    {
        assert!(known.contains(&name), "{name}");
    }
}

#[test]
fn deploy_names_the_function_after_its_file() {
    for (line, target) in [
        ("deploy target/My_fn.wasm", "/v1/functions/my-fn?keep=all"),
        ("deploy a.wasm --reset", "/v1/functions/a?"),
        ("deploy a.wasm --reset=env,routes", "/v1/functions/a?keep=all&reset=env&reset=routes"),
        (
            "deploy a.wasm --name b --limit memory=256MiB -e K=a&b --route /x/... --arg -c --arg x",
            "/v1/functions/b?keep=all&env=K%3Da%26b&arg=%2Dc&arg=x&limit=memory%3D256MiB&route=%2Fx%2F%2E%2E%2E",
        ),
    ] {
        let Ok(Verb::Deploy(deploy)) = parse(line) else { panic!("{line}") };
        assert_eq!(deploy.planned().unwrap(), target);
    }
    for line in [
        "deploy .wasm",
        "deploy metrics.wasm",
        "deploy a.wasm --name A",
        "deploy a.wasm --env NOVALUE",
    ] {
        let Ok(Verb::Deploy(deploy)) = parse(line) else { panic!("{line}") };
        assert_eq!(deploy.planned().unwrap_err().code, code::USAGE, "{line}");
    }
    let Ok(Verb::Deploy(deploy)) = parse(&format!("deploy a.wasm -e K={}", "%".repeat(30_000)))
    else {
        panic!("too long");
    };
    assert!(deploy.planned().unwrap_err().text.contains("at most"));
}

#[test]
fn invoke_makes_the_request() {
    for (line, method, uri) in [
        ("invoke hello", "GET", "http://gateway/hello"),
        ("invoke hello --path x?y=1", "GET", "http://gateway/hello/x?y=1"),
        ("invoke hello --path ?y=1 --data x", "POST", "http://gateway/hello?y=1"),
        ("invoke hello -X PUT --data x", "PUT", "http://gateway/hello"),
    ] {
        let Ok(Verb::Invoke(invoke)) = parse(line) else { panic!("{line}") };
        let request = invoke.planned().unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), (method, uri));
    }
    let Ok(Verb::Invoke(invoke)) = parse("invoke hello -H X-A:b") else { panic!("header") };
    assert_eq!(invoke.planned().unwrap().headers()["x-a"], "b");
    let no_space = |path: &str, gateway: &str| {
        let line = ["mayfly", "invoke", "hello", "--path", path, "--gateway", gateway];
        let Ok(Verb::Invoke(invoke)) = Cli::try_parse_from(line).map(|cli| cli.verb) else {
            panic!()
        };
        invoke.planned_at(gateway).unwrap_err().text
    };
    for (path, encoded) in
        [("a b", "'a%20b'"), ("?q={\"a\"}", "'?q=%7B%22a%22%7D'"), ("a#b", "'a%23b'")]
    {
        let told = no_space(path, "http://gateway");
        assert!(told.starts_with("--path") && told.ends_with(encoded), "{told}");
    }
    for wrong in ["localhost:3000", "ftp://x", "http://", "x y"] {
        assert!(no_space("", wrong).contains("write http://HOST:PORT or https"), "{wrong}");
    }
    let Ok(Verb::Invoke(invoke)) = parse("invoke hello -H nothing") else { panic!("no header") };
    assert_eq!(invoke.planned().unwrap_err().code, code::USAGE);
}

#[test]
fn what_is_no_command_is_refused() {
    for line in
        ["", "remove", "inspect Hello", "logs a -n x", "serve --nothing", "list --output xml"]
    {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn serve_takes_every_key_and_print_config() {
    let Ok(Verb::Serve(serve)) =
        parse("serve --print-config --gateway-listen 0.0.0.0:80 --deploy a=b")
    else {
        panic!("serve");
    };
    assert!(serve.print_config);
}

#[test]
fn a_refusal_says_what_why_and_what_to_do() {
    let problem = json!({
        "title": "The deploy failed at the stage 'validate'",
        "detail": "env::\u{1b}[2J cannot be imported",
        "hint": "build for wasm32-wasip1",
    });
    let failure = client::refusal(StatusCode::UNPROCESSABLE_ENTITY, &problem);
    assert_eq!(failure.code, code::FAILED);
    assert_eq!(
        failure.text,
        "The deploy failed at the stage 'validate'\nwhy: env::\\u{1b}[2J cannot be imported\nhint: build for \
         wasm32-wasip1"
    );
    assert_eq!(client::refusal(StatusCode::UNAUTHORIZED, &json!({})).code, code::TOKEN);
}

#[test]
fn what_init_wrote_is_not_said_twice() {
    let told = |log: &str| {
        let detail = "init failed: no weights (thread 'main' panicked at a.rs:1:2)";
        let problem = json!({ "title": "t", "detail": detail, "init_log": log });
        client::refusal(StatusCode::UNPROCESSABLE_ENTITY, &problem).text
    };
    let panic = "thread 'main' panicked at a.rs:1:2:\nno weights\nnote: run with `RUST_BACKTRACE=1` environment variable";
    assert!(!told(panic).contains("init wrote"), "{}", told(panic));
    assert!(told("loading\nno weights").contains("init wrote: loading\n  no weights"));
}

#[test]
fn log_lines_are_shown_as_the_node_does() {
    let line = r#"{"timestamp":"T","level":"INFO","function":"f","revision":2,"request_id":"r","stream":"stderr","message":"hi","truncated":true}"#;
    assert_eq!(logs::human(line), "T  INFO #2 r stderr: hi [cut]");
    let line = r#"{"timestamp":"T","level":"WARN","revision":2,"request_id":"r","client":"c","method":"GET","path":"/f/x","status":502,"outcome":"trap","detail":"boom","total_us":2012.5,"queue_us":0.1,"instantiate_us":9.0,"call_us":2003.4,"respond_us":0.0,"request_bytes":0,"response_bytes":3}"#;
    assert_eq!(
        logs::human(line),
        "T  WARN #2 r c GET /f/x 502 trap in 2.01ms (queue 0.1us, instantiate 9.0us, call 2.00ms, respond 0.0us), 0 B in, \
         3 B out: boom"
    );
    let line = r#"{"timestamp":"T","level":"WARN","revision":2,"request_id":"r","message":"log limit 1KiB reached"}"#;
    assert_eq!(logs::human(line), "T  WARN #2 r log limit 1KiB reached");
    let line = r#"{"timestamp":"T","level":"WARN","function":"f","message":"lost","dropped":3}"#;
    assert_eq!(logs::human(line), "T  WARN 3 lost");
    assert!(logs::human(r#"{"message":"x","gap":7}"#).contains("7 lines left out"));
}
