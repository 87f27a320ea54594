//! What a call costs beside a bare client's, and a piped body beside one that no guest has: figures, of which the counts are
//! looked at. `MAYFLY_MEASURE=5000 <the test binary of a release build> outbound_cost --nocapture` measures.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;

use crate::harness::{Harness, post, read, request, send};
use crate::outbound::{PIPES, READS, frame, guest, rules};

/// An origin with as many bytes as the path says, over connections that stay.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let piece = vec![b'a'; 256 << 10];
                let mut head = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut head) {
                    let text = String::from_utf8_lossy(&head[..length]).into_owned();
                    let bytes =
                        text.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).unwrap_or(2);
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
                    let mut left: usize = bytes;
                    if left < 1024 {
                        let answer = [answer.as_bytes(), &piece[..left]].concat();
                        stream.write_all(&answer).unwrap();
                        continue;
                    }
                    stream.write_all(answer.as_bytes()).unwrap();
                    while left > 0 {
                        let n = left.min(piece.len());
                        if stream.write_all(&piece[..n]).is_err() {
                            return;
                        }
                        left -= n;
                    }
                }
            });
        }
    });
    address
}

type Bare = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

async fn bare(address: SocketAddr) -> Bare {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn bare_get(sender: &mut Bare, address: SocketAddr, path: &str) -> usize {
    sender.ready().await.unwrap();
    let request =
        http::Request::get(path).header("host", address.to_string()).body(Empty::new()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    bytes
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_call_costs_little_beside_a_bare_clients() {
    let measure: usize =
        std::env::var("MAYFLY_MEASURE").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let mebibytes = if measure > 1000 { 1023 } else { 32 };
    let harness = Harness::get();
    let address = origin();
    let url = format!("http://{address}");
    harness.run(async {
        let large = ["outbound-bytes=1GiB", "response-body=1GiB", "wall=300s"];
        harness.deploy_wat("cost-calls", &guest(READS, 0), rules(&[&url], &large)).await;
        harness.deploy_wat("cost-pipes", &guest(PIPES, 0), rules(&[&url], &large)).await;
        let mut sender = bare(address).await;
        let small = frame("GET", &format!("{url}/2"), 0, &[]);
        // Refused before anything is asked for: all that a call costs beside the call.
        let refused = frame("GET", "http://refused.example/", 0, &[]);
        let (mut with, mut without, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..measure {
            let began = Instant::now();
            assert_eq!(post(harness, "/cost-calls/", small.clone(), true).await.body, b"aa");
            with.push(began.elapsed());
            let began = Instant::now();
            assert_ne!(post(harness, "/cost-calls/", refused.clone(), true).await.body, b"aa");
            without.push(began.elapsed());
            let began = Instant::now();
            assert_eq!(bare_get(&mut sender, address, "/2").await, 2);
            alone.push(began.elapsed());
        }
        let (with, without, alone) = (median(with), median(without), median(alone));
        let over = with.saturating_sub(without).saturating_sub(alone);
        println!("a request with a call {with:?}, without {without:?}, a bare call {alone:?}: {over:?} over");
        let bytes = mebibytes << 20;
        let (mut piped, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let began = Instant::now();
            let asked = frame("GET", &format!("{url}/{bytes}"), 0, &[]);
            let response = send_frame(harness, asked).await;
            assert_eq!(response, bytes);
            piped.push(began.elapsed());
            let began = Instant::now();
            assert_eq!(bare_get(&mut sender, address, &format!("/{bytes}")).await, bytes);
            plain.push(began.elapsed());
        }
        let (piped, plain) = (median(piped), median(plain));
        let ratio = plain.as_secs_f64() / piped.as_secs_f64();
        println!("{mebibytes} MiB piped {piped:?}, without a guest {plain:?}: {ratio:.2} of it");
    });
}

/// Bytes of a piped answer, which nobody keeps.
async fn send_frame(harness: &Harness, frame: Vec<u8>) -> usize {
    let mut asked = request(http::Method::POST, "/cost-pipes/");
    asked.headers_mut().insert("content-length", frame.len().into());
    let body = http_body_util::Full::new(Bytes::from(frame)).map_err(|never| match never {});
    let mut response = send(harness, asked, Some(Box::pin(body))).await;
    if response.status() != 200 {
        panic!("{:?}", read(response).await);
    }
    let mut bytes = 0;
    while let Some(frame) = response.body_mut().frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    bytes
}
