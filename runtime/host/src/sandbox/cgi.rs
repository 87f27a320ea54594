//! CGI/1.1 (RFC 3875) for command modules: a request as environment variables, a response from stdout. Pure.

use std::collections::BTreeMap;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use mayfly_core::limits::node;

use super::head::{HeadBuilder, HeadError, for_guest};
use super::{Inbound, Terms};
use crate::exchange::Head;

/// The environment of a command module for one request, the function's own variables first.
#[must_use]
pub fn environment(inbound: &Inbound, terms: &Terms) -> Vec<(String, String)> {
    let parts = &inbound.parts;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let header = |name| parts.headers.get(name).map(|v| text(v.as_bytes()));
    let host = text(inbound.authority());
    let (server_name, server_port) = split_port(&host, inbound.port());
    let path_info: Vec<u8> = percent_encoding::percent_decode_str(inbound.below()).collect();
    let remote = inbound.remote.ip().to_string();
    // As the client knows it: what a proxy took off is part of it.
    let prefix = inbound.prefix();
    let uri = format!("{prefix}{}", inbound.target());

    let mut env = terms.env.clone();
    if let Some(secrets) = terms.secrets() {
        env.extend_from_slice(&secrets);
    }
    let mut set = |name: &str, value: String| {
        // `%00` in a path was refused by the router; an environment block cannot hold one in any case.
        if !value.contains('\0') {
            env.push((name.to_owned(), value));
        }
    };
    set("GATEWAY_INTERFACE", "CGI/1.1".into());
    set("SERVER_SOFTWARE", concat!("mayfly/", env!("CARGO_PKG_VERSION")).into());
    set("SERVER_PROTOCOL", inbound.protocol().into());
    set("SERVER_NAME", server_name);
    set("SERVER_PORT", server_port);
    set("REQUEST_METHOD", parts.method.as_str().into());
    set("SCRIPT_NAME", format!("{prefix}{}", inbound.route()));
    set("PATH_INFO", text(&path_info));
    set("QUERY_STRING", parts.uri.query().unwrap_or_default().into());
    set("REMOTE_ADDR", remote.clone());
    set("REMOTE_HOST", remote);
    // A proxy may say whom it had before it without the port.
    if inbound.remote.port() != 0 {
        set("REMOTE_PORT", inbound.remote.port().to_string());
    }
    set("X_FULL_URL", format!("{}://{host}{uri}", inbound.scheme()));
    set("REQUEST_URI", uri);
    if inbound.is_secure() {
        set("HTTPS", "on".into());
    }
    set("X_MATCHED_ROUTE", format!("{}/...", inbound.route()));
    set("X_RAW_PATH_INFO", inbound.below().into());
    set("X_REQUEST_ID", inbound.request_id.as_str().into());
    if let Some(value) = header(CONTENT_TYPE) {
        set("CONTENT_TYPE", value);
    }
    if let Some(value) = header(CONTENT_LENGTH) {
        set("CONTENT_LENGTH", value);
    }
    for (name, value) in header_variables(inbound, terms.record.settings.pass_authorization) {
        set(&name, value);
    }
    env
}

/// Whether each request sets this variable, or may: a function's own of that name is left out, because which of two a
/// program sees depends on its language.
#[must_use]
pub fn is_of_request(name: &str) -> bool {
    const OTHERS: &[&str] = &[
        "AUTH_TYPE",
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "GATEWAY_INTERFACE",
        "HTTPS",
        "PATH_INFO",
        "QUERY_STRING",
        "REMOTE_ADDR",
        "REMOTE_HOST",
        "REMOTE_PORT",
        "REQUEST_METHOD",
        "REQUEST_URI",
        "SCRIPT_NAME",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "SERVER_SOFTWARE",
        "X_FULL_URL",
        "X_MATCHED_ROUTE",
        "X_RAW_PATH_INFO",
        "X_REQUEST_ID",
    ];
    name.starts_with("HTTP_") || OTHERS.contains(&name)
}

/// `HTTP_*` variables: repeated headers joined, `Proxy` (httpoxy) withheld, and credentials unless the function asked for
/// them.
fn header_variables(inbound: &Inbound, authorization: bool) -> BTreeMap<String, String> {
    let mut all = BTreeMap::<String, String>::new();
    for (name, value) in for_guest(&inbound.parts.headers) {
        let name = name.as_str();
        let withheld = match name {
            "content-type" | "content-length" | "proxy" => true,
            "authorization" => !authorization,
            // With '_' allowed, X_A and X-A would be one variable: a way round whoever filters X-A.
            _ => name.contains('_'),
        };
        if withheld {
            continue;
        }
        let variable = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        let value = String::from_utf8_lossy(value.as_bytes());
        let glue = if name == "cookie" { "; " } else { ", " };
        all.entry(variable)
            .and_modify(|old| {
                old.push_str(glue);
                old.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    all
}

fn split_port(host: &str, port: u16) -> (String, String) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name.to_owned(), port.to_owned())
        }
        _ => (host.to_owned(), port.to_string()),
    }
}

/// Collects stdout until the blank line.
#[derive(Debug, Default)]
pub struct HeadParser {
    buffer: Vec<u8>,
    line_start: usize,
}

impl HeadParser {
    /// Takes bytes; gives the head and the body bytes behind it once the blank line is there.
    ///
    /// # Errors
    /// [`HeadError`] says what is wrong with the head.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(Head, Vec<u8>)>, HeadError> {
        let mut scan = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        while let Some(at) = self.buffer[scan..].iter().position(|&b| b == b'\n') {
            let end = scan + at;
            if trim_cr(&self.buffer[self.line_start..end]).is_empty() {
                let head = parse(&self.buffer[..self.line_start])?;
                return Ok(Some((head, self.buffer.split_off(end + 1))));
            }
            self.line_start = end + 1;
            scan = end + 1;
        }
        if self.buffer.len() > node::CGI_HEAD_BYTES {
            return Err(HeadError::TooLong(node::CGI_HEAD_BYTES));
        }
        Ok(None)
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What was written in place of a head, in words: its first bytes, made harmless.
    #[must_use]
    pub fn printed(&self) -> String {
        let start = &self.buffer[..self.buffer.len().min(node::CGI_PRINTED_BYTES)];
        let more = self.buffer.len() - start.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} bytes more") };
        format!("it printed \"{}\"{more}", mayfly_observe::logs::escape(start))
    }
}

fn parse(lines: &[u8]) -> Result<Head, HeadError> {
    if lines.len() > node::CGI_HEAD_BYTES {
        return Err(HeadError::TooLong(node::CGI_HEAD_BYTES));
    }
    let mut builder = HeadBuilder::default();
    let mut status = None;
    for line in lines.split(|&b| b == b'\n').map(trim_cr).filter(|line| !line.is_empty()) {
        let shown = || String::from_utf8_lossy(&line[..line.len().min(64)]).into_owned();
        let colon = line.iter().position(|&b| b == b':');
        let colon = colon.ok_or_else(|| HeadError::Line(shown()))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"status") {
            let code = value.split(|&b| b == b' ').next().unwrap_or_default();
            let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok());
            status = Some(code.ok_or_else(|| HeadError::NoStatus(shown()))?);
        } else {
            builder.header(name, value)?;
        }
    }
    let redirect = builder.has(&LOCATION);
    if status.is_none() && !redirect && !builder.has(&CONTENT_TYPE) {
        return Err(HeadError::Incomplete);
    }
    builder.finish(status.unwrap_or(if redirect { 302 } else { 200 }))
}

fn trim_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(text: &[u8]) -> Result<Option<(Head, Vec<u8>)>, HeadError> {
        HeadParser::default().push(text)
    }

    #[test]
    fn what_a_request_says_of_itself_is_not_the_deploys_to_say() {
        for name in ["REQUEST_METHOD", "HTTP_COOKIE", "REMOTE_ADDR", "SERVER_SOFTWARE", "HTTPS"] {
            assert!(is_of_request(name), "{name}");
        }
        assert!(!is_of_request("KEY") && !is_of_request("HTTPD"));
    }

    #[test]
    fn a_head_ends_at_the_blank_line_however_it_is_cut() {
        let text = b"Content-Type: text/plain\r\nX-A: b\n\nbody\n\nmore";
        let end = text.windows(2).position(|w| w == b"\n\n").unwrap() + 2;
        for cut in 0..=end {
            let mut parser = HeadParser::default();
            let (head, body) = match parser.push(&text[..cut]).unwrap() {
                Some(done) => done,
                None => parser.push(&text[cut..end]).unwrap().unwrap(),
            };
            assert_eq!(
                (head.status.as_u16(), head.headers.len(), body.len()),
                (200, 2, 0),
                "{cut}"
            );
        }
        let (_, body) = parse_all(text).unwrap().unwrap();
        assert_eq!(body, b"body\n\nmore");
    }

    #[test]
    fn status_and_location_decide_the_status() {
        for (text, status) in [
            (&b"Status: 404 Not Found\n\n"[..], 404),
            (b"status:201\n\n", 201),
            (b"Location: /x\n\n", 302),
            (b"Location: /x\nStatus: 307\n\n", 307),
            (b"Content-Type: a/b\n\n", 200),
        ] {
            assert_eq!(parse_all(text).unwrap().unwrap().0.status.as_u16(), status);
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for (text, expect) in [
            (&b"\n"[..], "no Content-Type"),
            (b"X-A: b\n\n", "no Content-Type"),
            (b"hello\n\n", "not a header line"),
            (b"Status: abc\n\n", "'Status: abc' has no status: it is a number"),
            (b"Status:\n\n", "'Status:' has no status"),
            (b"Status: 99999\n\n", "has no status"),
            (b"Status: 600\n\n", "status 600"),
            (b"Status: 101\n\n", "status 101"),
            (b"Content-Type: a\rb\n\n", "control character"),
            (b"Bad Name: x\nContent-Type: a\n\n", "not a header name"),
            (b": x\n\n", "not a header name"),
        ] {
            let error = parse_all(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{text:?}: {error}");
        }
        assert!(parse_all(&[b'a'; node::CGI_HEAD_BYTES]).unwrap().is_none());
        assert!(parse_all(&[b'a'; node::CGI_HEAD_BYTES + 1]).is_err());
    }

    #[test]
    fn a_host_is_split_from_its_port() {
        assert_eq!(split_port("a:80", 1), ("a".into(), "80".into()));
        assert_eq!(split_port("[::1]", 1), ("[::1]".into(), "1".into()));
        assert_eq!(split_port("[::1]:8", 1), ("[::1]".into(), "8".into()));
        assert_eq!(split_port("a:", 1), ("a:".into(), "1".into()));
    }
}
