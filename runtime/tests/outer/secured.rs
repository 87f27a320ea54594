//! TLS from files, as clients meet it and as operators change it.

mod cost;
mod made;

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rcgen::date_time_ymd;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::node::{Node, mayfly, module};
use made::{Authority, write};

const ENVIRONMENT: &str = include_str!("../guests/environment.wat");

/// A gateway's files in `dir`, and the flags that name them.
fn pair(dir: &TempDir, authority: &Authority, name: &str, hosts: &[&str]) -> [String; 2] {
    authority.leaf(dir.path(), name, hosts, |_| {});
    ["pem", "key"].map(|end| dir.path().join(format!("{name}.{end}")).display().to_string())
}

/// Flags for a gateway that speaks TLS for localhost, after which others may follow.
fn flags(dir: &TempDir, authority: &Authority, more: &[&str]) -> Vec<String> {
    let [cert, key] = pair(dir, authority, "gateway", &["localhost", "127.0.0.1"]);
    let own = [format!("--gateway-tls-cert={cert}"), format!("--gateway-tls-key={key}")];
    own.into_iter().chain(more.iter().map(|&flag| flag.to_owned())).collect()
}

fn start(dir: TempDir, flags: &[String]) -> Node {
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let node = Node::start_with(dir, &flags);
    let wasm = node.file("env.wasm", &wat::parse_str(ENVIRONMENT).unwrap());
    node.ok(&["deploy", &wasm]);
    node
}

/// What curl makes of it: its exit code, and what it says.
fn curl(port: &str, authority: &Authority, url: &str, more: &[&str]) -> (i32, String) {
    let mut command = Command::new("curl");
    let resolve = |host: &str| format!("{host}:{port}:127.0.0.1");
    command.args(["-sS", "--max-time", "20", "--cacert"]).arg(authority.file());
    for host in ["localhost", "a.example", "x.b.example", "y.x.b.example"] {
        command.arg("--resolve").arg(resolve(host));
    }
    let output = command.args(more).arg(url).output();
    let output = output.unwrap_or_else(|why| panic!("these tests need curl with HTTP/2: {why}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

#[test]
fn clients_of_every_version_and_protocol_are_answered_and_functions_see_https() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let flags = flags(&dir, &authority, &["--gateway-tls-listen=127.0.0.1:0"]);
    let node = start(dir, &flags);
    let port = port(node.beside());
    let url = format!("https://localhost:{port}/env/x?y=z");
    for (options, version) in [
        (&["--tls-max", "1.2", "--http1.1"][..], "1.1"),
        (&["--tls-max", "1.2", "--http2"], "2"),
        (&["--tlsv1.3", "--http1.1"], "1.1"),
        (&["--tlsv1.3", "--http2"], "2"),
        (&["--tlsv1.3", "--no-alpn"], "1.1"),
        (&["--tlsv1.3", "--data", "some"], "2"),
    ] {
        let more = [&["-w", "\nversion %{http_version}\n"], options].concat();
        let (code, said) = curl(port, &authority, &url, &more);
        assert_eq!(code, 0, "{options:?}: {said}");
        for line in [
            "HTTPS=on".to_owned(),
            format!("X_FULL_URL={url}"),
            format!("SERVER_PORT={port}"),
            "SERVER_NAME=localhost".to_owned(),
            format!("version {version}"),
        ] {
            assert!(said.lines().any(|l| l == line), "{options:?}: {line} is not in {said}");
        }
        assert!(!said.contains("HTTP_X_CLIENT_CERT"), "{said}");
    }
    // The plain one beside it is as it was.
    let (status, text) = node.get("/env/x");
    assert!(status == 200 && !text.contains("HTTPS="), "{text}");
    // What is too old is refused, and is the client's own.
    let (code, said) = curl(port, &authority, &url, &["--tls-max", "1.1"]);
    assert!(code != 0, "{said}");
    let (code, _) = curl(port, &authority, &url, &["--ciphers", "AES128-SHA", "--tls-max", "1.2"]);
    assert!(code != 0);
    let left = node.metrics();
    let left = left.lines().find_map(|l| l.strip_prefix("mayfly_tls_expiry_seconds ")).unwrap();
    assert!(left.parse::<f64>().unwrap() > 86_400.0, "{left}");
}

#[test]
fn the_gateways_own_address_may_speak_tls_alone() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let node = start(TempDir::new().unwrap(), &flags(&dir, &authority, &[]));
    let port = port(node.address());
    let url = format!("https://127.0.0.1:{port}/env");
    assert_eq!(curl(port, &authority, &url, &["-o", "/dev/null"]).0, 0);
    // The verbs are told by the node.
    let ca = authority.file().to_str().unwrap();
    assert!(node.ok(&["invoke", "env", "--ca", ca]).contains("HTTPS=on"));
    assert!(node.ok(&["list"]).contains(&format!("https://127.0.0.1:{port}/env")));
    let (status, said) = node.get("/env");
    assert!(status == 400 && said.contains("write https://"), "{said}");
}

#[test]
fn the_name_that_is_asked_for_picks_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Authority::new(dir.path(), "ca"), Authority::new(dir.path(), "other"));
    let [a_cert, a_key] = pair(&dir, &other, "a", &["a.example"]);
    let [b_cert, b_key] = pair(&dir, &other, "b", &["*.b.example"]);
    let sni = [
        format!("--gateway-tls-sni=host=A.example cert={a_cert} key={a_key}"),
        format!("--gateway-tls-sni=host=*.b.example cert={b_cert} key={b_key}"),
    ];
    let flags = flags(&dir, &one, &[&sni[0], &sni[1]]);
    let node = start(TempDir::new().unwrap(), &flags);
    let port = port(node.address());
    for (host, of, code) in [
        ("localhost", &one, 0),
        ("localhost", &other, 60),
        ("a.example", &other, 0),
        ("a.example", &one, 60),
        ("x.b.example", &other, 0),
        // Two below is none of it: the default, which has not this name.
        ("y.x.b.example", &one, 60),
    ] {
        let url = format!("https://{host}:{port}/env");
        let (got, said) = curl(port, of, &url, &["-o", "/dev/null"]);
        assert_eq!(got, code, "{host}: {said}");
    }
}

#[test]
fn functions_are_told_of_certificates_and_nobody_can_forge_them() {
    let forged = [
        "-HX-Client-Cert-Verified: true",
        "-HX-Client-Cert-Subject: CN=admin",
        "-Hx-client-cert-sha256: 00",
        "-HX-Client-Cert-Issuer: CN=ca",
    ];
    for (auth, without) in [("required", 56), ("optional", 0)] {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path(), "ca");
        let users = Authority::new(dir.path(), "users");
        users.leaf(dir.path(), "alice", &[], |params| {
            params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        });
        authority.leaf(dir.path(), "stranger", &[], |_| {});
        let own = |name: &str| dir.path().join(name).display().to_string();
        let fingerprint = users.fingerprint(dir.path(), "alice");
        let more = [
            format!("--gateway-tls-client-ca={}", users.file().display()),
            format!("--gateway-tls-client-auth={auth}"),
            "--gateway-tls-listen=127.0.0.1:0".to_owned(),
        ];
        let flags = flags(&dir, &authority, &[&more[0], &more[1], &more[2]]);
        let node = start(TempDir::new().unwrap(), &flags);
        let port = port(node.beside());
        let url = format!("https://localhost:{port}/env");
        let ask = |options: &[&str]| curl(port, &authority, &url, &[&forged[..], options].concat());
        let told = |said: &str| {
            let mut lines: Vec<_> =
                said.lines().filter(|l| l.contains("CLIENT_CERT")).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        for protocol in ["--http1.1", "--http2"] {
            for version in ["1.2", "1.3"] {
                let (cert, key) = (own("alice.pem"), own("alice.key"));
                let options = ["--tls-max", version, "--cert", &cert, "--key", &key, protocol];
                let (code, said) = ask(&options);
                assert_eq!(code, 0, "{said}");
                let expect = [
                    format!("HTTP_X_CLIENT_CERT_SHA256={fingerprint}"),
                    "HTTP_X_CLIENT_CERT_SUBJECT=CN=alice".to_owned(),
                    "HTTP_X_CLIENT_CERT_VERIFIED=true".to_owned(),
                ];
                assert_eq!(told(&said), expect, "{auth}");
                // One of another authority is none, whatever is asked for.
                let (cert, key) = (own("stranger.pem"), own("stranger.key"));
                let (code, said) = ask(&["--tls-max", version, "--cert", &cert, "--key", &key]);
                assert!(code != 0, "{said}");
            }
            let (code, said) = ask(&["--tlsv1.3", protocol]);
            assert!(code == without || without != 0 && code != 0, "{auth}: {code}: {said}");
            if without == 0 {
                assert_eq!(told(&said), ["HTTP_X_CLIENT_CERT_VERIFIED=false"], "{said}");
            }
        }
        // Nor where there is no TLS.
        let lines = forged.map(|line| format!("{}\r\n", &line[2..])).concat();
        let (status, said) = node.get_with("/env", &lines);
        assert_eq!(status, 200, "{said}");
        assert_eq!(told(&said), ["HTTP_X_CLIENT_CERT_VERIFIED=false"], "{said}");
    }
}

#[test]
fn a_start_refuses_what_is_no_good_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let [cert, key] = pair(&dir, &authority, "good", &["localhost"]);
    pair(&dir, &authority, "other", &["localhost"]);
    authority.leaf(dir.path(), "old", &[], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2024, 2, 1);
    });
    write(&dir.path().join("open.key"), &std::fs::read_to_string(&key).unwrap(), 0o644);
    for table in ["gateway", "admin"] {
        for (cert, key, of, words) in [
            (&cert, &file("other.key"), "key", "it is the key of another certificate"),
            (&file("old.pem"), &file("old.key"), "cert", "it expired on 2024-02-01T00:00:00Z"),
            (
                &cert,
                &file("open.key"),
                "key",
                "everybody on this machine may use it (its mode is 644)",
            ),
            (&file("none"), &key, "cert", "it cannot be read: No such file"),
        ] {
            let flags = [format!("--{table}-tls-cert={cert}"), format!("--{table}-tls-key={key}")];
            let output = mayfly(&dir, &["serve", &flags[0], &flags[1]]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{said}");
            let path = if of == "key" { key } else { cert };
            let expect = format!("error: {table}.tls.{of}: {path}: {words}");
            assert!(said.starts_with(&expect), "{said}\nis not\n{expect}");
        }
    }
    let output = mayfly(&dir, &["serve", "--gateway-tls-cert", &cert]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
}

/// A client of rustls that believes an authority.
fn client(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

fn open(client: &Arc<ClientConfig>, address: &str) -> Secured {
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(client.clone(), name).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// One request on a connection of its own, or on one that stays.
fn request(stream: &mut Secured, path: &str, last: bool) -> String {
    use std::io::{Read as _, Write as _};
    let close = if last { "Connection: close\r\n" } else { "" };
    // In one piece: each write is a record of TLS.
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if text.ends_with("hello") && !last {
            return text;
        }
        match stream.read(&mut piece).unwrap() {
            0 => return text,
            n => all.extend_from_slice(&piece[..n]),
        }
    }
}

fn shown(client: &Arc<ClientConfig>, address: &str) -> Vec<u8> {
    let stream = open(client, address);
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn wait_for(client: &Arc<ClientConfig>, address: &str, certificate: &[u8]) -> Duration {
    let began = Instant::now();
    while shown(client, address) != certificate {
        assert!(began.elapsed() < Duration::from_secs(20), "the old one is still shown");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

fn der(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

#[test]
fn fifty_certificates_follow_each_other_and_no_request_fails() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let flags = flags(&dir, &authority, &[]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let node = Node::start_with(TempDir::new().unwrap(), &flags);
    let wasm = node.file("greet.wasm", &module("hello"));
    node.ok(&["deploy", &wasm]);
    let (address, over) = (node.address().to_owned(), Arc::new(AtomicBool::new(false)));
    let (fresh, kept) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Resumed or not, new connections and one that stays.
        scope.spawn(|| {
            let client = client(&authority);
            while !over.load(Relaxed) {
                let answer = request(&mut open(&client, &address), "/greet", true);
                assert!(
                    answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"),
                    "{answer}"
                );
                fresh.fetch_add(1, Relaxed);
            }
        });
        scope.spawn(|| {
            let mut stream = open(&client(&authority), &address);
            while !over.load(Relaxed) {
                assert!(request(&mut stream, "/greet", false).starts_with("HTTP/1.1 200 OK"));
                kept.fetch_add(1, Relaxed);
            }
        });
        let client = client(&authority);
        for i in 0..50 {
            authority.leaf(dir.path(), "gateway", &["localhost"], |params| {
                params.not_after = date_time_ymd(2100 + i, 1, 1);
            });
            node.hang_up();
            wait_for(&client, &address, &der(&dir.path().join("gateway.pem")));
        }
        over.store(true, Relaxed);
    });
    let (fresh, kept) = (fresh.into_inner(), kept.into_inner());
    assert!(fresh >= 50 && kept >= 50, "{fresh} {kept}");
}

#[test]
fn a_change_is_seen_without_a_signal_and_a_bad_one_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let node = Node::start_with(
        TempDir::new().unwrap(),
        &flags(&dir, &authority, &[]).iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let client = client(&authority);
    let cert = dir.path().join("gateway.pem");
    let first = der(&cert);
    assert_eq!(shown(&client, node.address()), first);
    // The key of another.
    let key = dir.path().join("gateway.key");
    let own = std::fs::read_to_string(&key).unwrap();
    pair(&dir, &authority, "other", &["localhost"]);
    std::fs::copy(dir.path().join("other.key"), &key).unwrap();
    node.hang_up();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(shown(&client, node.address()), first);
    write(&key, &own, 0o600);
    pair(&dir, &authority, "gateway", &["localhost"]);
    let took = wait_for(&client, node.address(), &der(&cert));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn the_admin_api_speaks_tls_and_its_verbs_find_it() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    // Not a name by which anybody calls it.
    let [cert, key] = pair(&dir, &authority, "admin", &["admin.example"]);
    let text = format!("[admin.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n");
    let own = TempDir::new().unwrap();
    std::fs::write(own.path().join("mayfly.toml"), text).unwrap();
    let node = Node::start(own);
    // By the node's own configuration: whatever names are in it.
    let listen = ("MAYFLY_ADMIN_LISTEN", node.admin());
    for verb in [&["list"][..], &["health"]] {
        let output = node.run_here(verb, &[listen]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // By its URL: with the authority, and the right name.
    let url = format!("https://localhost:{}", port(node.admin()));
    let ca = authority.file().to_str().unwrap();
    let (code, said) = node.fails(&["list", "--admin", &url, "--ca", ca]);
    assert!(code == 69 && said.contains("certificate"), "{said}");
    pair(&dir, &authority, "admin", &["localhost"]);
    node.hang_up();
    let began = Instant::now();
    while !node.try_run(&["list", "--admin", &url, "--ca", ca]) {
        assert!(began.elapsed() < Duration::from_secs(20), "the old one is still shown");
    }
    let (code, said) = node.fails(&["list", "--admin", &url]);
    assert!(code == 69 && said.contains("--ca or MAYFLY_CA"), "{said}");
    let (code, said) = node.fails(&["list", "--admin", &url.replace("https", "http")]);
    assert!(code != 0, "{said}");
}
