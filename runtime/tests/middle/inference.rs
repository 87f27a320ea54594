//! The Open Inference Protocol over a guest that gives back what it gets: gateway, frame and back, without a real model.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use mayfly_abi::{CONTENT_TYPE_MODEL, CONTENT_TYPE_TENSORS};
use mayfly_core::RequestId;
use mayfly_core::record::Settings;
use mayfly_host::exchange::RequestBody;
use mayfly_host::sandbox::Inbound;
use mayfly_serve::inference;
use serde_json::{Value, json};

use crate::harness::Harness;

/// Two inputs, and outputs of the same names.
const PORTS: &str =
    r#"[{"name":"x","datatype":"FP32","shape":[-1]},{"name":"s","datatype":"BYTES","shape":[1]}]"#;

/// A response frame of status 200 with this content type.
fn head(content_type: &str) -> Vec<u8> {
    let mut buffer = [0; 128];
    let mut writer = mayfly_abi::HeadWriter::response(&mut buffer, 200).unwrap();
    writer.header(b"content-type", content_type.as_bytes()).unwrap();
    let length = writer.finish();
    buffer[..length].to_vec()
}

/// `GET` gives the metadata, `POST` the request's body, piece by piece.
pub fn model() -> String {
    model_that_says("{}")
}

/// The same with parameters in its metadata.
pub fn model_that_says(parameters: &str) -> String {
    let escape = |bytes: &[u8]| bytes.iter().map(|b| format!("\\{b:02x}")).collect::<String>();
    let (describe, answer) = (head(CONTENT_TYPE_MODEL), head(CONTENT_TYPE_TENSORS));
    let metadata =
        format!("{{\"inputs\":{PORTS},\"outputs\":{PORTS},\"parameters\":{parameters}}}");
    format!(
        r#"(module
        (import "mayfly_http_v1" "request_head" (func $head (param i32 i32) (result i32)))
        (import "mayfly_http_v1" "request_body_read" (func $read (param i32 i32) (result i32)))
        (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
        (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
        (memory (export "memory") 2)
        (data (i32.const 0) "{}")
        (data (i32.const 128) "{}")
        (data (i32.const 256) "{}")
        (func (export "mayfly_abi_1"))
        (func (export "mayfly_tensors_1"))
        (func (export "mayfly_handle") (local $n i32)
            (drop (call $head (i32.const 4096) (i32.const 4096)))
            (if (i32.eq (i32.load8_u (i32.const 4098)) (i32.const 71))
                (then
                    (drop (call $start (i32.const 0) (i32.const {}) (i32.const 256) (i32.const {})))
                    (return)))
            (drop (call $start (i32.const 128) (i32.const {}) (i32.const 0) (i32.const 0)))
            (loop $next
                (local.set $n (call $read (i32.const 65536) (i32.const 1000)))
                (if (i32.gt_s (local.get $n) (i32.const 0))
                    (then
                        (drop (call $write (i32.const 65536) (local.get $n)))
                        (br $next))))))"#,
        escape(&describe),
        escape(&answer),
        escape(metadata.as_bytes()),
        describe.len(),
        metadata.len(),
        answer.len(),
    )
}

pub struct Answer {
    pub status: u16,
    pub json: Value,
    binary: Vec<u8>,
}

/// Sends a body of JSON and what follows it, with or without its length.
pub async fn send(
    harness: &Harness,
    (method, path): (Method, &str),
    json: &[u8],
    binary: Option<&[u8]>,
    declared: bool,
) -> Answer {
    let whole = [json, binary.unwrap_or_default()].concat();
    let mut request = Request::builder().method(method).uri(path).header("host", "test");
    if binary.is_some() {
        request = request.header("inference-header-content-length", json.len());
    }
    if declared {
        request = request.header("content-length", whole.len());
    }
    let parts = request.body(()).unwrap().into_parts().0;
    let body: RequestBody =
        Box::pin(Full::new(Bytes::from(whole)).map_err(|never: Infallible| match never {}));
    let address = ([127, 0, 0, 1], 80).into();
    let inbound = Inbound::new(parts, address, address, RequestId::from_random(7));
    let response = inference::handle(&harness.node, inbound, Some(body)).await;
    assert_eq!(response.headers()["x-request-id"].len(), 16);
    let status = response.status().as_u16();
    let json_bytes = response.headers().get("inference-header-content-length").cloned();
    let body = response.into_body().collect().await.map_err(drop).unwrap().to_bytes();
    let at = json_bytes.map_or(body.len(), |n| n.to_str().unwrap().parse().unwrap());
    let json = serde_json::from_slice(&body[..at]).unwrap_or_else(|_| panic!("{body:?}"));
    Answer { status, json, binary: body[at..].to_vec() }
}

const INFER: (Method, &str) = (Method::POST, "/v2/models/twin/infer");

fn x(data: Value) -> Value {
    json!({"name": "x", "datatype": "FP32", "shape": [3], "data": data})
}

fn s() -> Value {
    json!({"name": "s", "datatype": "BYTES", "shape": [1], "data": ["é\n"]})
}

#[test]
fn a_model_answers_by_the_protocol() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("twin", &model(), Settings::default()).await;
        metadata(harness).await;
        json_in_and_out(harness).await;
        binary_in_and_out(harness).await;
        refusals(harness).await;
        let path = "/v2/models/twin/infer";
        let large = json!({"inputs": [s(), {"name": "x", "datatype": "FP32", "shape": [300_000],
            "data": vec![0.5; 300_000]}]});
        let answer =
            send(harness, (Method::POST, path), large.to_string().as_bytes(), None, true).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(answer.json["outputs"][0]["data"].as_array().unwrap().len(), 300_000);
        harness.remove("twin").await;
        assert_eq!(send(harness, (Method::POST, path), b"{}", None, true).await.status, 404);
    });
}

async fn metadata(harness: &Harness) {
    let get = |path| send(harness, (Method::GET, path), b"", None, true);
    let ports: Value = serde_json::from_str(PORTS).unwrap();
    let answer = get("/v2/models/twin").await;
    assert_eq!((answer.status, &answer.json["inputs"]), (200, &ports));
    assert_eq!(answer.json["versions"], json!(["1"]));
    for path in ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/twin/versions/1/ready"] {
        assert_eq!(get(path).await.status, 200, "{path}");
    }
    for (path, status) in [
        ("/v2/models/none", 404),
        ("/v2/models/twin/versions/2", 404),
        ("/v2/models/twin/infer", 405),
        ("/v2/x", 404),
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json["error"].is_string(), "{path}");
    }
}

async fn json_in_and_out(harness: &Harness) {
    let request = json!({"id": "i", "inputs": [x(json!([0.1, -2, 3e5])), s()]}).to_string();
    for declared in [true, false] {
        let answer = send(harness, INFER, request.as_bytes(), None, declared).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!((&answer.json["id"], &answer.json["model_name"]), (&json!("i"), &json!("twin")));
        let outputs = &answer.json["outputs"];
        assert_eq!(outputs[0]["data"], json!([0.1, -2.0, 300_000.0]));
        assert_eq!(outputs[1]["data"], json!(["é\n"]));
        assert!(answer.binary.is_empty());
    }
}

async fn binary_in_and_out(harness: &Harness) {
    let numbers: Vec<u8> = (0..3).flat_map(|n| (n as f32).to_le_bytes()).collect();
    let follows = json!({"name": "x", "datatype": "FP32", "shape": [3], "parameters": {"binary_data_size": 12}});
    let outputs = json!([{"name": "s"}, {"name": "x", "parameters": {"binary_data": true}}]);
    let request = json!({"inputs": [follows, s()], "outputs": outputs}).to_string();
    for declared in [true, false] {
        let answer = send(harness, INFER, request.as_bytes(), Some(&numbers), declared).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(answer.json["outputs"][0]["data"], json!(["é\n"]));
        assert_eq!(answer.json["outputs"][1]["parameters"]["binary_data_size"], 12);
        assert_eq!(answer.binary, numbers);
    }
    for wrong in [&numbers[..11], &[0; 13], &[]] {
        for declared in [true, false] {
            let answer = send(harness, INFER, request.as_bytes(), Some(wrong), declared).await;
            assert_eq!(answer.status, 400, "{}", answer.json);
        }
    }
}

async fn refusals(harness: &Harness) {
    let free = harness.node.free_slots();
    let claim = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[268435456],"data":[1]}]}"#;
    let infinite =
        json!({"inputs": [x(json!([1, 2, 3])), s()]}).to_string().replace("[1,2,3]", "[1,2,1e39]");
    let nan = infinite.replace("1e39", "NaN");
    for (request, expected) in [
        (claim, "1 elements"),
        (&*infinite, "too large for FP32"),
        (&*nan, "no NaN"),
        ("[]", "expected an object"),
        (r#"{"inputs":[]}"#, "missing inputs"),
    ] {
        let answer = send(harness, INFER, request.as_bytes(), None, true).await;
        assert_eq!(answer.status, 400, "{}", answer.json);
        let error = answer.json["error"].as_str().unwrap();
        assert!(error.contains(expected), "{request}: {error}");
    }
    harness.settled(free).await;
}

#[test]
fn a_function_that_is_no_model_says_so() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_guest("no-model", "answers", &[]).await;
        for path in ["/v2/models/no-model", "/v2/models/no-model/ready"] {
            let answer = send(harness, (Method::GET, path), b"", None, true).await;
            assert_eq!(answer.status, 404);
            assert!(answer.json["error"].as_str().unwrap().contains("a function and no model"));
        }
        harness.remove("no-model").await;
    });
}
