//! `mayfly invoke`.

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use mayfly_core::{FunctionName, Outcome};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use super::output::{self, text};
use super::{Connection, Failure, Printing, client, code};

/// Bytes of a body that may be a problem of Mayfly's.
const PROBLEM_BYTES: usize = 4 << 10;
/// What stands in no path and no query as it is.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Call a function through the gateway and print what it answers.
#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The function.
    name: FunctionName,
    /// Path and query below the function.
    #[arg(long, short, default_value = "", value_name = "PATH")]
    path: String,
    /// Body of the request: text, or @FILE (@- for stdin).
    #[arg(long, short)]
    data: Option<String>,
    /// A header; may be repeated.
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The method [default: GET, or POST with --data].
    #[arg(long, short = 'X')]
    method: Option<Method>,
    /// Print status and headers as well.
    #[arg(long, short)]
    include: bool,
    /// The gateway's URL [default: what the node says].
    #[arg(long, env = "MAYFLY_GATEWAY", value_name = "URL")]
    gateway: Option<String>,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

impl Invoke {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let body = self.body()?;
        let gateway = match &self.gateway {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => {
                let node = self.connection.open()?.get("/v1/node").await?;
                text(&node, "/gateway").to_owned()
            }
        };
        let request = self.request(&gateway, body)?;
        let response = self.connection.http(&gateway)?.request(request).await;
        let response = response.map_err(|why| client::lost(&gateway, &why))?;
        let status = response.status();
        let logs = self.logs(response.headers());
        let broken = |why: &hyper::Error| {
            let hint = format!("hint: `{logs}` has the reason");
            Failure::new(code::FAILED, format!("the response broke off: {why}\n{hint}"))
        };
        let start = if self.printing.json() {
            let document = whole(response).await.map_err(|why| broken(&why))?;
            output::json(&document)?;
            text(&document, "/body").to_owned().into_bytes()
        } else {
            if self.include {
                head(&response)?;
            }
            let failed = status.is_client_error() || status.is_server_error();
            pass_on(response.into_body(), failed, broken).await?
        };
        if status.is_client_error() || status.is_server_error() {
            let hint = advice(&start, &logs).map_or_else(String::new, |h| format!("\nhint: {h}"));
            let why = format!("the function answered {status}{hint}");
            return Err(Failure::new(code::FAILED, why));
        }
        Ok(())
    }

    /// The command that shows what the log has of the request.
    fn logs(&self, headers: &HeaderMap) -> String {
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let one = id.map_or_else(String::new, |id| format!(" --request {id}"));
        format!("mayfly logs {}{one}", self.name)
    }

    fn body(&self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(data) = &self.data else { return Ok(None) };
        let Some(file) = data.strip_prefix('@') else { return Ok(Some(data.clone().into_bytes())) };
        let read = if file == "-" {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
        } else {
            std::fs::read(file)
        };
        read.map(Some)
            .map_err(|why| Failure::new(code::FAILED, format!("cannot read {file}: {why}")))
    }

    fn request(
        &self,
        gateway: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let usage = |why: String| Failure::new(code::USAGE, why);
        let default = if body.is_some() { Method::POST } else { Method::GET };
        let uri = self.uri(gateway).map_err(usage)?;
        let body = body.unwrap_or_default();
        let mut request = Request::new(Full::default());
        *request.method_mut() = self.method.clone().unwrap_or(default);
        *request.uri_mut() = uri;
        for header in &self.header {
            let wrong = |why: String| usage(format!("-H '{header}': {why}"));
            let (name, value) = parse_header(header, body.len()).map_err(wrong)?;
            request.headers_mut().append(name, value);
        }
        *request.body_mut() = Full::from(body);
        Ok(request)
    }

    fn uri(&self, gateway: &str) -> Result<Uri, String> {
        let host = gateway.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some()
                && uri.query().is_none()
        });
        if host.is_none() {
            return Err(format!(
                "'{gateway}' is no gateway's URL: write http://HOST:PORT or https://HOST for --gateway or MAYFLY_GATEWAY"
            ));
        }
        let slash =
            if self.path.is_empty() || self.path.starts_with(['/', '?']) { "" } else { "/" };
        let uri = format!("{gateway}/{}{slash}{}", self.name, self.path);
        // A fragment is dropped silently, because none is ever sent.
        uri.parse().ok().filter(|_| !self.path.contains('#')).ok_or_else(|| {
            let encoded = utf8_percent_encode(&self.path, ENCODED);
            format!(
                "--path '{}': percent-encode what a URL cannot hold, as in '{encoded}'",
                self.path
            )
        })
    }

    #[cfg(test)]
    pub(super) fn planned(&self) -> Result<Request<Full<Bytes>>, Failure> {
        self.planned_at("http://gateway")
    }

    #[cfg(test)]
    pub(super) fn planned_at(&self, gateway: &str) -> Result<Request<Full<Bytes>>, Failure> {
        self.request(gateway, self.body()?)
    }
}

fn head(response: &Response<Incoming>) -> Result<(), Failure> {
    output::line(format_args!("{:?} {}", response.version(), response.status()))?;
    for (name, value) in response.headers() {
        output::line(format_args!("{name}: {}", mayfly_observe::logs::escape(value.as_bytes())))?;
    }
    output::line("")
}

/// A header as it was given. What frames the body is not the caller's to say otherwise: both sides would wait for a rest
/// that never comes.
fn parse_header(header: &str, body_bytes: usize) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = header.split_once(':').ok_or("write 'Name: value'")?;
    let (name, value) = (name.trim(), value.trim());
    let name = HeaderName::try_from(name).map_err(|_| format!("'{name}' is no header's name"))?;
    if name == TRANSFER_ENCODING {
        return Err("the body is sent with its length".to_owned());
    }
    if name == CONTENT_LENGTH && value.parse() != Ok(body_bytes) {
        return Err(format!("the body has {body_bytes} bytes, and that is sent by itself"));
    }
    let value =
        HeaderValue::try_from(value).map_err(|_| "its value has a control character".to_owned())?;
    Ok((name, value))
}

/// Prints a body as it comes; gives its start. What is said behind it, if that is a failure, begins a line of its own.
async fn pass_on(
    mut body: Incoming,
    failed: bool,
    broken: impl Fn(&hyper::Error) -> Failure,
) -> Result<Vec<u8>, Failure> {
    let (mut start, mut last) = (Vec::new(), b'\n');
    let end_line = |last: u8, fails: bool| {
        if fails && last != b'\n' {
            eprintln!();
        }
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|why| {
            end_line(last, true);
            broken(&why)
        })?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        output::raw(data)?;
        last = data.last().copied().unwrap_or(last);
        start.extend_from_slice(&data[..data.len().min(PROBLEM_BYTES - start.len())]);
    }
    end_line(last, failed);
    Ok(start)
}

/// What who deployed the function can do about an outcome that is not the function's own answer. The gateway says
/// nothing of it to its clients.
fn advice(body: &[u8], logs: &str) -> Option<String> {
    let problem: Value = serde_json::from_slice(body).ok()?;
    Outcome::advice(text(&problem, "/type").strip_prefix("urn:mayfly:outcome:")?, logs)
}

/// A response as one document; a body that is no text is shown in hexadecimal digits.
async fn whole(response: Response<Incoming>) -> Result<Value, hyper::Error> {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let mut document = json!({ "status": head.status.as_u16(), "headers": headers });
    match std::str::from_utf8(&bytes) {
        Ok(text) => document["body"] = text.into(),
        Err(_) => document["body_hex"] = hex::encode(&bytes).into(),
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_of_mayflys_is_told_with_the_key_to_change() {
        let body =
            serde_json::to_vec(&Outcome::WallLimit { limit: "1s".into() }.problem("r")).unwrap();
        let advice = |body: &[u8]| advice(body, "mayfly logs f --request r");
        let told = advice(&body).unwrap();
        assert_eq!(told, "raise it: deploy it again with `--limit wall=...`");
        let trap = serde_json::to_vec(&Outcome::Trap("secret".into()).problem("r")).unwrap();
        assert_eq!(advice(&trap).unwrap(), "`mayfly logs f --request r` has the reason");
        for own in [&b"{}"[..], b"no JSON", br#"{"type":"urn:mayfly:outcome:nonsense"}"#] {
            assert_eq!(advice(own), None);
        }
    }

    #[test]
    fn what_frames_the_body_is_not_the_callers() {
        let name = |header| parse_header(header, 3).map(|(name, _)| name.to_string());
        assert_eq!(name("Content-Length: 3").unwrap(), "content-length");
        for (header, expected) in [
            ("Content-Length: 4", "the body has 3 bytes"),
            ("content-length: x", "the body has 3 bytes"),
            ("Transfer-Encoding: chunked", "sent with its length"),
            ("a b: c", "'a b' is no header's name"),
            (": c", "'' is no header's name"),
            ("a: b\nc", "control character"),
            ("a", "write 'Name: value'"),
        ] {
            assert!(name(header).unwrap_err().contains(expected), "{header}");
        }
    }
}
