//! Clients that ask for much and send nothing: what the node keeps for them is counted, and refused at once beyond that.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use mayfly_core::RequestId;
use mayfly_core::limits::node;
use mayfly_core::record::Settings;
use mayfly_host::exchange::{BoxError, RequestBody};
use mayfly_host::sandbox::Inbound;
use mayfly_serve::inference;
use serde_json::json;

use crate::harness::Harness;
use crate::inference::model;

/// A client's body: these bytes, and then nothing, and no end. It counts how often it was asked.
struct Stalls {
    first: Option<Bytes>,
    asked: Arc<AtomicUsize>,
}

impl Body for Stalls {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.asked.fetch_add(1, SeqCst);
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Poll::Pending,
        }
    }
}

type Asked = Pin<Box<dyn Future<Output = (u16, Bytes)>>>;

/// A request from the client with this number. Its body is not asked for until it is polled.
fn ask(
    harness: &'static Harness,
    path: &str,
    client: u8,
    headers: usize,
    body: Option<RequestBody>,
) -> Asked {
    let mut request = Request::builder().method(Method::POST).uri(path).header("host", "test");
    for i in 1..headers {
        request = request.header(format!("x-{i}"), "y");
    }
    let parts = request.body(()).unwrap().into_parts().0;
    let (remote, local) = (([10, 0, 0, client], 1).into(), ([127, 0, 0, 1], 80).into());
    let inbound = Inbound::new(parts, remote, local, RequestId::from_random(7));
    Box::pin(async move {
        let response = inference::handle(&harness.node, inbound, body).await;
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.map_err(drop).unwrap().to_bytes())
    })
}

/// Begins requests with such bodies; gives those that wait, the statuses of the others, and how often bodies were asked.
async fn crowd(
    harness: &'static Harness,
    path: &str,
    clients: impl IntoIterator<Item = u8>,
    first: &Bytes,
) -> (Vec<Asked>, Vec<u16>, usize) {
    let asked = Arc::<AtomicUsize>::default();
    let (mut waiting, mut statuses) = (Vec::new(), Vec::new());
    for client in clients {
        let first = (!first.is_empty()).then(|| first.clone());
        let body: RequestBody = Box::pin(Stalls { first, asked: asked.clone() });
        let mut request = ask(harness, path, client, 1, Some(body));
        match poll_fn(|cx| Poll::Ready(request.as_mut().poll(cx))).await {
            Poll::Ready((status, _)) => statuses.push(status),
            Poll::Pending => waiting.push(request),
        }
    }
    (waiting, statuses, asked.load(SeqCst))
}

fn infer(name: &str) -> String {
    format!("/v2/models/{name}/infer")
}

fn whole(json: serde_json::Value) -> RequestBody {
    let body = http_body_util::Full::new(Bytes::from(json.to_string()));
    Box::pin(body.map_err(|never: std::convert::Infallible| match never {}))
}

/// One inference, which is answered.
async fn served(harness: &'static Harness, name: &str) {
    let inputs = json!({"inputs": [
        {"name": "x", "datatype": "FP32", "shape": [3], "data": [1, 2, 3]},
        {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["a"]},
    ]});
    let (status, body) = ask(harness, &infer(name), 99, 1, Some(whole(inputs))).await;
    assert_eq!(status, 200, "{body:?}");
}

async fn deploy(harness: &Harness, name: &str, limits: &[&str]) {
    let mut settings = Settings::default();
    for limit in limits {
        settings.limits.set(limit).unwrap();
    }
    harness.deploy_wat(name, &model(), settings).await;
}

#[test]
fn who_sends_no_body_has_a_place_of_the_function_or_is_refused_before_it_is_asked_for() {
    let harness = Harness::get();
    harness.run(async {
        deploy(harness, "narrow", &["concurrency=4"]).await;
        served(harness, "narrow").await;
        let (waiting, statuses, asked) =
            crowd(harness, &infer("narrow"), 0..40, &Bytes::new()).await;
        assert_eq!((waiting.len(), statuses), (4, vec![429; 36]));
        // Twice, because a timeout is set at the second look: what was refused was never asked for a byte.
        assert!(asked <= 8, "{asked}");
        let under_way = || harness.node.metrics.active_requests.get();
        assert!(under_way() >= 4);
        drop(waiting);
        served(harness, "narrow").await;
    });
}

#[test]
fn one_models_silent_clients_leave_places_for_anothers() {
    let harness = Harness::get();
    harness.run(async {
        deploy(harness, "crowded", &["concurrency=1000"]).await;
        deploy(harness, "beside", &[]).await;
        served(harness, "crowded").await;
        let clients = (0..200).map(|client| client % 50);
        let (waiting, statuses, _) =
            crowd(harness, &infer("crowded"), clients, &Bytes::new()).await;
        // Half of 32 slots' 64; a test beside this one may have some.
        assert!((20..=32).contains(&waiting.len()), "{}", waiting.len());
        assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
        for _ in 0..20 {
            served(harness, "beside").await;
        }
        drop(waiting);
        served(harness, "crowded").await;
    });
}

#[test]
fn one_models_slow_clients_leave_memory_for_anothers() {
    let harness = Harness::get();
    harness.run(async {
        deploy(harness, "hoarder", &["request-body=64MiB"]).await;
        deploy(harness, "modest", &[]).await;
        served(harness, "hoarder").await;
        served(harness, "modest").await;
        let most = Bytes::from(vec![b' '; 15 << 20]);
        let (waiting, statuses, _) = crowd(harness, &infer("hoarder"), 0..40, &most).await;
        // Half of 256 MiB.
        assert!((5..=8).contains(&waiting.len()), "{}", waiting.len());
        assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
        served(harness, "modest").await;
        drop(waiting);
        served(harness, "hoarder").await;
    });
}

#[test]
fn the_first_questions_for_a_models_description_have_places_too() {
    let harness = Harness::get();
    harness.run(async {
        deploy(harness, "unasked", &["concurrency=1"]).await;
        // It has to be asked first, and may only run once at a time.
        served(harness, "unasked").await;
    });
}

#[test]
fn reading_long_json_is_the_functions_time() {
    let harness = Harness::get();
    harness.run(async {
        deploy(harness, "charged", &["cpu=1ms", "request-body=64MiB"]).await;
        let data = vec![0.5; 1 << 20];
        let inputs = json!({"inputs": [
            {"name": "x", "datatype": "FP32", "shape": [data.len()], "data": data},
            {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        ]});
        // The guest's own millisecond is used up before it begins.
        let (status, body) = ask(harness, &infer("charged"), 1, 1, Some(whole(inputs))).await;
        assert_eq!(status, 504, "{body:?}");
    });
}

#[test]
fn a_request_has_as_many_headers_as_it_may() {
    use mayfly_core::limits::node::REQUEST_HEADERS;
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("headed", "answers", &[]).await;
        deploy(harness, "headed-model", &[]).await;
        for path in ["/headed", "/nowhere", "/v2/models/headed-model/infer"] {
            let (status, _) = ask(harness, path, 1, REQUEST_HEADERS, None).await;
            assert_ne!(status, 431, "{path}");
            let (status, _) = ask(harness, path, 1, REQUEST_HEADERS + 1, None).await;
            assert_eq!(status, 431, "{path}");
        }
    });
}

/// A wall limit that ends while its guest waits for a client is the client's fault once that has been silent for long.
#[test]
fn a_client_that_falls_silent_is_told_so_and_not_that_the_function_is_slow() {
    let harness = Harness::get();
    harness.run(async {
        // A second before the client counts as silent, and one after.
        let silent = format!("wall={}s", node::BODY_RATE_GRACE.as_secs() + 1);
        harness.deploy_guest("silent-soon", "counts-its-body", &["wall=1s"]).await;
        harness.deploy_guest("silent-long", "counts-its-body", &[&silent]).await;
        let stalls = || -> Option<RequestBody> {
            Some(Box::pin(Stalls { first: Some("12345".into()), asked: Arc::default() }))
        };
        let (soon, long) = tokio::join!(
            ask(harness, "/silent-soon", 7, 1, stalls()),
            ask(harness, "/silent-long", 8, 1, stalls()),
        );
        assert_eq!((soon.0, long.0), (504, 408), "{long:?}");
    });
}
