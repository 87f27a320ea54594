//! What `GET /` answers while no function has that path: what this is, and how to go on. Of what is deployed it says nothing.

use bytes::Bytes;
use http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, VARY,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use mayfly_core::Outcome;
use mayfly_host::exchange::ResponseBody;

use super::ledger::Ledger;
use super::own;

const HTML: &str = include_str!("front/page.html");
const JSON: &str = include_str!("front/page.json");

/// Whether a request for which there is no function is for the page.
pub fn is_asked(parts: &Parts) -> bool {
    parts.uri.path() == "/" && (parts.method == Method::GET || parts.method == Method::HEAD)
}

/// The page: for people if a browser asks, which says that it takes HTML, else for programs.
pub fn page(ledger: Ledger, parts: &Parts) -> Response<ResponseBody> {
    let (body, kind) = match takes_html(&parts.headers) {
        true => (HTML, "text/html; charset=utf-8"),
        false => (JSON, "application/json"),
    };
    let sent = if parts.method == Method::HEAD { "" } else { body };
    let mut response = Response::new(ResponseBody::Whole(Bytes::from_static(sent.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    own::end(ledger, Outcome::Answered, response)
}

fn takes_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| {
        let (kind, parameters) = one.split_once(';').unwrap_or((one, ""));
        let weight = parameters.split(';').find_map(|given| given.trim().strip_prefix("q="));
        let wanted =
            weight.and_then(|weight| weight.trim().parse().ok()).is_none_or(|q: f32| q > 0.0);
        kind.trim().eq_ignore_ascii_case("text/html") && wanted
    })
}
