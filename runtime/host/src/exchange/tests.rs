//! Both sides of an exchange, without a socket or a sandbox.

use http_body_util::BodyExt as _;

use super::*;

fn exchange(body: &'static [u8], request: u64, response: u64) -> Arc<Exchange> {
    let body = http_body_util::Full::new(Bytes::from_static(body)).map_err(|e| match e {});
    Exchange::new(
        Some(Box::pin(body)),
        Caps { request_body: request, response_body: response, body_idle: node::BODY_IDLE_TIMEOUT },
    )
}

fn head() -> Head {
    Head { status: StatusCode::OK, headers: HeaderMap::new(), length: None }
}

#[tokio::test]
async fn a_body_is_read_in_parts_up_to_its_limit() {
    let e = exchange(b"hello", 5, 0);
    assert_eq!(e.read(2).await.unwrap(), "he");
    assert_eq!(e.read(9).await.unwrap(), "llo");
    assert_eq!(e.read(9).await.unwrap(), "");
    assert_eq!(e.request_bytes(), 5);
    let e = exchange(b"hello", 4, 0);
    for _ in 0..2 {
        assert_eq!(e.read(9).await, Err(BodyError::TooLarge));
    }
}

#[tokio::test]
async fn a_guest_that_writes_byte_by_byte_fills_the_buffer_as_well() {
    let e = exchange(b"", 0, u64::MAX);
    e.start(head()).unwrap();
    let mut pushed = 0;
    while let Poll::Ready(room) = poll_fn(|cx| Poll::Ready(e.poll_room(cx))).await {
        assert!(room.unwrap() > 0);
        e.push(Bytes::from_static(b"x")).unwrap();
        pushed += 1;
    }
    assert_eq!(pushed, node::RESPONSE_BUFFER_BYTES / node::RESPONSE_PIECE_BYTES);
    let mut body = ResponseBody::Streamed(Streamed::new(e.clone(), Box::new(())));
    body.frame().await.unwrap().unwrap();
    assert!(poll_fn(|cx| Poll::Ready(e.poll_room(cx))).await.is_ready());
    e.finish(Verdict::of(Outcome::Answered));
    assert_eq!(e.take_whole().unwrap().len(), pushed - 1);
}

#[tokio::test]
async fn a_guest_waits_for_a_slow_client_and_is_told_when_it_is_gone() {
    let e = exchange(b"", 0, u64::MAX);
    assert_eq!(e.push(Bytes::from_static(b"x")), Err(WriteError::State));
    e.start(head()).unwrap();
    assert_eq!(e.start(head()), Err(WriteError::State));
    let big = Bytes::from(vec![1; 3 * node::RESPONSE_BUFFER_BYTES]);
    let writer = tokio::spawn({
        let e = e.clone();
        async move { write_all(&e, big).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(e.response_bytes(), node::RESPONSE_BUFFER_BYTES as u64);
    let mut body = ResponseBody::Streamed(Streamed::new(e.clone(), Box::new(())));
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.data_ref().unwrap().len(), node::RESPONSE_BUFFER_BYTES);
    tokio::task::yield_now().await;
    assert_eq!(e.response_bytes(), 2 * node::RESPONSE_BUFFER_BYTES as u64);
    drop(body);
    assert_eq!(writer.await.unwrap(), Err(WriteError::Gone));
}

#[tokio::test]
async fn a_response_over_its_limit_is_refused_and_a_broken_one_ends_in_an_error() {
    let e = exchange(b"", 0, 3);
    e.start(head()).unwrap();
    e.push(Bytes::from_static(b"abc")).unwrap();
    assert_eq!(e.push(Bytes::from_static(b"d")), Err(WriteError::TooLarge));
    e.finish(Verdict::of(Outcome::StackOverflow));
    let body = ResponseBody::Streamed(Streamed::new(e, Box::new(())));
    assert!(body.collect().await.is_err());
}

#[tokio::test]
async fn a_whole_response_is_taken_at_once() {
    let e = exchange(b"", 0, 10);
    e.start(head()).unwrap();
    e.push(Bytes::from_static(b"ab")).unwrap();
    assert!(e.take_whole().is_none());
    e.push(Bytes::from_static(b"cd")).unwrap();
    e.finish(Verdict::of(Outcome::Answered));
    assert_eq!(e.take_response().unwrap().1, "abcd");
    assert!(e.take_response().is_none());
}

fn declares(length: u64) -> Arc<Exchange> {
    let e = exchange(b"", 0, 10);
    e.start(Head { length: Some(length), ..head() }).unwrap();
    e
}

fn bad() -> Verdict {
    Verdict::of(Outcome::BadResponse(String::new()))
}

#[tokio::test]
async fn a_body_is_cut_at_its_declared_length_and_is_whole_then() {
    let e = declares(3);
    for piece in ["ab", "cd", "ef"] {
        e.push(Bytes::from(piece)).unwrap();
    }
    assert_eq!(e.wrong_length(), Some((3, 6)));
    e.finish(bad());
    assert_eq!(e.take_response().unwrap().1, "abc");
}

#[tokio::test]
async fn a_body_that_is_too_short_is_broken() {
    let e = declares(3);
    e.push(Bytes::from("ab")).unwrap();
    assert_eq!(e.wrong_length(), Some((3, 2)));
    e.finish(bad());
    assert!(e.take_response().is_none() && e.head().await.is_none());
    let body = ResponseBody::Streamed(Streamed::new(e, Box::new(())));
    assert!(body.collect().await.is_err());
}

#[tokio::test]
async fn a_connection_that_has_all_that_was_declared_lets_the_guest_go_on() {
    struct Asked(Arc<AtomicBool>);
    impl Guest for Asked {
        fn let_go(self: Box<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    for (take, goes_on) in [(0, false), (1, false), (2, true)] {
        let (e, asked) = (declares(4), Arc::new(AtomicBool::new(false)));
        let guest = Box::new(Asked(asked.clone()));
        e.push(Bytes::from("ab")).unwrap();
        e.push(Bytes::from("cd")).unwrap();
        let mut body = ResponseBody::Streamed(Streamed::new(e.clone(), guest));
        for _ in 0..take {
            body.frame().await.unwrap().unwrap();
        }
        drop(body);
        assert_eq!(asked.load(Ordering::Relaxed), goes_on);
        assert_eq!(e.push(Bytes::from("e")).is_ok(), goes_on);
    }
}

#[tokio::test]
async fn what_has_no_body_is_held_to_no_length() {
    let e = exchange(b"", 0, 10);
    e.expect_no_body(true);
    e.start(Head { length: Some(9), ..head() }).unwrap();
    assert_eq!(e.wrong_length(), None);
    let e = exchange(b"", 0, 10);
    e.start(Head { length: Some(9), status: StatusCode::NOT_MODIFIED, ..head() }).unwrap();
    assert_eq!(e.wrong_length(), None);
}
