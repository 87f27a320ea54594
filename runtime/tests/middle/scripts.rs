//! Scripts, as users deploy them: packed by the command line, run with their snapshots, called; what is hostile ends in an
//! outcome of its own.

mod calls;
mod ends;
mod errors;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use mayfly_core::record::{Settings, Snapshot};
use serde_json::Value;

use crate::harness::{Harness, Reply, body_of, get, read, request, send};

const FUNCTIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions");

/// The runner; nothing, said aloud, where it could not be built.
fn runner() -> Option<PathBuf> {
    let mayfly = PathBuf::from(env!("CARGO_BIN_EXE_mayfly"));
    let runner = mayfly.ancestors().nth(2).unwrap().join("wasm32-wasip1/guest/script.wasm");
    if !runner.is_file() {
        let mut out = std::io::stderr();
        writeln!(out, "SKIPPED: scripts were not tested: run make toolchain-c script-guest")
            .unwrap();
        return None;
    }
    Some(runner)
}

/// What would be uploaded for a script, or why nothing would.
fn pack(path: &Path) -> Option<Result<Vec<u8>, String>> {
    let runner = runner()?;
    let dir = tempfile::tempdir().unwrap();
    let wasm = dir.path().join("script.wasm");
    let done = Command::new(env!("CARGO_BIN_EXE_mayfly"))
        .args(["check".as_ref(), path.as_os_str(), "--script-runner".as_ref(), runner.as_os_str()])
        .args(["--write".as_ref(), wasm.as_os_str()])
        .output()
        .unwrap();
    Some(match done.status.success() {
        true => Ok(std::fs::read(wasm).unwrap()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    })
}

/// The same for a script that is given as text.
fn pack_text(text: &str) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.js");
    std::fs::write(&path, text).unwrap();
    pack(&path).map(|packed| packed.unwrap())
}

fn limited(limits: &[&str]) -> Settings {
    let mut settings = Settings::default();
    for limit in limits {
        settings.limits.set(limit).unwrap();
    }
    settings
}

async fn call(harness: &Harness, name: &str, case: &Value) -> Reply {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    let method = case["method"].as_str().unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut asked = request(method, &format!("/{name}{}", text("path")));
    for (header, value) in case["send"].as_object().into_iter().flatten() {
        let value = HeaderValue::from_str(value.as_str().unwrap()).unwrap();
        asked.headers_mut().insert(HeaderName::from_bytes(header.as_bytes()).unwrap(), value);
    }
    asked.headers_mut().insert("host", HeaderValue::from_static("test.invalid"));
    let body = text("request").to_owned();
    if body.is_empty() {
        return read(send(harness, asked, None).await).await;
    }
    asked.headers_mut().insert("content-length", body.len().into());
    let body = Full::new(bytes::Bytes::from(body)).map_err(|never| match never {});
    read(send(harness, asked, Some(Box::pin(body))).await).await
}

fn wrong(case: &Value, reply: &Reply) -> Option<String> {
    let status = case["status"].as_u64().unwrap_or(200);
    if u64::from(reply.status.as_u16()) != status {
        return Some(format!(
            "{} and {}, where {status} was expected",
            reply.status,
            body_of(reply)
        ));
    }
    for (header, expected) in case["headers"].as_object().into_iter().flatten() {
        let own = reply.headers.get(header.as_str()).and_then(|value| value.to_str().ok());
        if own != expected.as_str() {
            return Some(format!("{header}: {own:?}, where {expected} was expected"));
        }
    }
    match case["body"].as_str() {
        Some(expected) if body_of(reply) != expected => {
            Some(format!("{:?}, where {expected:?} was expected", body_of(reply)))
        }
        _ => None,
    }
}

#[test]
fn the_examples_answer_what_they_should() {
    let harness = Harness::get();
    let dir = PathBuf::from(format!("{FUNCTIONS}/script-examples"));
    let cases: Vec<Value> =
        serde_json::from_slice(&std::fs::read(dir.join("cases.json")).unwrap()).unwrap();
    harness.run(async {
        let mut deployed = std::collections::BTreeSet::new();
        for case in &cases {
            let file = case["script"].as_str().unwrap();
            let name = format!("x-{}", file.split('.').next().unwrap());
            if deployed.insert(file) {
                let Some(packed) = pack(&dir.join(file)) else { return };
                let mut settings = Settings { pass_authorization: true, ..Settings::default() };
                settings.env.insert("KEY".into(), "k3y".into());
                settings.env.insert("PASSWORD".into(), "s3cret".into());
                let report = harness.deploy(&name, packed.unwrap(), settings).await.unwrap();
                assert!(matches!(report.record.snapshot, Snapshot::Taken { .. }), "{file}");
            }
            let reply = call(harness, &name, case).await;
            if let Some(why) = wrong(case, &reply) {
                panic!("{case}: {why}\n{}", harness.log_of(&name));
            }
            if let Some(line) = case["log"].as_str() {
                let log = harness.log_of(&name);
                assert!(log.contains(line), "{case}: {log}");
            }
        }
        assert!(deployed.len() >= 12, "{} examples", deployed.len());
    });
}

/// Cases rewritten from the standards. What passes is in a list, which may not shrink; nine of ten must.
#[test]
fn the_webs_interface_is_as_its_standards_say() {
    let harness = Harness::get();
    let dir = PathBuf::from(format!("{FUNCTIONS}/script-cases"));
    let Some(packed) = pack(&dir.join("run.js")) else { return };
    harness.run(async {
        harness.deploy("x-cases", packed.unwrap(), Settings::default()).await.unwrap();
        let reply = get(harness, "/x-cases").await;
        assert_eq!(reply.status, StatusCode::OK, "{}", harness.log_of("x-cases"));
        let results: Vec<Value> = serde_json::from_slice(&reply.body).unwrap();
        let passing: Vec<_> = results.iter().filter(|result| result["why"].is_null()).collect();
        let named = |name: &str| results.iter().find(|result| result["name"] == name);
        for name in std::fs::read_to_string(dir.join("passing.txt")).unwrap().lines() {
            let result = named(name).unwrap_or_else(|| panic!("{name} is gone"));
            assert!(result["why"].is_null(), "{name}: {}", result["why"]);
        }
        assert!(passing.len() * 10 >= results.len() * 9, "{} of {}", passing.len(), results.len());
    });
}

/// Marks wherever a heap can keep one, from request to request.
const HIDES: &str = r#"
const closed = { seen: [] }, weak = new WeakMap(), map = new Map(), list = [], key = {};
class Own { static count = 0; #hidden = 0; bump() { return ++this.#hidden; } }
const own = new Own(), symbol = Symbol.for("mark"), buffer = new Uint8Array(8), cell = /a/g;
function* counts() { let n = 0; while (true) yield n++; }
const counter = counts();
let bound = 0;
export default {
  fetch(request) {
    const found = [];
    const look = (what, is) => { if (is) found.push(what); };
    look("closure", closed.seen.push(1) > 1);
    look("global", globalThis.mark !== undefined); globalThis.mark = 1;
    look("binding", bound++ > 0);
    look("prototype", ({}).mark !== undefined); Object.prototype.mark = 1;
    look("array", [].mark2 !== undefined); Array.prototype.mark2 = 1;
    look("weak map", weak.has(key)); weak.set(key, 1);
    look("map", map.size > 0); map.set(request.url, 1);
    look("list", list.push(1) > 1);
    look("static", Own.count++ > 0);
    look("private", own.bump() > 1);
    look("symbol", Symbol.for("mark") !== symbol || globalThis[symbol] !== undefined); globalThis[symbol] = 1;
    look("buffer", buffer[0]++ > 0);
    look("generator", counter.next().value > 0);
    look("expression", cell.lastIndex > 0); cell.test("a");
    look("interface", Response.prototype.mark3 !== undefined); Response.prototype.mark3 = 1;
    look("replaced", JSON.stringify.mark4 !== undefined); JSON.stringify.mark4 = 1;
    look("environment", request.headers.get("x") !== null);
    setTimeout(() => { globalThis.late = 1; }, 0);
    look("timer", globalThis.late !== undefined);
    return new Response(found.join(" "));
  },
};
"#;

#[test]
fn a_heap_is_as_the_deploy_left_it_for_every_request() {
    let harness = Harness::get();
    let Some(first) = pack_text(HIDES) else { return };
    let other = pack_text(&HIDES.replace("counts", "others")).unwrap();
    harness.run(async {
        harness.deploy("x-hides", first, Settings::default()).await.unwrap();
        harness.deploy("x-others", other, Settings::default()).await.unwrap();
        for round in 0..1_000 {
            for name in ["/x-hides", "/x-others"] {
                let reply = get(harness, name).await;
                assert_eq!(
                    (reply.status, body_of(&reply)),
                    (StatusCode::OK, String::new()),
                    "{round}"
                );
            }
        }
    });
}

#[test]
fn what_a_snapshot_would_freeze_is_drawn_anew() {
    let harness = Harness::get();
    let script = r"
        const first = Math.random();
        export const warmup = '/';
        export default { fetch(request, env) {
            return Response.json([Math.random(), env.A ? crypto.randomUUID() : 'warm', Date.now(), env.A ?? null, first]);
        } };";
    let Some(packed) = pack_text(script) else { return };
    harness.run(async {
        let mut settings = Settings::default();
        settings.env.insert("A".into(), "1".into());
        harness.deploy("x-draws", packed, settings).await.unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let values: Value =
                serde_json::from_slice(&get(harness, "/x-draws").await.body).unwrap();
            assert!(seen.insert(values[0].to_string()), "{values}");
            assert!(seen.insert(values[1].to_string()), "{values}");
            assert!(values[2].as_f64().unwrap() > 1.7e12 && values[3] == "1", "{values}");
        }
    });
}
