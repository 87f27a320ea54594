//! A state directory with a publisher and something to ask its functions with, all on the one engine of the process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use mayfly_core::record::Settings;
use mayfly_core::{FunctionName, RequestId};
use mayfly_host::catalog::{Catalog, Entry};
use mayfly_host::engine::{Engine, EngineConfig};
use mayfly_host::sandbox::Inbound;
use mayfly_observe::logs::Requests;
use mayfly_observe::metrics::Metrics;
use mayfly_publish::child::Children;
use mayfly_publish::{PublishError, PublishReport, PublishRequest, Publisher, SecretsConfig};
use mayfly_runtime::assemble::{Parts, assemble};
use mayfly_serve::invocation;
use mayfly_serve::node::Node;

/// The binary whose hidden verbs are the children.
pub const MAYFLY: &str = env!("CARGO_BIN_EXE_mayfly");

pub struct TestNode {
    pub publisher: Publisher,
    pub catalog: Arc<Catalog>,
    pub metrics: Arc<Metrics>,
    pub node: Arc<Node>,
}

pub fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let config = EngineConfig { slots: Some(16), ..EngineConfig::default() };
    ENGINE.get_or_init(|| Engine::new(&config).unwrap()).clone()
}

/// A directory for one test's state.
pub fn state() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub fn name(name: &str) -> FunctionName {
    FunctionName::new(name).unwrap()
}

pub fn limits(assignments: &[&str]) -> Settings {
    let mut settings = Settings::default();
    assignments.iter().for_each(|assignment| settings.limits.set(assignment).unwrap());
    settings
}

impl TestNode {
    /// As `mayfly serve` starts, but for sockets; the catalog is still empty.
    pub fn open(state: &Path) -> Self {
        Self::open_with(state, Children::of(MAYFLY))
    }

    /// With children that are another program.
    pub fn open_with(state: &Path, children: Children) -> Self {
        Self::open_as(state, children, engine(), Catalog::default())
    }

    /// With a pool of its own, or with routes that the configuration gives.
    pub fn open_as(state: &Path, children: Children, engine: Engine, catalog: Catalog) -> Self {
        let mut parts = Parts::quiet(engine, state, Requests::Off).unwrap();
        parts.publishing.children = children;
        parts.catalog = catalog;
        Self::of(parts)
    }

    /// One that loads nothing before its start ends.
    pub fn open_lazy(state: &Path) -> Self {
        let mut parts = Parts::quiet(engine(), state, Requests::Off).unwrap();
        parts.publishing.children = Children::of(MAYFLY);
        parts.publishing.loaded_at_start = 0;
        Self::of(parts)
    }

    /// One that has descriptors for so many versions.
    pub fn open_few(state: &Path, functions: usize) -> Self {
        let mut parts = Parts::quiet(engine(), state, Requests::Off).unwrap();
        parts.publishing.children = Children::of(MAYFLY);
        parts.publishing.functions = functions;
        Self::of(parts)
    }

    /// With secrets from elsewhere.
    pub fn open_secret(state: &Path, secrets: SecretsConfig) -> Self {
        let mut parts = Parts::quiet(engine(), state, Requests::Off).unwrap();
        parts.publishing.children = Children::of(MAYFLY);
        parts.publishing.secrets = secrets;
        Self::of(parts)
    }

    fn of(parts: Parts) -> Self {
        let (node, publisher) = assemble(parts).unwrap();
        let (catalog, metrics) = (node.catalog.clone(), node.metrics.clone());
        Self { publisher, catalog, metrics, node }
    }

    /// Deploys a module in the text format.
    pub async fn deploy(
        &self,
        function: &str,
        wat: &str,
        settings: Settings,
    ) -> Result<PublishReport, PublishError> {
        self.deploy_wasm(function, wat::parse_str(wat).unwrap(), settings).await
    }

    pub async fn deploy_wasm(
        &self,
        function: &str,
        wasm: Vec<u8>,
        settings: Settings,
    ) -> Result<PublishReport, PublishError> {
        let request =
            PublishRequest { name: name(function), wasm: wasm.into(), change: settings.into() };
        self.publisher.publish(request, |_| {}).await
    }

    /// Status and body of a GET.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask(path, &[]).await;
        (status, body)
    }

    /// Status, headers and body of a GET with some headers.
    pub async fn ask(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, http::HeaderMap, String) {
        let mut request = http::Request::builder().uri(path);
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", "test");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let inbound =
            Inbound::new(request.into_parts().0, address, address, RequestId::from_random(7));
        let response = invocation::handle(&self.node, inbound, None).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8_lossy(&body).into_owned())
    }

    /// Waits until a function answers.
    pub async fn ready(&self, function: &str) {
        let ready = || matches!(self.catalog.load().get(function), Some(Entry::Ready(_)));
        until(&format!("{function} is ready"), ready).await;
    }

    pub fn compiles(&self) -> u64 {
        self.metrics.compiles.get()
    }
}

/// Waits until something is so; a minute is more than any of it takes.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Files in one of the state directory's folders.
pub fn files(state: &Path, folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A reactor that answers with `len` bytes at address 0, and whatever else it is made of.
pub fn reactor(len: u32, rest: &str) -> String {
    format!(
        r#"(module
        (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
        (import "mayfly_asset_v1" "asset_len" (func $asset_len (param i32 i32) (result i64)))
        (import "mayfly_asset_v1" "asset_read"
            (func $asset_read (param i32 i32 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        ;; Status 200, no headers.
        (data (i32.const 1024) "\c8\00\00\00")
        (func (export "mayfly_abi_1"))
        (func (export "mayfly_handle")
            (drop (call $start (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const {len}))))
        {rest})"#
    )
}

/// A reactor that answers with a text of at most 1 KiB.
pub fn says(text: &str) -> String {
    reactor(text.len().try_into().unwrap(), &format!(r#"(data (i32.const 0) "{text}")"#))
}

/// Appends a custom section.
pub fn with_section(mut wasm: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    let leb = |mut n: usize| {
        let mut bytes = Vec::new();
        loop {
            let low = u8::try_from(n & 0x7f).unwrap();
            n >>= 7;
            bytes.push(if n == 0 { low } else { low | 0x80 });
            if n == 0 {
                return bytes;
            }
        }
    };
    let name = [leb(name.len()), name.into()].concat();
    wasm.push(0);
    wasm.extend(leb(name.len() + data.len()));
    wasm.extend(name);
    wasm.extend(data);
    wasm
}
