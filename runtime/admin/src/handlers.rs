//! From a request to a response.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use mayfly_core::FunctionName;
use mayfly_core::limits::node;
use mayfly_observe::logs::{Followed, Follower};
use serde::Serialize;
use tokio::sync::mpsc;

use super::AdminState;
use super::body::AdminBody;
use super::control::{Refused, Removed};
use super::problem::Problem;
use super::routes::{Action, Need, route};
use super::view::FunctionView;
use super::{guard, profile, secrets, settings, upload, versions};

/// The API's description, as `docs/openapi.json` has it.
const DESCRIPTION: &str = include_str!("../../../docs/openapi.json");

/// Between two empty lines to a follower that has nothing to read: they find out who is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Answers one request. Never fails: a refusal is a response.
pub async fn handle<B>(state: &Arc<AdminState>, request: Request<B>) -> Response<AdminBody>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut response = admit(state, request).await.unwrap_or_else(Problem::response);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn admit<B>(
    state: &Arc<AdminState>,
    request: Request<B>,
) -> Result<Response<AdminBody>, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    guard::check_site(head.version, &head.headers, &state.hosts)?;
    let action = route(&head.method, head.uri.path());
    // What does not exist is told only to who has a token.
    let need = action.as_ref().map_or(Need::Full, Action::need);
    guard::check_access(&head.headers, &state.tokens, need)?;
    let action = action?;
    if !matches!(action, Action::Deploy(_) | Action::Change(..) | Action::SetSecret(_)) {
        // Nothing else takes a body. A small one is let go by, a large one closes the connection.
        let size = body.size_hint().upper().unwrap_or(u64::MAX);
        if size > node::ADMIN_BODY_BYTES as u64 {
            return Err(Problem::new(413, "body", "This path takes no body").close());
        }
    }
    if action.changes() {
        check_restored(state)?;
    }
    let query = head.uri.query();
    match action {
        Action::Health => Ok(text("ok\n")),
        Action::Options => Ok(options()),
        Action::Ready => ready(state),
        Action::Metrics => Ok(metrics(state)),
        Action::Description => Ok(whole(200, "application/json", DESCRIPTION)),
        Action::Node => Ok(node_info(state)),
        Action::List => list(state).await,
        Action::Inspect(name) => inspect(state, name).await,
        Action::Deploy(name) => upload::deploy(state, name, query, &head.headers, body).await,
        Action::Remove(name) => remove(state, name).await,
        Action::Logs(name) => logs(state, name, query).await,
        Action::Secrets => Ok(secrets::list(state)),
        Action::SetSecret(name) => secrets::set(state, name, &head.headers, body).await,
        Action::RemoveSecret(name) => secrets::remove(state, name).await,
        Action::Versions(name) => versions::versions(state, name).await,
        Action::Deployments(name) => versions::deployments(state, name).await,
        Action::Deployment(name) => versions::deployment(state, name).await,
        Action::Rollout(name) => versions::rollout(state, &name),
        Action::Change(name, wish) => {
            versions::change(state, name, wish, &head.headers, body).await
        }
        Action::Profile(name) => profile(state, name, query).await,
    }
}

/// What is deployed is not known before: a name's revisions, and whose a route is.
fn check_restored(state: &AdminState) -> Result<(), Problem> {
    if state.restored.load(Ordering::Acquire) {
        return Ok(());
    }
    Err(Problem::new(503, "starting", "The node is starting")
        .detail("it looks at what was deployed before; until then nothing can be changed")
        .hint("retry in a few seconds")
        .close())
}

fn ready(state: &AdminState) -> Result<Response<AdminBody>, Problem> {
    if !state.ready.load(Ordering::Acquire) {
        return Err(Problem::new(503, "not-ready", "The node is starting or shutting down"));
    }
    match (state.unready)() {
        None => Ok(text("ready\n")),
        Some(why) => {
            Err(Problem::new(503, "overwhelmed", "The node cannot answer requests now").detail(why))
        }
    }
}

fn metrics(state: &AdminState) -> Response<AdminBody> {
    whole(200, "text/plain; version=0.0.4; charset=utf-8", state.metrics.text())
}

#[derive(Serialize)]
struct NodeInfo {
    version: &'static str,
    gateway: String,
    ready: bool,
}

fn node_info(state: &AdminState) -> Response<AdminBody> {
    let info = NodeInfo {
        version: env!("CARGO_PKG_VERSION"),
        gateway: state.gateway.clone(),
        ready: state.ready.load(Ordering::Acquire),
    };
    json(200, &info)
}

async fn list(state: &Arc<AdminState>) -> Result<Response<AdminBody>, Problem> {
    let control = state.control.clone();
    let functions = blocking(move || control.list()).await?;
    let views: Vec<_> = functions.iter().map(|f| FunctionView::of(f, &state.gateway)).collect();
    Ok(json(200, &serde_json::json!({ "functions": views })))
}

async fn inspect(
    state: &Arc<AdminState>,
    name: FunctionName,
) -> Result<Response<AdminBody>, Problem> {
    let summary = state.metrics.summary(name.as_str());
    let control = state.control.clone();
    let asked = name.clone();
    let found = blocking(move || control.inspect(&asked)).await?;
    let (function, history) = found.ok_or_else(|| no_function(&name))?;
    let view = FunctionView::of(&function, &state.gateway).with_details(summary, &history);
    Ok(json(200, &view))
}

async fn remove(
    state: &Arc<AdminState>,
    name: FunctionName,
) -> Result<Response<AdminBody>, Problem> {
    let control = state.control.clone();
    let asked = name.clone();
    let removed = blocking(move || control.remove(&asked)).await?;
    let removed = removed.ok_or_else(|| no_function(&name))?;
    let Removed { under_way, wall, routes, configured_routes, returns } = removed;
    tracing::info!(function = %name, under_way, "removed");
    let wall = mayfly_core::units::format_duration(wall);
    let answer = serde_json::json!({
        "removed": name, "under_way": under_way, "wall": wall, "routes": routes,
        "configured_routes": configured_routes, "returns": returns,
    });
    Ok(json(200, &answer))
}

async fn logs(
    state: &Arc<AdminState>,
    name: FunctionName,
    query: Option<&str>,
) -> Result<Response<AdminBody>, Problem> {
    let (mut tail, mut follow) = (100, false);
    for (key, value) in settings::parameters(query)? {
        let wrong = || {
            Problem::new(400, "query", "The query is malformed")
                .detail("tail takes a number, follow takes 1 or 0")
        };
        match (key.as_str(), value.as_str()) {
            ("tail", n) => tail = n.parse().map_err(|_| wrong())?,
            ("follow", "" | "1" | "true") => follow = true,
            ("follow", "0" | "false") => follow = false,
            ("follow", _) => return Err(wrong()),
            (other, _) => return Err(settings::unknown(other, "tail and follow")),
        }
    }
    let control = state.control.clone();
    let asked = name.clone();
    if blocking(move || control.inspect(&asked)).await?.is_none() {
        return Err(no_function(&name));
    }
    let (entries, follower) = state.logs.read(&name, tail, follow).map_err(|why| {
        Problem::new(503, "log-followers", "Too many log followers").detail(why.to_string())
    })?;
    let mut kept = String::new();
    for entry in entries {
        kept.push_str(&entry.to_json());
        kept.push('\n');
    }
    const LINES: &str = "application/x-ndjson";
    let Some(follower) = follower else { return Ok(whole(200, LINES, kept)) };
    let (lines, receiver) = mpsc::channel(node::LOG_FOLLOWER_QUEUE);
    // There is room: the channel is new.
    let _ = lines.try_send(kept.into());
    tokio::spawn(feed(follower, lines));
    let mut response = whole(200, LINES, "");
    *response.body_mut() = AdminBody::Lines(receiver);
    Ok(response)
}

/// Waits here for the profile's time. A client that goes away takes this future with it, and with that the profile.
async fn profile(
    state: &Arc<AdminState>,
    name: FunctionName,
    query: Option<&str>,
) -> Result<Response<AdminBody>, Problem> {
    let time = profile::time(query)?;
    let control = state.control.clone();
    let asked = name.clone();
    let running = blocking(move || control.profile(&asked)).await?;
    let running = running.ok_or_else(|| no_function(&name))?;
    tracing::info!(function = %name, ?time, "a profile begins");
    tokio::time::sleep(time).await;
    let profile = blocking(move || running.finish()).await?;
    Ok(json(200, &profile))
}

/// Passes lines on until the client or the function is gone.
async fn feed(mut follower: Follower, lines: mpsc::Sender<Bytes>) {
    loop {
        let followed = tokio::select! {
            () = lines.closed() => return,
            followed = tokio::time::timeout(HEARTBEAT, follower.next()) => followed,
        };
        let line = match followed {
            Err(_) => "\n".to_owned(),
            Ok(Followed::Entry(entry)) => entry.to_json() + "\n",
            Ok(Followed::Gap(lost)) => {
                format!(
                    "{{\"message\":\"the reader is too slow: lines left out\",\"gap\":{lost}}}\n"
                )
            }
            Ok(Followed::End) => return,
        };
        if lines.send(line.into()).await.is_err() {
            return;
        }
    }
}

/// A request's body of at most so many bytes, whole and in time; `broken` says what is wrong with one that is not had.
pub(super) async fn read_whole<B>(
    body: B,
    most: usize,
    broken: impl FnOnce(&dyn std::fmt::Display) -> Problem,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = Limited::new(body, most).collect();
    let whole = tokio::time::timeout(node::BODY_IDLE_TIMEOUT, whole).await;
    let late = |_| Problem::new(408, "body", "The request's body took too long").close();
    Ok(whole.map_err(late)?.map_err(|why| broken(&why))?.to_bytes())
}

/// Runs what may wait for a disk or a child process away from the listener's thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Problem::from),
        Err(panicked) => {
            tracing::error!(%panicked, "an admin request panicked");
            Err(Problem::new(500, "internal", "Mayfly failed")
                .hint("this is a bug in Mayfly: please report it with the node's log"))
        }
    }
}

pub(super) fn no_function(name: &FunctionName) -> Problem {
    Problem::new(404, "no-function", "No such function")
        .detail(format!("'{name}' is not deployed"))
        .hint("`mayfly list` shows what is")
}

/// What this listener can do at all (RFC 9110, 9.3.7).
fn options() -> Response<AdminBody> {
    let mut response = whole(204, "text/plain; charset=utf-8", "");
    response.headers_mut().remove(header::CONTENT_TYPE);
    let methods = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE, OPTIONS");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

fn text(body: &'static str) -> Response<AdminBody> {
    whole(200, "text/plain; charset=utf-8", body)
}

pub(super) fn json(status: u16, value: &impl Serialize) -> Response<AdminBody> {
    match serde_json::to_vec(value) {
        Ok(body) => whole(status, "application/json", body),
        Err(error) => {
            tracing::error!(%error, "a response could not be written");
            Problem::new(500, "internal", "Mayfly failed").response()
        }
    }
}

fn whole(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<AdminBody> {
    let mut response = Response::new(AdminBody::Whole(Some(body.into())));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
