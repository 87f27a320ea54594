//! Clients that leave: at each phase of a request, by FIN and by RST. Their guests end, and nobody else notices.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::rig::{Rig, connect, soak};

/// How a client leaves.
#[derive(Clone, Copy)]
enum Leave {
    Fin,
    Rst,
}

fn leave(socket: TcpStream, how: Leave) {
    if matches!(how, Leave::Rst) {
        // Linger of zero: closing resets.
        let _ = socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO));
    }
    drop(socket);
}

/// What is sent before leaving, and the function whose guests must end.
const PHASES: &[(&str, &str, bool)] = &[
    ("", "ok", false),
    ("GE", "ok", false),
    ("GET /ok HTTP/1.1\r\nHost: a\r\n", "ok", false),
    ("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "ok", false),
    ("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", "ok", true),
    ("POST /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", "mirror", false),
    ("POST /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", "mirror", false),
    (
        "POST /mirror/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "mirror",
        false,
    ),
    ("POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", "deaf", false),
    ("GET /gush HTTP/1.1\r\nHost: a\r\n\r\n", "gush", false),
    ("GET /gush HTTP/1.1\r\nHost: a\r\n\r\n", "gush", true),
    ("GET /naps HTTP/1.1\r\nHost: a\r\n\r\n", "naps", false),
];

#[test]
fn a_client_may_leave_at_any_time() {
    let rig = Rig::get();
    rig.deploy_fault("gush", "answers-too-much", &["response-body=1GiB"]);
    rig.deploy_fault("naps", "naps", &[]);
    for round in 0..40 * soak() {
        for (bytes, _, read_first) in PHASES {
            for how in [Leave::Fin, Leave::Rst] {
                let mut socket = connect(rig.patient);
                socket.write_all(bytes.as_bytes()).unwrap();
                if *read_first {
                    let _ = socket.read(&mut [0; 64]);
                }
                leave(socket, how);
            }
        }
        if round % 10 == 0 {
            rig.bystander();
        }
    }
    for (_, function, _) in PHASES {
        rig.settled(function);
    }
    rig.bystander();
}

/// The guest never comes back by itself within this test: only the client's leaving can end it.
#[test]
fn a_guest_that_loops_ends_when_its_client_leaves() {
    let rig = Rig::get();
    rig.deploy_fault("loops-on", "loops-after-head", &["wall=120s", "cpu=120s"]);
    let body = "x".repeat(1000);
    let unread = format!("Content-Length: 100000\r\n\r\n{body}");
    for function in ["loops", "loops-on"] {
        // Nothing, a body that nobody reads, and the start of a next request that hyper leaves where it is.
        for rest in ["\r\n", unread.as_str(), "\r\nG", "\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n"] {
            for how in [Leave::Fin, Leave::Rst] {
                let mut socket = connect(rig.patient);
                let head = format!("POST /{function} HTTP/1.1\r\nHost: a\r\n{rest}");
                socket.write_all(head.as_bytes()).unwrap();
                rig.wait(|| rig.in_flight(function) == 1, || format!("{function} does not start"));
                leave(socket, how);
                rig.settled(function);
            }
        }
        // The next request begins when this one is under way.
        let mut socket = connect(rig.patient);
        write!(socket, "GET /{function} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        rig.wait(|| rig.in_flight(function) == 1, || format!("{function} does not start"));
        socket.write_all(b"GET /ok").unwrap();
        leave(socket, Leave::Fin);
        rig.settled(function);
    }
    rig.bystander();
}

/// A burst far over what the node can hold, of clients that do not wait for their answers; then one that does.
#[test]
fn after_a_burst_of_lost_clients_the_node_is_as_before() {
    let rig = Rig::get();
    let slots = rig.node.free_slots();
    let mut sockets = Vec::new();
    for _ in 0..10 {
        for _ in 0..64 {
            let mut socket = connect(rig.patient);
            socket.write_all(b"GET /loops HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            sockets.push(socket);
        }
        sockets.drain(..).for_each(|socket| leave(socket, Leave::Rst));
    }
    rig.settled("loops");
    rig.bystander();
    rig.wait(
        || rig.node.free_slots() >= slots.min(56),
        || format!("{} slots are free", rig.node.free_slots()),
    );
}
