//! The Open Inference Protocol on the gateway: `/v2/...`.
//!
//! A request is checked against what its model says of itself, reaches the model's function as a tensor frame, and the
//! frame that comes back becomes the protocol's answer. Tensors that follow the JSON of a request pass through as they
//! arrive; nothing here waits for the last of them. The function is invoked as any other, with its limits, its place in
//! the metrics and its own fresh instance.

mod clerk;
mod frame;
mod hold;
mod receive;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

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
use crate::invocation::{self, Placed, X_REQUEST_ID};
use crate::node::Node;
use crate::revision::Revision;
use crate::sandbox::Inbound;
use crate::shares::Grant;
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
    let id = inbound.request_id;
    let head_only = inbound.parts.method == Method::HEAD;
    // All that can be refused is, before anything is kept for the request. The rest is boxed, so that other requests do
    // not pay for this future's size.
    let answered = match begin(node, inbound) {
        Ok(Begun::Answered(response)) => Ok(response),
        Ok(Begun::Admitted(work)) => Box::pin(work.answer(node, body)).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = answered.unwrap_or_else(Refusal::response);
    if head_only {
        *response.body_mut() = ResponseBody::Whole(Bytes::new());
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

/// What becomes of a request at the first look.
enum Begun {
    Answered(Response<ResponseBody>),
    Admitted(Box<Admitted>),
}

fn begin(node: &Arc<Node>, inbound: Box<Inbound>) -> Result<Begun, Refusal> {
    let path = inbound.parts.uri.path();
    let noted = |refusal: Refusal| {
        invocation::note(node, &inbound, refusal.outcome());
        refusal
    };
    let (resource, revision) = resource(node, &inbound, path).map_err(noted)?;
    let answer = match (resource, revision) {
        (Resource::Infer(_), Some(revision)) => {
            let expected = receive::Expected::of(&inbound.parts.headers, revision.limits());
            let expected = expected.map_err(noted)?;
            return Admitted::new(node, revision, &inbound, Some(expected)).map(Begun::Admitted);
        }
        (Resource::Model(_), Some(revision)) => match revision.model.get() {
            Some(model) => {
                invocation::note(node, &inbound, Outcome::Answered);
                return Ok(Begun::Answered(description(&revision, model)));
            }
            None => return Admitted::new(node, revision, &inbound, None).map(Begun::Admitted),
        },
        (Resource::Server, _) => json!({
            "name": "mayfly", "version": env!("CARGO_PKG_VERSION"), "extensions": mayfly_oip::EXTENSIONS,
        }),
        (Resource::Live, _) => json!({ "live": true }),
        (Resource::Ready, _) => json!({ "ready": true }),
        (Resource::ModelReady(model), _) => json!({ "name": model.name, "ready": true }),
        (Resource::Model(_) | Resource::Infer(_), None) => {
            return Err(noted(Outcome::NotFound.into()));
        }
    };
    invocation::note(node, &inbound, Outcome::Answered);
    Ok(Begun::Answered(plain(answer.to_string().into())))
}

fn description(revision: &Revision, model: &Model) -> Response<ResponseBody> {
    let record = &revision.record;
    plain(model.to_json(record.function.as_str(), &record.number.to_string()).into())
}

/// A request to a model that may be received.
struct Admitted {
    revision: Arc<Revision>,
    /// The request as the function gets it, without what the client said to the protocol.
    inbound: Box<Inbound>,
    /// What the headers say of the body of an inference; nothing of a question for the model's description.
    expected: Option<receive::Expected>,
    /// One of the node's requests that are being received.
    receiving: Grant,
    /// One of the function's requests: not yet of the first, which has to ask for the model's description.
    placed: Option<Placed>,
    hold: Hold,
}

impl Admitted {
    fn new(
        node: &Arc<Node>,
        revision: Arc<Revision>,
        inbound: &Inbound,
        expected: Option<receive::Expected>,
    ) -> Result<Box<Self>, Refusal> {
        let client = inbound.remote.ip();
        let mut receiving =
            node.rooms.receiving.grant(Some(revision.shares.receiving.clone()), client);
        if !receiving.grow(1) {
            invocation::note(node, inbound, Outcome::NodeFull);
            return Err(Outcome::NodeFull.into());
        }
        let asked = revision.model.get().is_some();
        let placed = asked.then(|| Placed::take(node, &revision, inbound)).transpose()?;
        let hold = Hold::new(node, &revision, client);
        let inbound = forward(inbound, &revision, Method::POST, HeaderMap::new());
        Ok(Box::new(Self { revision, inbound, expected, receiving, placed, hold }))
    }

    async fn answer(
        mut self: Box<Self>,
        node: &Arc<Node>,
        body: Option<RequestBody>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let model = describe(node, &self.revision, &self.inbound).await?;
        let Some(expected) = self.expected else {
            return Ok(description(&self.revision, &model));
        };
        let mut placed = match self.placed.take() {
            Some(placed) => placed,
            None => Placed::take(node, &self.revision, &self.inbound)?,
        };
        match self.prepare(node, &model, expected, body, &mut placed).await {
            Ok((request, frame)) => self.infer(node, placed, &model, request, frame).await,
            Err(refusal) => {
                placed.end(refusal.outcome());
                Err(refusal)
            }
        }
    }

    /// From a request's body to a checked request and the frame for the guest.
    async fn prepare(
        &mut self,
        node: &Arc<Node>,
        model: &Arc<Model>,
        expected: receive::Expected,
        body: Option<RequestBody>,
        placed: &mut Placed,
    ) -> Result<(InferRequest, FrameBody), Refusal> {
        let limits = self.revision.limits();
        let deadline = self.deadline();
        let read = receive::read(expected, body, node.body_idle_timeout, &mut self.hold);
        let late = |_| Refusal::new(408, "the request's JSON took too long to arrive");
        let read = tokio::time::timeout_at(deadline, read);
        let Received { json, after, rest, rest_bytes } = read.await.map_err(late)??;
        let bounds = mayfly_oip::Bounds {
            binary_bytes: after.iter().map(|part| part.len() as u64).sum::<u64>() + rest_bytes,
            frame_bytes: limits.request_body_bytes,
        };
        // Two characters of JSON make eight bytes of a tensor at the most: taken before they are made.
        let json_bytes = json.len();
        let most = (4 * json_bytes).min(usize::try_from(bounds.frame_bytes).unwrap_or(usize::MAX));
        self.hold.grow(most)?;
        let known = model.clone();
        let parse = move || InferRequest::parse(&json, &known, bounds);
        let (parsed, time) = self.aside(node, json_bytes, parse).await?;
        placed.spend(time);
        let mut request = parsed?;
        self.hold.shrink(json_bytes);
        let head = request.frame_head()?;
        let length = head.len() as u64 + request.data_bytes();
        if length > bounds.frame_bytes {
            let limit_bytes = bounds.frame_bytes;
            return Err(Outcome::RequestTooLarge { limit_bytes }.into());
        }
        let mut parts: Vec<Bytes> = vec![head.into()];
        let mut here = 0;
        for input in &mut request.inputs {
            if let Data::Here(data) = &mut input.data {
                here += data.len();
                parts.push(std::mem::take(data).into());
            }
        }
        self.hold.shrink(most.saturating_sub(here));
        parts.extend(after);
        Ok((request, FrameBody::new(parts, rest, length)))
    }

    async fn infer(
        mut self: Box<Self>,
        node: &Arc<Node>,
        placed: Placed,
        model: &Arc<Model>,
        request: InferRequest,
        frame: FrameBody,
    ) -> Result<Response<ResponseBody>, Refusal> {
        // It has been received: from here on the pool's slots are what it waits for.
        let all = self.receiving.amount();
        self.receiving.shrink(all);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_TENSORS));
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(frame.length()));
        let forwarded = forward(&self.inbound, &self.revision, Method::POST, headers);
        let response = placed.run(node, forwarded, Some(Box::pin(frame))).await;
        let (headers, body) =
            guests_answer(response, CONTENT_TYPE_TENSORS, Some(&mut self.hold)).await?;
        let frame_bytes = body.len();
        let outputs = mayfly_oip::decode_frame(&body)?;
        drop(body);
        let record = &self.revision.record;
        let (name, version) = (record.function.as_str().to_owned(), record.number.to_string());
        // Taken before it is made, however large its numbers become as text.
        let most = mayfly_oip::most_bytes(&name, &version, &request, model, &outputs);
        self.hold.grow(most)?;
        let known = model.clone();
        let encode = move || mayfly_oip::encode(&name, &version, &request, &known, &outputs);
        let (encoded, _) = self.aside(node, frame_bytes, encode).await?;
        let Encoded { mut body, json_bytes } = encoded?;
        body.shrink_to_fit();
        let Self { mut hold, .. } = *self;
        hold.keep(body.capacity());
        let take_by = receive::take_by(body.len());
        let mut response = plain(hold.around(body));
        response.extensions_mut().insert(take_by);
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

    /// Runs what takes a core for a while on the clerks' threads, few at once of one function, and what does not right
    /// here. Gives the CPU time that it took as well.
    async fn aside<T: Send + 'static>(
        &self,
        node: &Arc<Node>,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Duration), Refusal> {
        if bytes <= SMALL_JSON {
            return Ok(clerk::timed(work));
        }
        clerk::aside(node, &self.revision, self.deadline(), work).await
    }

    /// When its function's time is over, which counts from the request's arrival.
    fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.inbound.arrived + self.revision.limits().wall())
    }
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
    // Who waits for another one's question has its own time.
    let deadline = tokio::time::Instant::from_std(inbound.arrived + revision.limits().wall());
    let ask = || async {
        let request = forward(inbound, revision, Method::GET, HeaderMap::new());
        let placed = Placed::take(node, revision, &request)?;
        let response = placed.run(node, request, None).await;
        let (_, body) = guests_answer(response, CONTENT_TYPE_MODEL, None).await?;
        let small = body.len() <= SMALL_JSON;
        let parse = move || Model::parse(&body);
        let model =
            if small { parse() } else { clerk::aside(node, revision, deadline, parse).await?.0 };
        Ok(Arc::new(model?))
    };
    let late = |_| Refusal::new(503, "the model has not described itself in time").retry_after(1);
    let known = tokio::time::timeout_at(deadline, revision.model.get_or_try_init(ask));
    known.await.map_err(late)?.cloned()
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

/// The whole body of a function's answer, if it is one of this kind; without a hold, one that may only be short.
async fn guests_answer(
    response: Response<ResponseBody>,
    kind: &'static str,
    mut hold: Option<&mut Hold>,
) -> Result<(HeaderMap, Bytes), Refusal> {
    let (head, body) = response.into_parts();
    let long = || {
        let long = format!("the model describes itself in more than {METADATA_BYTES} bytes");
        Refusal::new(502, long)
    };
    let body = match body {
        ResponseBody::Whole(bytes) => {
            match &mut hold {
                Some(hold) => hold.grow(bytes.len())?,
                None if bytes.len() > METADATA_BYTES => return Err(long()),
                None => {}
            }
            bytes
        }
        ResponseBody::Streamed(streamed) => {
            let mut body = ResponseBody::Streamed(streamed);
            let mut all = Vec::new();
            while let Some(frame) = body.frame().await {
                let broken = |_| Refusal::new(502, "the model's function failed while it answered");
                let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
                match &mut hold {
                    Some(hold) => hold.extend(&mut all, &data, usize::MAX)?,
                    None if all.len() + data.len() > METADATA_BYTES => return Err(long()),
                    None => all.extend_from_slice(&data),
                }
            }
            all.into()
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
