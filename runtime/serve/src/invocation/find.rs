//! Whose a request is, and whether it may be looked at at all.

use std::sync::Arc;

use http::Method;
use mayfly_core::limits::node;
use mayfly_core::{FunctionName, Outcome, router};
use mayfly_host::catalog::{Entry, Function, Reached};
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Inbound;

use super::choose::{Mark, has_token, pick};
use crate::node::Node;

/// The revision that a request is for, and what its response is to say of that, if there was a choice.
///
/// # Errors
/// The outcome that says why there is none.
pub(super) fn find(
    node: &Node,
    inbound: &mut Inbound,
) -> Result<(Arc<Revision>, Option<Mark>), Outcome> {
    vet(node, inbound)?;
    let view = node.catalog.load();
    let sent = inbound.parts.uri.path();
    let path = router::normalised(sent);
    let headers = &inbound.parts.headers;
    let may_see =
        |name: &FunctionName, reached: Reached| reached.public || has_token(node, name, headers);
    let found = view.find(&path, || inbound.authority(), may_see).ok_or(Outcome::NotFound)?;
    let base = found.base.len();
    let (entry, mark) = match found.preview {
        Some(entry) => (entry, Some(Mark::of(entry.record().number))),
        None if !found.function.has_others() => (found.function.main(), None),
        None => pick(node, found.function, headers).ok_or(Outcome::NotFound)?,
    };
    let revision = match entry {
        Entry::Ready(revision) => revision.clone(),
        Entry::Loading(_) | Entry::Preparing(_) => return Err(Outcome::Preparing),
    };
    inbound.base_len = router::sent_length(sent, base);
    Ok((revision, mark))
}

/// The revision that a call to a function by its name is for.
///
/// # Errors
/// As above.
pub(super) fn named(
    node: &Node,
    name: &FunctionName,
    inbound: &Inbound,
) -> Result<Arc<Revision>, Outcome> {
    // A node that drains lets what is under way end, the calls of it among that.
    sound(inbound)?;
    router::check_path(inbound.parts.uri.path()).map_err(Outcome::BadRequest)?;
    let view = node.catalog.load();
    let function = view.function(name.as_str()).ok_or(Outcome::NotFound)?;
    let entry = match function.has_others() {
        false => function.main(),
        true => pick(node, function, &inbound.parts.headers).ok_or(Outcome::NotFound)?.0,
    };
    match entry {
        Entry::Ready(revision) => Ok(revision.clone()),
        Entry::Loading(_) | Entry::Preparing(_) => Err(Outcome::Preparing),
    }
}

/// Whether a request may be looked at, whatever it is for.
///
/// # Errors
/// The outcome that says why not.
pub fn vet(node: &Node, inbound: &Inbound) -> Result<(), Outcome> {
    if node.is_draining() {
        return Err(Outcome::Draining);
    }
    sound(inbound)?;
    router::check_path(inbound.parts.uri.path()).map_err(Outcome::BadRequest)
}

/// The same but for its path and what the node does just now.
pub(super) fn sound(inbound: &Inbound) -> Result<(), Outcome> {
    let parts = &inbound.parts;
    if let Some(why) = inbound.misled {
        return Err(Outcome::BadRequest(why));
    }
    // Hyper counts those of HTTP/1 only.
    if parts.headers.len() > node::REQUEST_HEADERS {
        return Err(Outcome::HeadersTooMany);
    }
    let served = parts.method != Method::CONNECT && parts.method != Method::TRACE;
    if !served || parts.method.as_str().len() > node::METHOD_BYTES {
        return Err(Outcome::Unroutable);
    }
    if parts.uri.path_and_query().is_some_and(|p| p.as_str().len() > node::URI_BYTES) {
        return Err(Outcome::UriTooLong);
    }
    check_host(parts).map_err(Outcome::BadRequest)
}

/// One host, named once or twice alike: whoever routes or filters by it upstream must have seen the same one.
fn check_host(parts: &http::request::Parts) -> Result<(), &'static str> {
    if parts.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err("the target's scheme is neither http nor https");
    }
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    let host = hosts.next().map(http::HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err("there is more than one Host header");
    }
    let target = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (target, host) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => {
            Err("the target and the Host header name different hosts")
        }
        (Some(host), _) | (None, Some(host)) => router::check_host(host),
        (None, None) if parts.version == http::Version::HTTP_11 => Err("there is no Host header"),
        (None, None) => Ok(()),
    }
}

/// Waits until the function of a path is loaded, if it is there and is not.
pub(super) async fn loaded(node: &Node, inbound: &Inbound) {
    let path = router::normalised(inbound.parts.uri.path());
    let function = node
        .catalog
        .load()
        .find(&path, || inbound.authority(), |_, _| true)
        .map(|found| found.function.clone());
    for entry in function.iter().flat_map(Function::entries) {
        if let Entry::Loading(loading) = entry {
            loading.wait().await;
        }
    }
}
