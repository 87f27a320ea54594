//! `mayfly invoke`.

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use mayfly_core::{FunctionName, Outcome};
use serde_json::{Value, json};

use super::output::{self, text};
use super::{Connection, Failure, Printing, code};

/// Bytes of a body that may be a problem of Mayfly's.
const PROBLEM_BYTES: usize = 4 << 10;

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
        let response = self.connection.http(&gateway)?.request(request).await.map_err(|why| {
            Failure::new(code::UNREACHABLE, format!("cannot reach the gateway at {gateway}: {why}"))
        })?;
        let status = response.status();
        let start = if self.printing.json() {
            let document = whole(response).await?;
            output::json(&document)?;
            text(&document, "/body").to_owned().into_bytes()
        } else {
            if self.include {
                head(&response)?;
            }
            pass_on(response.into_body()).await?
        };
        if status.is_client_error() || status.is_server_error() {
            let hint = advice(&start).map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            let why = format!("the function answered {status}{hint}");
            return Err(Failure::new(code::FAILED, why));
        }
        Ok(())
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
        let slash =
            if self.path.is_empty() || self.path.starts_with(['/', '?']) { "" } else { "/" };
        let default = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder()
            .method(self.method.clone().unwrap_or(default))
            .uri(format!("{gateway}/{}{slash}{}", self.name, self.path));
        for header in &self.header {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| usage(format!("-H '{header}': write 'Name: value'")))?;
            request = request.header(name.trim(), value.trim());
        }
        request.body(Full::from(body.unwrap_or_default())).map_err(|why| usage(why.to_string()))
    }

    #[cfg(test)]
    pub(super) fn planned(&self) -> Result<Request<Full<Bytes>>, Failure> {
        self.request("http://gateway", self.body()?)
    }
}

fn head(response: &Response<Incoming>) -> Result<(), Failure> {
    output::line(format_args!("{:?} {}", response.version(), response.status()))?;
    for (name, value) in response.headers() {
        output::line(format_args!("{name}: {}", mayfly_runtime::logs::escape(value.as_bytes())))?;
    }
    output::line("")
}

fn broken(why: &hyper::Error) -> Failure {
    Failure::new(code::FAILED, format!("the response broke off: {why}"))
}

/// Prints a body as it comes; gives its start.
async fn pass_on(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut start = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|why| broken(&why))?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        output::raw(data)?;
        start.extend_from_slice(&data[..data.len().min(PROBLEM_BYTES - start.len())]);
    }
    Ok(start)
}

/// What who deployed the function can do about an outcome that is not the function's own answer. The gateway says
/// nothing of it to its clients.
fn advice(body: &[u8]) -> Option<&'static str> {
    let problem: Value = serde_json::from_slice(body).ok()?;
    Outcome::advice(text(&problem, "/type").strip_prefix("urn:mayfly:outcome:")?)
}

/// A response as one document; a body that is no text is shown in hexadecimal digits.
async fn whole(response: Response<Incoming>) -> Result<Value, Failure> {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.map_err(|why| broken(&why))?.to_bytes();
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
        assert_eq!(advice(&body), Some("raise it with `mayfly deploy --limit wall=...`"));
        for own in [&b"{}"[..], b"no JSON", br#"{"type":"urn:mayfly:outcome:nonsense"}"#] {
            assert_eq!(advice(own), None);
        }
    }
}
