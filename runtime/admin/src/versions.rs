//! A function's versions and deployments: what there is, what serves, and what is to serve.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body;
use mayfly_core::FunctionName;
use mayfly_core::deployment::{Percent, Remark, Split, Tag};
use mayfly_core::limits::node;
use mayfly_publish::{Guard, RolloutPlan, Step, Switch};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::AdminState;
use super::body::AdminBody;
use super::guard;
use super::handlers::{self, blocking, no_function};
use super::problem::Problem;
use super::routes::Wish;
use super::view::{DeploymentView, RolloutView, VersionView};

/// `GET .../versions`.
pub(super) async fn versions(
    state: &Arc<AdminState>,
    name: FunctionName,
) -> Result<Response<AdminBody>, Problem> {
    let (control, asked) = (state.control.clone(), name.clone());
    let found = blocking(move || control.inspect(&asked)).await?;
    let (function, history) = found.ok_or_else(|| no_function(&name))?;
    let views: Vec<_> = history.iter().map(|record| VersionView::of(record, &function)).collect();
    Ok(handlers::json(200, &json!({ "name": name, "versions": views })))
}

/// `GET .../deployments`.
pub(super) async fn deployments(
    state: &Arc<AdminState>,
    name: FunctionName,
) -> Result<Response<AdminBody>, Problem> {
    let (control, asked) = (state.control.clone(), name.clone());
    let found = blocking(move || control.deployments(&asked)).await?;
    if found.is_empty() {
        return Err(no_function(&name));
    }
    let views: Vec<_> = found.iter().map(|d| DeploymentView::of(d, &state.gateway)).collect();
    Ok(handlers::json(200, &json!({ "name": name, "deployments": views })))
}

/// `GET .../deployment`: what serves, with its generation as the entity's tag.
pub(super) async fn deployment(
    state: &Arc<AdminState>,
    name: FunctionName,
) -> Result<Response<AdminBody>, Problem> {
    let (control, asked) = (state.control.clone(), name.clone());
    let found = blocking(move || control.inspect(&asked)).await?;
    let (function, _) = found.ok_or_else(|| no_function(&name))?;
    let view = DeploymentView::of(&function.deployment, &state.gateway);
    let view = view.with_token(state.control.preview_token(&name));
    Ok(tagged(handlers::json(200, &view), function.deployment.generation))
}

/// `GET .../rollout`.
pub(super) fn rollout(
    state: &Arc<AdminState>,
    name: &FunctionName,
) -> Result<Response<AdminBody>, Problem> {
    match state.control.rollout(name) {
        Some(rollout) => Ok(handlers::json(200, &RolloutView::of(&rollout))),
        None => Err(no_rollout(name)),
    }
}

/// What changes how a function is served.
pub(super) async fn change<B>(
    state: &Arc<AdminState>,
    name: FunctionName,
    wish: Wish,
    headers: &HeaderMap,
    body: B,
) -> Result<Response<AdminBody>, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let expected = expected(headers)?;
    let body = read(headers, body).await?;
    let (step, message, by) = match wish {
        Wish::Traffic => {
            let Traffic { splits, sticky, message, by } = parse(&body)?;
            let splits = splits.iter().map(Part::split).collect::<Result<_, _>>()?;
            let sticky = sticky.map(|sticky| sticky.parse()).transpose();
            (Step::Traffic { splits, sticky: sticky.map_err(|why| wrong(&why))? }, message, by)
        }
        Wish::Back => {
            let Back { to, message, by } = parse(&body)?;
            (Step::Back { to }, message, by)
        }
        Wish::Tag(tag) => {
            let Tagging { version, public, message, by } = parse(&body)?;
            (Step::Tag { tag: self::tag(&tag)?, version, public }, message, by)
        }
        Wish::Untag(tag) => {
            let Untagging { message, by } = parse(&body)?;
            (Step::Untag(self::tag(&tag)?), message, by)
        }
        Wish::RollOut => return roll_out(state, name, parse(&body)?, expected).await,
        Wish::Halt => return halt(state, name).await,
    };
    let remark = Remark { message, by };
    let switch = Switch { step, expected, remark };
    let (control, asked) = (state.control.clone(), name.clone());
    let switched = blocking(move || control.switch(&asked, switch)).await?;
    let now = &switched.deployment;
    tracing::info!(function = %name, deployment = now.generation, "switched: {}", now.written());
    let answer = json!({
        "name": name,
        "deployment": DeploymentView::of(now, &state.gateway).with_token(state.control.preview_token(&name)),
        "before": DeploymentView::of(&switched.before, &state.gateway),
        "us": u64::try_from(switched.took.as_micros()).unwrap_or(u64::MAX),
    });
    Ok(tagged(handlers::json(200, &answer), now.generation))
}

async fn roll_out(
    state: &Arc<AdminState>,
    name: FunctionName,
    asked: RollOut,
    expected: Option<u64>,
) -> Result<Response<AdminBody>, Problem> {
    let steps = asked.steps.iter().map(percent).collect::<Result<_, _>>()?;
    let guard = asked.guard.map(|guard| guard.parse::<Guard>()).transpose();
    let sticky = asked.sticky.map(|sticky| sticky.parse()).transpose();
    let plan = RolloutPlan {
        to: asked.version,
        steps,
        every_s: asked.every_s,
        guard: guard.map_err(|why| wrong(&why))?.unwrap_or_default(),
        sticky: sticky.map_err(|why| wrong(&why))?,
        remark: Remark { message: asked.message, by: asked.by },
    };
    let (control, asked) = (state.control.clone(), name.clone());
    let rollout = blocking(move || control.roll_out(&asked, plan, expected)).await?;
    tracing::info!(function = %name, version = rollout.plan.to, "a rollout begins");
    Ok(handlers::json(202, &RolloutView::of(&rollout)))
}

async fn halt(state: &Arc<AdminState>, name: FunctionName) -> Result<Response<AdminBody>, Problem> {
    let (control, asked) = (state.control.clone(), name.clone());
    match blocking(move || control.halt(&asked)).await? {
        true => Ok(handlers::json(200, &json!({ "halted": name }))),
        false => Err(no_rollout(&name)),
    }
}

fn no_rollout(name: &FunctionName) -> Problem {
    Problem::new(404, "no-rollout", "No rollout is under way")
        .detail(format!("'{name}' has none, or it has ended"))
        .hint("`mayfly deployments NAME` shows how it ended")
}

/// The generation that a change is to follow.
pub(super) fn expected(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|value| {
        let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
        value.parse().ok()
    });
    number.map(Some).ok_or_else(|| {
        Problem::new(400, "if-match", "If-Match is malformed")
            .detail(
                "it has a deployment's generation between double quotes, as in If-Match: \"11\"",
            )
            .close()
    })
}

fn tagged(mut response: Response<AdminBody>, generation: u64) -> Response<AdminBody> {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{generation}\"")) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

async fn read<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let broken = |why: &dyn std::fmt::Display| {
        Problem::new(400, "body", "The request's body cannot be taken")
            .detail(why.to_string())
            .close()
    };
    let whole = handlers::read_whole(body, node::ADMIN_JSON_BYTES, broken).await?;
    if !whole.is_empty() {
        guard::check_json(headers)?;
    }
    Ok(whole)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|why| {
        let why = mayfly_observe::logs::escape(why.to_string().as_bytes()).to_string();
        Problem::new(422, "body", "The request's body is not what this path takes").detail(why)
    })
}

fn wrong(why: &dyn std::fmt::Display) -> Problem {
    let why = mayfly_observe::logs::escape(why.to_string().as_bytes()).to_string();
    Problem::new(422, "deployment", "A function cannot be served so").detail(why)
}

fn tag(text: &str) -> Result<Tag, Problem> {
    text.parse().map_err(|why| wrong(&why))
}

/// A percentage as a number, or as text.
fn percent(value: &Value) -> Result<Percent, Problem> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.parse().map_err(|why| wrong(&why))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    version: u64,
    percent: Value,
}

impl Part {
    fn split(&self) -> Result<Split, Problem> {
        Ok(Split { version: self.version, percent: percent(&self.percent)? })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Traffic {
    splits: Vec<Part>,
    sticky: Option<String>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    to: Option<u64>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tagging {
    version: u64,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    message: String,
    #[serde(default)]
    by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Untagging {
    #[serde(default)]
    message: String,
    #[serde(default)]
    by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollOut {
    version: u64,
    steps: Vec<Value>,
    every_s: u64,
    guard: Option<String>,
    sticky: Option<String>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    by: String,
}
