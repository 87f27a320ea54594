//! A model with open shapes is published anew for those that come again and again, in its own place.

use std::time::{Duration, Instant};

use http::Method;
use mayfly_core::record::{RevisionRecord, Settings};
use serde_json::{Value, json};
use wasm_encoder::{CustomSection, Section as _};

use crate::harness::Harness;
use crate::inference::{Answer, model_that_says, send};

/// The guest stands for the stock runner: it has the runner's configuration, and says of shapes what the runner would.
fn runner(others: &str) -> Vec<u8> {
    let ready = json!([{"x": [1], "s": [1]}]).to_string();
    let said = json!({"ready_shapes": ready, "other_shapes": others});
    let mut wasm = wat::parse_str(model_that_says(&said.to_string())).unwrap();
    let data = br#"{"dims":{},"shapes":{}}"#;
    for (name, data) in [("mayfly.asset/config.json", &data[..]), ("mayfly.runner", b"")] {
        CustomSection { name: name.into(), data: data.into() }.append_to(&mut wasm);
    }
    wasm
}

async fn infer(harness: &Harness, name: &str, length: usize) -> Answer {
    let x = json!({"name": "x", "datatype": "FP32", "shape": [length], "data": vec![0; length]});
    let s = json!({"name": "s", "datatype": "BYTES", "shape": [1], "data": ["a"]});
    let body = json!({"inputs": [x, s]}).to_string();
    let path = format!("/v2/models/{name}/infer");
    send(harness, (Method::POST, &path), body.as_bytes(), None, true).await
}

fn record(harness: &Harness, name: &str) -> RevisionRecord {
    harness.node.catalog.load().get(name).unwrap().record().clone()
}

async fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < deadline, "it never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_shape_that_comes_twice_is_made_ready_under_the_same_number() {
    let harness = Harness::start(&Default::default());
    harness.run(async {
        let settings = Settings { routes: vec!["/learner/...".into()], ..Settings::default() };
        let wasm = runner("a plan when they are met");
        harness.deploy("learns", wasm.clone(), settings.clone()).await.unwrap();
        harness.deploy("refuses", runner("refused"), Settings::default()).await.unwrap();
        let (publisher, met) = (harness.publisher.clone(), harness.node.met.clone());
        let learning = tokio::spawn(async move { publisher.learn(met, Duration::ZERO).await });
        let before = record(&harness, "learns");
        for name in ["learns", "refuses"] {
            for length in [1, 1, 1, 5] {
                assert_eq!(infer(&harness, name, length).await.status, 200);
            }
        }
        assert_eq!(record(&harness, "learns").wasm, before.wasm, "once is not enough");
        infer(&harness, "refuses", 5).await;
        infer(&harness, "learns", 5).await;
        until(|| record(&harness, "learns").learned_from == Some(before.wasm)).await;
        let after = record(&harness, "learns");
        assert_ne!(after.wasm, before.wasm);
        assert_eq!((after.number, &after.settings), (before.number, &settings));
        assert_eq!(after.created_unix_s, before.created_unix_s);
        assert_eq!(infer(&harness, "learns", 5).await.status, 200);
        // This guest says the same of its shapes as before; what it knows it does not learn again.
        let learned = after.wasm;
        for _ in 0..4 {
            infer(&harness, "learns", 5).await;
        }
        infer(&harness, "learns", 7).await;
        infer(&harness, "learns", 7).await;
        until(|| record(&harness, "learns").wasm != learned).await;
        assert_eq!(record(&harness, "learns").learned_from, Some(before.wasm));
        assert_eq!(record(&harness, "refuses").learned_from, None);
        // A deploy starts from what it brings.
        harness.deploy("learns", wasm, settings).await.unwrap();
        let deployed = record(&harness, "learns");
        assert_eq!((deployed.number, deployed.learned_from), (2, None));
        learning.abort();
    });
}

#[test]
fn a_models_metadata_say_which_shapes_are_ready() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy("said", runner("one plan for all"), Settings::default()).await.unwrap();
        let answer = send(harness, (Method::GET, "/v2/models/said"), b"", None, true).await;
        let said: Value = answer.json["parameters"].clone();
        assert_eq!(said["other_shapes"], "one plan for all", "{said}");
        assert_eq!(said["ready_shapes"], r#"[{"s":[1],"x":[1]}]"#);
        harness.remove("said").await;
    });
}
