//! Clients that send or take nothing, or next to nothing: each ends at its clock, and costs nobody else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::rig::{PATIENCE, Rig, SHORT, connect, read_to_end, soak};

/// Sends `start`, then one byte of `drip` each 100 ms, until the gateway ends it; says how long that took and what
/// it said.
fn dripped(start: &[u8], drip: &[u8]) -> (Duration, String) {
    let mut socket = connect(Rig::get().impatient);
    let began = Instant::now();
    socket.write_all(start).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut said, mut buffer, mut drip) = (Vec::new(), [0; 4096], drip.iter().cycle());
    while began.elapsed() < PATIENCE {
        match socket.read(&mut buffer) {
            Ok(0) => return (began.elapsed(), String::from_utf8_lossy(&said).into_owned()),
            Ok(n) => said.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return (began.elapsed(), String::from_utf8_lossy(&said).into_owned()),
        }
        if let Some(byte) = drip.next() {
            let _ = socket.write_all(&[*byte]);
        }
    }
    panic!("still open after {PATIENCE:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn a_head_has_to_be_whole_in_time() {
    for (start, drip) in [
        (&b""[..], &b""[..]),
        (b"", b"G"),
        (b"P", b""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
        (b"GET /ok HT", b""),
        (b"GET /ok HTTP/1.1\r\nHost: a\r\n", b""),
        (b"GET /ok HTTP/1.1\r\nHost: a\r\nX: ", b"a"),
        (b"GET /ok HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n"),
        (b"", b"\r\n"),
    ] {
        let (took, said) = dripped(start, drip);
        assert!(took >= SHORT - Duration::from_millis(50), "{}: {took:?}", start.escape_ascii());
        assert!(!said.contains(" 200 "), "{}: {said}", start.escape_ascii());
    }
}

#[test]
fn a_connection_without_a_request_ends() {
    let (took, said) = dripped(b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", b"");
    assert!(
        took >= SHORT - Duration::from_millis(50) && said.contains(" 200 OK"),
        "{took:?} {said}"
    );
    // The second head on a connection has the same clock as the first.
    let (_, said) = dripped(b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\nGET /ok HTTP/1.1\r\n", b"X");
    assert_eq!(said.matches(" 200 OK").count(), 1, "{said}");
}

#[test]
fn a_body_that_stops_is_408() {
    for start in [
        "POST /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
        "POST /mirror/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "POST /mirror/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5",
    ] {
        let (_, said) = dripped(start.as_bytes(), b"");
        assert!(said.contains(" 408 "), "{start}: {said}");
    }
    Rig::get().settled("mirror");
}

/// One byte each 100 ms keeps every idle clock wound; the wall limit does not care.
#[test]
fn a_body_that_trickles_ends_at_the_wall_limit() {
    let rig = Rig::get();
    rig.deploy_fault("trickled", "counts-its-body", &["wall=1500ms"]);
    let start = b"POST /trickled HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n";
    let (_, said) = dripped(start, b"x");
    assert!(said.contains(" 504 "), "{said}");
    rig.settled("trickled");
}

#[test]
fn a_reader_that_stops_ends_its_guest() {
    let rig = Rig::get();
    rig.deploy_fault("gusher", "answers-too-much", &["response-body=1GiB", "wall=60s", "cpu=60s"]);
    let mut sockets: Vec<TcpStream> = Vec::new();
    for _ in 0..4 {
        let mut socket = connect(rig.impatient);
        socket.write_all(b"GET /gusher HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        sockets.push(socket);
    }
    rig.wait(|| rig.in_flight("gusher") == 4, || "they do not start".into());
    rig.settled("gusher");
    for mut socket in sockets {
        // What was in the kernel's buffers is there, and then the end; a whole response would be endless.
        read_to_end(&mut socket);
    }
    rig.bystander();
}

#[test]
fn many_silent_sockets_cost_nobody_else() {
    let rig = Rig::get();
    let before = rig.metrics.connections.get();
    let sockets: Vec<TcpStream> = (0..200 * soak().min(10))
        .map(|i| {
            let mut socket = connect(rig.impatient);
            let start: &[u8] = [
                &b""[..],
                b"GET /ok HT",
                b"POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
            ][i % 3];
            socket.write_all(start).unwrap();
            socket
        })
        .collect();
    for _ in 0..20 {
        rig.bystander();
    }
    rig.wait(|| rig.metrics.connections.get() <= before + 8, || "they are not closed".into());
    drop(sockets);
}

/// In HTTP/1.0 the end of such a body is that of its connection: a client that is told otherwise loses its next request.
#[test]
fn an_answer_without_a_length_says_to_http_1_0_that_it_closes() {
    let rig = Rig::get();
    rig.deploy_fault("endless", "loops-after-head", &["wall=300ms"]);
    for (path, closes) in [("/endless", true), ("/ok", false)] {
        let mut socket = connect(rig.patient);
        let request = format!("GET {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        while !said.windows(4).any(|end| end == b"\r\n\r\n") {
            let n = socket.read(&mut buffer).unwrap();
            assert!(n > 0, "{path}: {}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&buffer[..n]);
        }
        let said = String::from_utf8_lossy(&said).to_ascii_lowercase();
        assert_eq!(said.contains("connection: close"), closes, "{path}: {said}");
        assert_eq!(said.contains("connection: keep-alive"), !closes, "{path}: {said}");
        assert_eq!(said.contains("content-length:"), !closes, "{path}: {said}");
    }
}
