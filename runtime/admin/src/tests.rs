//! The API without sockets: a request in, a response out, over a control that remembers.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use mayfly_core::auth::Token;
use mayfly_core::deployment::{Deployment, Tagged};
use mayfly_core::record::{Abi, RevisionRecord, Settings, Snapshot, StageTime};
use mayfly_core::{ArtifactKey, Digest, FunctionName, Mac, RequestId};
use mayfly_host::catalog::{Overlaps, Takes};
use mayfly_host::engine::pages::{Measured, Pages};
use mayfly_observe::logs::{Format, LogConfig, Output, Requests, Stream};
use mayfly_publish::{Change, Rollout, RolloutPlan, Secret, Step, Switch, Switched};
use mayfly_store::artifact::mapped::Scratch;
use parking_lot::Mutex;
use serde_json::Value;

use super::profile::Profile;
use super::*;

#[derive(Default)]
struct Fake(Mutex<BTreeMap<FunctionName, Vec<RevisionRecord>>>);

fn record(name: &FunctionName, number: u64, wasm: &[u8], settings: Settings) -> RevisionRecord {
    RevisionRecord {
        function: name.clone(),
        number,
        wasm: Digest::of(wasm),
        wasm_bytes: wasm.len() as u64,
        artifact: ArtifactKey(Digest::of(wasm)),
        artifact_mac: Mac::from_bytes([0; 32]),
        artifact_bytes: 7,
        code: None,
        image: None,
        abi: Abi::Command,
        snapshot: Snapshot::NoInit,
        settings,
        created_unix_s: 1_700_000_000,
        stages: vec![StageTime { stage: "validate".into(), us: 12 }],
        learned_from: None,
    }
}

impl Control for Fake {
    fn scratch(&self, _: u64) -> Result<Scratch, Refused> {
        Ok(Scratch::new_in(&std::env::temp_dir())?)
    }

    fn publish(
        &self,
        name: &FunctionName,
        wasm: Bytes,
        change: Change,
        progress: Progress,
    ) -> Result<Published, Refused> {
        progress(&StageTime { stage: "validate".into(), us: 12 });
        if !wasm.starts_with(b"\0asm") {
            return Err(Refused {
                status: 422,
                kind: None,
                stage: Some("validate".into()),
                why: "env::x cannot be imported".into(),
                hint: Some("build for wasm32-wasip1".into()),
                init_log: None,
            });
        }
        let mut functions = self.0.lock();
        let history = functions.entry(name.clone()).or_default();
        let current = history.first().map(|record| &record.settings);
        let (settings, kept) = change.onto(current).unwrap();
        let record = record(name, history.len() as u64 + 1, &wasm, settings);
        history.insert(0, record.clone());
        let (replaced, init_log) = (None, "loaded\n".into());
        let deployment = whole(&record);
        Ok(Published { record, replaced, deployment, init_log, kept, notes: vec!["a note".into()] })
    }

    fn remove(&self, name: &FunctionName) -> Result<Option<Removed>, Refused> {
        let removed = self.0.lock().remove(name);
        Ok(removed.map(|history| Removed {
            under_way: 2,
            wall: Duration::from_secs(30),
            routes: history[0].settings.routes.clone(),
            configured_routes: Vec::new(),
            returns: true,
        }))
    }

    fn list(&self) -> Result<Vec<Function>, Refused> {
        let function = |h: &Vec<RevisionRecord>| Function {
            record: h[0].clone(),
            deployment: whole(&h[0]),
            versions: vec![(h[0].number, State::Ready)],
            is_model: false,
            overlaps: Overlaps::default(),
            state: State::Ready,
            in_flight: 0,
            footprint: None,
        };
        Ok(self.0.lock().values().map(function).collect())
    }

    fn inspect(
        &self,
        name: &FunctionName,
    ) -> Result<Option<(Function, Vec<RevisionRecord>)>, Refused> {
        let functions = self.0.lock();
        let Some(history) = functions.get(name) else { return Ok(None) };
        let pages = Pages { dirty: 40, runs: 2, shared: 7 };
        let footprint = Some(Measured { requests: 1, most: pages, last: pages });
        let state = State::Preparing { failed: Some("the disk is full".into()) };
        let (route, from) = ("/hello/...".into(), FunctionName::new("site").unwrap());
        let takes = vec![Takes { route, from, within: "/...".into() }];
        let (record, overlaps) = (history[0].clone(), Overlaps { takes, lost: Vec::new() });
        let (deployment, versions) = (whole(&record), vec![(record.number, state.clone())]);
        let function = Function {
            record,
            deployment,
            versions,
            is_model: true,
            overlaps,
            state,
            in_flight: 3,
            footprint,
        };
        Ok(Some((function, history.clone())))
    }

    fn switch(&self, name: &FunctionName, switch: Switch) -> Result<Switched, Refused> {
        let functions = self.0.lock();
        let before = whole(&functions[name][0]);
        let mut deployment = before.clone();
        deployment.generation += 1;
        match switch.step {
            Step::Traffic { splits, sticky } => {
                (deployment.splits, deployment.sticky) = (splits, sticky.unwrap_or_default());
            }
            Step::Tag { tag, version, public } => {
                deployment.tags.insert(tag, Tagged { version, public });
            }
            Step::Back { to: Some(_) } | Step::Shares { .. } | Step::Untag(_) => {}
            Step::Back { to: None } => {
                return Err(Refused {
                    status: 412,
                    kind: Some("stale-deployment"),
                    stage: None,
                    why: format!("expected {:?}", switch.expected),
                    hint: None,
                    init_log: None,
                });
            }
        }
        deployment.remark = switch.remark;
        Ok(Switched { deployment, before, took: Duration::from_micros(7) })
    }

    fn deployments(&self, name: &FunctionName) -> Result<Vec<Deployment>, Refused> {
        Ok(self.0.lock().get(name).into_iter().flatten().map(whole).collect())
    }

    fn roll_out(
        &self,
        _: &FunctionName,
        plan: RolloutPlan,
        _: Option<u64>,
    ) -> Result<Rollout, Refused> {
        Ok(Rollout { id: 7, plan, from: 1, base: 1, at: 0, generation: 2, due_unix_s: 0 })
    }

    fn rollout(&self, _: &FunctionName) -> Option<Rollout> {
        None
    }

    fn halt(&self, _: &FunctionName) -> Result<bool, Refused> {
        Ok(false)
    }

    fn secrets(&self) -> Vec<Secret> {
        let (name, users) = ("KEY".to_owned(), vec!["hello".to_owned()]);
        vec![Secret { name, set_unix_s: 1_700_000_000, is_file: false, fault: None, users }]
    }

    fn set_secret(&self, _: &str, value: &str) -> Result<(), Refused> {
        assert_eq!(value, "va\nlue");
        Ok(())
    }

    fn remove_secret(&self, name: &str) -> Result<bool, Refused> {
        Ok(name == "KEY")
    }

    fn profile(&self, name: &FunctionName) -> Result<Option<Box<dyn Profiling>>, Refused> {
        let found = self.0.lock().contains_key(name);
        Ok(found.then(|| Box::new(name.clone()) as Box<dyn Profiling>))
    }

    fn preview_token(&self, _: &FunctionName) -> String {
        "a-token".into()
    }
}

fn whole(record: &RevisionRecord) -> Deployment {
    Deployment::whole(record.function.clone(), record.number, record.settings.routes.clone())
}

impl Profiling for FunctionName {
    fn finish(self: Box<Self>) -> Result<Profile, Refused> {
        Ok(Profile { function: self.to_string(), revision: 1, ..Profile::default() })
    }
}

struct Api {
    state: Arc<AdminState>,
    full: String,
    metrics: String,
    unready: Arc<Mutex<Option<String>>>,
}

impl Api {
    fn new() -> Self {
        let metrics = Metrics::new();
        let config =
            LogConfig { format: Format::Human, requests: Requests::All, output: Output::Discard };
        let logs = LogSink::start(config, metrics.logs_dropped.clone()).unwrap();
        let (full, read) = (Token::generate([1; 32]), Token::generate([2; 32]));
        let mut limits_max = Limits::default();
        limits_max.set("memory=1GiB").unwrap();
        let unready = Arc::<Mutex<Option<String>>>::default();
        let state = AdminState {
            control: Arc::new(Fake::default()),
            metrics: Arc::new(metrics),
            logs,
            tokens: Tokens::new(&full, &read),
            hosts: vec!["node.example".into()],
            ready: Arc::new(AtomicBool::new(false)),
            unready: Box::new({
                let unready = unready.clone();
                move || unready.lock().clone()
            }),
            restored: Arc::new(AtomicBool::new(true)),
            gateway: super::base_url("0.0.0.0:3000".parse().unwrap(), false),
            limits: Limits::default(),
            limits_max,
            package_bytes: node::PACKAGE_BYTES,
            uploads: Uploads::default(),
        };
        let bearer = |token: &Token| format!("Bearer {}", token.reveal());
        Self { full: bearer(&full), metrics: bearer(&read), state: Arc::new(state), unready }
    }

    async fn raw(&self, request: Request<Full<Bytes>>) -> (u16, http::HeaderMap, String) {
        let response: Response<_> = handle(&self.state, request).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        self.send(method, path, headers, b"").await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static [u8],
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (status, headers, body) = self.raw(request.body(Full::from(body)).unwrap()).await;
        assert_eq!(headers["cache-control"], "no-store");
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    async fn deploy(&self, path: &str) -> (u16, Value) {
        let headers = [("authorization", self.full.as_str()), ("content-type", "application/wasm")];
        self.send("PUT", path, &headers, b"\0asm").await
    }
}

#[tokio::test]
async fn only_health_and_the_description_are_open() {
    let api = Api::new();
    assert_eq!(api.call("GET", "/healthz", &[]).await, (200, "ok\n".into()));
    assert_eq!(api.call("GET", "/readyz", &[]).await.0, 503);
    api.state.ready.store(true, std::sync::atomic::Ordering::Release);
    assert_eq!(api.call("GET", "/readyz", &[]).await.0, 200);
    *api.unready.lock() = Some("a worker is held up".into());
    let (status, problem) = api.call("GET", "/readyz", &[]).await;
    assert_eq!((status, &problem["detail"]), (503, &"a worker is held up".into()));
    *api.unready.lock() = None;
    assert_eq!(api.call("GET", "/readyz", &[]).await.0, 200);
    assert_eq!(api.call("GET", "/v1/openapi.json", &[]).await.1["openapi"], "3.1.0");
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", "/v1/node"),
        ("GET", "/v1/functions"),
        ("GET", "/v1/functions/hello"),
        ("PUT", "/v1/functions/hello"),
        ("DELETE", "/v1/functions/hello"),
        ("GET", "/v1/functions/hello/logs"),
        ("GET", "/nothing"),
    ] {
        let (status, problem) = api.call(method, path, &[]).await;
        assert_eq!((status, &problem["type"]), (401, &"urn:mayfly:admin:token".into()), "{path}");
        let read = [("authorization", api.metrics.as_str())];
        let expect = if path == "/metrics" { 200 } else { 403 };
        assert_eq!(api.call(method, path, &read).await.0, expect, "{path}");
        let wrong = [("authorization", "Bearer 00000000000000000000000000000000")];
        assert_eq!(api.call(method, path, &wrong).await.0, 401, "{path}");
    }
    let full = [("authorization", api.full.as_str())];
    assert_eq!(api.call("GET", "/nothing", &full).await.0, 404);
}

#[tokio::test]
async fn a_web_page_cannot_call() {
    let api = Api::new();
    let token = ("authorization", api.full.as_str());
    for (name, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://127.0.0.1", 200),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "none", 200),
    ] {
        let (got, _) = api.call("GET", "/v1/functions", &[token, (name, value)]).await;
        assert_eq!(got, status, "{name}: {value}");
    }
    for (host, status) in [("evil.example", 421), ("node.example:3001", 200), ("[::1]:3001", 200)] {
        let request =
            Request::builder().uri("/healthz").header("host", host).body(Full::default()).unwrap();
        assert_eq!(api.raw(request).await.0, status, "{host}");
    }
    for (version, path, status) in [
        (http::Version::HTTP_10, "/healthz", 200),
        (http::Version::HTTP_10, "/v1/functions", 401),
        (http::Version::HTTP_11, "/healthz", 421),
    ] {
        let request = Request::builder().version(version).uri(path).body(Full::default()).unwrap();
        assert_eq!(api.raw(request).await.0, status, "{path} without a host");
    }
    let request = Request::builder().method("OPTIONS").version(http::Version::HTTP_10).uri("/");
    let (status, headers, _) = api.raw(request.body(Full::default()).unwrap()).await;
    assert_eq!(
        (status, &headers["allow"]),
        (204, &"GET, HEAD, PUT, POST, DELETE, OPTIONS".parse().unwrap())
    );
    for form in
        ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"]
    {
        let headers = [token, ("content-type", form)];
        let (status, problem) = api.send("PUT", "/v1/functions/a", &headers, b"\0asm").await;
        assert_eq!(status, 415, "{form}");
        assert!(problem["hint"].as_str().unwrap().contains("application/wasm"));
    }
}

#[tokio::test]
async fn deploy_list_inspect_remove() {
    let api = Api::new();
    let token = [("authorization", api.full.as_str())];
    let query = "?limit=memory%3D256MiB&env=KEY%3Dsecret&route=/api/...";
    let (status, published) = api.deploy(&format!("/v1/functions/hello{query}")).await;
    assert_eq!((status, &published["url"]), (200, &"http://127.0.0.1:3000/hello".into()));
    assert_eq!(published["revision"]["limits"]["memory"], "256MiB");
    assert_eq!(published["notes"][0], "a note");
    assert_eq!(api.deploy("/v1/functions/hello").await.1["revision"]["number"], 2);
    let (_, list) = api.call("GET", "/v1/functions", &token).await;
    assert_eq!(list["functions"].as_array().unwrap().len(), 1);
    let (_, inspected) = api.call("GET", "/v1/functions/hello", &token).await;
    assert_eq!((&inspected["state"], &inspected["in_flight"]), (&"preparing".into(), &3.into()));
    assert_eq!(inspected["reason"], "the disk is full");
    let takes = serde_json::json!([{"route": "/hello/...", "from": "site", "within": "/..."}]);
    assert_eq!((&inspected["takes"], &inspected["lost"]), (&takes, &Value::Null));
    assert_eq!(
        (&list["functions"][0]["state"], &list["functions"][0]["reason"]),
        (&"ready".into(), &Value::Null)
    );
    assert_eq!(
        inspected["memory"]["most"],
        serde_json::json!({"dirty": 40, "runs": 2, "shared": 7})
    );
    let first = &inspected["history"][1];
    assert_eq!(first["env_names"][0], "KEY");
    assert_eq!(first["created"], "2023-11-14T22:13:20Z");
    assert!(!inspected.to_string().contains("\"secret\""), "{inspected}");
    let (status, removed) = api.call("DELETE", "/v1/functions/hello", &token).await;
    assert_eq!((status, &removed["under_way"], &removed["wall"]), (200, &2.into(), &"30s".into()));
    for method in ["DELETE", "GET"] {
        let (status, problem) = api.call(method, "/v1/functions/hello", &token).await;
        assert_eq!((status, &problem["type"]), (404, &"urn:mayfly:admin:no-function".into()));
    }
}

#[tokio::test]
async fn what_a_deploy_does_not_name_is_kept_if_it_asks_for_that() {
    let api = Api::new();
    let first = "limit=memory%3D256MiB&env=KEY%3Dsecret&route=/api/...&arg=-v";
    api.deploy(&format!("/v1/functions/f?{first}")).await;
    let (_, second) = api.deploy("/v1/functions/f?keep=all&limit=wall%3D5s").await;
    let kept = ["limit memory=256MiB", "variable KEY", "1 argument", "route /api/..."];
    assert_eq!(second["kept"], serde_json::json!(kept));
    let revision = &second["revision"];
    assert_eq!(revision["limits"]["memory"], "256MiB");
    assert_eq!(
        (&revision["limits"]["wall"], &revision["routes"][0]),
        (&"5s".into(), &"/api/...".into())
    );
    let (_, third) = api.deploy("/v1/functions/f?keep=all&reset=routes&reset=env").await;
    assert_eq!(
        third["kept"],
        serde_json::json!(["limit wall=5s", "limit memory=256MiB", "1 argument"])
    );
    assert_eq!(third["revision"]["routes"], serde_json::json!([]));
    // Without the word all is as the query says: for those who say all of it each time.
    let (_, fourth) = api.deploy("/v1/functions/f").await;
    assert_eq!(
        (&fourth["kept"], &fourth["revision"]["limits"]["memory"]),
        (&serde_json::json!([]), &"128MiB".into())
    );
}

#[tokio::test]
async fn nothing_can_be_changed_before_it_is_known_what_is_there() {
    let api = Api::new();
    api.state.restored.store(false, std::sync::atomic::Ordering::Release);
    let token = [("authorization", api.full.as_str())];
    for method in ["PUT", "DELETE"] {
        assert_eq!(api.call(method, "/v1/functions/hello", &[]).await.0, 401);
        let request = Request::builder().method(method).uri("/v1/functions/hello");
        let request = request.header("host", "localhost").header("authorization", &api.full);
        let (status, headers, body) = api.raw(request.body(Full::default()).unwrap()).await;
        assert_eq!((status, &headers["retry-after"]), (503, &"5".parse().unwrap()), "{method}");
        assert!(body.contains("urn:mayfly:admin:starting"), "{body}");
    }
    assert_eq!(api.call("GET", "/v1/functions", &token).await.0, 200);
    api.state.restored.store(true, std::sync::atomic::Ordering::Release);
    assert_eq!(api.deploy("/v1/functions/hello").await.0, 200);
    assert_eq!(api.call("DELETE", "/v1/functions/hello", &token).await.0, 200);
}

#[tokio::test]
async fn a_refused_module_says_stage_reason_and_way_out() {
    let api = Api::new();
    let token = ("authorization", api.full.as_str());
    let (status, problem) = api.send("PUT", "/v1/functions/a", &[token], b"ELF").await;
    assert_eq!(status, 422);
    assert_eq!(problem["type"], "urn:mayfly:admin:publish-validate");
    assert_eq!(
        (&problem["stage"], &problem["hint"]),
        (&"validate".into(), &"build for wasm32-wasip1".into())
    );
    let lines = ("accept", "application/x-ndjson");
    let (status, text) = api.send("PUT", "/v1/functions/a", &[token, lines], b"ELF").await;
    let text = text.as_str().unwrap().to_owned();
    let (stage, end) = text.split_once('\n').unwrap();
    assert_eq!((status, stage), (200, r#"{"stage":"validate","us":12}"#));
    assert!(end.contains(r#"{"problem":{"#) && end.contains("env::x"), "{end}");
}

#[tokio::test]
async fn an_upload_has_bounds() {
    let api = Api::new();
    let token = ("authorization", api.full.as_str());
    let too_much = (node::PACKAGE_BYTES + 1).to_string();
    let declared = [token, ("content-length", too_much.as_str())];
    assert_eq!(api.call("PUT", "/v1/functions/a", &declared).await.0, 413);
    let (status, problem) = api.deploy("/v1/functions/a?limit=memory%3D2GiB").await;
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().unwrap().contains("this node allows 1GiB"), "{problem}");
    let permits = api.state.uploads.permits.clone();
    let all = permits.acquire_many(u32::try_from(node::PUBLISHES).unwrap()).await.unwrap();
    api.state.uploads.waiting.store(node::PUBLISH_QUEUE, std::sync::atomic::Ordering::Relaxed);
    let (status, problem) = api.deploy("/v1/functions/a").await;
    assert_eq!((status, &problem["type"]), (503, &"urn:mayfly:admin:publish-queue".into()));
    drop(all);
    api.state.uploads.waiting.store(0, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(api.deploy("/v1/functions/a").await.0, 200);
    let big = vec![0; node::ADMIN_BODY_BYTES + 1].leak();
    assert_eq!(api.send("DELETE", "/v1/functions/a", &[token], big).await.0, 413);
}

#[tokio::test]
async fn an_upload_that_lies_on_the_disk_is_what_was_sent() {
    let api = Api::new();
    let token = ("authorization", api.full.as_str());
    for more in [0, 1, 70_000] {
        let bytes = b"\0asm".iter().chain(b"0123456789".iter().cycle()).copied();
        let wasm: Vec<u8> = bytes.take(3 * node::UPLOAD_PIECE_BYTES + more).collect();
        let digest = Digest::of(&wasm).to_string();
        let (status, published) = api.send("PUT", "/v1/functions/a", &[token], wasm.leak()).await;
        assert_eq!(status, 200, "{published}");
        assert!(published.to_string().contains(&digest), "{published}");
    }
}

#[tokio::test]
async fn logs_are_read_and_followed() {
    let api = Api::new();
    let token = [("authorization", api.full.as_str())];
    assert_eq!(api.call("GET", "/v1/functions/a/logs", &token).await.0, 404);
    api.deploy("/v1/functions/a").await;
    let name = FunctionName::new("a").unwrap();
    let source = api.state.logs.source(&name, &api.state.metrics.function(&name));
    let write = |text: &str| {
        let id = RequestId::from_random(1);
        api.state.logs.guest_line(&source, 1, id, Stream::Stderr, text.into(), false);
        assert!(api.state.logs.flush(Duration::from_secs(5)));
    };
    write("one");
    write("two");
    let (status, line) = api.call("GET", "/v1/functions/a/logs?tail=1", &token).await;
    assert_eq!((status, &line["message"]), (200, &"two".into()));
    for bad in ["tail=x", "follow=2", "tial=1"] {
        let path = format!("/v1/functions/a/logs?{bad}");
        assert_eq!(api.call("GET", &path, &token).await.0, 400, "{bad}");
    }
    let request = Request::builder()
        .uri("/v1/functions/a/logs?tail=1&follow=1")
        .header("host", "localhost")
        .header("authorization", &api.full)
        .body(Full::<Bytes>::default())
        .unwrap();
    let mut body = handle(&api.state, request).await.into_body();
    let mut next = async || {
        let frame = body.frame().await?.unwrap().into_data().unwrap();
        Some(String::from_utf8(frame.to_vec()).unwrap())
    };
    assert!(next().await.unwrap().contains("two"));
    write("three");
    assert!(next().await.unwrap().contains("three"));
    api.state.logs.forget(&name);
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn the_description_names_every_path() {
    let api = Api::new();
    let (_, description) = api.call("GET", "/v1/openapi.json", &[]).await;
    let paths: Vec<_> = description["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/healthz",
            "/metrics",
            "/readyz",
            "/v1/functions",
            "/v1/functions/{name}",
            "/v1/functions/{name}/deployment",
            "/v1/functions/{name}/deployments",
            "/v1/functions/{name}/logs",
            "/v1/functions/{name}/profile",
            "/v1/functions/{name}/rollback",
            "/v1/functions/{name}/rollout",
            "/v1/functions/{name}/tags/{tag}",
            "/v1/functions/{name}/versions",
            "/v1/node",
            "/v1/openapi.json",
            "/v1/secrets",
            "/v1/secrets/{name}"
        ]
    );
}

#[tokio::test]
async fn how_a_function_is_served_is_changed_by_json_that_means_what_it_says() {
    let api = Api::new();
    api.deploy("/v1/functions/hello").await;
    let token = ("authorization", api.full.as_str());
    let json = ("content-type", "application/json");
    let deployment = "/v1/functions/hello/deployment";
    let body = br#"{"splits":[{"version":1,"percent":87.5},{"version":2,"percent":"12.5"}],
        "sticky":"cookie","message":"try it"}"#;
    let (status, answer) = api.send("PUT", deployment, &[token, json], body).await;
    let now = &answer["deployment"];
    assert_eq!((status, &now["generation"], &now["sticky"]), (200, &2.into(), &"cookie".into()));
    assert_eq!((&now["splits"][0]["percent"], &now["message"]), (&87.5.into(), &"try it".into()));
    assert_eq!((&answer["before"]["generation"], &answer["us"]), (&1.into(), &7.into()));
    assert_eq!(now["preview_token"], "a-token");
    for (headers, body, expected) in [
        (&[token][..], &br#"{"splits":[]}"#[..], 415),
        (&[token, json], b"{", 422),
        (&[token, json], br#"{"splits":[],"stiky":"cookie"}"#, 422),
        (&[token, json], br#"{"splits":[{"version":1,"percent":101}]}"#, 422),
        (&[token, json], br#"{"splits":[],"sticky":"ip"}"#, 422),
        (&[token, json, ("if-match", "2")], br#"{"splits":[]}"#, 400),
        (&[json], br#"{"splits":[]}"#, 401),
        (&[token, json], &[b' '; 17 << 10], 400),
    ] {
        let (status, problem) = api.send("PUT", deployment, headers, body).await;
        assert_eq!(status, expected, "{problem}");
    }
    let back = "/v1/functions/hello/rollback";
    let expects = [token, json, ("if-match", "\"11\"")];
    let (status, problem) = api.send("POST", back, &expects, b"").await;
    assert_eq!((status, &problem["type"]), (412, &"urn:mayfly:admin:stale-deployment".into()));
    assert_eq!(problem["detail"], "expected Some(11)");
    let tag = "/v1/functions/hello/tags/";
    let tagged = br#"{"version":1,"public":true}"#;
    let (_, answer) = api.send("PUT", &format!("{tag}pr-1"), &[token, json], tagged).await;
    let tags = &answer["deployment"]["tags"]["pr-1"];
    assert_eq!(tags["url"], "http://127.0.0.1:3000/hello@pr-1");
    let (status, problem) = api.send("PUT", &format!("{tag}7"), &[token, json], tagged).await;
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("is no tag"));
    let (_, versions) = api.call("GET", "/v1/functions/hello/versions", &[token]).await;
    assert_eq!(versions["versions"][0]["percent"], 100.0);
    let rollout = br#"{"version":2,"steps":[10,"100"],"every_s":60,"guard":"errors=1%"}"#;
    let path = "/v1/functions/hello/rollout";
    let (status, answer) = api.send("PUT", path, &[token, json], rollout).await;
    assert_eq!((status, &answer["guard"]), (202, &"errors=1%".into()));
    let bad = br#"{"version":2,"steps":[100],"every_s":60,"guard":"p50=1"}"#;
    assert_eq!(api.send("PUT", path, &[token, json], bad).await.0, 422);
    assert_eq!(api.call("DELETE", path, &[token]).await.0, 404);
}

#[tokio::test]
async fn a_secrets_value_goes_in_and_never_out() {
    let api = Api::new();
    let token = ("authorization", api.full.as_str());
    let bytes = ("content-type", "application/octet-stream");
    let put = "/v1/secrets/KEY";
    let (status, answer) = api.send("PUT", put, &[token, bytes], b"va\nlue").await;
    assert_eq!((status, &answer["set"]), (200, &"KEY".into()));
    for (headers, body, expected) in [
        (&[token][..], &b"x"[..], 415),
        (&[bytes], b"x", 401),
        (&[token, bytes], b"\xff\xfe", 422),
        (&[token, bytes], &[b'x'; (64 << 10) + 2], 422),
    ] {
        let (status, problem) = api.send("PUT", put, headers, body).await;
        assert_eq!(status, expected, "{problem}");
    }
    let (_, list) = api.call("GET", "/v1/secrets", &[token]).await;
    assert_eq!(list["secrets"][0]["functions"][0], "hello");
    assert_eq!(api.call("DELETE", put, &[token]).await.0, 200);
    assert_eq!(api.call("DELETE", "/v1/secrets/OTHER", &[token]).await.0, 404);
}

#[tokio::test]
async fn a_profile_is_answered_when_its_time_is_over() {
    let api = Api::new();
    api.deploy("/v1/functions/f").await;
    let full = [("authorization", api.full.as_str())];
    let began = std::time::Instant::now();
    let (status, profile) = api.call("POST", "/v1/functions/f/profile?for=150ms", &full).await;
    assert_eq!((status, &profile["function"]), (200, &Value::from("f")));
    assert!(began.elapsed() >= Duration::from_millis(150));
    for (path, status) in [
        ("/v1/functions/g/profile", 404),
        ("/v1/functions/f/profile?for=1h", 400),
        ("/v1/functions/f/profile?follow=1", 400),
    ] {
        assert_eq!(api.call("POST", path, &full).await.0, status, "{path}");
    }
    let metrics = [("authorization", api.metrics.as_str())];
    assert_eq!(api.call("POST", "/v1/functions/f/profile", &metrics).await.0, 403);
}
