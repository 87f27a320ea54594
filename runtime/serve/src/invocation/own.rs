//! What the gateway answers itself: whether it is alive and ready, and what it can do at all. Those who ask are load
//! balancers and strangers, so an answer costs no instance, and says nothing of what is deployed.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use mayfly_core::Outcome;
use mayfly_host::exchange::{ResponseBody, Verdict};
use mayfly_host::sandbox::Inbound;

use super::find::sound;
use super::ledger::Ledger;
use super::respond;
use crate::node::Node;

/// Methods that can reach a function.
pub const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// What a request is for that is the gateway's, whatever routes there are; its names are reserved.
enum Own {
    /// `OPTIONS *` (RFC 9110, 9.3.7).
    Options,
    /// `/healthz`: the process answers.
    Alive,
    /// `/readyz`: requests should come here.
    Ready,
}

/// The answer, if the request is not for a function.
pub fn answer(node: &Arc<Node>, inbound: &Inbound) -> Option<Response<ResponseBody>> {
    let parts = &inbound.parts;
    let own = match parts.uri.path() {
        "*" if parts.method == Method::OPTIONS => Own::Options,
        "/healthz" => Own::Alive,
        "/readyz" => Own::Ready,
        _ => return None,
    };
    let ledger = Ledger::open(node, inbound);
    let asked = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&parts.method);
    if let Err(outcome) = sound(inbound) {
        return Some(respond::refuse(ledger, outcome));
    }
    Some(match own {
        Own::Options if node.is_draining() => respond::refuse(ledger, Outcome::Draining),
        Own::Options => options(ledger),
        _ if !asked => respond::refuse(ledger, Outcome::Unroutable),
        Own::Alive => text(ledger, Outcome::Answered, "ok\n", &parts.method),
        Own::Ready if node.is_draining() => {
            text(ledger, Outcome::Draining, "not ready\n", &parts.method)
        }
        Own::Ready if node.is_starting() || node.unready().is_some() => {
            text(ledger, Outcome::NodeFull, "not ready\n", &parts.method)
        }
        Own::Ready => text(ledger, Outcome::Answered, "ready\n", &parts.method),
    })
}

/// Whether a request for which there is no function is `OPTIONS /`, by which HAProxy checks health unless it is told of
/// something else.
pub fn asks_options(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS && parts.uri.path() == "/"
}

/// What a server can do at all.
pub fn options(ledger: Ledger) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, METHODS);
    end(ledger, Outcome::Answered, response)
}

fn text(
    ledger: Ledger,
    outcome: Outcome,
    body: &'static str,
    method: &Method,
) -> Response<ResponseBody> {
    let body = if *method == Method::HEAD { "" } else { body };
    let mut response = Response::new(ResponseBody::Whole(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(outcome.status()).unwrap_or_default();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    end(ledger, outcome, response)
}

/// Gives an answer of the gateway's own, and writes it down.
pub fn end(
    ledger: Ledger,
    outcome: Outcome,
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    respond::add_id(&mut response, ledger.request_id);
    ledger.close(Verdict::of(outcome));
    response
}
