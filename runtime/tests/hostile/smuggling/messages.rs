//! Several messages on one connection: pipelines, bodies that nobody reads, answers without bodies, `Expect`.

use std::io::{Read as _, Write as _};

use super::{HIDDEN, PROBE, Table, Then, get};
use crate::rig::{Rig, connect, header, read_to_end, replies, soak, talk};

#[test]
fn a_pipeline_is_answered_in_order_and_once_each() {
    let mut pipeline = Vec::new();
    for i in 0..1000 {
        let request = match i % 3 {
            0 => format!("GET /mirror/{i} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST /mirror/{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
            _ => format!(
                "POST /mirror/{i} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
            ),
        };
        pipeline.extend_from_slice(request.as_bytes());
    }
    pipeline.extend_from_slice(PROBE);
    let mut socket = connect(Rig::get().patient);
    let mut writer = socket.try_clone().unwrap();
    let sending = pipeline.clone();
    // Whoever pipelines has to read while writing, or both sides' buffers fill.
    let writing = std::thread::spawn(move || writer.write_all(&sending));
    let seen: Vec<String> =
        replies(&read_to_end(&mut socket), &pipeline).iter().map(|r| r.seen()).collect();
    writing.join().unwrap().unwrap();
    assert_eq!(seen.len(), 1001);
    for (i, seen) in seen[..1000].iter().enumerate() {
        let (method, body) = [("GET", 0), ("POST", 3), ("POST", 1)][i % 3];
        assert_eq!(*seen, format!("{method} /{i} {body}"));
    }
}

#[test]
fn a_refusal_in_a_pipeline_ends_it_there() {
    let mut table = Table::default();
    let good = get(b"X: y");
    for bad in [
        &b"GET /mirror/b HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"[..],
        b"GET /mirror/b HTTP/1.1\nHost: a\r\n\r\n",
        b"POST /mirror/b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"POST /mirror/b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\0",
    ] {
        table.vector(&[&good, bad].concat(), &["GET /a 0", "400"], Then::Close);
    }
    table.finish(5);
}

/// A guest that does not read its body: the rest of it is no request.
#[test]
fn a_body_that_nobody_reads_is_never_a_request() {
    let rig = Rig::get();
    for size in [41, 1000, 70_000, 1 << 20] {
        let mut body = HIDDEN.repeat(size / HIDDEN.len() + 1);
        body.truncate(size);
        let head = format!("POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        let bytes = [head.as_bytes(), &body, PROBE].concat();
        let got = talk(rig.patient, &bytes);
        assert_eq!(got[0].status, 200, "{size}");
        // Either the next real request is answered, or the connection was closed.
        match &got[1..] {
            [] => {}
            [next] => assert_eq!(next.seen(), "GET /probe 0", "{size}"),
            more => panic!("{size}: {more:?}"),
        }
    }
}

#[test]
fn answers_without_a_body_have_none() {
    let rig = Rig::get();
    for (name, status) in [("s204", 204), ("s205", 205), ("s304", 304), ("s404", 404)] {
        rig.deploy(name, &status_with_body(status), &[]);
    }
    for (name, status, length) in [
        ("s204", 204, None),
        ("s205", 205, Some("0")),
        ("s304", 304, None),
        ("s404", 404, Some("2")),
    ] {
        let request = format!("GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n");
        let got = talk(rig.patient, &[request.as_bytes(), PROBE].concat());
        assert_eq!(
            (got[0].status, header(&got[0].head, "content-length")),
            (status, length),
            "{name}"
        );
        assert!(header(&got[0].head, "transfer-encoding").is_none());
        assert_eq!(got[1].seen(), "GET /probe 0", "{name}");
    }
    for target in ["/ok", "/mirror/a", "/nothing-here"] {
        let request = format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let got = talk(rig.patient, &[request.as_bytes(), PROBE].concat());
        assert_eq!(got.len(), 2, "{target}");
        assert_eq!(got[1].seen(), "GET /probe 0", "{target}");
    }
}

fn status_with_body(status: u16) -> String {
    let [low, high] = status.to_le_bytes();
    format!(
        r#"(module
        (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "mayfly_abi_1"))
        (data (i32.const 0) "\{low:02x}\{high:02x}\00\00ok")
        (func (export "mayfly_handle")
          (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 2)))))"#
    )
}

/// 100 only when somebody is going to read the body.
#[test]
fn a_body_is_asked_for_only_if_it_is_wanted() {
    let rig = Rig::get();
    let ask = |target: &str, length: usize| {
        let mut socket = connect(rig.patient);
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut first = [0; 12];
        socket.read_exact(&mut first).unwrap();
        String::from_utf8_lossy(&first[9..]).into_owned()
    };
    assert_eq!(ask("/mirror/a", 5), "100");
    assert_eq!(ask("/nothing-here", 5), "404");
    assert_eq!(ask("/mirror/a", (64 << 10) + 1), "413");
    assert_eq!(ask("/deaf", 5), "200");
}

#[test]
fn bytes_beyond_ascii_reach_the_guest_as_they_came() {
    let rig = Rig::get();
    let odd = b"\xff\xfe\xc3\x28 \xe2\x80\xae";
    let got = talk(rig.patient, &[&get(&[b"X-Odd: ", &odd[..]].concat())[..], PROBE].concat());
    assert_eq!(got[0].saw_header("x-odd").unwrap(), odd);
    // In a path they are no URI: whatever comes of them, the next connection is served.
    for byte in 0x80..=0xff {
        let bytes =
            [b"GET /mirror/", &[byte][..], b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]
                .concat();
        let got = talk(rig.patient, &bytes);
        assert!(
            matches!(got[..], [ref one] if one.status == 400 || one.status == 200),
            "{byte:x}: {got:?}"
        );
    }
    rig.bystander();
}

/// Mutations of good messages: whatever comes of each, the hidden request is answered only where the strict reader
/// of the gateway would have it, the process lives, and a bystander is served.
#[test]
fn random_damage_breaks_nothing() {
    use rand::{Rng as _, SeedableRng as _};
    let rig = Rig::get();
    let good = [
        &get(b"X: y")[..],
        b"POST /mirror/b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /mirror/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        PROBE,
    ]
    .concat();
    let mut random = rand::rngs::StdRng::seed_from_u64(6);
    for _ in 0..500 * soak() {
        let mut bytes = good.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[at] ^= 1 << random.random_range(0..8),
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, *b"\r\n\0 :,\t0".get(random.random_range(0..8)).unwrap()),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mut socket = connect(rig.patient);
        let _ = socket.write_all(&bytes);
        // The end of what is sent ends an unfinished message, so that nothing waits for a clock.
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let got = replies(&read_to_end(&mut socket), &bytes);
        assert!(got.len() <= 5, "{}: {got:?}", bytes.escape_ascii());
        assert!(got.iter().all(|r| r.status != 500), "{}: {got:?}", bytes.escape_ascii());
    }
    rig.bystander();
}
