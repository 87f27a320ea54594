//! `/v1/secrets`: names go both ways, values in only.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response};
use http_body::Body;
use mayfly_core::limits::node;
use mayfly_observe::clock::date;
use serde_json::json;

use super::AdminState;
use super::body::AdminBody;
use super::handlers::{self, blocking};
use super::problem::Problem;

/// `GET /v1/secrets`.
pub(super) fn list(state: &AdminState) -> Response<AdminBody> {
    let one = |secret: mayfly_publish::Secret| {
        json!({
            "name": secret.name, "set": date(secret.set_unix_s).to_string(), "file": secret.is_file,
            "fault": secret.fault, "functions": secret.users,
        })
    };
    let all: Vec<_> = state.control.secrets().into_iter().map(one).collect();
    handlers::json(200, &json!({ "secrets": all }))
}

/// `PUT /v1/secrets/{name}`: the body is the value, byte for byte.
pub(super) async fn set<B>(
    state: &Arc<AdminState>,
    name: String,
    headers: &HeaderMap,
    body: B,
) -> Result<Response<AdminBody>, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // A page of another site cannot send this type without being asked about first.
    if headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/octet-stream") {
        return Err(Problem::new(415, "content-type", "The body has to be the value alone")
            .detail("Content-Type is not application/octet-stream")
            .close());
    }
    // What is wrong with a body may have a part of it in its words.
    let broken = |_: &dyn std::fmt::Display| {
        Problem::new(422, "secret", "A secret has at most 64 KiB").close()
    };
    let whole = handlers::read_whole(body, node::SECRET_BYTES + 1, broken).await?;
    let value = String::from_utf8(whole.to_vec())
        .map_err(|_| Problem::new(422, "secret", "A secret has to be UTF-8"))?;
    let (control, asked) = (state.control.clone(), name.clone());
    blocking(move || control.set_secret(&asked, &value)).await?;
    tracing::info!(secret = name, "a secret is set");
    Ok(handlers::json(200, &json!({ "set": name })))
}

/// `DELETE /v1/secrets/{name}`.
pub(super) async fn remove(
    state: &Arc<AdminState>,
    name: String,
) -> Result<Response<AdminBody>, Problem> {
    let (control, asked) = (state.control.clone(), name.clone());
    match blocking(move || control.remove_secret(&asked)).await? {
        true => {
            tracing::info!(secret = name, "a secret is removed");
            Ok(handlers::json(200, &json!({ "removed": name })))
        }
        false => Err(Problem::new(404, "no-secret", "No such secret")
            .detail(format!("'{}' is not set", mayfly_observe::logs::escape(name.as_bytes())))
            .hint("`mayfly secret list` shows what is")),
    }
}
