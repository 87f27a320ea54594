//! The gateway's clocks run only while they should: who is being answered is not idle, and who does not take is.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mayfly_serve::gateway::{Gateway, GatewayConfig};

use crate::pauses::pauses;
use crate::rig::{Rig, SHORT, connect, read_to_end};

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A GET of `path`, whole, on this stream.
fn h2_request(stream: u8, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    // GET and http by their static indices, path and authority literally.
    let head = [&[0x82, 0x86, 0x04, length], path.as_bytes(), &[0x01, 1, b'a']].concat();
    frame(1, 5, stream, &head)
}

/// An HTTP/2 connection with these settings that has sent a GET of `path` on stream 1.
fn h2_get(address: SocketAddr, settings: &[u8], path: &str) -> TcpStream {
    let mut socket = connect(address);
    socket
        .write_all(
            &[
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                frame(4, 0, 0, settings),
                h2_request(1, path),
            ]
            .concat(),
        )
        .unwrap();
    socket
}

/// Everything that comes until `end` does, or the connection's end; a PING goes out ten times a second meanwhile.
fn pinging(socket: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (began, mut all, mut buffer) = (Instant::now(), Vec::new(), [0; 4096]);
    while began.elapsed() < Duration::from_secs(20) {
        match socket.read(&mut buffer) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return all,
        }
        if !end.is_empty() && all.windows(end.len()).any(|part| part == end) {
            return all;
        }
        if socket.write_all(&frame(6, 0, 0, &[0; 8])).is_err() {
            return all;
        }
    }
    panic!("still open");
}

#[test]
fn a_response_that_takes_longer_than_every_clock_is_whole() {
    let rig = Rig::get();
    rig.deploy("pauses", &pauses(200, 3 * SHORT), &[]);
    let mut socket = connect(rig.impatient);
    socket.write_all(b"GET /pauses HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let said = String::from_utf8(read_to_end(&mut socket)).unwrap();
    assert!(said.contains("two\n") && said.ends_with("0\r\n\r\n"), "{said}");

    let mut socket = h2_get(rig.impatient, &[], "/pauses");
    let all = pinging(&mut socket, b"two\n");
    assert!(all.ends_with(b"two\n") || all.windows(4).any(|part| part == b"two\n"), "{all:?}");
    rig.settled("pauses");
}

#[test]
fn the_last_piece_of_a_stream_has_a_clock_of_its_own() {
    let rig = Rig::get();
    // A window of one byte: the whole body is given to the connection, which may send its first byte only. Further
    // requests begin and end, which keeps the connection from being idle.
    let mut socket = h2_get(rig.impatient, &[0, 4, 0, 0, 0, 1], "/ok");
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = [0; 4096];
    for stream in (3..=255).step_by(2) {
        let gone = match socket.read(&mut buffer) {
            Ok(n) => n == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        if gone || socket.write_all(&h2_request(stream, "/healthz-is-none")).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("still open");
}

#[test]
fn a_stream_that_its_client_does_not_take_ends_its_connection() {
    let rig = Rig::get();
    // SETTINGS_INITIAL_WINDOW_SIZE 0: the head arrives, and no byte of the body may.
    let began = Instant::now();
    let mut socket = h2_get(rig.impatient, &[0, 4, 0, 0, 0, 0], "/ok");
    pinging(&mut socket, b"");
    assert!(began.elapsed() >= SHORT - Duration::from_millis(50), "{:?}", began.elapsed());
    rig.settled("ok");
}

#[test]
fn a_later_head_has_the_clock_of_heads() {
    let rig = Rig::get();
    let config = GatewayConfig {
        header_timeout: SHORT,
        keep_alive_timeout: Duration::from_secs(600),
        ..GatewayConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    };
    let gateway = Gateway::bind(config, rig.node.clone()).unwrap();
    let address = gateway.address();
    let running = gateway.start().unwrap();
    let mut socket = connect(address);
    socket.write_all(b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut buffer = [0; 4096];
    assert!(socket.read(&mut buffer).unwrap() > 0);
    // The idle clock has begun by now; with it, this would take ten minutes.
    std::thread::sleep(Duration::from_millis(100));
    socket.write_all(b"GET /ok HT").unwrap();
    let rest = read_to_end(&mut socket);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    running.drain();
}

#[test]
fn a_client_that_closed_its_side_is_not_told_of_success() {
    let rig = Rig::get();
    rig.deploy_fault("dozes", "sleeps", &["wall=60s"]);
    let mut socket = connect(rig.patient);
    let request = b"POST /dozes HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789";
    socket.write_all(request).unwrap();
    rig.wait(|| rig.in_flight("dozes") == 1, || "it does not start".into());
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let said = read_to_end(&mut socket);
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    rig.settled("dozes");
}
