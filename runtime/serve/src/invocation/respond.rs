//! From a verdict or a started exchange to an HTTP response.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use mayfly_core::{Outcome, RequestId};
use mayfly_host::exchange::{Exchange, Head, ResponseBody, Streamed, Verdict, is_bodiless};

use super::ledger::Ledger;
use super::timing::Clock;
use crate::node::Task;

/// The id under which a request is logged.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The response to a request that reached no guest.
pub fn refuse(ledger: Ledger, outcome: Outcome) -> Response<ResponseBody> {
    let response = problem(&outcome, ledger.request_id);
    ledger.close(Verdict::of(outcome));
    response
}

/// The response of a guest that ended in its first poll.
pub fn at_once(
    ledger: Ledger,
    exchange: &Exchange,
    verdict: Verdict,
    head_only: bool,
    clock: Option<Clock>,
) -> Response<ResponseBody> {
    let id = ledger.request_id;
    let mut response = match exchange.take_response() {
        Some((head, body)) => with_head(head, ResponseBody::Whole(body), head_only, id),
        None => problem(&verdict.outcome, id),
    };
    if let Some(clock) = clock {
        clock.add_whole(&mut response, exchange, &verdict);
    }
    ledger.close(verdict);
    response
}

/// The response of a guest that goes on as a task: waits for its head, or for its end without one.
pub async fn when_started(
    exchange: Arc<Exchange>,
    task: Task<()>,
    id: RequestId,
    head_only: bool,
    clock: Option<Clock>,
) -> Response<ResponseBody> {
    let Some(head) = exchange.head().await else {
        let verdict = exchange.verdict();
        let verdict = verdict
            .unwrap_or_else(|| Verdict::of(Outcome::Internal("the guest's task is gone".into())));
        let mut response = problem(&verdict.outcome, id);
        if let Some(clock) = clock {
            clock.add_whole(&mut response, &exchange, &verdict);
        }
        return response;
    };
    // A guest that has ended by now, with all it wrote here, gets a length; the others are streamed.
    if let Some(body) = exchange.take_whole() {
        let mut response = with_head(head, ResponseBody::Whole(body), head_only, id);
        if let (Some(clock), Some(verdict)) = (clock, exchange.verdict()) {
            clock.add_whole(&mut response, &exchange, &verdict);
        }
        // It ends by itself: what is left is the reset of its instance.
        task.detach();
        return response;
    }
    let body = if head_only {
        // Its head was all that was asked for: the guest is ended, and has answered.
        exchange.finish(Verdict::of(Outcome::Answered));
        ResponseBody::Whole(Bytes::new())
    } else if is_bodiless(head.status) {
        // The guest goes on to its end, as behind any other head; nobody gets what it writes.
        exchange.discard();
        task.detach();
        ResponseBody::Whole(Bytes::new())
    } else {
        ResponseBody::Streamed(Streamed::new(exchange.clone(), Box::new(task)))
    };
    let mut response = with_head(head, body, head_only, id);
    if let Some(clock) = clock {
        clock.add_to_head(&mut response, &exchange);
    }
    response
}

/// A declared length goes out where the body does not tell it: before one that is still being written, and in place of
/// one that was not asked for.
fn with_head(
    head: Head,
    body: ResponseBody,
    head_only: bool,
    id: RequestId,
) -> Response<ResponseBody> {
    let bodiless = is_bodiless(head.status);
    let told = matches!(body, ResponseBody::Whole(_)) && !head_only;
    let declared = head.length.filter(|_| !bodiless && !told);
    let empty = bodiless || (head_only && declared.is_some());
    let body = if empty { ResponseBody::Whole(Bytes::new()) } else { body };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(length) = declared {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    add_id(&mut response, id);
    response
}

/// An RFC 9457 body with the outcome's public words.
pub fn problem(outcome: &Outcome, id: RequestId) -> Response<ResponseBody> {
    // A struct of strings and a number always serialises.
    let body = serde_json::to_vec(&outcome.problem(id.as_str())).unwrap_or_default();
    let mut response = Response::new(ResponseBody::Whole(body.into()));
    *response.status_mut() =
        StatusCode::from_u16(outcome.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // Caches may keep a 404, 405 or 414 that says nothing of it, and show it when there is a function.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if matches!(outcome, Outcome::BadRequest(_)) {
        // Who sends one thing that is none may send another: nothing more is read from it. HTTP/2 has no such header,
        // and hyper drops it there.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if matches!(outcome, Outcome::Unroutable) {
        headers.insert(ALLOW, super::own::METHODS);
    }
    if let Some(seconds) = outcome.retry_after_s() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    add_id(&mut response, id);
    response
}

/// Names the request in its response.
///
/// HTTP/2 is told never to index it: each value comes once, and a hundred of them in a connection's table took 15 KiB and
/// pushed out what comes again.
pub fn add_id(response: &mut Response<ResponseBody>, id: RequestId) {
    if let Ok(mut value) = HeaderValue::from_str(id.as_str()) {
        value.set_sensitive(true);
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
}
