//! The same gateway over TLS: handshakes that do not end, and the clocks and ends of connections above it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mayfly_core::limits::node;
use mayfly_serve::tls::{Names, Pair, Terms, Tls};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::rig::{PATIENCE, Reply, Rig, SHORT, connect, read_to_end, replies, soak};

/// TLS for `localhost`, and a client that believes it.
pub fn terms() -> (Tls, Arc<ClientConfig>) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["localhost".into()]).unwrap();
    let made = made.self_signed(&key).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let pair = Pair::read(made.pem().as_bytes(), key.serialize_pem().as_bytes(), now, None);
    let names = Names::new(pair.unwrap());
    let tls = Tls::new(Terms { names, clients: None, h2: true }).unwrap();
    (tls, Arc::new(client(made.der().clone())))
}

fn client(trusted: CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// A connection that is agreed on.
fn open(address: SocketAddr) -> Secured {
    let name = "localhost".try_into().unwrap();
    let session = ClientConnection::new(Rig::get().tls_client.clone(), name).unwrap();
    let mut stream = StreamOwned::new(session, connect(address));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// As `rig::talk`, over TLS; the end must be told as one.
pub fn talk(address: SocketAddr, bytes: &[u8]) -> Vec<Reply> {
    let mut stream = open(address);
    // Whoever refuses early may reset the rest of the writing; what it said counts.
    let _ = stream.write_all(bytes);
    replies(&read_to_end(&mut stream), bytes)
}

const GET: &[u8] = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_handshake_has_to_end_in_time() {
    let rig = Rig::get();
    let mut hello = Vec::new();
    let name = "localhost".try_into().unwrap();
    let mut session = ClientConnection::new(rig.tls_client.clone(), name).unwrap();
    session.write_tls(&mut hello).unwrap();
    let waiting: Vec<_> = [&b""[..], &hello[..1], &hello[..hello.len() - 1], &hello]
        .into_iter()
        .map(|start| {
            let mut socket = connect(rig.secured[0]);
            socket.write_all(start).unwrap();
            (socket, Instant::now())
        })
        .collect();
    // One that sends a byte now and then has no more time.
    let mut drips = connect(rig.secured[0]);
    let began = Instant::now();
    drips.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    for byte in hello.iter().cycle() {
        let _ = drips.write_all(&[*byte]);
        match drips.read(&mut [0; 4096]) {
            Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => break,
        }
        assert!(began.elapsed() < PATIENCE, "still open");
    }
    let late = node::TLS_HANDSHAKE_TIMEOUT;
    assert!(began.elapsed() < late + Duration::from_secs(5), "{:?}", began.elapsed());
    for (mut socket, began) in waiting {
        read_to_end(&mut socket);
        let took = began.elapsed();
        assert!(took >= late - Duration::from_millis(50) && took < PATIENCE, "{took:?}");
    }
    rig.bystander();
}

/// Handshakes that wait for their clients hold nothing that others need.
#[test]
fn a_crowd_that_agrees_on_nothing_keeps_nobody_out() {
    let rig = Rig::get();
    let crowd: Vec<_> = (0..200 * soak())
        .map(|_| {
            let mut socket = connect(rig.secured[0]);
            socket.write_all(&[22, 3, 1]).unwrap();
            socket
        })
        .collect();
    for _ in 0..20 {
        let replies = talk(
            rig.secured[0],
            &[GET, b"GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat(),
        );
        assert_eq!(replies.iter().map(|r| r.status).collect::<Vec<_>>(), [200, 200]);
    }
    rig.bystander();
    drop(crowd);
}

#[test]
fn who_does_not_know_of_tls_is_told() {
    let rig = Rig::get();
    let request = [GET, &[b'x'; 100_000]].concat();
    let said = crate::rig::talk(rig.secured[0], &request);
    assert_eq!((said.len(), said[0].status), (1, 400));
    let words = String::from_utf8_lossy(&said[0].body);
    assert_eq!(words, "this port speaks TLS: write https:// in place of http:// here\n");
    // Neither of the two: an alert of TLS (21), or nothing.
    for start in [&b"\0\0\0"[..], b"\x80\x2e\x01", &[22, 3, 1, 0, 4, 1, 2, 3, 4], b"ssh-2.0"] {
        let mut socket = connect(rig.secured[0]);
        socket.write_all(start).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let said = read_to_end(&mut socket);
        assert!(said.first().is_none_or(|kind| *kind == 21), "{}", said.escape_ascii());
    }
    rig.bystander();
}

#[test]
fn an_idle_connection_is_ended_in_words() {
    let mut stream = open(Rig::get().secured[1]);
    let began = Instant::now();
    stream.write_all(GET).unwrap();
    let mut all = Vec::new();
    // Without `close_notify` this is an error.
    stream.read_to_end(&mut all).unwrap();
    let took = began.elapsed();
    assert!(all.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", all.escape_ascii());
    assert!(took >= SHORT - Duration::from_millis(50) && took < PATIENCE, "{took:?}");
}

#[test]
fn a_head_has_its_own_clock_once_there_is_tls() {
    for start in [&b""[..], b"G", b"GET /ok HTTP/1.1\r\nHost: a\r\n"] {
        let mut stream = open(Rig::get().secured[1]);
        let began = Instant::now();
        stream.write_all(start).unwrap();
        let said = read_all(&mut stream);
        let took = began.elapsed();
        assert!(took >= SHORT - Duration::from_millis(50) && took < PATIENCE, "{took:?}");
        assert!(said.is_empty(), "{}", said.escape_ascii());
    }
}

/// To the end, however it comes.
fn read_all(stream: &mut Secured) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 16 << 10]);
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        all.extend_from_slice(&buffer[..n]);
    }
    all
}

/// What TLS keeps for a client that does not take it has the clock of writes.
#[test]
fn an_answer_that_is_not_taken_ends_its_connection() {
    let rig = Rig::get();
    let before = rig.metrics.connections.get();
    let body = vec![b'x'; 60 << 10];
    let request = [
        format!("POST /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())
            .as_bytes(),
        &body,
    ]
    .concat();
    let mut stream = open(rig.secured[1]);
    let began = Instant::now();
    // Answers of 60 KiB each, until nothing more is taken.
    stream.sock.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while began.elapsed() < PATIENCE && stream.write_all(&request).is_ok() {}
    // Other tests have some beside these 20.
    rig.wait(
        || rig.metrics.connections.get() <= before + 10,
        || format!("{} connections, {before} before", rig.metrics.connections.get()),
    );
    rig.settled("mirror");
}

#[test]
fn a_client_that_goes_without_a_word_is_no_error() {
    let rig = Rig::get();
    let before = rig.metrics.connections.get();
    let starts = [
        &b""[..],
        GET,
        b"GET /ok HT",
        b"POST /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
        b"GET /loops HTTP/1.1\r\nHost: a\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for start in starts.iter().cycle().take(20 * soak()) {
        let mut stream = open(rig.secured[0]);
        stream.write_all(start).unwrap();
        drop(stream);
    }
    rig.wait(
        || rig.metrics.connections.get() <= before,
        || format!("{} connections, {before} before", rig.metrics.connections.get()),
    );
    for function in ["ok", "mirror", "loops"] {
        rig.settled(function);
    }
    rig.bystander();
}

/// Bytes of a request that is refused may be unread: the answer comes all the same, and its end is told.
#[test]
fn a_refusal_arrives_whole_over_tls() {
    let rig = Rig::get();
    for size in [100, 70_000, 1 << 20] {
        let body = vec![b'x'; size];
        let head = format!("POST /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length : {size}\r\n\r\n");
        let mut stream = open(rig.secured[0]);
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all.starts_with(b"HTTP/1.1 400 "), "{size}: {}", all.escape_ascii());
    }
}
