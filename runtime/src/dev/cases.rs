//! The cases of `tests.toml`: what is asked of a function over HTTP, and what it has to answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use mayfly_core::{Outcome, units};
use serde::Deserialize;
use serde_json::Value;

/// Bytes of a body that a failed case shows.
const SHOWN: usize = 300;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// One case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// What is sent.
    #[serde(default)]
    pub request: Request,
    /// What has to come.
    #[serde(default)]
    pub expect: Expect,
}

/// What is sent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Request {
    /// GET, or POST with a body.
    method: Option<String>,
    /// From the gateway's root, so that routes can be tested too; the function's own, if it is not said.
    path: Option<String>,
    /// Headers.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The body, as text,
    body: Option<String>,
    /// or as JSON,
    json: Option<toml::Value>,
    /// or what a file holds, beside the file with the cases.
    body_file: Option<PathBuf>,
}

/// What has to come. What is not said may be anything, but for the status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// 200 if it is not said.
    status: Option<u16>,
    /// Headers, each with its whole value.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The whole body.
    body: Option<String>,
    /// The whole body is what a file holds, beside the file with the cases.
    body_file: Option<PathBuf>,
    /// The body is this, as JSON.
    json: Option<toml::Value>,
    /// Text that stands in the body.
    contains: Option<String>,
    /// Text that stands in a line which the function logs.
    log: Option<String>,
    /// How the node calls the outcome.
    outcome: Option<String>,
    /// From the request's arrival to the response's end at most, by the node's clock.
    wall: Option<String>,
}

/// A case ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// What came.
#[derive(Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    /// The node's word for the outcome, if its log has one.
    pub outcome: Option<String>,
    /// The node's time, if its log has one.
    pub wall: Option<Duration>,
    /// What the function logged.
    pub log: Vec<String>,
}

/// Reads the cases of a file.
///
/// # Errors
/// What is wrong, and where.
pub fn read(path: &Path) -> Result<Vec<Case>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|why| {
        format!("cannot read {shown}: {why}\nhint: `mayfly new` shows in a template how cases are written")
    })?;
    let File { case: cases } = toml::from_str(&text).map_err(|why| format!("{shown}: {why}"))?;
    for case in &cases {
        case.check().map_err(|why| format!("{shown}: the case '{}': {why}", case.name))?;
    }
    Ok(cases)
}

impl Case {
    fn check(&self) -> Result<(), String> {
        let Request { body, json, body_file, .. } = &self.request;
        if [body.is_some(), json.is_some(), body_file.is_some()].iter().filter(|is| **is).count()
            > 1
        {
            return Err("request: body, json and body-file are one thing; give one".into());
        }
        if let Some(outcome) = &self.expect.outcome
            && !Outcome::LABELS.contains(&outcome.as_str())
        {
            let labels = Outcome::LABELS.join(", ");
            return Err(format!("expect.outcome: '{outcome}' is none; there are {labels}"));
        }
        if let Some(wall) = &self.expect.wall {
            units::parse_duration(wall).map_err(|why| format!("expect.wall: {why}"))?;
        }
        self.prepare("f", None).map(drop)
    }

    /// The request, for a function of this name; without a directory, files are not read.
    ///
    /// # Errors
    /// What of it cannot be sent.
    pub fn prepare(&self, function: &str, dir: Option<&Path>) -> Result<Prepared, String> {
        let Request { method, path, headers, body, json, body_file } = &self.request;
        let mut sent = HeaderMap::new();
        let body = match (body, json, body_file) {
            (Some(text), _, _) => Some(text.clone().into_bytes()),
            (_, Some(json), _) => {
                sent.insert(
                    http::header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                );
                Some(to_json(json).to_string().into_bytes())
            }
            (_, _, Some(file)) => Some(read_beside(dir, file)?),
            (None, None, None) => None,
        };
        let default = if body.is_some() { "POST" } else { "GET" };
        let method = method.as_deref().unwrap_or(default);
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("request.method: '{method}' is no method"))?;
        let path = path.clone().unwrap_or_else(|| format!("/{function}"));
        if !path.starts_with('/') {
            return Err(format!(
                "request.path: '{path}' does not start with '/': it is the whole path"
            ));
        }
        let path = path.parse().map_err(|_| {
            format!("request.path: '{path}': percent-encode what a URL cannot hold")
        })?;
        for (name, value) in headers {
            let wrong = |_| format!("request.headers: '{name}: {value}' is no header");
            let key = HeaderName::try_from(name).map_err(|why| wrong(why.to_string()))?;
            let value = HeaderValue::try_from(value).map_err(|why| wrong(why.to_string()))?;
            sent.insert(key, value);
        }
        Ok(Prepared { method, path, headers: sent, body: body.unwrap_or_default() })
    }

    /// Whether what is expected is only in the node's log.
    #[must_use]
    pub fn needs_the_log(&self) -> bool {
        let Expect { outcome, wall, log, .. } = &self.expect;
        outcome.is_some() || wall.is_some() || log.is_some()
    }

    /// What of an answer is not as expected, a line each; none if all of it is.
    #[must_use]
    pub fn judge(&self, answer: &Answer, dir: &Path) -> Vec<String> {
        let Expect { status, headers, body, body_file, json, contains, log, outcome, wall } =
            &self.expect;
        let mut wrong = Vec::new();
        let status = status.unwrap_or(200);
        if answer.status != status {
            wrong.push(format!(
                "status {} in place of {status}: {}",
                answer.status,
                shown(&answer.body)
            ));
        }
        for (name, value) in headers {
            let found: Vec<_> = answer.headers.get_all(name).iter().collect();
            if !found.iter().any(|found| found.as_bytes() == value.as_bytes()) {
                wrong.push(format!("header {name} is {found:?} in place of {value:?}"));
            }
        }
        let whole = match (body, body_file) {
            (Some(text), _) => Some(Ok(text.clone().into_bytes())),
            (None, Some(file)) => Some(read_beside(Some(dir), file)),
            (None, None) => None,
        };
        match whole {
            Some(Ok(whole)) if whole != answer.body => {
                wrong.push(format!("body is {} in place of {}", shown(&answer.body), shown(&whole)))
            }
            Some(Err(why)) => wrong.push(why),
            Some(Ok(_)) | None => {}
        }
        if let Some(json) = json {
            let found = serde_json::from_slice::<Value>(&answer.body);
            if found.ok() != Some(to_json(json)) {
                wrong.push(format!(
                    "body is {} in place of {}",
                    shown(&answer.body),
                    to_json(json)
                ));
            }
        }
        if let Some(part) = contains
            && !String::from_utf8_lossy(&answer.body).contains(part)
        {
            wrong.push(format!("body is {}, without {part:?}", shown(&answer.body)));
        }
        if let Some(part) = log
            && !answer.log.iter().any(|line| line.contains(part))
        {
            wrong.push(format!("no line of its log has {part:?}: {:?}", answer.log));
        }
        if let Some(outcome) = outcome
            && answer.outcome.as_ref() != Some(outcome)
        {
            let found = answer.outcome.as_deref().unwrap_or("unknown");
            wrong.push(format!("outcome {found} in place of {outcome}"));
        }
        if let Some(most) = wall.as_deref().and_then(|wall| units::parse_duration(wall).ok()) {
            match answer.wall {
                Some(wall) if wall <= most => {}
                Some(wall) => wrong.push(format!("took {wall:.1?}, more than {most:?}")),
                None => wrong.push("its time is unknown".to_owned()),
            }
        }
        wrong
    }
}

fn read_beside(dir: Option<&Path>, file: &Path) -> Result<Vec<u8>, String> {
    let Some(dir) = dir else { return Ok(Vec::new()) };
    let path = dir.join(file);
    std::fs::read(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))
}

fn to_json(value: &toml::Value) -> Value {
    // A date becomes its text; nothing else of TOML is not JSON's.
    match value {
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(items) => items.iter().map(to_json).collect(),
        toml::Value::Table(table) => {
            table.iter().map(|(key, value)| (key.clone(), to_json(value))).collect()
        }
        toml::Value::String(text) => text.clone().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(is) => (*is).into(),
    }
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
    let more = if body.len() > SHOWN { "..." } else { "" };
    format!("{text:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Case, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tests.toml");
        std::fs::write(&path, format!("[[case]]\nname = \"c\"\n{text}")).unwrap();
        read(&path).map(|cases| cases[0].clone())
    }

    fn judged(expect: &str, answer: &Answer) -> Vec<String> {
        one(&format!("expect = {{ {expect} }}")).unwrap().judge(answer, Path::new("/nowhere"))
    }

    #[test]
    fn a_request_has_defaults_that_fit_its_body() {
        let sent = |text: &str| one(text).unwrap().prepare("hello", None).unwrap();
        let plain = sent("");
        assert_eq!((plain.method, plain.path.path()), (Method::GET, "/hello"));
        let json = sent("request = { path = \"/api/x?y=1\", json = { n = [1, 2.5, true] } }");
        assert_eq!((json.method, json.path.query()), (Method::POST, Some("y=1")));
        assert_eq!(json.headers["content-type"], "application/json");
        assert_eq!(json.body, br#"{"n":[1,2.5,true]}"#);
    }

    #[test]
    fn what_is_wrong_in_a_case_is_named() {
        for (text, expected) in [
            ("request = { pth = \"/\" }", "unknown field `pth`"),
            (
                "request = { path = \"hello\" }",
                "the case 'c': request.path: 'hello' does not start",
            ),
            ("request = { path = \"/a b\" }", "percent-encode"),
            ("request = { body = \"x\", json = 1 }", "give one"),
            ("request = { headers = { \"a b\" = \"c\" } }", "is no header"),
            ("expect = { outcome = \"fine\" }", "'fine' is none; there are answered,"),
            ("expect = { wall = \"fast\" }", "expect.wall: "),
        ] {
            let why = one(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    #[test]
    fn an_answer_is_held_to_all_that_is_said() {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        let answer = Answer {
            status: 200,
            headers,
            body: br#"{"n": 1}"#.to_vec(),
            outcome: Some("answered".into()),
            wall: Some(Duration::from_millis(2)),
            log: vec!["somebody called".into()],
        };
        let good = "status = 200, headers = { X-A = \"1\" }, json = { n = 1 }, contains = \"n\", \
                    log = \"called\", outcome = \"answered\", wall = \"50ms\", body = '{\"n\": 1}'";
        assert_eq!(judged(good, &answer), Vec::<String>::new());
        for (wrong, expected) in [
            ("status = 404", "status 200 in place of 404: \"{\\\"n\\\": 1}\""),
            ("headers = { X-A = \"2\" }", "header X-A is [\"1\"] in place of \"2\""),
            ("json = { n = 2 }", "in place of {\"n\":2}"),
            ("body = \"n\"", "in place of \"n\""),
            ("body-file = \"golden\"", "cannot read /nowhere/golden"),
            ("contains = \"m\"", "without \"m\""),
            ("log = \"nobody\"", "no line of its log"),
            ("outcome = \"trap\"", "outcome answered in place of trap"),
            ("wall = \"1ms\"", "took 2.0ms, more than 1ms"),
        ] {
            let words = judged(wrong, &answer);
            assert!(words.len() == 1 && words[0].contains(expected), "{wrong}: {words:?}");
        }
        // Nothing said is 200.
        assert_eq!(judged("", &Answer { status: 500, ..Answer::default() }).len(), 1);
    }
}
