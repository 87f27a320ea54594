//! Who gets which version, and what going back costs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mayfly_core::deployment::{Percent, Remark, Split};
use mayfly_core::record::Settings;
use mayfly_publish::{
    Change, Guard, Placement, PublishError, PublishErrorKind, PublishReport, PublishRequest,
    RolloutPlan, Step, Switch, Switched,
};

use crate::node::{TestNode, files, name, reactor, says, state, until};

fn percent(text: &str) -> Percent {
    text.parse().unwrap()
}

fn splits(parts: &[(u64, &str)]) -> Vec<Split> {
    parts.iter().map(|&(version, of)| Split { version, percent: percent(of) }).collect()
}

impl TestNode {
    async fn place(
        &self,
        wat: &str,
        settings: Settings,
        placement: Placement,
    ) -> Result<PublishReport, PublishError> {
        let wasm = wat::parse_str(wat).unwrap().into();
        let change = Change { placement, keeps: true, ..settings.into() };
        self.publisher.publish(PublishRequest { name: name("f"), wasm, change }, |_| {}).await
    }

    async fn step(&self, step: Step) -> Result<Switched, PublishError> {
        let switch = Switch { step, expected: None, remark: Remark::default() };
        self.publisher.switch(&name("f"), switch).await
    }

    async fn traffic(&self, parts: &[(u64, &str)]) -> Result<Switched, PublishError> {
        self.step(Step::Traffic { splits: splits(parts), sticky: None }).await
    }

    /// How many of so many requests each version had, by what it says.
    async fn shares(&self, requests: usize, headers: impl Fn(usize) -> String) -> (usize, usize) {
        let (mut one, mut two) = (0, 0);
        for at in 0..requests {
            let key = headers(at);
            match self.ask("/f", &[("x-user", &key)]).await.2.as_str() {
                "one" => one += 1,
                "two" => two += 1,
                other => panic!("{other}"),
            }
        }
        (one, two)
    }
}

/// Version 1 says one, version 2 says two and has nothing yet.
async fn two(node: &TestNode) {
    node.deploy("f", &says("one"), Settings::default()).await.unwrap();
    let placement = Placement { percent: Some(Percent::NONE), ..Placement::default() };
    node.place(&says("two"), Settings::default(), placement).await.unwrap();
}

#[tokio::test]
async fn a_version_without_traffic_is_reached_by_previews_only() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", &says("one"), Settings::default()).await.unwrap();
    let placement = Placement {
        percent: Some(Percent::NONE),
        tag: Some("pr-42".parse().unwrap()),
        ..Placement::default()
    };
    let report = node.place(&says("two"), Settings::default(), placement).await.unwrap();
    assert_eq!((report.record.number, report.deployment.written()), (2, "2 0 %, 1 100 %".into()));
    assert_eq!(node.get("/f").await, (200, "one".into()));
    let token = node.publisher.preview_key().token(&name("f"));
    for path in ["/f@pr-42", "/f@2", "/f@2/below?x=1"] {
        assert_eq!(node.get(path).await.0, 404, "{path}");
        assert_eq!(node.ask(path, &[("mayfly-preview", "0".repeat(32).as_str())]).await.0, 404);
        let (status, headers, body) = node.ask(path, &[("mayfly-preview", &token)]).await;
        assert_eq!((status, body.as_str()), (200, "two"), "{path}");
        assert_eq!(headers["mayfly-version"], "2");
    }
    for path in ["/f@3", "/f@pr-43", "/f@", "/f@02", "/f@+2", "/g@2", "/f@2@2", "/@2"] {
        assert_eq!(node.ask(path, &[("mayfly-preview", &token)]).await.0, 404, "{path}");
    }
    // By a header, with the token alone.
    let by_header = |token: String| {
        let node = &node;
        async move {
            let headers = [("mayfly-version", "2"), ("mayfly-preview", token.as_str())];
            node.ask("/f", &headers).await.2
        }
    };
    assert_eq!(
        (by_header(token.clone()).await, by_header("x".into()).await),
        ("two".into(), "one".into())
    );
    let unknown = [("mayfly-version", "99"), ("mayfly-preview", token.as_str())];
    assert_eq!(node.ask("/f", &unknown).await.0, 404);
    assert_eq!(node.ask("/f", &unknown[..1]).await.2, "one");
    // The token of one function opens no other's previews.
    node.deploy("g", &says("g"), Settings::default()).await.unwrap();
    let others = node.publisher.preview_key().token(&name("g"));
    assert_eq!(node.ask("/f@2", &[("mayfly-preview", &others)]).await.0, 404);
    // A public tag needs none.
    let tag = "open".parse().unwrap();
    node.step(Step::Tag { tag, version: 2, public: true }).await.unwrap();
    assert_eq!(node.get("/f@open").await, (200, "two".into()));
    assert_eq!(node.get("/f@2").await.0, 404);
    node.step(Step::Untag("open".parse().unwrap())).await.unwrap();
    assert_eq!(node.get("/f@open").await.0, 404);
}

#[tokio::test]
async fn requests_are_shared_out_as_asked_and_nobody_goes_back() {
    let state = state();
    let node = TestNode::open(state.path());
    two(&node).await;
    let sticky = Some("header:X-User".parse().unwrap());
    let splits = splits(&[(1, "80"), (2, "20")]);
    node.step(Step::Traffic { splits, sticky }).await.unwrap();
    let key = |at: usize| format!("user {at}");
    let (_, two) = node.shares(2_000, key).await;
    // Four standard deviations of 2,000 draws are 72.
    assert!((330..=470).contains(&two), "{two} of 2000");
    let mut moved = BTreeSet::new();
    for step in ["20", "40", "70", "100"] {
        let rest = percent(step).rest().to_string();
        node.traffic(&[(1, &rest), (2, step)]).await.unwrap();
        for at in 0..300 {
            let two = node.ask("/f", &[("x-user", &key(at))]).await.2 == "two";
            assert!(two || !moved.contains(&at), "user {at} went back at {step} %");
            if two {
                moved.insert(at);
            }
        }
    }
    assert_eq!(moved.len(), 300);
}

#[tokio::test]
async fn the_gateways_own_cookie_keeps_a_client_with_its_version() {
    let state = state();
    let node = TestNode::open(state.path());
    two(&node).await;
    let sticky = Some("cookie".parse().unwrap());
    node.step(Step::Traffic { splits: splits(&[(1, "50"), (2, "50")]), sticky }).await.unwrap();
    for _ in 0..20 {
        let (_, headers, first) = node.ask("/f", &[]).await;
        let cookie = headers["set-cookie"].to_str().unwrap();
        let (pair, rest) = cookie.split_once(';').unwrap();
        assert_eq!(rest, " Path=/; HttpOnly; SameSite=Lax");
        for _ in 0..3 {
            let (_, headers, again) = node.ask("/f", &[("cookie", pair)]).await;
            assert_eq!((again, headers.get("set-cookie")), (first.clone(), None));
        }
    }
}

#[tokio::test]
async fn going_back_restores_routes_and_compiles_nothing() {
    let state = state();
    let node = TestNode::open(state.path());
    let routed = |route: &str| Settings { routes: vec![route.into()], ..Settings::default() };
    node.deploy("f", &says("one"), routed("/old/...")).await.unwrap();
    node.deploy("f", &says("two"), routed("/new/...")).await.unwrap();
    assert_eq!((node.get("/old").await.0, node.get("/new").await.1), (404, "two".into()));
    let compiles = node.compiles();
    let back = node.step(Step::Back { to: None }).await.unwrap();
    assert_eq!((back.before.generation, back.deployment.generation), (2, 3));
    assert_eq!(back.deployment.remark.message, "back to deployment 1");
    assert_eq!((node.get("/old").await.1, node.get("/new").await.0), ("one".into(), 404));
    // There is nothing before the first one; forth, and back, by their generations.
    let nothing = node.step(Step::Back { to: None }).await.unwrap_err();
    assert!(matches!(nothing.kind, PublishErrorKind::NothingBefore));
    assert_eq!(node.step(Step::Back { to: Some(2) }).await.unwrap().deployment.main(), 2);
    assert_eq!(node.step(Step::Back { to: Some(1) }).await.unwrap().deployment.main(), 1);
    // The same once more is no deployment.
    assert_eq!(node.traffic(&[(1, "100")]).await.unwrap().deployment.generation, 5);
    assert_eq!(node.compiles(), compiles);
    let kept: Vec<_> = node.publisher.deployments(&name("f")).unwrap();
    assert_eq!(kept.iter().map(|d| d.generation).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
    // What is deployed next is a new version, whichever serves.
    let report = node.deploy("f", &says("three"), Settings::default()).await.unwrap();
    assert_eq!((report.record.number, report.replaced), (3, Some(1)));
}

#[tokio::test]
async fn code_that_is_gone_is_made_before_anybody_is_led_to_it() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", &says("one"), Settings::default()).await.unwrap();
    let first: BTreeSet<_> = files(state.path(), "artifacts").into_iter().collect();
    node.deploy("f", &says("two"), Settings::default()).await.unwrap();
    first.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let compiles = node.compiles();
    node.step(Step::Back { to: None }).await.unwrap();
    assert_eq!(node.get("/f").await, (200, "one".into()));
    assert_eq!(node.compiles(), compiles + 1);
}

#[tokio::test]
async fn what_cannot_be_served_says_why_and_changes_nothing() {
    let state = state();
    let node = TestNode::open(state.path());
    let missing = node.traffic(&[(1, "100")]).await.unwrap_err();
    assert!(matches!(missing.kind, PublishErrorKind::NoFunction(_)) && missing.status() == 404);
    let first = Placement { percent: Some(percent("10")), ..Placement::default() };
    let error = node.place(&says("one"), Settings::default(), first).await.unwrap_err();
    assert_eq!(
        (error.status(), error.hint().unwrap()),
        (422, "deploy it without --traffic".into())
    );
    two(&node).await;
    for (parts, words) in [
        (&[(1, "90"), (2, "5")][..], "the percentages make 95 and not 100"),
        (&[(1, "50"), (1, "50")], "version 1 is named twice"),
        (&[(1, "50"), (3, "50")], "there is no version 3; there are 2, 1"),
        (&[(1, "25"), (2, "25"), (3, "25"), (4, "25"), (5, "0")], "at most 4"),
    ] {
        let error = node.traffic(parts).await.unwrap_err();
        assert_eq!(error.status(), 422);
        assert!(error.kind.to_string().contains(words), "{}", error.kind);
    }
    let switch = Switch {
        step: Step::Traffic { splits: splits(&[(2, "100")]), sticky: None },
        expected: Some(1),
        remark: Remark::default(),
    };
    let stale = node.publisher.switch(&name("f"), switch).await.unwrap_err();
    assert_eq!(stale.status(), 412);
    let words = stale.kind.to_string();
    assert!(words.starts_with("deployment 2 serves, and not 1: made at 20"), "{words}");
    let placement = Placement { expected: Some(1), ..Placement::default() };
    let stale = node.place(&says("three"), Settings::default(), placement).await.unwrap_err();
    assert_eq!(stale.status(), 412);
    let error = node.step(Step::Back { to: Some(9) }).await.unwrap_err();
    assert_eq!(error.kind.to_string(), "there is no deployment 9; there are 2, 1");
    // Only a tag or a preview differs: nothing that serves otherwise.
    assert!(matches!(
        node.step(Step::Back { to: None }).await.unwrap_err().kind,
        PublishErrorKind::NothingBefore
    ));
    let error = node.step(Step::Untag("no".parse().unwrap())).await.unwrap_err();
    assert_eq!(error.status(), 404);
    assert_eq!(node.get("/f").await, (200, "one".into()));
    assert_eq!(node.publisher.deployments(&name("f")).unwrap().len(), 2);
}

#[tokio::test]
async fn settings_are_kept_of_what_serves_or_of_what_has_the_tag() {
    let state = state();
    let node = TestNode::open(state.path());
    let env = |value: &str| Settings {
        env: [("A".to_owned(), value.to_owned())].into(),
        ..Settings::default()
    };
    node.deploy("f", &says("one"), env("serves")).await.unwrap();
    let preview = || Placement {
        percent: Some(Percent::NONE),
        tag: Some("pr-1".parse().unwrap()),
        ..Placement::default()
    };
    let change = |env: &str| Change {
        env: [("A".to_owned(), env.to_owned())].into(),
        placement: preview(),
        keeps: true,
        ..Change::default()
    };
    let wasm = wat::parse_str(says("two")).unwrap().into();
    let request = PublishRequest { name: name("f"), wasm, change: change("preview") };
    node.publisher.publish(request, |_| {}).await.unwrap();
    let again = node.place(&says("three"), Settings::default(), preview()).await.unwrap();
    assert_eq!(again.record.settings.env["A"], "preview");
    assert_eq!(again.deployment.tags["pr-1"].version, 3);
    let plain = node.place(&says("four"), Settings::default(), Placement::default()).await.unwrap();
    assert_eq!(plain.record.settings.env["A"], "serves");
}

#[tokio::test]
async fn a_split_with_its_previews_comes_back_after_a_restart() {
    let state = state();
    let node = TestNode::open(state.path());
    two(&node).await;
    let sticky = Some("header:x-user".parse().unwrap());
    node.step(Step::Traffic { splits: splits(&[(1, "50"), (2, "50")]), sticky }).await.unwrap();
    node.step(Step::Tag { tag: "t".parse().unwrap(), version: 1, public: true }).await.unwrap();
    let mut before = Vec::new();
    for at in 0..50 {
        before.push(node.ask("/f", &[("x-user", &at.to_string())]).await.2);
    }
    assert!(
        node.metrics
            .text()
            .contains(r#"mayfly_version_requests_total{faas_name="f",faas_version="2"}"#)
    );
    drop(node);
    for lazy in [false, true] {
        let node = match lazy {
            false => TestNode::open(state.path()),
            true => TestNode::open_lazy(state.path()),
        };
        node.publisher.restore().await.unwrap();
        for (at, before) in before.iter().enumerate() {
            assert_eq!(&node.ask("/f", &[("x-user", &at.to_string())]).await.2, before);
        }
        assert_eq!(node.get("/f@t").await, (200, "one".into()));
        assert_eq!(node.compiles(), 0);
        assert!(node.metrics.text().contains(r#"mayfly_function_deployment{faas_name="f"} 4"#));
        drop(node);
    }
    let node = TestNode::open(state.path());
    node.publisher.restore().await.unwrap();
    node.traffic(&[(2, "100")]).await.unwrap();
    assert!(node.publisher.remove(&name("f")).await.unwrap());
    assert_eq!((node.get("/f").await.0, node.get("/f@t").await.0), (404, 404));
    assert!(!node.metrics.text().contains(r#"faas_name="f""#), "{}", node.metrics.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_switches_under_load_lose_no_request() {
    let state = state();
    let node = Arc::new(TestNode::open(state.path()));
    two(&node).await;
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = || {
        let (node, done, asked) = (node.clone(), done.clone(), asked.clone());
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                // Before and after: what serves at its start is one of these.
                let allowed = |node: &TestNode| -> Vec<u64> {
                    let view = node.catalog.load();
                    let deployment = &view.function("f").unwrap().deployment;
                    let serving = deployment.splits.iter().filter(|s| s.percent != Percent::NONE);
                    serving.map(|split| split.version).collect()
                };
                let mut may = allowed(&node);
                let (status, _, body) = node.ask("/f", &[]).await;
                may.extend(allowed(&node));
                let said = match body.as_str() {
                    "one" => 1,
                    "two" => 2,
                    other => panic!("{status} {other}"),
                };
                // Two switches may have been between the looks.
                assert!(status == 200 && (may.contains(&said) || may.len() >= 2), "{said} {may:?}");
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        })
    };
    let clients = [load(), load(), load(), load()];
    let switches = if std::env::var_os("MAYFLY_SOAK").is_some() { 1_000 } else { 100 };
    for at in 0..switches {
        match at % 4 {
            0 => node.traffic(&[(1, "0"), (2, "100")]).await,
            1 => node.traffic(&[(1, "50"), (2, "50")]).await,
            2 => node.traffic(&[(1, "30"), (2, "70")]).await,
            _ => node.traffic(&[(1, "100")]).await,
        }
        .unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 100);
    let generation = node.catalog.load().function("f").unwrap().deployment.generation;
    assert_eq!(generation, 2 + switches);
}

fn plan(steps: &[&str], guard: Guard) -> RolloutPlan {
    RolloutPlan {
        to: 2,
        steps: steps.iter().map(|step| percent(step)).collect(),
        every_s: 1,
        guard,
        sticky: None,
        remark: Remark::default(),
    }
}

fn main_of(node: &TestNode) -> u64 {
    node.catalog.load().function("f").unwrap().deployment.main()
}

#[tokio::test]
async fn a_rollout_goes_its_steps_to_the_end_also_after_a_restart() {
    let state = state();
    let node = TestNode::open(state.path());
    two(&node).await;
    let plan = plan(&["10", "50", "100"], Guard::default());
    let begun = node.publisher.roll_out(&name("f"), plan, None).await.unwrap();
    assert_eq!((begun.at, begun.from, begun.base, begun.generation), (0, 1, 2, 3));
    let now = node.publisher.deployments(&name("f")).unwrap().remove(0);
    assert_eq!(
        (now.written().as_str(), now.remark.message.as_str()),
        ("2 10 %, 1 90 %", "rollout of 2, step 1 of 3")
    );
    // Version 2 is not its own successor.
    drop(node);
    let node = TestNode::open(state.path());
    node.publisher.restore().await.unwrap();
    assert_eq!(node.publisher.rollout(&name("f")).unwrap().plan.to, 2);
    until("the rollout is done", || node.publisher.rollout(&name("f")).is_none()).await;
    let all = node.publisher.deployments(&name("f")).unwrap();
    assert_eq!((main_of(&node), all.len(), all[0].written()), (2, 5, "2 100 %".to_owned()));
    // Back is before all of it.
    assert_eq!(node.step(Step::Back { to: None }).await.unwrap().deployment.main(), 1);
    drop(node);
    let node = TestNode::open(state.path());
    node.publisher.restore().await.unwrap();
    assert!(node.publisher.rollout(&name("f")).is_none());
}

#[tokio::test]
async fn a_version_that_fails_is_taken_back() {
    let state = state();
    let node = TestNode::open(state.path());
    node.deploy("f", &says("one"), Settings::default()).await.unwrap();
    let bad = reactor(0, r#"(func $bad unreachable) (export "unused" (func $bad))"#)
        .replace("(drop (call $start", "unreachable (drop (call $start");
    let placement = Placement { percent: Some(Percent::NONE), ..Placement::default() };
    node.place(&bad, Settings::default(), placement).await.unwrap();
    let guard = "errors=1%,p99=1000x".parse().unwrap();
    let mut asked = plan(&["50", "100"], guard);
    asked.every_s = 600;
    node.publisher.roll_out(&name("f"), asked, None).await.unwrap();
    // A look at both before any request, from which on they are compared.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for _ in 0..500 {
        node.get("/f").await;
    }
    until("it is taken back", || node.publisher.rollout(&name("f")).is_none()).await;
    assert_eq!(node.get("/f").await, (200, "one".into()));
    let now = node.publisher.deployments(&name("f")).unwrap().remove(0);
    assert_eq!(now.remark.by, "guard");
    assert!(now.remark.message.contains("requests failed, and 0 of the"), "{}", now.remark.message);
}

#[tokio::test]
async fn whatever_is_deployed_beside_a_rollout_ends_it() {
    let state = state();
    let node = TestNode::open(state.path());
    two(&node).await;
    let roll = |steps: &'static [&'static str]| {
        let mut plan = plan(steps, Guard::default());
        plan.every_s = 600;
        let (publisher, name) = (node.publisher.clone(), name("f"));
        async move { publisher.roll_out(&name, plan, None).await }
    };
    for (steps, words) in [
        (&["50"][..], "the last step has to be 100 %"),
        (&["50", "10", "100"], "have to grow"),
        (&["0", "100"], "more than 0 %"),
        (&[], "have to grow"),
    ] {
        let error = roll(steps).await.unwrap_err();
        assert!(error.status() == 422 && error.kind.to_string().contains(words), "{}", error.kind);
    }
    roll(&["10", "100"]).await.unwrap();
    node.traffic(&[(1, "100")]).await.unwrap();
    assert!(node.publisher.rollout(&name("f")).is_none());
    assert_eq!(main_of(&node), 1);
    roll(&["10", "100"]).await.unwrap();
    // What leaves the shares as they are does not.
    node.step(Step::Tag { tag: "t".parse().unwrap(), version: 1, public: false }).await.unwrap();
    let preview = Placement { percent: Some(Percent::NONE), ..Placement::default() };
    node.place(&says("three"), Settings::default(), preview).await.unwrap();
    let goes_on = node.publisher.rollout(&name("f")).unwrap();
    let now = node.publisher.deployments(&name("f")).unwrap().remove(0);
    assert_eq!((goes_on.generation, now.rollout), (now.generation, Some(goes_on.base)));
    assert!(node.publisher.halt(&name("f")).await.unwrap());
    assert!(!node.publisher.halt(&name("f")).await.unwrap());
    let now = node.publisher.deployments(&name("f")).unwrap().remove(0);
    assert_eq!(now.written(), "3 0 %, 2 10 %, 1 90 %");
}

#[tokio::test]
async fn a_route_of_one_host_is_reached_by_that_host() {
    let state = state();
    let node = TestNode::open(state.path());
    let routed = |routes: &[&str]| Settings {
        routes: routes.iter().map(|route| (*route).to_owned()).collect(),
        ..Settings::default()
    };
    node.deploy("site", &says("site"), routed(&["/..."])).await.unwrap();
    node.deploy("f", &says("one"), routed(&["Api.example.com/...", "*.f.example.com/v1x"]))
        .await
        .unwrap();
    for (host, path, body) in [
        ("api.example.com", "/anything", "one"),
        ("API.EXAMPLE.COM:8080", "/site", "one"),
        ("a.f.example.com", "/v1x", "one"),
        ("a.f.example.com", "/v1y", "site"),
        ("other.example.com", "/anything", "site"),
        ("other.example.com", "/f", "one"),
    ] {
        assert_eq!(node.ask(path, &[("host", host)]).await.2, body, "{host}{path}");
    }
    let error = node.deploy("g", &says("g"), routed(&["api.example.com/..."])).await.unwrap_err();
    assert_eq!(error.status(), 409, "{error}");
}

#[tokio::test]
async fn a_rollout_ends_with_its_function_and_drives_no_other_of_that_name() {
    let state = state();
    let node = TestNode::open(state.path());
    two(&node).await;
    node.publisher.roll_out(&name("f"), plan(&["1", "100"], Guard::default()), None).await.unwrap();
    node.publisher.remove(&name("f")).await.unwrap();
    assert!(node.publisher.rollout(&name("f")).is_none());
    // The same generations again, before anybody has looked.
    two(&node).await;
    node.step(Step::Tag { tag: "t".parse().unwrap(), version: 2, public: false }).await.unwrap();
    assert!(node.publisher.rollout(&name("f")).is_none());
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!((main_of(&node), node.get("/f").await.1), (1, "one".into()));
    assert_eq!(node.publisher.deployments(&name("f")).unwrap().len(), 3);
}

#[tokio::test]
async fn a_bad_version_goes_even_if_its_routes_of_before_are_anothers_now() {
    let state = state();
    let node = TestNode::open(state.path());
    let shop = Settings { routes: vec!["/shop/...".into()], ..Settings::default() };
    node.deploy("f", &says("one"), shop.clone()).await.unwrap();
    let bad = reactor(0, "").replace("(drop (call $start", "unreachable (drop (call $start");
    let placement = Placement { percent: Some(Percent::NONE), ..Placement::default() };
    let wasm = wat::parse_str(bad).unwrap().into();
    let change = Change { placement, ..Settings::default().into() };
    node.publisher.publish(PublishRequest { name: name("f"), wasm, change }, |_| {}).await.unwrap();
    let mut asked = plan(&["60", "100"], "errors=1%".parse().unwrap());
    asked.every_s = 600;
    node.publisher.roll_out(&name("f"), asked, None).await.unwrap();
    node.deploy("thief", &says("thief"), shop).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    for _ in 0..100 {
        node.get("/f").await;
    }
    until("it is taken back", || node.publisher.rollout(&name("f")).is_none()).await;
    assert_eq!((node.get("/f").await.1, node.get("/shop").await.1), ("one".into(), "thief".into()));
}

#[tokio::test]
async fn versions_that_can_be_reached_are_counted_against_descriptors() {
    let state = state();
    let node = TestNode::open_few(state.path(), 3);
    node.deploy("f", &says("one"), Settings::default()).await.unwrap();
    let tagged = |tag: &str| Placement {
        percent: Some(Percent::NONE),
        tag: Some(tag.parse().unwrap()),
        ..Placement::default()
    };
    node.place(&says("a"), Settings::default(), tagged("a")).await.unwrap();
    node.place(&says("b"), Settings::default(), tagged("b")).await.unwrap();
    let error = node.place(&says("c"), Settings::default(), tagged("c")).await.unwrap_err();
    assert_eq!(error.status(), 507, "{error}");
    assert_eq!(node.deploy("g", &says("g"), Settings::default()).await.unwrap_err().status(), 507);
    // One in place of another is no more.
    node.place(&says("d"), Settings::default(), tagged("b")).await.unwrap();
    node.place(&says("e"), Settings::default(), Placement::default()).await.unwrap();
}
