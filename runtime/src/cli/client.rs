//! Talking to a node.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use mayfly_admin::{base_url, parse_token, read_token, read_token_file};
use mayfly_core::auth::Token;
use mayfly_runtime::config::{NodeAddress, Process};
use serde_json::Value;

use super::connector::{self, Http, Remedy, Trusted};
use super::output::text;
use super::{Connection, Failure, code};

/// Bytes of an answer that is read whole; the list of 10,000 functions has about 8 MiB.
const ANSWER_BYTES: usize = 64 << 20;

/// A node's admin API.
pub(super) struct Client {
    http: Http,
    base: String,
    token: Option<Token>,
}

/// What became of a request to a gateway that has no answer.
pub(super) fn lost(url: &str, why: &hyper_util::client::legacy::Error) -> Failure {
    let cause = std::error::Error::source(why).map_or_else(|| why.to_string(), ToString::to_string);
    let url = url.split("/v2/models/").next().unwrap_or(url);
    let what = match why.is_connect() {
        true => "cannot be reached from here",
        false => "broke the connection off",
    };
    Failure::new(code::UNREACHABLE, format!("the gateway at {url} {what}: {cause}"))
}

impl Connection {
    /// A client with the token.
    pub(super) fn open(&self) -> Result<Client, Failure> {
        Ok(Client { token: Some(self.find_token()?), ..self.open_without_token()? })
    }

    /// A client for the open paths.
    pub(super) fn open_without_token(&self) -> Result<Client, Failure> {
        let (base, own) = match &self.admin {
            Some(url) => (url.trim_end_matches('/').to_owned(), None),
            None => {
                let NodeAddress { admin, certificate, .. } = configuration()?;
                (base_url(admin, certificate.is_some()), certificate)
            }
        };
        if !base.starts_with("http://") && !base.starts_with("https://") {
            let why =
                format!("'{base}' is not an admin URL: write http://HOST:PORT or https://HOST");
            return Err(Failure::new(code::USAGE, why));
        }
        let http = match (&self.ca, own) {
            (None, Some(own)) => connector::http(&base, Trusted::Very(&own))?,
            _ => self.http(&base)?,
        };
        Ok(Client { http, base, token: None })
    }

    /// A client for a URL, which trusts what was named.
    pub(super) fn http(&self, url: &str) -> Result<Http, Failure> {
        connector::http(url, self.ca.as_deref().map_or(Trusted::System, Trusted::Named))
    }

    fn find_token(&self) -> Result<Token, Failure> {
        let no_token = |why: String| Failure::new(code::TOKEN, why);
        if let Some(token) = &self.token {
            return parse_token(token).map_err(|why| {
                let whose = "a node's is in the file `token` of its state directory";
                no_token(format!("MAYFLY_TOKEN holds no token: {why}; {whose}"))
            });
        }
        if let Some(path) = &self.token_file {
            return read_token_file(path).map_err(|why| no_token(why.to_string()));
        }
        let state_dir = match &self.state_dir {
            Some(dir) => dir.clone(),
            None => configuration()?.state_dir,
        };
        read_token(&state_dir).map_err(|why| {
            no_token(format!(
                "{why}\nhint: name the node's state directory with --state-dir or MAYFLY_STATE_DIR, or the token by \
                 MAYFLY_TOKEN or --token-file"
            ))
        })
    }
}

/// What `mayfly.toml` and the variables say of a node in this directory. A file that just lies there may be anybody's,
/// and broken: then it is said once, and not used.
fn configuration() -> Result<NodeAddress, Failure> {
    static SAID: AtomicBool = AtomicBool::new(false);
    let (found, broken) =
        NodeAddress::resolve(&Process).map_err(|why| Failure::new(code::CONFIG, why))?;
    if let Some(why) = broken
        && !SAID.swap(true, Ordering::Relaxed)
    {
        let why = mayfly_observe::logs::escape_lines(&why.to_string());
        eprintln!("warning: {}\nwarning: it is not used", why.trim_end());
    }
    Ok(found)
}

impl Client {
    /// Sends a request; an answer of 400 or more is a failure with its problem's words.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", self.base))
            .header(header::ACCEPT, accept);
        if method == Method::PUT {
            request = request.header(header::CONTENT_TYPE, "application/wasm");
        }
        self.ask(request, body).await
    }

    async fn ask(
        &self,
        mut request: http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let request =
            request.body(Full::new(body)).map_err(|why| Failure::new(code::USAGE, why))?;
        let response = self.http.request(request).await.map_err(|why| self.unreachable(&why))?;
        if response.status() < StatusCode::BAD_REQUEST {
            return Ok(response);
        }
        let status = response.status();
        let problem = json(response.into_body()).await.unwrap_or_default();
        if is_gateways(&problem) {
            return Err(self.is_the_gateway());
        }
        Err(refusal(status, &problem))
    }

    /// Asks for a change by a JSON document, if the deployment that serves is the one that is expected; gives the answer.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        expected: Option<u64>,
        body: Bytes,
    ) -> Result<Value, Failure> {
        let json_type = "application/json";
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", self.base))
            .header(header::ACCEPT, json_type)
            .header(header::CONTENT_TYPE, json_type);
        if let Some(generation) = expected {
            request = request.header(header::IF_MATCH, format!("\"{generation}\""));
        }
        let answer = self.ask(request, body).await?;
        json(answer.into_body()).await
    }

    /// Puts bytes, and gives the answer.
    pub(super) async fn put_bytes(&self, path: &str, body: Bytes) -> Result<Value, Failure> {
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("{}{path}", self.base))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/octet-stream");
        json(self.ask(request, body).await?.into_body()).await
    }

    /// Gets a JSON document.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let answer = self.send(Method::GET, path, "application/json", Bytes::new()).await?;
        json(answer.into_body()).await.map_err(|mut failure| {
            failure.text += &format!("\nhint: is {} the admin API?", self.base);
            failure
        })
    }

    fn is_the_gateway(&self) -> Failure {
        Failure::new(
            code::UNREACHABLE,
            format!(
                "{} is a gateway, which clients call, and not the admin API\nhint: the admin API has an address of its own, \
                 the node's `admin.listen` (127.0.0.1:3001 by default): name that with --admin or MAYFLY_ADMIN",
                self.base
            ),
        )
    }

    fn unreachable(&self, why: &hyper_util::client::legacy::Error) -> Failure {
        let (cause, remedy) = connector::cause(why);
        let hint = match remedy {
            Remedy::Trust => "--ca or MAYFLY_CA names a file with the certificate to trust, as PEM",
            Remedy::Plain => "that port speaks no TLS: write http:// in place of https://",
            Remedy::Unknown => {
                "is `mayfly serve` running? --admin or MAYFLY_ADMIN names another address"
            }
        };
        Failure::new(
            code::UNREACHABLE,
            format!("cannot reach the node at {}: {why}{cause}\nhint: {hint}", self.base),
        )
    }
}

/// Whether a problem is one that only a gateway has.
fn is_gateways(problem: &Value) -> bool {
    text(problem, "/type").starts_with("urn:mayfly:outcome:")
}

/// Whether all that was written stands in what is said already.
fn is_said(written: &str, said: &str) -> bool {
    let lines = written.lines().map(|line| line.trim().trim_end_matches(':'));
    lines
        .filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE="))
        .all(|line| said.contains(line))
}

/// A problem in words.
pub(super) fn refusal(status: StatusCode, problem: &Value) -> Failure {
    let mut words = match text(problem, "/title") {
        "" => format!("the node answered {status}"),
        title => title.to_owned(),
    };
    for (label, field) in [("why", "/detail"), ("init wrote", "/init_log"), ("hint", "/hint")] {
        let said = text(problem, field);
        let again = field == "/init_log" && is_said(said, text(problem, "/detail"));
        if !said.is_empty() && !again {
            // Parts of it are the module's: a name in it may hold anything.
            let shown: Vec<_> = said
                .trim_end()
                .lines()
                .map(|l| mayfly_observe::logs::escape(l.as_bytes()))
                .collect();
            words += &format!("\n{label}: {}", shown.join("\n  "));
        }
    }
    let code = match status.as_u16() {
        401 | 403 => code::TOKEN,
        _ => code::FAILED,
    };
    Failure::new(code, words)
}

/// Reads a body as JSON.
pub(super) async fn json(body: Incoming) -> Result<Value, Failure> {
    let broken = |why: &dyn std::fmt::Display| {
        Failure::new(code::FAILED, format!("the node's answer cannot be read: {why}"))
    };
    let bytes = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|why| broken(&why))?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|why| broken(&why))
}

/// Hands each line of a body to `take` as it comes; empty ones are heartbeats.
pub(super) async fn lines(
    mut body: Incoming,
    mut take: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|why| {
            Failure::new(code::UNREACHABLE, format!("the node closed the connection: {why}"))
        })?;
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]);
            if !line.is_empty() {
                take(&line)?;
            }
        }
        if rest.len() > ANSWER_BYTES {
            return Err(Failure::new(code::FAILED, "the node sent a line without an end"));
        }
    }
    Ok(())
}
