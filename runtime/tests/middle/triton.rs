//! What Triton's clients ask for beside inferences: configuration, statistics, repository index, and what is refused.

use std::time::{Duration, Instant};

use http::Method;
use mayfly_core::record::Settings;
use serde_json::{Value, json};

use crate::harness::Harness;
use crate::inference::{model, send};

async fn get(harness: &Harness, path: &str) -> (u16, Value) {
    let answer = send(harness, (Method::GET, path), b"", None, true).await;
    (answer.status, answer.json)
}

#[test]
fn configuration_and_statistics_are_those_of_the_model() {
    let harness = Harness::get();
    harness.run(async {
        let mut settings = Settings::default();
        settings.limits.set("concurrency=7").unwrap();
        harness.deploy_wat("asked", &model(), settings).await;
        // The first to be asked for, so that the model has not described itself yet.
        let (status, config) = get(harness, "/v2/models/asked/config").await;
        assert_eq!(status, 200, "{config}");
        assert_eq!(config["input"][0]["data_type"], "TYPE_FP32");
        assert_eq!(config["input"][1]["data_type"], "TYPE_STRING");
        assert_eq!(config["input"][0]["dims"], json!([-1]));
        assert_eq!(
            (&config["max_batch_size"], &config["instance_group"][0]["count"]),
            (&json!(0), &json!(7))
        );
        let again = get(harness, "/v2/models/asked/versions/1/config").await;
        assert_eq!(again, (200, config));
        let counts = async || {
            let (status, stats) = get(harness, "/v2/models/asked/stats").await;
            assert_eq!(status, 200, "{stats}");
            let stats = &stats["model_stats"][0];
            assert_eq!((&stats["name"], &stats["version"]), (&json!("asked"), &json!("1")));
            let inner = &stats["inference_stats"];
            let count = |of: &str| inner[of]["count"].as_u64().unwrap();
            assert_eq!(stats["inference_count"], inner["success"]["count"]);
            (
                count("success"),
                count("fail"),
                count("compute_infer"),
                stats["last_inference"].as_u64().unwrap(),
            )
        };
        // What the model was asked about itself is no inference.
        assert_eq!(counts().await, (0, 0, 0, 0));
        let input = json!({"name": "x", "datatype": "FP32", "shape": [1], "data": [1]});
        let text = json!({"name": "s", "datatype": "BYTES", "shape": [1], "data": ["a"]});
        let good = json!({"inputs": [input, text]}).to_string();
        let infer = (Method::POST, "/v2/models/asked/infer");
        for _ in 0..3 {
            let answer = send(harness, infer.clone(), good.as_bytes(), None, true).await;
            assert_eq!(answer.status, 200, "{}", answer.json);
        }
        assert_eq!(send(harness, infer.clone(), b"{}", None, true).await.status, 400);
        let (success, fail, _, last) = counts().await;
        assert_eq!((success, fail), (3, 1));
        assert!(last > 1_700_000_000_000, "{last}");
        // A guest's own times are known when its instance is gone.
        let until = Instant::now() + Duration::from_secs(10);
        while counts().await.2 < 3 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(counts().await.2, 3);
        harness.remove("asked").await;
        assert_eq!(get(harness, "/v2/models/asked/stats").await.0, 404);
        assert_eq!(get(harness, "/v2/models/asked/config").await.0, 404);
    });
}

#[test]
fn the_index_names_models_and_no_functions() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("listed", &model(), Settings::default()).await;
        harness.deploy_guest("unlisted", "answers", &[]).await;
        let index = send(harness, (Method::POST, "/v2/repository/index"), b"{}", None, true).await;
        assert_eq!(index.status, 200, "{}", index.json);
        let entry = json!({"name": "listed", "version": "1", "state": "READY", "reason": ""});
        let entries = index.json.as_array().unwrap();
        assert!(entries.contains(&entry), "{entries:?}");
        assert!(!entries.iter().any(|entry| entry["name"] == "unlisted"), "{entries:?}");
        let (status, all) = get(harness, "/v2/models/stats").await;
        let names: Vec<_> =
            all["model_stats"].as_array().unwrap().iter().map(|stats| &stats["name"]).collect();
        assert!(status == 200 && names.contains(&&json!("listed")), "{all}");
        assert!(names.is_sorted_by_key(|name| name.as_str()), "{all}");
        assert_eq!(get(harness, "/v2/repository/index").await.0, 405);
        assert_eq!(get(harness, "/v2/models/unlisted/stats").await.0, 404);
        assert_eq!(get(harness, "/v2/models/unlisted/config").await.0, 404);
        harness.remove("listed").await;
        harness.remove("unlisted").await;
    });
}

#[test]
fn what_this_server_does_not_do_is_refused_in_the_protocols_words() {
    let harness = Harness::get();
    harness.run(async {
        for (method, path, words) in [
            (Method::POST, "/v2/repository/models/m/load", "mayfly deploy"),
            (Method::POST, "/v2/repository/models/m/unload", "mayfly remove"),
            (Method::GET, "/v2/systemsharedmemory/status", "shared memory"),
            (Method::POST, "/v2/cudasharedmemory/region/r/register", "shared memory"),
            (Method::GET, "/v2/trace/setting", "tracing"),
            (Method::POST, "/v2/models/m/trace/setting", "tracing"),
            (Method::GET, "/v2/logging", "logging"),
        ] {
            let answer = send(harness, (method, path), b"{}", None, true).await;
            let error = answer.json["error"].as_str().unwrap();
            assert!(answer.status == 501 && error.contains(words), "{path}: {error}");
        }
    });
}
