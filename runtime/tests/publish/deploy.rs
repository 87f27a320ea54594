//! What a deploy changes, and what it leaves alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::limits::node as caps;
use mayfly_core::record::{Settings, Snapshot};
use mayfly_core::router::Route;
use mayfly_host::catalog::Catalog;
use mayfly_publish::child::Children;
use mayfly_publish::{PublishErrorKind, PublishReport, PublishRequest, Stage};
use parking_lot::Mutex;

use crate::node::{
    MAYFLY, TestNode, engine, files, limits, name, reactor, says, state, with_section,
};

#[tokio::test]
async fn a_deploy_answers_and_tells_its_stages_as_they_end() {
    let state = state();
    let node = TestNode::open(state.path());
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let wasm = wat::parse_str(says("one")).unwrap().into();
    let request = PublishRequest { name: name("f"), wasm, change: Settings::default().into() };
    let report = node
        .publisher
        .publish(request, move |time| telling.lock().push(time.stage.clone()))
        .await
        .unwrap();
    assert_eq!(*told.lock(), ["validate", "compile", "store", "activate"]);
    assert_eq!((report.record.number, report.replaced, report.reused), (1, None, false));
    assert_eq!(report.record.snapshot, Snapshot::NoInit);
    assert_eq!(node.get("/f").await, (200, "one".into()));
    assert!(node.metrics.text().contains(r#"mayfly_publishes_total{result="ok"} 1"#));
}

#[tokio::test]
async fn a_failed_deploy_leaves_the_old_revision_serving() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", &says("one"), Settings::default()).await.unwrap();
    let error = node.deploy_wasm("f", b"\x7fELF".to_vec(), Settings::default()).await.unwrap_err();
    assert_eq!((error.status(), error.stage), (422, Stage::Validate));
    let start = r#"(module (memory (export "memory") 1) (func (export "_start")) (func $s unreachable) (start $s))"#;
    let error = node.deploy("f", start, Settings::default()).await.unwrap_err();
    assert_eq!((error.status(), error.stage), (422, Stage::Activate), "{error}");
    assert!(error.hint().unwrap().contains("start function"));
    let bad = Settings { routes: vec!["no-slash".into()], ..Settings::default() };
    let error = node.deploy("f", &says("x"), bad).await.unwrap_err();
    assert_eq!((error.status(), error.stage), (422, Stage::Validate), "{error}");
    assert_eq!(node.get("/f").await, (200, "one".into()));
    assert_eq!(node.publisher.history(&name("f")).unwrap().len(), 1);
    assert!(node.metrics.text().contains(r#"mayfly_function_revision{faas_name="f"} 1"#));
}

#[tokio::test]
async fn a_new_function_that_fails_leaves_nothing() {
    let state = state();
    let node = TestNode::open(state.path());
    let start = r#"(module (memory (export "memory") 1) (func (export "_start")) (func $s unreachable) (start $s))"#;
    node.deploy("f", start, Settings::default()).await.unwrap_err();
    assert_eq!(node.get("/f").await.0, 404);
    assert!(!node.metrics.text().contains(r#"faas_name="f""#));
    drop(node);
    let node = TestNode::open(state.path());
    node.publisher.restore().await.unwrap();
    assert_eq!((files(state.path(), "wasm"), files(state.path(), "artifacts")), (vec![], vec![]));
}

#[tokio::test]
async fn the_same_module_is_compiled_once() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("a", &says("hi"), Settings::default()).await.unwrap();
    let compiles = node.compiles();
    let report = node.deploy("b", &says("hi"), limits(&["memory=64MiB"])).await.unwrap();
    assert!(report.reused);
    assert_eq!(node.compiles(), compiles);
    assert_eq!(node.get("/b").await, (200, "hi".into()));
    let init = reactor(0, r#"(func (export "mayfly_init"))"#);
    node.deploy("c", &init, Settings::default()).await.unwrap();
    assert!(node.deploy("c", &init, limits(&["cpu=1s"])).await.unwrap().reused);
    let report = node.deploy("c", &init, limits(&["memory=64MiB"])).await.unwrap();
    assert!(!report.reused, "init may see the memory limit");
}

/// Answers with its model's first byte, and takes as many pages of memory in init as the second one says.
fn model(model: &str) -> Vec<u8> {
    let reads = r#"(data (i32.const 3000) "model") (func (export "mayfly_init")
        (drop (call $asset_read (i32.const 3000) (i32.const 5) (i64.const 0) (i32.const 0) (i32.const 1)))
        (drop (call $asset_read (i32.const 3000) (i32.const 5) (i64.const 1) (i32.const 8) (i32.const 1)))
        (drop (memory.grow (i32.sub (i32.load8_u (i32.const 8)) (i32.const 48)))))"#;
    with_section(wat::parse_str(reactor(1, reads)).unwrap(), "mayfly.asset/model", model.as_bytes())
}

fn memory_bytes(report: &PublishReport) -> u64 {
    report.record.snapshot.memory_bytes().unwrap()
}

#[tokio::test]
async fn another_model_on_the_same_code_is_not_compiled_again() {
    let state = state();
    let node = TestNode::open(state.path());
    let first = node.deploy_wasm("a", model("10"), Settings::default()).await.unwrap();
    assert!(first.functions_compiled > 0);
    let compiles = node.compiles();
    let next = node.deploy_wasm("b", model("23"), Settings::default()).await.unwrap();
    assert!(!next.reused, "init runs");
    let stages: Vec<_> = next.record.stages.iter().map(|time| time.stage.as_str()).collect();
    assert_eq!(stages, ["validate", "preinit", "store", "activate"]);
    assert_eq!((next.functions_compiled, next.functions_cached), (0, 0));
    assert_eq!(node.compiles(), compiles);
    assert_eq!(files(state.path(), "artifacts").len(), 1, "one file of code");
    assert_eq!(files(state.path(), "images").len(), 2);
    assert_eq!(memory_bytes(&next) - memory_bytes(&first), 3 << 16, "each has its own memory");
    for _ in 0..3 {
        assert_eq!((node.get("/a").await.1, node.get("/b").await.1), ("1".into(), "2".into()));
    }
    // Whoever made the code may go, and it stays for the other.
    assert!(node.publisher.remove(&name("a")).await.unwrap());
    drop(node);
    let node = TestNode::open(state.path());
    assert_eq!(node.publisher.restore().await.unwrap().ready, 1);
    assert_eq!(node.get("/b").await.1, "2");
    node.deploy_wasm("c", model("30"), Settings::default()).await.unwrap();
    assert_eq!((node.get("/c").await.1, node.compiles()), ("3".into(), 0));
    for function in ["b", "c"] {
        assert!(node.publisher.remove(&name(function)).await.unwrap());
    }
    assert!(files(state.path(), "artifacts").is_empty(), "it goes with the last one");
    node.deploy_wasm("d", model("40"), Settings::default()).await.unwrap();
    assert_eq!(node.get("/d").await.1, "4");
}

#[tokio::test]
async fn code_that_models_share_is_made_anew_for_all_when_it_is_damaged() {
    let state = state();
    let node = TestNode::open(state.path());
    for (function, data) in [("a", "10"), ("b", "20")] {
        node.deploy_wasm(function, model(data), Settings::default()).await.unwrap();
    }
    drop(node);
    let [file] = files(state.path(), "artifacts").try_into().unwrap();
    let mut code = fs::read(&file).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, code).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let node = TestNode::open(state.path());
    assert_eq!(node.publisher.restore().await.unwrap().ready, 0);
    for (function, said) in [("a", "1"), ("b", "2")] {
        node.ready(function).await;
        assert_eq!(node.get(&format!("/{function}")).await.1, said);
    }
    assert_eq!(files(state.path(), "artifacts").len(), 1);
    drop(node);
    let node = TestNode::open(state.path());
    assert_eq!(node.publisher.restore().await.unwrap().ready, 2, "and is kept so");
}

#[tokio::test]
async fn globals_that_init_leaves_otherwise_are_other_code() {
    let state = state();
    let node = TestNode::open(state.path());
    let counts = r#"(data (i32.const 3000) "model") (global $kept (mut i32) (i32.const 0))
        (func (export "mayfly_init")
            (drop (call $asset_read (i32.const 3000) (i32.const 5) (i64.const 0) (i32.const 0) (i32.const 1)))
            (global.set $kept (i32.load8_u (i32.const 0))) (i32.store8 (i32.const 0) (i32.const 0)))
        (func (export "mayfly_seed_probe") (result i64)
            (if (i32.eqz (global.get $kept)) (then unreachable))
            (drop (call $random (i32.const 2048) (i32.const 8))) (i64.load (i32.const 2048)))"#;
    let counts = wat::parse_str(reactor(1, counts)).unwrap();
    let with = |model: &[u8]| with_section(counts.clone(), "mayfly.asset/model", model);
    for (function, model) in [("a", b"1"), ("b", b"2"), ("c", b"1")] {
        node.deploy_wasm(function, with(model), Settings::default()).await.unwrap();
    }
    assert_eq!(files(state.path(), "artifacts").len(), 2);
    assert_eq!(node.get("/b").await.0, 200);
}

#[tokio::test]
async fn two_first_deploys_of_one_name_both_count() {
    let state = state();
    let node = TestNode::open(state.path());
    let (one, two) = (says("1"), says("2"));
    let (one, two) = tokio::join!(
        node.deploy("f", &one, Settings::default()),
        node.deploy("f", &two, Settings::default())
    );
    let mut numbers = [one.unwrap().record.number, two.unwrap().record.number];
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    let history = node.publisher.history(&name("f")).unwrap();
    assert!(history.iter().map(|record| record.number).eq([2, 1]));
    assert_eq!(node.get("/f").await.0, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_changes_nothing() {
    let state = state();
    let node = TestNode::open(state.path());
    let wasm = wat::parse_str(says("done")).unwrap().into();
    let request = PublishRequest { name: name("f"), wasm, change: Settings::default().into() };
    let publishing = node.publisher.publish(request, |_| {});
    assert!(tokio::time::timeout(Duration::from_millis(1), publishing).await.is_err());
    node.ready("f").await;
    assert_eq!(node.get("/f").await, (200, "done".into()));
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let state = state();
    let node = Arc::new(TestNode::open(state.path()));
    let all: Vec<_> = (0..caps::PUBLISH_QUEUE + caps::PUBLISHES + 5)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.deploy("f", &says("x"), Settings::default()).await })
        })
        .collect();
    let mut full = 0;
    for deploy in all {
        if let Err(error) = deploy.await.unwrap() {
            assert!(matches!(error.kind, PublishErrorKind::QueueFull), "{error}");
            assert_eq!((error.status(), error.retry_after_s()), (503, Some(5)));
            full += 1;
        }
    }
    assert_eq!(full, 5);
}

#[tokio::test]
async fn a_route_belongs_to_one_function() {
    let state = state();
    let node = TestNode::open(state.path());
    let routed = || Settings { routes: vec!["/api/...".into()], ..Settings::default() };
    node.deploy("a", &says("a"), routed()).await.unwrap();
    node.deploy("a", &says("again"), routed()).await.unwrap();
    let error = node.deploy("b", &says("b"), routed()).await.unwrap_err();
    assert_eq!(error.status(), 409);
    assert!(error.to_string().contains("'/api/...' belongs to the function 'a'"), "{error}");
    assert_eq!(node.get("/api/x").await, (200, "again".into()));
    assert_eq!(node.get("/b").await.0, 404);
}

#[tokio::test]
async fn a_route_that_the_configuration_gives_to_another_is_refused() {
    let state = state();
    let configured = vec![(Route::new("/api/...").unwrap(), name("a"))];
    let (children, catalog) = (Children::of(MAYFLY), Catalog::new(configured));
    let node = TestNode::open_as(state.path(), children, engine(), catalog);
    let routed = || Settings { routes: vec!["/api/...".into()], ..Settings::default() };
    let error = node.deploy("b", &says("b"), routed()).await.unwrap_err();
    assert_eq!(error.status(), 409, "{error}");
    assert!(
        error.to_string().contains("to the function 'a' by the node's configuration"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("mayfly.toml"), "{:?}", error.hint());
    node.deploy("a", &says("a"), routed()).await.unwrap();
    assert_eq!(node.get("/api/x").await, (200, "a".into()));
}

fn routed(routes: &[&str]) -> Settings {
    Settings { routes: routes.iter().map(|r| (*r).to_owned()).collect(), ..Settings::default() }
}

#[tokio::test]
async fn a_name_is_a_route_that_no_other_function_can_take() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("hello", &says("hello"), Settings::default()).await.unwrap();
    // Everything that nobody has: what others have by their names stays theirs.
    let site = node.deploy("site", &says("site"), routed(&["/..."])).await.unwrap();
    assert_eq!((site.takes.len(), &site.leaves[0].to), (0, &vec![name("hello")]));
    for (path, body) in [("/hello", "hello"), ("/hello/x", "hello"), ("/x", "site"), ("/", "site")]
    {
        assert_eq!(node.get(path).await, (200, body.into()), "{path}");
    }
    let error = node.deploy("b", &says("b"), routed(&["/hello/..."])).await.unwrap_err();
    assert_eq!(error.status(), 409);
    assert!(error.to_string().contains("'/hello/...' belongs to the function 'hello'"), "{error}");
    // The other way round: a route that a name would be given later.
    node.deploy("a", &says("a"), routed(&["/later/...", "/hello/admin/..."])).await.unwrap();
    let error = node.deploy("later", &says("l"), Settings::default()).await.unwrap_err();
    assert_eq!(error.status(), 409);
    assert!(error.to_string().contains("below '/later' belong to the function 'a'"), "{error}");
    assert!(error.hint().unwrap().contains("deploy 'a' without that route"), "{:?}", error.hint());
    assert_eq!(node.get("/later").await, (200, "a".into()));
    assert_eq!(node.get("/hello/admin/x").await, (200, "a".into()));
    node.deploy("a", &says("a"), Settings::default()).await.unwrap();
    assert_eq!(node.get("/hello/admin/x").await, (200, "hello".into()));
    node.deploy("later", &says("l"), Settings::default()).await.unwrap();
    assert_eq!(node.get("/later").await, (200, "l".into()));
}

#[tokio::test]
async fn a_deploy_says_what_it_takes_from_others_the_first_time() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("site", &says("site"), routed(&["/..."])).await.unwrap();
    let takes = |report: PublishReport| -> Vec<_> {
        let all = report.takes.into_iter();
        all.map(|takes| format!("{} {} {}", takes.route, takes.from, takes.within)).collect()
    };
    let new = node.deploy("hello", &says("hello"), Settings::default()).await.unwrap();
    assert_eq!(takes(new), ["/hello/... site /..."]);
    let again = node.deploy("hello", &says("hello"), routed(&["/free/..."])).await.unwrap();
    assert_eq!(takes(again), ["/free/... site /..."]);
    let admin = node.deploy("admin", &says("admin"), routed(&["/hello/admin/..."])).await.unwrap();
    assert_eq!(takes(admin), ["/admin/... site /...", "/hello/admin/... hello /hello/..."]);
    let again = node.deploy("admin", &says("admin"), routed(&["/hello/admin/..."])).await.unwrap();
    assert_eq!((takes(again), node.get("/hello/admin").await.1), (vec![], "admin".to_owned()));
}

#[tokio::test]
async fn routes_are_bounded_and_given_once() {
    let state = state();
    let node = TestNode::open(state.path());
    let routes = |from: usize, to: usize| Settings {
        routes: (from..to).map(|n| format!("/r/{n}")).collect(),
        ..Settings::default()
    };
    let mut twice = routes(0, 2);
    twice.routes.push("/r/0".into());
    for (settings, words) in
        [(twice, "'/r/0' is there twice"), (routes(0, caps::ROUTES + 1), "1001 routes")]
    {
        let error = node.deploy("a", &says("a"), settings).await.unwrap_err();
        assert_eq!((error.status(), error.stage), (422, Stage::Validate), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let half = caps::ROUTES / 2;
    node.deploy("a", &says("a"), routes(0, half + 1)).await.unwrap();
    let error = node.deploy("b", &says("a"), routes(half + 1, caps::ROUTES + 1)).await.unwrap_err();
    assert!(matches!(error.kind, PublishErrorKind::TooManyRoutes { .. }), "{error}");
    assert_eq!(error.status(), 507);
    node.deploy("b", &says("a"), routes(half + 1, caps::ROUTES)).await.unwrap();
    // Its own are replaced.
    node.deploy("a", &says("a"), routes(0, half + 1)).await.unwrap();
    assert_eq!(node.get("/r/999").await, (200, "a".into()));
}

#[tokio::test]
async fn a_removed_function_is_gone_with_its_files() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("a", &says("a"), Settings::default()).await.unwrap();
    node.deploy("b", &says("b"), Settings::default()).await.unwrap();
    node.deploy("twin", &says("a"), Settings::default()).await.unwrap();
    assert!(node.publisher.remove(&name("b")).await.unwrap());
    assert!(!node.publisher.remove(&name("b")).await.unwrap());
    assert_eq!(node.get("/b").await.0, 404);
    assert!(node.publisher.history(&name("b")).unwrap().is_empty());
    assert!(node.publisher.remove(&name("a")).await.unwrap());
    assert_eq!(node.get("/twin").await, (200, "a".into()));
    assert_eq!(files(state.path(), "artifacts").len(), 1, "the twin's, which was a's too");
    assert_eq!(files(state.path(), "wasm").len(), 1);
    let again = node.deploy("b", &says("b"), Settings::default()).await.unwrap();
    assert_eq!(again.record.number, 1);
}
