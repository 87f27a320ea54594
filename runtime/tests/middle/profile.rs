//! What a profile says of guests whose shares are known by how they are made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use mayfly_admin::profile::{Kind, Profile};
use mayfly_admin::{AdminState, NodeControl, Uploads};
use mayfly_core::auth::{Token, Tokens};
use mayfly_core::limits::{Limits, node};
use mayfly_core::record::Settings;
use serde_json::Value;

use super::harness::{Harness, body_of, get};

/// The admin API over the harness's node, without sockets.
struct Admin {
    state: Arc<AdminState>,
    full: Token,
    metrics: Token,
    // Dropped where blocking is allowed.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Admin {
    fn of(harness: &Harness) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (full, metrics) = (Token::generate([1; 32]), Token::generate([2; 32]));
        let state = Arc::new(AdminState {
            control: Arc::new(NodeControl {
                publisher: harness.publisher.clone(),
                catalog: harness.node.catalog.clone(),
                at_start: std::collections::BTreeSet::new(),
                runtime: runtime.handle().clone(),
            }),
            metrics: harness.node.metrics.clone(),
            logs: harness.logs.clone(),
            tokens: Tokens::new(&full, &metrics),
            hosts: Vec::new(),
            ready: Arc::new(AtomicBool::new(true)),
            unready: Box::new(|| None),
            restored: Arc::new(AtomicBool::new(true)),
            gateway: "127.0.0.1:80".parse().unwrap(),
            limits: Limits::default(),
            limits_max: Limits::default(),
            package_bytes: node::PACKAGE_BYTES,
            uploads: Uploads::default(),
        });
        Self { state, full, metrics, runtime: Some(runtime) }
    }

    async fn ask(&self, name: &str, query: &str, token: &Token) -> (u16, Value) {
        let request = Request::post(format!("/v1/functions/{name}/profile{query}"))
            .header("host", "127.0.0.1")
            .header("authorization", format!("Bearer {}", token.reveal()))
            .body(Full::new(Bytes::new()))
            .unwrap();
        let response = mayfly_admin::handle(&self.state, request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn profile(&self, name: &str, time: &str) -> Profile {
        let (status, profile) = self.ask(name, &format!("?for={time}"), &self.full).await;
        assert_eq!(status, 200, "{profile}");
        serde_json::from_value(profile).unwrap()
    }
}

/// Profiles a function that is called without pause.
async fn under_load(harness: &Harness, name: &str, time: &str) -> Profile {
    let admin = Admin::of(harness);
    let done = AtomicBool::new(false);
    let load = async {
        // Guests that began before the profile are looked at by the tick, and without what the host does for them.
        tokio::time::sleep(Duration::from_millis(300)).await;
        while !done.load(Ordering::Relaxed) {
            let reply = get(harness, &format!("/{name}")).await;
            assert_eq!(reply.status, 200, "{}", body_of(&reply));
            tokio::task::yield_now().await;
        }
    };
    let profile = async {
        let profile = admin.profile(name, time).await;
        done.store(true, Ordering::Relaxed);
        profile
    };
    let (profile, ()) = tokio::join!(profile, load);
    assert!(profile.samples > 10, "{profile:?}");
    profile
}

/// How far a share may be off: five points are promised, and what is beyond them by chance, at four standard deviations of
/// so many samples, is no fault; a busy machine takes few.
fn margin(profile: &Profile) -> f64 {
    let samples = f64::from(u32::try_from(profile.samples).unwrap());
    5.0 + 400.0 * (0.3 * 0.7 / samples).sqrt()
}

/// How long a profile of these tests takes; with `MAYFLY_SOAK=1` long enough for chance to be less than two points.
fn time() -> &'static str {
    if std::env::var_os("MAYFLY_SOAK").is_some() { "20s" } else { "2s" }
}

/// Samples by the innermost frame, in percent of all.
fn own_shares(profile: &Profile) -> BTreeMap<(Kind, String), f64> {
    let mut shares = BTreeMap::new();
    for stack in &profile.stacks {
        let frame = &profile.frames[*stack.frames.last().unwrap()];
        let samples = u32::try_from(stack.samples * 1_000_000 / profile.samples).unwrap();
        *shares.entry((frame.kind, frame.name.clone())).or_default() += f64::from(samples) / 1e4;
    }
    shares
}

fn share(profile: &Profile, kind: Kind, name: &str) -> f64 {
    own_shares(profile).get(&(kind, name.to_owned())).copied().unwrap_or(0.0)
}

fn assert_share(profile: &Profile, kind: Kind, name: &str, expected: f64) {
    let found = share(profile, kind, name);
    let off = (found - expected).abs();
    assert!(off <= margin(profile), "{name}: {found} % in {:?}", own_shares(profile));
}

/// The stacks as names, the outermost first.
fn stacks(profile: &Profile) -> Vec<Vec<&str>> {
    let names = |frames: &[usize]| {
        frames.iter().map(|frame| profile.frames[*frame].name.as_str()).collect::<Vec<_>>()
    };
    profile.stacks.iter().map(|stack| names(&stack.frames)).collect()
}

/// A reactor whose `a` loops three times out of ten, and `b` seven. Both are called by `work`, and have the same body.
fn thirty_and_seventy(rest: &str) -> String {
    let turns = "(loop (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))";
    format!(
        r#"(module
        (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sched_yield" (func $sched (result i32)))
        (memory (export "memory") 20)
        (data (i32.const 1024) "\c8\00\00\00")
        (func $a (param $n i32) {turns})
        (func $b (param $n i32) {turns})
        (func $work
            (call $a (i32.const 300000))
            (call $b (i32.const 700000)))
        (func (export "mayfly_abi_1"))
        (func $handle (export "mayfly_handle")
            (call $work)
            (drop (call $start (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0))))
        {rest})"#
    )
}

#[test]
fn shares_are_those_of_the_work() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("shares", &thirty_and_seventy(""), Settings::default()).await;
        let profile = under_load(harness, "shares", "3s").await;
        assert_eq!((profile.names.as_str(), profile.replaced), ("names", false));
        assert!(profile.invocations > 100 && profile.call_us > 100_000, "{profile:?}");
        assert_share(&profile, Kind::Function, "a", 30.0);
        assert_share(&profile, Kind::Function, "b", 70.0);
        let stacks = stacks(&profile);
        assert!(stacks.contains(&vec!["handle", "work", "b"]), "{stacks:?}");
        // It is over: the next requests are as before.
        assert_eq!(get(harness, "/shares").await.status, 200);
    });
}

/// Init makes a snapshot, which is another module; memory is filled by a helper behind all functions, and imports are
/// called through thunks: each moves what compiled functions are called.
#[test]
fn names_are_right_whatever_was_done_to_the_module() {
    let more = r#"
        (func $fills (param $n i32)
            (loop $l
                (memory.fill (i32.const 65536) (i32.const 1) (i32.sub (i32.const 1200000) (local.get $n)))
                (drop (call $sched))
                (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
        (func (export "mayfly_init") (call $a (i32.const 10)) (i32.store (i32.const 4096) (i32.const 7)))"#;
    let wat = thirty_and_seventy(more).replace(
        "(func $work\n",
        "(func $work (call $fills (i32.const 10)) (if (i32.ne (i32.load (i32.const 4096)) (i32.const 7)) (then unreachable))\n",
    );
    let harness = Harness::get();
    harness.run(async {
        let report = harness.deploy_wat("moved", &wat, Settings::default()).await;
        let snapshot = format!("{:?}", report.record.snapshot);
        assert!(snapshot.starts_with("Taken"), "{snapshot}");
        let profile = under_load(harness, "moved", time()).await;
        for stack in stacks(&profile) {
            let known = match stack[..] {
                ["handle"] | ["handle", "work"] => true,
                ["handle", "work", inner] => ["a", "b", "fills"].contains(&inner),
                ["handle", "work", "fills", inner] => inner == "memory.fill",
                [one] => one.contains("::") || one == "makes an instance",
                _ => false,
            };
            assert!(known, "{stack:?}");
        }
        let (a, b) = (share(&profile, Kind::Function, "a"), share(&profile, Kind::Function, "b"));
        let off = (100.0 * a / (a + b) - 30.0).abs();
        assert!(off <= margin(&profile), "{:?}", own_shares(&profile));
        assert!(share(&profile, Kind::Instruction, "memory.fill") > 0.0, "{profile:?}");
    });
}

#[test]
fn a_stripped_module_has_exports_and_its_own_indices_for_names() {
    let mut wat = thirty_and_seventy("");
    for (name, index) in [
        ("$start", "0"),
        ("$sched", "1"),
        ("$a", "2"),
        ("$b", "3"),
        ("$work", "4"),
        ("$handle", ""),
    ] {
        wat = wat
            .replace(&format!("(func {name} "), "(func ")
            .replace(&format!("(func {name}\n"), "(func\n");
        wat = wat.replace(&format!("(call {name}"), &format!("(call {index}"));
    }
    let wat = wat.replace("$n", "0").replace("(param 0 i32)", "(param i32)");
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("stripped", &wat, Settings::default()).await;
        let profile = under_load(harness, "stripped", time()).await;
        assert_eq!(profile.names, "exports");
        assert_share(&profile, Kind::Function, "func[2]", 30.0);
        assert_share(&profile, Kind::Function, "func[3]", 70.0);
        let stacks = stacks(&profile);
        assert!(stacks.contains(&vec!["mayfly_handle", "func[4]", "func[3]"]), "{stacks:?}");
    });
}

#[test]
fn a_deep_stack_has_its_innermost_frames() {
    let deep = r#"(func $deep (param $n i32)
        (if (local.get $n) (then (call $deep (i32.sub (local.get $n) (i32.const 1))))
            (else (call $b (i32.const 3000000)))))"#;
    let wat = thirty_and_seventy(deep)
        .replace("(func $work\n", "(func $work (call $deep (i32.const 2000))\n");
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("deep", &wat, Settings::default()).await;
        let profile = under_load(harness, "deep", "1s").await;
        let found = stacks(&profile);
        let mut expected = vec!["deep"; node::PROFILE_FRAMES - 1];
        expected.insert(0, "deeper than is seen");
        expected.push("b");
        assert!(found.contains(&expected), "{found:?}");
        assert!(found.iter().all(|stack| stack.len() <= node::PROFILE_FRAMES + 1));
        let all = share(&profile, Kind::Function, "b");
        assert!(all > 80.0, "{:?}", own_shares(&profile));
    });
}

/// 64 KiB of random bytes take far longer than the loop around them.
#[test]
fn what_the_host_does_stands_apart() {
    let draws = r#"
        (func $draws (param $n i32)
            (loop $l
                (drop (call $random (i32.const 65536) (i32.const 65536)))
                (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))"#;
    let random = r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#;
    let wat = thirty_and_seventy(draws)
        .replace(
            "(import \"wasi_snapshot_preview1\" \"sched_yield\" (func $sched (result i32)))",
            random,
        )
        .replace("(func $work\n", "(func $work (call $draws (i32.const 200))\n")
        .replace("00000)", "00)");
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("draws", &wat, Settings::default()).await;
        let profile = under_load(harness, "draws", "1s").await;
        let host = share(&profile, Kind::Host, "wasi_snapshot_preview1::random_get");
        assert!(host > 90.0, "{:?}", own_shares(&profile));
        let kinds: f64 = own_shares(&profile)
            .iter()
            .filter(|((kind, _), _)| *kind == Kind::Function)
            .map(|(_, share)| share)
            .sum();
        assert!(kinds < 10.0, "{:?}", own_shares(&profile));
    });
}

#[test]
fn what_waits_takes_no_samples_and_is_told() {
    let harness = Harness::get();
    harness.run(async {
        let sleeps = r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 1024) "\c8\00\00\00")
            (func (export "mayfly_abi_1"))
            (func (export "mayfly_handle")
                (i32.store (i32.const 16) (i32.const 1))
                (i64.store (i32.const 24) (i64.const 200000000))
                (drop (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))
                (drop (call $start (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0)))))"#;
        harness.deploy_wat("waits", sleeps, Settings::default()).await;
        let admin = Admin::of(harness);
        let call = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(get(harness, "/waits").await.status, 200);
        };
        let (profile, ()) = tokio::join!(admin.profile("waits", "1s"), call);
        assert_eq!(profile.invocations, 1);
        let [wait] = &profile.waits[..] else { panic!("{profile:?}") };
        assert_eq!(wait.import, "wasi_snapshot_preview1::poll_oneoff");
        assert!((150_000..300_000).contains(&wait.us), "{profile:?}");
        assert!(profile.samples < 50, "{profile:?}");
    });
}

#[test]
fn a_guest_that_ran_before_is_seen_as_well() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("before", "loops", &["cpu=5s", "wall=5s"]).await;
        let admin = Admin::of(harness);
        let call = get(harness, "/before");
        let late = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            admin.profile("before", "1s").await
        };
        let (profile, reply) = tokio::join!(late, call);
        assert_eq!(reply.status, 504);
        assert_eq!(profile.invocations, 0);
        assert!(profile.samples > 10, "{profile:?}");
    });
}

#[test]
fn a_profile_of_nobody_says_so_and_its_function_has_one_at_a_time() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("quiet", &thirty_and_seventy(""), Settings::default()).await;
        let admin = Admin::of(harness);
        let second = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            admin.ask("quiet", "?for=100ms", &admin.full).await
        };
        let (first, (status, problem)) = tokio::join!(admin.profile("quiet", "500ms"), second);
        assert_eq!((first.samples, first.invocations), (0, 0));
        assert!(first.took_us >= 500_000 && first.stacks.is_empty());
        assert_eq!(status, 409, "{problem}");
        let why = problem["detail"].as_str().unwrap();
        assert!(why.contains("profiled already"), "{problem}");
        assert!(problem["hint"].as_str().unwrap().contains("wait"), "{problem}");
        // And then it may have the next.
        assert_eq!(admin.profile("quiet", "100ms").await.samples, 0);
        // Only for who may change what is deployed.
        assert_eq!(admin.ask("quiet", "", &admin.metrics).await.0, 403);
        assert_eq!(admin.ask("quiet", "", &Token::generate([3; 32])).await.0, 401);
        assert_eq!(admin.ask("nobody", "?for=100ms", &admin.full).await.0, 404);
    });
}

#[test]
fn a_profile_ends_with_its_client() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("leaves", &thirty_and_seventy(""), Settings::default()).await;
        let admin = Admin::of(harness);
        let patience = Duration::from_millis(300);
        let left = tokio::time::timeout(patience, admin.profile("leaves", "60s")).await;
        assert!(left.is_err());
        assert_eq!(admin.profile("leaves", "100ms").await.samples, 0);
    });
}

#[test]
fn another_revision_is_not_in_a_profile_and_that_is_said() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("replaced", &thirty_and_seventy(""), Settings::default()).await;
        let admin = Admin::of(harness);
        let deploy = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let settings = Settings { args: Vec::new(), ..Settings::default() };
            let report = harness.deploy_wat("replaced", &thirty_and_seventy(""), settings).await;
            assert_eq!(report.record.number, 2);
        };
        let (profile, ()) = tokio::join!(admin.profile("replaced", "2s"), deploy);
        assert!(profile.replaced && profile.revision == 1, "{profile:?}");
    });
}
