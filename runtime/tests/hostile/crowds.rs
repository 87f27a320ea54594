//! Functions that crowd others out: by their number of guests, by their memory.

use std::io::Write as _;
use std::net::TcpStream;

use crate::rig::{Rig, connect, talk};

/// Far more sleepers than slots: another function is served all the while.
#[test]
fn a_function_cannot_take_every_slot() {
    let rig = Rig::get();
    rig.deploy_fault("hog", "sleeps", &["wall=60s"]);
    let slots = rig.node.engine.plan().slots;
    let hogs: Vec<TcpStream> = (0..2 * slots)
        .map(|_| {
            let mut socket = connect(rig.patient);
            socket.write_all(b"GET /hog HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            socket
        })
        .collect();
    rig.wait(|| rig.in_flight("hog") >= slots / 2, || "they do not start".into());
    for _ in 0..50 {
        rig.bystander();
    }
    // Many others at once, too.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| rig.bystander()));
        }
    });
    // What does not fit is refused in words, and says when to come back.
    let refused = talk(rig.patient, b"GET /hog HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(refused[0].status, 503, "{refused:?}");
    assert!(refused[0].head.to_ascii_lowercase().contains("retry-after: 1"), "{refused:?}");
    drop(hogs);
    rig.settled("hog");
}
