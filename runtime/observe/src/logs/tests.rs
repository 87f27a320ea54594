use std::sync::LazyLock;

use super::*;
use crate::metrics::{Metrics, PhaseTimes};

const PATIENCE: Duration = Duration::from_secs(5);

fn sink(requests: Requests) -> (LogSink, IntCounter) {
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    let config = LogConfig { format: Format::Human, requests, output: Output::Discard };
    (LogSink::start(config, dropped.clone()).unwrap(), dropped)
}

fn name(text: &str) -> FunctionName {
    FunctionName::new(text).unwrap()
}

fn source(sink: &LogSink, function: &str) -> Arc<Source> {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    sink.source(&name(function), &METRICS.function(&name(function)))
}

fn line(sink: &LogSink, function: &str, text: &[u8]) {
    line_of(sink, &source(sink, function), text);
}

fn line_of(sink: &LogSink, source: &Arc<Source>, text: &[u8]) {
    let id = RequestId::from_random(7);
    sink.guest_line(source, 2, id, Stream::Stderr, text.to_vec(), false);
}

fn record(status: u16, outcome: &'static str, level: Level) -> InvocationRecord {
    InvocationRecord {
        function: Some(name("f")),
        revision: 2,
        request_id: RequestId::from_random(7),
        method: http::Method::GET,
        path: "/f/a\nb".into(),
        client: [192, 0, 2, 1].into(),
        status,
        outcome,
        level,
        detail: Some("wasm trap:\nunreachable".into()),
        times: PhaseTimes { call_ns: 1_234_567, total_ns: 12_340, ..PhaseTimes::default() },
        request_bytes: 1,
        response_bytes: 2,
        dropped_log_bytes: 0,
    }
}

fn texts(sink: &LogSink, function: &str, tail: usize) -> Vec<String> {
    assert!(sink.flush(PATIENCE));
    let (entries, _) = sink.read(&name(function), tail, false).unwrap();
    entries
        .iter()
        .map(|entry| match &entry.body {
            Body::Line { text, truncated, .. } => {
                format!("{text}{}", if *truncated { "|cut" } else { "" })
            }
            Body::Invocation(record) => record.outcome.to_owned(),
            Body::Dropped { records, .. } => format!("{records} lost"),
            Body::Over { bytes, .. } => format!("{bytes} B over"),
        })
        .collect()
}

#[test]
fn each_function_has_its_own_last_lines() {
    let (sink, dropped) = sink(Requests::All);
    for i in 0..3 {
        line(&sink, "a", format!("a{i}\x1b").as_bytes());
        line(&sink, "b", format!("b{i}").as_bytes());
    }
    assert_eq!(texts(&sink, "a", 2), ["a1\\u{1b}", "a2\\u{1b}"]);
    assert_eq!(texts(&sink, "b", 100), ["b0", "b1", "b2"]);
    sink.forget(&name("a"));
    assert!(texts(&sink, "a", 100).is_empty());
    assert_eq!(dropped.get(), 0);
}

#[test]
fn a_line_over_the_cap_is_cut_and_says_so() {
    let (sink, _) = sink(Requests::All);
    line(&sink, "a", &vec![b'x'; 1 << 20]);
    line(&sink, "a", b"next");
    let kept = texts(&sink, "a", 2);
    assert_eq!(kept[0].len(), node::LOG_LINE_BYTES + "|cut".len());
    assert_eq!(kept[1], "next");
}

#[test]
fn the_ring_is_bounded_in_lines_and_bytes() {
    let (sink, _) = sink(Requests::All);
    for i in 0..node::LOG_LINES_KEPT + 10 {
        line(&sink, "a", i.to_string().as_bytes());
    }
    assert_eq!(texts(&sink, "a", usize::MAX).len(), node::LOG_LINES_KEPT);
    for _ in 0..100 {
        line(&sink, "b", &[b'x'; node::LOG_LINE_BYTES]);
    }
    let kept = texts(&sink, "b", usize::MAX);
    assert!(kept.len() <= node::LOG_RING_BYTES / node::LOG_LINE_BYTES, "{}", kept.len());
    assert!(kept.len() > 20, "{}", kept.len());
}

#[test]
fn all_rings_together_are_bounded_and_the_longest_silent_goes() {
    let rings = Rings::default();
    let metrics = Metrics::new();
    let functions = node::LOG_RINGS_BYTES / node::LOG_RING_BYTES + 16;
    for f in 0..functions {
        let name = name(&format!("f{f}"));
        let source = rings.source(&name, &metrics.function(&name));
        for _ in 0..node::LOG_RING_BYTES / 8_000 {
            let entry = Entry {
                time: SystemTime::UNIX_EPOCH,
                body: Body::Line {
                    function: name.clone(),
                    revision: 1,
                    request_id: RequestId::from_random(1),
                    stream: Stream::Stdout,
                    text: "x".repeat(7_800),
                    truncated: false,
                },
            };
            rings.push(&source, &Arc::new(entry));
        }
    }
    let lines = |f: usize| rings.read(&name(&format!("f{f}")), 9_999, false).unwrap().0.len();
    assert_eq!(lines(0), 0);
    assert!(lines(functions - 1) > 20);
    let kept: usize = (0..functions).map(lines).sum();
    assert!(kept * 7_800 <= node::LOG_RINGS_BYTES);
}

#[test]
fn which_invocations_get_a_line() {
    let asks = [(Level::Info, 200), (Level::Info, 404), (Level::Info, 500), (Level::Warn, 429)];
    for (requests, expect) in [
        (Requests::All, [true, true, true, true]),
        (Requests::Errors, [false, false, true, true]),
        (Requests::Off, [false, false, false, false]),
    ] {
        let (sink, _) = sink(requests);
        let wanted = asks.map(|(level, status)| sink.wants(level, status));
        assert_eq!(wanted, expect, "{requests:?}");
    }
    let (sink, _) = sink(Requests::Errors);
    let source = source(&sink, "f");
    sink.invocation(Some(&source), record(200, "answered", Level::Info));
    sink.invocation(None, record(502, "unheard", Level::Warn));
    sink.invocation(Some(&source), record(502, "trap", Level::Warn));
    assert_eq!(texts(&sink, "f", 10), ["trap"]);
}

#[test]
fn both_formats_say_the_same_on_one_line() {
    let (sink, _) = sink(Requests::All);
    sink.invocation(Some(&source(&sink, "f")), record(502, "trap", Level::Warn));
    line(&sink, "f", b"out \"q\"");
    assert!(sink.flush(PATIENCE));
    let (entries, _) = sink.read(&name("f"), 10, false).unwrap();
    let json: serde_json::Value = serde_json::from_str(&entries[0].to_json()).unwrap();
    assert_eq!(json["request_id"], "0000000000000007");
    assert_eq!((&json["status"], &json["level"]), (&502.into(), &"WARN".into()));
    assert_eq!(json["detail"], "wasm trap:\\nunreachable");
    assert_eq!(json["path"], "/f/a\\nb");
    assert_eq!((&json["call_us"], &json["client"]), (&1234.6.into(), &"192.0.2.1".into()));
    let human = entries[0].to_human();
    assert!(
        human.contains("WARN f#2 0000000000000007 192.0.2.1 GET /f/a\\nb 502 trap in 12.3us"),
        "{human}"
    );
    assert!(human.contains("call 1.23ms") && !human.contains('\n'), "{human}");
    let json: serde_json::Value = serde_json::from_str(&entries[1].to_json()).unwrap();
    assert_eq!((&json["message"], &json["stream"]), (&"out \"q\"".into(), &"stderr".into()));
    assert!(entries[1].to_human().ends_with("f#2 0000000000000007 stderr: out \"q\""));
}

#[test]
fn a_full_queue_drops_and_counts_and_nobody_waits() {
    let (sink, dropped) = sink(Requests::All);
    let start = std::time::Instant::now();
    let total = 20 * node::LOG_QUEUE;
    for _ in 0..total {
        sink.raw(vec![b'x'; 64]);
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(sink.flush(PATIENCE));
    assert!(dropped.get() < total as u64);
}

#[test]
fn a_flood_costs_the_one_who_makes_it() {
    let (sink, dropped) = sink(Requests::Errors);
    let floods: Vec<_> = (0..4).map(|i| source(&sink, &format!("loud-{i}"))).collect();
    let modest = source(&sink, "modest");
    std::thread::scope(|scope| {
        for flood in &floods {
            let sink = &sink;
            scope.spawn(move || {
                for i in 0..20 * node::LOG_QUEUE {
                    line_of(sink, flood, &[b'x'; 1_000]);
                    if i % 8 == 0 {
                        sink.invocation(Some(flood), record(502, "trap", Level::Warn));
                    }
                }
            });
        }
        for i in 0..200 {
            line_of(&sink, &modest, i.to_string().as_bytes());
            // As if each were of its own request.
            std::thread::yield_now();
        }
    });
    assert!(dropped.get() > 0);
    assert_eq!(texts(&sink, "modest", usize::MAX).len(), 200);
}

#[test]
fn a_function_writes_its_burst_and_no_more() {
    let (sink, _) = sink(Requests::Errors);
    let flood = source(&sink, "loud");
    let (mut sent, mut lost) = (0, false);
    // What escapes take comes on top of what is sent, when it is known.
    while sent < 64 << 20 && !lost {
        line_of(&sink, &flood, &[0x1b; 8_000]);
        sent += 8_000;
        assert!(sink.flush(PATIENCE));
        lost = texts(&sink, "loud", usize::MAX).iter().any(|line| line.ends_with(" lost"));
    }
    let burst = usize::try_from(node::LOG_BURST_BYTES).unwrap();
    assert!(lost && sent < burst / 2, "{sent}");
    // Said once, however much is lost beside.
    for _ in 0..1_000 {
        line_of(&sink, &flood, &[0x1b; 8_000]);
    }
    let kept = texts(&sink, "loud", usize::MAX);
    assert_eq!(kept.iter().filter(|line| line.ends_with(" lost")).count(), 1);
}

#[test]
fn a_line_that_comes_after_its_function_is_gone_is_in_nobodys_log() {
    let (sink, _) = sink(Requests::All);
    let old = source(&sink, "a");
    line_of(&sink, &old, b"old");
    assert_eq!(texts(&sink, "a", 10), ["old"]);
    sink.forget(&name("a"));
    line_of(&sink, &old, b"late");
    assert!(texts(&sink, "a", 10).is_empty());
    let new = source(&sink, "a");
    line_of(&sink, &old, b"later");
    sink.invocation(Some(&old), record(502, "trap", Level::Warn));
    line_of(&sink, &new, b"new");
    assert_eq!(texts(&sink, "a", 10), ["new"]);
    // A later revision of the same function goes on with its log.
    assert!(Arc::ptr_eq(&new, &source(&sink, "a")));
}

#[tokio::test(flavor = "current_thread")]
async fn a_follower_sees_each_line_once_and_the_end() {
    let (sink, _) = sink(Requests::All);
    line(&sink, "a", b"before");
    assert!(sink.flush(PATIENCE));
    let (tail, follower) = sink.read(&name("a"), 10, true).unwrap();
    let mut follower = follower.unwrap();
    assert_eq!(tail.len(), 1);
    line(&sink, "a", b"after");
    let Followed::Entry(entry) = follower.next().await else { panic!("no entry") };
    assert!(entry.to_human().ends_with("after"));
    for _ in 0..node::LOG_FOLLOWER_QUEUE + 5 {
        line(&sink, "a", b"many");
    }
    assert!(sink.flush(PATIENCE));
    assert!(matches!(follower.next().await, Followed::Gap(5)));
    sink.forget(&name("a"));
    let mut left = 0;
    while let Followed::Entry(_) = follower.next().await {
        left += 1;
    }
    assert_eq!(left, node::LOG_FOLLOWER_QUEUE);
}

#[test]
fn followers_are_bounded() {
    let (sink, _) = sink(Requests::All);
    let followers: Vec<_> = (0..node::LOG_FOLLOWERS)
        .map(|i| sink.read(&name(&format!("f{i}")), 0, true).unwrap().1.unwrap())
        .collect();
    assert_eq!(sink.read(&name("more"), 0, true).err(), Some(TooManyFollowers));
    drop(followers);
    assert!(sink.read(&name("more"), 0, true).is_ok());
}
