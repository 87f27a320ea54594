//! One node for all tests of this binary, driven without sockets: wasm in, response out.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use mayfly_core::record::Settings;
use mayfly_core::{FunctionName, RequestId};
use mayfly_host::engine::{Engine, EngineConfig};
use mayfly_host::exchange::{RequestBody, ResponseBody};
use mayfly_host::sandbox::Inbound;
use mayfly_observe::logs::{LogSink, Requests};
use mayfly_publish::child::Children;
use mayfly_publish::{PublishError, PublishReport, PublishRequest, Publisher};
use mayfly_runtime::assemble::{Parts, assemble};
use mayfly_serve::invocation;
use mayfly_serve::node::Node;

/// The node and what publishes to it.
pub struct Harness {
    pub node: Arc<Node>,
    pub publisher: Publisher,
    pub logs: LogSink,
    _state: tempfile::TempDir,
}

impl Harness {
    /// The one of this process: a process has one engine.
    pub fn get() -> &'static Self {
        static HARNESS: OnceLock<Harness> = OnceLock::new();
        HARNESS.get_or_init(|| {
            Self::start(&EngineConfig { slots: Some(32), ..EngineConfig::default() })
        })
    }

    /// One with an engine of its own.
    pub fn start(config: &EngineConfig) -> Self {
        let state = tempfile::tempdir().unwrap();
        let engine = Engine::new(config).unwrap();
        let mut parts = Parts::quiet(engine, state.path(), Requests::All).unwrap();
        // This test binary is not the one whose hidden verbs the children run.
        parts.publishing.children = Children::of(env!("CARGO_BIN_EXE_mayfly"));
        parts.publishing.outbound.private = vec!["127.0.0.0/8".parse().unwrap()];
        parts.serving.server_timing = true;
        let logs = parts.logs.clone();
        let (node, publisher) = assemble(parts).unwrap();
        Self { node, publisher, logs, _state: state }
    }

    /// Runs a test's future on a runtime of its own.
    pub fn run<T>(&self, test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    /// Deploys a module.
    pub async fn deploy(
        &self,
        name: &str,
        wasm: impl Into<Bytes>,
        settings: Settings,
    ) -> Result<PublishReport, PublishError> {
        let name = FunctionName::new(name).unwrap();
        self.publisher
            .publish(PublishRequest { name, wasm: wasm.into(), change: settings.into() }, |_| {})
            .await
    }

    /// Deploys a module written as text.
    pub async fn deploy_wat(&self, name: &str, wat: &str, settings: Settings) -> PublishReport {
        let wasm = wat::parse_str(wat).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.deploy(name, wasm, settings).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Deploys one of `functions/faults`.
    pub async fn deploy_guest(&self, name: &str, guest: &str, limits: &[&str]) {
        self.try_deploy_guest(name, guest, limits).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// Deploys one of `functions/faults` that may be refused.
    pub async fn try_deploy_guest(
        &self,
        name: &str,
        guest: &str,
        limits: &[&str],
    ) -> Result<PublishReport, PublishError> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/faults");
        let wasm = wat::parse_file(format!("{dir}/{guest}.wat")).unwrap();
        let mut settings = Settings::default();
        for limit in limits {
            settings.limits.set(limit).unwrap();
        }
        self.deploy(name, wasm, settings).await
    }

    /// Removes a function.
    pub async fn remove(&self, name: &str) {
        self.publisher.remove(&FunctionName::new(name).unwrap()).await.unwrap();
    }

    /// Waits until as many slots are free as before; a slot that stays taken is a leak.
    pub async fn settled(&self, slots: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        // Other tests run beside this one and hold slots of their own for a moment.
        while self.node.free_slots() < slots {
            assert!(
                Instant::now() < deadline,
                "{} of {slots} slots are free",
                self.node.free_slots()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything that was logged for a function.
    pub fn log_of(&self, name: &str) -> String {
        self.logs.flush(Duration::from_secs(5));
        let name = FunctionName::new(name).unwrap();
        let (entries, _) = self.logs.read(&name, 10_000, false).unwrap();
        entries.iter().map(|entry| entry.to_human() + "\n").collect()
    }

    /// A response whose body nobody has read yet.
    pub async fn head_only(&self, path: &str) -> Response<ResponseBody> {
        send(self, request(Method::GET, path), None).await
    }
}

/// A built guest of `functions/`; `make guests` makes them.
pub fn built(name: &str) -> Vec<u8> {
    let path = guests_dir().join(format!("{name}.wasm"));
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make guests` first", path.display()))
}

fn guests_dir() -> PathBuf {
    // Beside the binary under test: target/debug/mayfly -> target/wasm32-wasip1/guest.
    let mayfly = PathBuf::from(env!("CARGO_BIN_EXE_mayfly"));
    mayfly.ancestors().nth(2).unwrap().join("wasm32-wasip1/guest")
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The body ended in an error: a client's connection would have been cut.
    pub broken: bool,
}

/// A body as text.
pub fn body_of(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body[..reply.body.len().min(4096)]).into_owned()
}

/// A request without a body.
pub fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(path).header("host", "test:80").body(()).unwrap()
}

/// Sends GET.
pub async fn get(harness: &Harness, path: &str) -> Reply {
    read(send(harness, request(Method::GET, path), None).await).await
}

/// Sends POST with a body whose length is declared, or comes in chunks.
pub async fn post(harness: &Harness, path: &str, body: Vec<u8>, declared: bool) -> Reply {
    let mut request = request(Method::POST, path);
    if declared {
        request.headers_mut().insert("content-length", body.len().into());
        let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {});
        return read(send(harness, request, Some(Box::pin(body))).await).await;
    }
    let chunks: Vec<_> = body
        .chunks(100)
        .map(|chunk| Ok::<_, Infallible>(http_body::Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    let body = StreamBody::new(tokio_stream_of(chunks)).map_err(|never| match never {});
    read(send(harness, request, Some(Box::pin(body))).await).await
}

fn tokio_stream_of<T>(items: Vec<T>) -> impl futures_core::Stream<Item = T> {
    Items(items.into_iter())
}

struct Items<T>(std::vec::IntoIter<T>);

impl<T> Unpin for Items<T> {}

impl<T> futures_core::Stream for Items<T> {
    type Item = T;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        std::task::Poll::Ready(self.0.next())
    }
}

/// Hands a request to the node as the gateway would.
pub async fn send(
    harness: &Harness,
    request: Request<()>,
    body: Option<RequestBody>,
) -> Response<ResponseBody> {
    let inbound = Inbound::new(
        request.into_parts().0,
        SocketAddr::from(([192, 0, 2, 1], 4000)),
        SocketAddr::from(([192, 0, 2, 2], 80)),
        RequestId::from_random(rand::random()),
    );
    invocation::handle(&harness.node, inbound, body).await
}

/// Reads a response to its end.
pub async fn read(response: Response<ResponseBody>) -> Reply {
    let (head, mut body) = response.into_parts();
    let (mut bytes, mut broken) = (Vec::new(), false);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    Reply { status: head.status, headers: head.headers, body: bytes, broken }
}
