//! The Open Inference Protocol on the gateway: `/v2/...`.
//!
//! A request is checked against what its model says of itself, reaches the model's function as a tensor frame, and the
//! frame that comes back becomes the protocol's answer. Tensors that follow the JSON of a request pass through as they
//! arrive; nothing here waits for the last of them. The function is invoked as any other, with its limits, its place in
//! the metrics and its own fresh instance.

mod frame;
mod hold;
mod receive;
mod refusal;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri};
use http_body_util::BodyExt as _;
use mayfly_abi::{CONTENT_TYPE_MODEL, CONTENT_TYPE_TENSORS, EXPORT_TENSORS_V1};
use mayfly_core::Outcome;
use mayfly_oip::{Data, Encoded, HEADER_LENGTH, InferRequest, Model, ModelPath, Resource};
use serde_json::json;

use crate::catalog::Entry;
use crate::exchange::{RequestBody, ResponseBody};
use crate::invocation::{self, X_REQUEST_ID};
use crate::node::Node;
use crate::revision::Revision;
use crate::sandbox::Inbound;
use frame::FrameBody;
use hold::Hold;
use receive::Received;
use refusal::Refusal;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// JSON up to here is read on the worker: about a tenth of a millisecond.
const SMALL_JSON: usize = 16 << 10;
/// Longest description of a model, in bytes: thousands of tensors' names and shapes.
const METADATA_BYTES: usize = 256 << 10;

/// Answers a request: as the protocol has it below `/v2`, else as the function's that its path belongs to.
pub async fn handle(
    node: &Arc<Node>,
    inbound: Box<Inbound>,
    body: Option<RequestBody>,
) -> Response<ResponseBody> {
    if !Resource::claims(inbound.parts.uri.path()) {
        return invocation::handle(node, inbound, body).await;
    }
    // Boxed, so that other requests do not pay for this future's size.
    Box::pin(answer(node, inbound, body)).await
}

async fn answer(
    node: &Arc<Node>,
    inbound: Box<Inbound>,
    body: Option<RequestBody>,
) -> Response<ResponseBody> {
    let id = inbound.request_id;
    let head_only = inbound.parts.method == Method::HEAD;
    let mut response = match route(node, inbound, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    };
    if head_only {
        *response.body_mut() = ResponseBody::Whole(Bytes::new());
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

async fn route(
    node: &Arc<Node>,
    inbound: Box<Inbound>,
    body: Option<RequestBody>,
) -> Result<Response<ResponseBody>, Refusal> {
    let path = inbound.parts.uri.path().to_owned();
    let found = resource(node, &inbound, &path);
    let (resource, revision) = match found {
        Ok((Resource::Infer(model), Some(revision))) => {
            return infer(node, &revision, model, inbound, body).await;
        }
        Ok(found) => found,
        Err(refusal) => {
            invocation::note(node, &inbound, refusal.outcome());
            return Err(refusal);
        }
    };
    let answer = match (resource, revision) {
        (Resource::Server, _) => Ok(json!({
            "name": "mayfly", "version": env!("CARGO_PKG_VERSION"), "extensions": mayfly_oip::EXTENSIONS,
        })),
        (Resource::Live, _) => Ok(json!({ "live": true })),
        (Resource::Ready, _) => Ok(json!({ "ready": true })),
        (Resource::ModelReady(model), _) => Ok(json!({ "name": model.name, "ready": true })),
        (Resource::Model(model), Some(revision)) => {
            let described = describe(node, &revision, &inbound).await?;
            let version = revision.record.number.to_string();
            return Ok(plain(described.to_json(model.name, &version).into()));
        }
        (Resource::Model(_) | Resource::Infer(_), None) => Err(Refusal::from(Outcome::NotFound)),
        (Resource::Infer(_), Some(_)) => unreachable!("returned above"),
    }?;
    invocation::note(node, &inbound, Outcome::Answered);
    Ok(plain(answer.to_string().into()))
}

/// What a request is for, and the revision behind it if it is for a model.
fn resource<'p>(
    node: &Arc<Node>,
    inbound: &Inbound,
    path: &'p str,
) -> Result<(Resource<'p>, Option<Arc<Revision>>), Refusal> {
    // Alive is what a process is that says so, even while it drains.
    let resource = Resource::parse(path);
    if resource != Some(Resource::Live) {
        invocation::vet(node, &inbound.parts)?;
    }
    let Some(resource) = resource else {
        return Err(Refusal::new(404, "there is no such path in the Open Inference Protocol"));
    };
    let method = &inbound.parts.method;
    if method != resource.method() && !(resource.method() == "GET" && method == Method::HEAD) {
        return Err(Refusal::new(405, format!("this path takes {}", resource.method())));
    }
    let model = match resource {
        Resource::Server | Resource::Live | Resource::Ready => return Ok((resource, None)),
        Resource::Model(model) | Resource::ModelReady(model) | Resource::Infer(model) => model,
    };
    Ok((resource, Some(find(node, model)?)))
}

fn find(node: &Arc<Node>, model: ModelPath<'_>) -> Result<Arc<Revision>, Refusal> {
    let ModelPath { name, version } = model;
    let view = node.catalog.load();
    let revision = match view.get(name) {
        Some(Entry::Ready(revision)) => revision.clone(),
        Some(Entry::Preparing(_)) => return Err(Outcome::Preparing.into()),
        None => {
            let name: String = name.chars().take(64).collect();
            return Err(Refusal::new(404, format!("there is no model {name:?}")));
        }
    };
    let number = revision.record.number;
    if version.is_some_and(|version| version != number.to_string()) {
        return Err(Refusal::new(
            404,
            format!("model {name:?} has the version {number} and no other"),
        ));
    }
    let is_model = revision.model.get().is_some()
        || revision.module.pre.module().get_export(EXPORT_TENSORS_V1).is_some();
    if !is_model {
        return Err(Refusal::new(
            404,
            format!("{name:?} is a function and no model: call it at /{name}"),
        ));
    }
    Ok(revision)
}

/// What a revision's model takes and gives: asked of the function once, at its first use.
async fn describe(
    node: &Arc<Node>,
    revision: &Arc<Revision>,
    inbound: &Inbound,
) -> Result<Arc<Model>, Refusal> {
    let ask = || async {
        let request = forward(inbound, revision, Method::GET, HeaderMap::new());
        let response = invocation::run_revision(node, revision.clone(), request, None).await;
        let (_, body) = guests_answer(response, CONTENT_TYPE_MODEL, &mut Hold::default()).await?;
        if body.len() > METADATA_BYTES {
            let long = format!("the model describes itself in more than {METADATA_BYTES} bytes");
            return Err(Refusal::new(502, long));
        }
        let small = body.len() <= SMALL_JSON;
        let model = aside(node, small, move || Model::parse(&body)).await??;
        Ok(Arc::new(model))
    };
    // Who waits for another one's question has its own time.
    let deadline = tokio::time::Instant::from_std(inbound.arrived + revision.limits().wall());
    let late = |_| Refusal::new(503, "the model has not described itself in time").retry_after(1);
    let known = tokio::time::timeout_at(deadline, revision.model.get_or_try_init(ask));
    known.await.map_err(late)?.cloned()
}

async fn infer(
    node: &Arc<Node>,
    revision: &Arc<Revision>,
    path: ModelPath<'_>,
    inbound: Box<Inbound>,
    body: Option<RequestBody>,
) -> Result<Response<ResponseBody>, Refusal> {
    let mut hold = Hold::default();
    let prepared = prepare(node, revision, &inbound, body, &mut hold).await;
    let (model, request, frame) = prepared.inspect_err(|refusal| {
        invocation::note(node, &inbound, refusal.outcome());
    })?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_TENSORS));
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(frame.length()));
    let forwarded = forward(&inbound, revision, Method::POST, headers);
    let response =
        invocation::run_revision(node, revision.clone(), forwarded, Some(Box::pin(frame))).await;
    let (headers, body) = guests_answer(response, CONTENT_TYPE_TENSORS, &mut hold).await?;
    let (name, version) = (path.name.to_owned(), revision.record.number.to_string());
    let small = body.len() <= SMALL_JSON;
    let encode = move || {
        let outputs = mayfly_oip::decode_frame(&body)?;
        mayfly_oip::encode(&name, &version, &request, &model, &outputs)
    };
    let Encoded { body, json_bytes } = aside(node, small, encode).await??;
    hold.grow(body.capacity())?;
    let mut response = plain(hold.around(body));
    if let Some(length) = json_bytes {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(HeaderName::from_static(HEADER_LENGTH), HeaderValue::from(length));
    }
    if let Some(timing) = headers.get(SERVER_TIMING) {
        response.headers_mut().insert(SERVER_TIMING, timing.clone());
    }
    Ok(response)
}

/// From a request's head and body to a checked request and the frame for the guest.
async fn prepare(
    node: &Arc<Node>,
    revision: &Arc<Revision>,
    inbound: &Inbound,
    body: Option<RequestBody>,
    hold: &mut Hold,
) -> Result<(Arc<Model>, InferRequest, FrameBody), Refusal> {
    let expected = receive::Expected::of(&inbound.parts.headers, revision.limits())?;
    let model = describe(node, revision, inbound).await?;
    let deadline = tokio::time::Instant::from_std(inbound.arrived + revision.limits().wall());
    let read = receive::read(expected, body, node.body_idle_timeout, hold);
    let late = |_| Refusal::new(408, "the request's JSON took too long to arrive");
    let Received { json, after, rest, rest_bytes } =
        tokio::time::timeout_at(deadline, read).await.map_err(late)??;
    let bounds = mayfly_oip::Bounds {
        binary_bytes: after.iter().map(|part| part.len() as u64).sum::<u64>() + rest_bytes,
        frame_bytes: revision.limits().request_body_bytes,
    };
    let small = json.len() <= SMALL_JSON;
    let known = model.clone();
    let parse = move || InferRequest::parse(&json, &known, bounds);
    let mut request = aside(node, small, parse).await??;
    let head = request.frame_head()?;
    let length = head.len() as u64 + request.data_bytes();
    if length > bounds.frame_bytes {
        let limit_bytes = bounds.frame_bytes;
        return Err(Outcome::RequestTooLarge { limit_bytes }.into());
    }
    let mut parts: Vec<Bytes> = vec![head.into()];
    for input in &mut request.inputs {
        if let Data::Here(data) = &mut input.data {
            hold.grow(data.len())?;
            parts.push(std::mem::take(data).into());
        }
    }
    parts.extend(after);
    Ok((model, request, FrameBody::new(parts, rest, length)))
}

/// Runs what takes a core for a while among the guests, and what does not right here.
async fn aside<T: Send + 'static>(
    node: &Arc<Node>,
    small: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if small {
        return Ok(work());
    }
    let done = node.guests.spawn(async move { work() }).join().await;
    done.ok_or_else(|| Refusal::new(500, "Mayfly failed while it read or wrote tensors"))
}

/// A request of ours to the function: the client's, without what the client said to the protocol.
fn forward(
    inbound: &Inbound,
    revision: &Revision,
    method: Method,
    mut headers: HeaderMap,
) -> Box<Inbound> {
    const KEPT: [HeaderName; 3] =
        [HOST, HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
    for name in KEPT {
        if let Some(value) = inbound.parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let mut parts = http::Request::new(()).into_parts().0;
    let name = &revision.record.function;
    parts.method = method;
    // A function's name is a path without any escape.
    parts.uri = Uri::try_from(format!("/{name}/")).unwrap_or_default();
    parts.version = inbound.parts.version;
    parts.headers = headers;
    let base_len = parts.uri.path().len() - 1;
    let Inbound { remote, local, request_id, arrived, .. } = *inbound;
    Box::new(Inbound { parts, base_len, remote, local, request_id, arrived })
}

/// The whole body of a function's answer, if it is one of this kind.
async fn guests_answer(
    response: Response<ResponseBody>,
    kind: &'static str,
    hold: &mut Hold,
) -> Result<(HeaderMap, Bytes), Refusal> {
    let (head, body) = response.into_parts();
    let body = match body {
        ResponseBody::Whole(bytes) => {
            hold.grow(bytes.len())?;
            bytes
        }
        ResponseBody::Streamed(streamed) => {
            let mut body = ResponseBody::Streamed(streamed);
            let mut all = bytes::BytesMut::new();
            while let Some(frame) = body.frame().await {
                let broken = |_| Refusal::new(502, "the model's function failed while it answered");
                let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
                hold.grow(data.len())?;
                all.extend_from_slice(&data);
            }
            all.freeze()
        }
    };
    if !head.status.is_success() {
        let retry_after = head.headers.get(RETRY_AFTER).cloned();
        return Err(Refusal::from_problem(head.status.as_u16(), &body, retry_after));
    }
    if head.headers.get(CONTENT_TYPE).is_none_or(|given| given != kind) {
        return Err(Refusal::new(502, format!("the model's function did not answer with {kind}")));
    }
    Ok((head.headers, body))
}

fn plain(body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(body));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
