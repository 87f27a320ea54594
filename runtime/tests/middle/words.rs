//! What the log says of an invocation: the limit and its key, where its time went, what kind of fault it was.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use mayfly_core::record::Settings;
use mayfly_core::{FunctionName, RequestId};
use mayfly_host::exchange::RequestBody;
use mayfly_host::sandbox::Inbound;
use mayfly_observe::logs::{Body as Logged, Entry, InvocationRecord};
use mayfly_serve::inference;

use crate::harness::{Harness, body_of, get, read, request, send};

fn entries(harness: &Harness, name: &str) -> Vec<Arc<Entry>> {
    assert!(harness.logs.flush(Duration::from_secs(5)));
    harness.logs.read(&FunctionName::new(name).unwrap(), 10_000, false).unwrap().0
}

/// The last invocation of a function; its line may come a moment after its answer.
async fn record(harness: &Harness, name: &str) -> InvocationRecord {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let entries = entries(harness, name);
        let mut records = entries.iter().filter_map(|entry| match &entry.body {
            Logged::Invocation(record) => Some((**record).clone()),
            _ => None,
        });
        if let Some(record) = records.next_back() {
            return record;
        }
        assert!(Instant::now() < deadline, "nothing of {name} is in the log");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn what_a_limit_ended_names_it_in_the_log_and_not_to_the_client() {
    let harness = Harness::get();
    harness.run(async {
        for (name, guest, limit, key) in [
            ("words-wall", "loops", "wall=200ms", "wall limit 200ms"),
            ("words-cpu", "fills-its-memory", "cpu=200ms", "cpu limit 200ms"),
            ("words-memory", "grows-and-dies", "memory=4MiB", "memory limit 4MiB"),
            ("words-answer", "answers-too-much", "response-body=1MiB", "response-body limit 1MiB"),
        ] {
            harness.deploy_guest(name, guest, &[limit]).await;
            let reply = get(harness, &format!("/{name}/a%20path?and=secret")).await;
            assert!(!body_of(&reply).contains("mayfly deploy"), "{}", body_of(&reply));
            let record = record(harness, name).await;
            let limit = limit.split('=').next().unwrap();
            let hint = format!("raise it: deploy it again with `--limit {limit}=...`");
            assert_eq!(record.detail.as_deref(), Some(&*format!("{key} reached; {hint}")));
            assert_eq!(record.path, format!("/{name}/a%20path"));
        }
    });
}

#[test]
fn a_long_path_is_cut_in_the_log() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("long-path", "answers", &[]).await;
        get(harness, &format!("/long-path/{}", "a".repeat(5_000))).await;
        let path = record(harness, "long-path").await.path;
        assert!(path.len() == 259 && path.ends_with("aaa..."), "{path}");
    });
}

/// The body of a client that sends nothing.
struct Silent;

impl Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[test]
fn time_belongs_to_what_was_waited_for() {
    let harness = Harness::get();
    harness.run(async {
        // Ended from outside, while it sleeps, and with its client.
        harness.deploy_guest("phases-sleep", "sleeps", &["wall=300ms"]).await;
        assert_eq!(get(harness, "/phases-sleep").await.status, 504);
        let times = record(harness, "phases-sleep").await.times;
        assert!(times.call_ns > times.total_ns / 2 && times.instantiate_ns > 0, "{times:?}");
        let left = harness.head_only("/phases-sleep");
        drop(tokio::time::timeout(Duration::from_millis(100), left).await);
        // Its guest ends when the runtime gets round to it.
        for _ in 0..500 {
            if record(harness, "phases-sleep").await.outcome == "client-gone" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = record(harness, "phases-sleep").await;
        assert_eq!(left.outcome, "client-gone");
        assert!(left.times.call_ns > left.times.total_ns / 2, "{:?}", left.times);

        harness.deploy_guest("phases-body", "counts-its-body", &["wall=300ms"]).await;
        let body = Silent.map_err(|never| match never {});
        let post = request(Method::POST, "/phases-body");
        let reply = read(send(harness, post, Some(Box::pin(body))).await).await;
        assert_eq!(reply.status, 504);
        let times = record(harness, "phases-body").await.times;
        assert!(times.receive_ns > times.total_ns / 2, "{times:?}");
        for times in [times, left.times] {
            let sum = times.queue_ns
                + times.receive_ns
                + times.instantiate_ns
                + times.call_ns
                + times.respond_ns;
            assert_eq!(sum, times.total_ns, "{times:?}");
        }
    });
}

#[test]
fn output_over_the_limit_is_counted_and_said_once() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("over-log", "floods-its-log", &["log=1KiB"]).await;
        get(harness, "/over-log").await;
        let over = |entry: &Arc<Entry>| match &entry.body {
            Logged::Over { bytes, limit_bytes, .. } => Some((*bytes, *limit_bytes)),
            _ => None,
        };
        let entries = entries(harness, "over-log");
        let told: Vec<_> = entries.iter().filter_map(over).collect();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].0, told[0].1),
            (record(harness, "over-log").await.dropped_log_bytes, 1024)
        );
        let line = entries.iter().find(|entry| over(entry).is_some()).unwrap().to_human();
        assert!(line.contains("log limit 1KiB reached") && line.contains("--limit log="), "{line}");
        // Nothing is said to who wants nothing.
        harness.deploy_guest("no-log", "floods-its-log", &["log=0B"]).await;
        get(harness, "/no-log").await;
        assert!(!self::entries(harness, "no-log").iter().any(|entry| over(entry).is_some()));
    });
}

#[test]
fn faults_that_trap_alike_are_told_apart() {
    let harness = Harness::get();
    harness.run(async {
        for (guest, expected) in [
            ("uses-up-its-own-stack", "its own stack in its memory is used up"),
            ("reads-out-of-bounds", "a null pointer, or one near it (address 0xfffffff8"),
            ("reads-behind-its-end", "just behind its memory of 64.0 KiB"),
            ("reads-far-outside", "a stray pointer or index (address 0x6f6c6c65"),
            ("calls-null", "a null function pointer"),
            ("traps", "a panic, an abort, a failed assertion"),
            ("points-outside", "one that it gave to the host"),
            ("recurses", "stack limit 512KiB reached; look for unbounded recursion"),
        ] {
            let name = format!("fault-words-{guest}");
            harness.deploy_guest(&name, guest, &[]).await;
            get(harness, &format!("/{name}")).await;
            let detail = record(harness, &name).await.detail.unwrap();
            assert!(detail.contains(expected), "{guest}: {detail}");
        }
    });
}

#[test]
fn a_refused_inference_has_its_reason_in_the_log() {
    let harness = Harness::get();
    harness.run(async {
        let model = crate::inference::model();
        let path = "/v2/models/refuses/infer";
        harness.deploy_wat("refuses", &model, Settings::default()).await;
        let refused = async |encoding: Option<&'static str>, json: String| {
            let mut request = request(Method::POST, path);
            if let Some(encoding) = encoding {
                request
                    .headers_mut()
                    .insert("content-encoding", HeaderValue::from_static(encoding));
            }
            let body = Full::new(Bytes::from(json)).map_err(|never: Infallible| match never {});
            let address = ([127, 0, 0, 1], 80).into();
            let parts = request.into_parts().0;
            let inbound = Inbound::new(parts, address, address, RequestId::from_random(7));
            let body: RequestBody = Box::pin(body);
            let response = inference::handle(&harness.node, inbound, Some(body)).await;
            let record = record(harness, "refuses").await;
            assert_eq!(record.status, response.status().as_u16(), "{record:?}");
            (record.status, record.detail.unwrap_or_default())
        };
        let (status, why) = refused(None, "{}".into()).await;
        assert!(status == 400 && why.contains("inputs"), "{status} {why}");
        let (status, why) = refused(Some("gzip"), "{}".into()).await;
        assert!(status == 415 && why.contains("compressed requests"), "{status} {why}");
        // However long what the client chose is.
        let name = "x".repeat(5_000);
        let unknown = format!(
            r#"{{"inputs":[{{"name":"{name}","datatype":"FP32","shape":[1],"data":[1]}}]}}"#
        );
        let (status, why) = refused(None, unknown).await;
        assert!(status == 400 && why.len() <= 515, "{status} {why}");
        // A limit's own words name its key.
        let large = " ".repeat(11 << 20);
        let (status, why) = refused(None, large).await;
        assert!(status == 413 && why.contains("--limit request-body"), "{status} {why}");
        harness.remove("refuses").await;
    });
}
