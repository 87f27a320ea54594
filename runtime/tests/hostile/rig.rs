//! One node with two gateways for all tests of this binary: a patient one, and one whose clocks run out in a second.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mayfly_core::FunctionName;
use mayfly_core::record::Settings;
use mayfly_host::engine::{Engine, EngineConfig};
use mayfly_observe::logs::Requests;
use mayfly_observe::metrics::Metrics;
use mayfly_publish::child::Children;
use mayfly_publish::{PublishError, PublishRequest, Publisher};
use mayfly_runtime::assemble::{Parts, assemble};
use mayfly_serve::gateway::{Gateway, GatewayConfig, GatewayTls, Running};
use mayfly_serve::node::Node;

use crate::secured;

/// Clocks of the impatient gateway, and of every body.
pub const SHORT: Duration = Duration::from_secs(1);
/// Until a test gives up on a socket; longer than anything that should happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Rig {
    pub node: Arc<Node>,
    pub metrics: Arc<Metrics>,
    pub publisher: Publisher,
    /// Default clocks.
    pub patient: SocketAddr,
    /// Clocks of [`SHORT`].
    pub impatient: SocketAddr,
    /// The same two over TLS.
    pub secured: [SocketAddr; 2],
    /// Who speaks it.
    pub tls_client: Arc<rustls::ClientConfig>,
    runtime: tokio::runtime::Runtime,
    _gateways: [Running; 2],
    _state: tempfile::TempDir,
}

impl Rig {
    /// The one of this process, with the functions `mirror`, `ok`, `deaf` and `loops` deployed.
    pub fn get() -> &'static Self {
        static RIG: OnceLock<Rig> = OnceLock::new();
        RIG.get_or_init(Self::start)
    }

    fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let config = EngineConfig { slots: Some(64), ..EngineConfig::default() };
        let engine = Engine::new(&config).unwrap();
        let mut parts = Parts::quiet(engine, state.path(), Requests::Errors).unwrap();
        parts.publishing.children = Children::of(env!("CARGO_BIN_EXE_mayfly"));
        parts.serving.body_idle_timeout = SHORT;
        // No page of the gateway's own: whatever is 200 here has come from the mirror.
        parts.serving.has_front_page = false;
        let metrics = parts.metrics.clone();
        let (node, publisher) = assemble(parts).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (terms, tls_client) = secured::terms();
        let tls = Some(GatewayTls { listen: Some(any), terms });
        let config = GatewayConfig { tls: tls.clone(), ..GatewayConfig::at(any) };
        let patient = Gateway::bind(config, node.clone()).unwrap();
        let config = GatewayConfig {
            tls,
            header_timeout: SHORT,
            keep_alive_timeout: SHORT,
            write_idle_timeout: SHORT,
            ..GatewayConfig::at(any)
        };
        let impatient = Gateway::bind(config, node.clone()).unwrap();
        let addresses = [patient.address(), impatient.address()];
        let secured = [&patient, &impatient].map(|gateway| gateway.tls_address().unwrap());
        let gateways = [patient.start().unwrap(), impatient.start().unwrap()];
        let rig = Self {
            node,
            metrics,
            publisher,
            patient: addresses[0],
            impatient: addresses[1],
            secured,
            tls_client,
            runtime,
            _gateways: gateways,
            _state: state,
        };
        rig.deploy("mirror", MIRROR, &["request-body=64KiB"]);
        rig.deploy_fault("ok", "answers", &[]);
        rig.deploy_fault("deaf", "ignores-its-body", &[]);
        rig.deploy_fault("loops", "loops", &["wall=60s", "cpu=60s"]);
        rig
    }

    /// Deploys a module in the text format.
    pub fn deploy(&self, name: &str, wat: &str, limits: &[&str]) {
        let wasm = wat::parse_str(wat).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.deploy_wasm(name, wasm, limits).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Deploys one of `functions/faults`.
    pub fn deploy_fault(&self, name: &str, guest: &str, limits: &[&str]) {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/faults");
        self.deploy(name, &std::fs::read_to_string(format!("{dir}/{guest}.wat")).unwrap(), limits);
    }

    pub fn deploy_wasm(
        &self,
        name: &str,
        wasm: Vec<u8>,
        limits: &[&str],
    ) -> Result<(), PublishError> {
        let name = FunctionName::new(name).unwrap();
        let mut settings = Settings::default();
        limits.iter().for_each(|limit| settings.limits.set(limit).unwrap());
        let request = PublishRequest { name, wasm: wasm.into(), change: settings.into() };
        self.runtime.block_on(self.publisher.publish(request, |_| {})).map(drop)
    }

    /// Invocations of a function that are under way.
    pub fn in_flight(&self, function: &str) -> usize {
        use std::sync::atomic::Ordering;
        match self.node.catalog.load().get(function) {
            Some(mayfly_host::catalog::Entry::Ready(revision)) => {
                revision.tenant.in_flight.load(Ordering::Relaxed)
            }
            _ => 0,
        }
    }

    /// Waits until no invocation of a function is left; one that stays is a leak.
    pub fn settled(&self, function: &str) {
        self.wait(|| self.in_flight(function) == 0, || format!("{function} is still running"));
    }

    /// Waits for something that has to happen.
    pub fn wait(&self, done: impl Fn() -> bool, what: impl Fn() -> String) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "{}", what());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Another client is served as if nothing were.
    pub fn bystander(&self) {
        let replies =
            talk(self.patient, b"GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(replies.iter().map(|r| r.status).collect::<Vec<_>>(), [200]);
    }
}

/// How often more than usual: `make soak` sets it.
pub fn soak() -> usize {
    std::env::var("MAYFLY_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Reads its whole request, then answers with what it saw: its head's frame, then its body.
const MIRROR: &str = r#"(module
  (import "mayfly_http_v1" "request_head" (func $head (param i32 i32) (result i32)))
  (import "mayfly_http_v1" "request_body_read" (func $read (param i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 8)
  (func (export "mayfly_abi_1"))
  (data (i32.const 0) "\c8\00\00\00")
  (func (export "mayfly_handle") (local $head i32) (local $n i32) (local $total i32)
    (local.set $head (call $head (i32.const 1024) (i32.const 200000)))
    (loop $more
      (local.set $n (call $read
        (i32.add (i32.const 262144) (local.get $total)) (i32.const 65536)))
      (if (i32.lt_s (local.get $n) (i32.const 0)) (then unreachable))
      (local.set $total (i32.add (local.get $total) (local.get $n)))
      (br_if $more (local.get $n)))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 1024) (local.get $head)))
    (drop (call $write (i32.const 262144) (local.get $total)))))"#;

/// A connected socket that no read or write holds up for ever.
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// Sends bytes, reads to the end, and takes the responses apart.
pub fn talk(address: SocketAddr, bytes: &[u8]) -> Vec<Reply> {
    let mut socket = connect(address);
    // Whoever refuses early may reset the rest of the writing; what it said counts.
    let _ = socket.write_all(bytes);
    replies(&read_to_end(&mut socket), bytes)
}

/// Everything up to the end or the reset. Panics if the connection stays open.
pub fn read_to_end(socket: &mut impl std::io::Read) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&all)),
        }
    }
}

/// One response as it came over the wire.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// What `mirror` saw, as "METHOD /target bytes-of-body"; the problem's name for a refusal; else nothing.
    pub fn seen(&self) -> String {
        if self.status != 200 {
            let body = String::from_utf8_lossy(&self.body).into_owned();
            let label = body.split("outcome:").nth(1).and_then(|rest| rest.split('"').next());
            return label.unwrap_or_default().to_owned();
        }
        let mut rest = self.body.as_slice();
        let Some(method) = text(&mut rest) else { return String::new() };
        let Some(target) = text(&mut rest) else { return String::new() };
        // base, scheme, authority, remote, id; then version, and the headers with their count.
        for _ in 0..5 {
            text(&mut rest);
        }
        let headers = usize::from(u16::from_le_bytes([rest[1], rest[2]]));
        rest = &rest[3..];
        for _ in 0..2 * headers {
            text(&mut rest);
        }
        format!("{method} {target} {}", rest.len())
    }

    /// A header's value in what `mirror` saw.
    pub fn saw_header(&self, name: &str) -> Option<Vec<u8>> {
        let needle = [&u16::try_from(name.len()).ok()?.to_le_bytes()[..], name.as_bytes()].concat();
        let at = self.body.windows(needle.len()).position(|w| w == needle)? + needle.len();
        let len = usize::from(u16::from_le_bytes([self.body[at], self.body[at + 1]]));
        Some(self.body[at + 2..at + 2 + len].to_vec())
    }
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let len = usize::from(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]));
    let text = String::from_utf8_lossy(rest.get(2..2 + len)?).into_owned();
    *rest = &rest[2 + len..];
    Some(text)
}

/// Takes a byte stream apart into responses; panics if it is anything else. Responses to HEAD have no body: whether
/// one is, is told by the request bytes having begun with it.
pub fn replies(mut stream: &[u8], request: &[u8]) -> Vec<Reply> {
    let mut all = Vec::new();
    while !stream.is_empty() {
        let end = stream.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {}", stream.escape_ascii())) + 4;
        let head = String::from_utf8_lossy(&stream[..end]).into_owned();
        stream = &stream[end..];
        let status: u16 =
            head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{head}"));
        assert!(head.starts_with("HTTP/1."), "{head}");
        let bodiless = status < 200 || status == 204 || status == 304;
        let to_head = request.starts_with(b"HEAD ") && all.is_empty();
        let body = if bodiless || to_head {
            Vec::new()
        } else if let Some(length) = header(&head, "content-length") {
            let (body, rest) = stream.split_at(length.parse().unwrap());
            stream = rest;
            body.to_vec()
        } else if header(&head, "transfer-encoding").is_some() {
            dechunk(&mut stream)
        } else {
            std::mem::take(&mut stream).to_vec()
        };
        all.push(Reply { status, head, body });
    }
    all
}

/// A header's value, from a head as text.
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn dechunk(stream: &mut &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let Some(end) = stream.windows(2).position(|w| w == b"\r\n") else { return body };
        let size = usize::from_str_radix(std::str::from_utf8(&stream[..end]).unwrap(), 16).unwrap();
        if stream.len() < end + 4 + size {
            *stream = &[];
            return body;
        }
        body.extend_from_slice(&stream[end + 2..end + 2 + size]);
        *stream = &stream[end + 4 + size..];
        if size == 0 {
            return body;
        }
    }
}
