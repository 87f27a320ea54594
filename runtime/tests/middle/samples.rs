//! The sample functions, as users get them: built, deployed with their snapshots, called.

use http::{HeaderValue, Method, StatusCode};
use mayfly_core::record::{Settings, Snapshot};

use crate::harness::{Harness, body_of, built, get, post, read, request, send};

fn picture(name: &str) -> Vec<u8> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/classify/pictures");
    std::fs::read(format!("{dir}/{name}")).unwrap()
}

#[test]
fn hello_greets_in_both_abis_and_is_small() {
    let harness = Harness::get();
    harness.run(async {
        for (name, file, limit) in
            [("hello", "hello", 128 << 10), ("hello-command", "hello-command", 48 << 10)]
        {
            let wasm = built(file);
            assert!(wasm.len() <= limit, "{name} has {} bytes, {limit} are allowed", wasm.len());
            harness.deploy(name, wasm, Settings::default()).await.unwrap();
            let reply = get(harness, &format!("/{name}")).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", body_of(&reply));
            assert!(body_of(&reply).starts_with("Hello"), "{}", body_of(&reply));
        }
    });
}

#[test]
fn echo_gives_back_a_body_larger_than_any_buffer_between() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy("echo", built("echo"), Settings::default()).await.unwrap();
        let body: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(9 << 20).collect();
        for declared in [true, false] {
            let reply = post(harness, "/echo/a?b=c", body.clone(), declared).await;
            assert_eq!(reply.status, StatusCode::OK);
            assert!(!reply.broken && reply.body == body, "{} bytes came back", reply.body.len());
        }
        let reply = read(send(harness, request(Method::GET, "/echo/a%20b?c=d"), None).await).await;
        let text = body_of(&reply);
        assert!(text.contains("/a%20b?c=d") && text.contains("GET"), "{text}");
    });
}

#[test]
fn a_host_of_any_length_that_a_head_may_have_reaches_a_guest() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy("echo", built("echo"), Settings::default()).await.unwrap();
        for length in [10, 900, 1_000, 2_048, 30_000] {
            let mut long = request(Method::GET, "/echo/a");
            let host = HeaderValue::from_str(&"a".repeat(length)).unwrap();
            long.headers_mut().insert(http::header::HOST, host);
            let reply = read(send(harness, long, None).await).await;
            assert_eq!(reply.status, StatusCode::OK, "{length}: {}", body_of(&reply));
        }
    });
}

#[test]
fn classify_names_the_pictures() {
    let harness = Harness::get();
    harness.run(async {
        let mut settings = Settings::default();
        settings.limits.set("memory=256MiB").unwrap();
        let report = harness.deploy("classify", built("classify"), settings).await.unwrap();
        assert!(
            matches!(report.record.snapshot, Snapshot::Taken { .. }),
            "the model is to be in the snapshot: {:?}",
            report.record.snapshot
        );
        for (file, label, score) in [
            ("cat_224.png", "Egyptian cat", 0.385),
            ("coffee_224.png", "espresso", 0.945),
            ("camera_224.png", "tripod", 0.945),
            ("rocket_224.png", "missile", 0.260),
            ("china_224.png", "palace", 0.371),
        ] {
            let reply = post(harness, "/classify", picture(file), true).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", body_of(&reply));
            let guesses: Vec<serde_json::Value> = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(guesses.len(), 5);
            assert_eq!(guesses[0]["label"], label, "{file}");
            let found = guesses[0]["score"].as_f64().unwrap();
            assert!((found - score).abs() < 0.005, "{file}: {found}");
        }
        let whole = post(harness, "/classify", picture("cat.png"), true).await;
        let guesses: Vec<serde_json::Value> = serde_json::from_slice(&whole.body).unwrap();
        assert_eq!(guesses[0]["label"], "Egyptian cat");
        // What is no picture is the client's mistake, and says so.
        let reply = post(harness, "/classify", b"GIF89a".to_vec(), true).await;
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{}", body_of(&reply));
    });
}

#[test]
fn filetype_knows_its_kinds() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy("filetype", built("filetype"), Settings::default()).await.unwrap();
        let rust = include_str!("harness.rs").as_bytes().to_vec();
        for (bytes, label) in [(picture("cat.png"), "png"), (rust, "rust")] {
            let reply = post(harness, "/filetype", bytes, true).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", body_of(&reply));
            let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(answer["label"], label, "{answer}");
        }
    });
}
