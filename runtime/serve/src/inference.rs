//! The Open Inference Protocol on the gateway: `/v2/...`.
//!
//! A request is checked against what its model says of itself, reaches the model's function as a tensor frame, and the
//! frame that comes back becomes the protocol's answer. Tensors that follow the JSON of a request pass through as they
//! arrive; nothing here waits for the last of them. The function is invoked as any other, with its limits, its place in
//! the metrics and its own fresh instance.

mod admitted;
mod ask;
mod clerk;
mod frame;
mod index;
mod receive;
mod refusal;

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Response};
use mayfly_abi::EXPORT_TENSORS_V1;
use mayfly_core::Outcome;
use mayfly_host::catalog::Entry;
use mayfly_host::exchange::{RequestBody, ResponseBody};
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Inbound;
use mayfly_oip::{Model, ModelPath, Resource};
use serde_json::{Value, json};

use crate::invocation;
use crate::node::Node;
use admitted::Admitted;
use refusal::Refusal;

/// JSON up to here is read on the worker: about a tenth of a millisecond.
const SMALL_JSON: usize = 16 << 10;

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
    if node.catalog.load().is_loading() {
        Box::pin(loaded(node, inbound.parts.uri.path())).await;
    }
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
    invocation::add_id(&mut response, id);
    response
}

/// Waits until the model of a path is loaded, or all of them for a list.
async fn loaded(node: &Node, path: &str) {
    let view = node.catalog.load_full();
    let one = match Resource::parse(path) {
        Some(
            Resource::Model(model)
            | Resource::ModelReady(model)
            | Resource::Infer(model)
            | Resource::Config(model)
            | Resource::Stats(Some(model)),
        ) => Some(model.name),
        Some(Resource::Index | Resource::Stats(None)) => None,
        _ => return,
    };
    for loading in view.loading() {
        if one.is_none_or(|name| loading.record.function.as_str() == name) {
            loading.wait().await;
        }
    }
}

/// What becomes of a request at the first look.
enum Begun {
    Answered(Response<ResponseBody>),
    Admitted(Box<Admitted>),
}

fn begin(node: &Arc<Node>, inbound: Box<Inbound>) -> Result<Begun, Refusal> {
    let path = inbound.parts.uri.path();
    let noted = |revision: Option<&Arc<Revision>>, refusal: Refusal| {
        invocation::refuse(node, &inbound, revision, refusal.outcome.clone(), refusal.told());
        refusal
    };
    let (resource, revision) =
        resource(node, &inbound, path).map_err(|refusal| noted(None, refusal))?;
    let (asked, revision) = match (resource, revision) {
        (Resource::Infer(_), Some(revision)) => {
            let expected = receive::Expected::of(&inbound.parts.headers, revision.limits());
            let expected = expected.map_err(|refusal| noted(Some(&revision), refusal))?;
            (Asked::Infer(expected), revision)
        }
        (Resource::Model(_), Some(revision)) => (Asked::Metadata, revision),
        (Resource::Config(_), Some(revision)) => (Asked::Config, revision),
        (resource, revision) => {
            let answer = known(node, resource, revision.clone())
                .map_err(|refusal| noted(revision.as_ref(), refusal))?;
            invocation::note(node, &inbound, Outcome::Answered);
            return Ok(Begun::Answered(plain(answer.to_string().into())));
        }
    };
    if let (Asked::Metadata | Asked::Config, Some(model)) = (asked, revision.model.get()) {
        invocation::note(node, &inbound, Outcome::Answered);
        return Ok(Begun::Answered(description(&revision, model, asked)));
    }
    Admitted::new(node, revision, &inbound, asked).map(Begun::Admitted)
}

/// What a model is asked for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Metadata,
    Config,
    /// An inference; what the headers say of its body.
    Infer(receive::Expected),
}

/// An answer for which no model has to be asked.
fn known(
    node: &Node,
    resource: Resource<'_>,
    revision: Option<Arc<Revision>>,
) -> Result<Value, Refusal> {
    Ok(match resource {
        Resource::Server => json!({
            "name": "mayfly", "version": env!("CARGO_PKG_VERSION"), "extensions": mayfly_oip::EXTENSIONS,
        }),
        Resource::Live => json!({ "live": true }),
        Resource::Ready if node.is_starting() || node.unready().is_some() => {
            return Err(Outcome::NodeFull.into());
        }
        Resource::Ready => json!({ "ready": true }),
        Resource::ModelReady(model) => json!({ "name": model.name, "ready": true }),
        Resource::Index => index::index(node)?,
        Resource::Stats(_) => index::stats(node, revision)?,
        Resource::Unsupported(why) => return Err(Refusal::new(501, why)),
        Resource::Model(_) | Resource::Config(_) | Resource::Infer(_) => {
            return Err(Outcome::NotFound.into());
        }
    })
}

fn description(revision: &Revision, model: &Model, asked: Asked) -> Response<ResponseBody> {
    let record = &revision.record;
    let name = record.function.as_str();
    let body = match asked {
        Asked::Config => model.config_json(name, revision.limits().concurrency),
        Asked::Metadata | Asked::Infer(_) => model.to_json(name, &record.number.to_string()),
    };
    plain(body.into())
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
        invocation::vet(node, inbound)?;
    }
    let Some(resource) = resource else {
        return Err(Refusal::of(
            Outcome::NotFound,
            "there is no such path in the Open Inference Protocol",
        ));
    };
    let method = &inbound.parts.method;
    if let Some(takes) = resource.method()
        && method != takes
        && !(takes == "GET" && method == Method::HEAD)
    {
        return Err(Refusal::of(Outcome::Unroutable, format!("this path takes {takes}")));
    }
    let model = match resource {
        Resource::Server
        | Resource::Live
        | Resource::Ready
        | Resource::Stats(None)
        | Resource::Index
        | Resource::Unsupported(_) => return Ok((resource, None)),
        Resource::Model(model)
        | Resource::ModelReady(model)
        | Resource::Infer(model)
        | Resource::Config(model)
        | Resource::Stats(Some(model)) => model,
    };
    Ok((resource, Some(find(node, model, &inbound.parts.headers)?)))
}

/// The revision of a model: of the version that is named, or of one that shares its requests.
fn find(
    node: &Arc<Node>,
    model: ModelPath<'_>,
    headers: &HeaderMap,
) -> Result<Arc<Revision>, Refusal> {
    let ModelPath { name, version } = model;
    let view = node.catalog.load();
    let Some(function) = view.function(name) else {
        let name: String = name.chars().take(64).collect();
        return Err(Refusal::of(Outcome::NotFound, format!("there is no model {name:?}")));
    };
    let entry = match version {
        None if !function.has_others() => Some(function.main()),
        None => invocation::choose(node, function, headers).map(|(entry, _)| entry),
        Some(version) => function.reach(version).and_then(|reached| {
            let may = reached.public
                || function.serves(reached.version)
                || invocation::has_token(node, &function.deployment.function, headers);
            function.entry(reached.version).filter(|_| may)
        }),
    };
    let revision = match entry {
        Some(Entry::Ready(revision)) => revision.clone(),
        Some(Entry::Loading(_) | Entry::Preparing(_)) => return Err(Outcome::Preparing.into()),
        None => {
            let served = function.entries().map(|entry| entry.record().number);
            let served = served.filter(|number| function.serves(*number));
            let served: Vec<_> = served.map(|number| number.to_string()).collect();
            let which = match &served[..] {
                [one] => format!("the version {one}"),
                all => format!("the versions {}", all.join(" and ")),
            };
            let why = format!("model {name:?} has {which} and no other");
            return Err(Refusal::of(Outcome::NotFound, why));
        }
    };
    if !is_model(&revision) {
        return Err(Refusal::of(
            Outcome::NotFound,
            format!("{name:?} is a function and no model: call it at /{name}"),
        ));
    }
    Ok(revision)
}

/// Whether a revision is a model: it says so, or was asked and described itself.
pub fn is_model(revision: &Revision) -> bool {
    revision.model.get().is_some()
        || revision.module.pre.module().get_export(EXPORT_TENSORS_V1).is_some()
}

fn plain(body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(body));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
