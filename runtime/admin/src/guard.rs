//! Who is let in: the right `Host`, no other site's page, a token.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, Version};
use mayfly_core::auth::{Access, Tokens};

use super::problem::Problem;
use super::routes::Need;

/// Refuses what a web page could make a browser send. `hosts` are lower case.
pub(super) fn check_site(
    version: Version,
    headers: &HeaderMap,
    hosts: &[String],
) -> Result<(), Problem> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // Every browser names a host. A load balancer that speaks HTTP/1.0 need not, and does not.
    let named = headers.contains_key(HOST) || version >= Version::HTTP_11;
    if named && !host_allowed(host, hosts) {
        // A name can be made to point here by anyone (DNS rebinding); an address cannot.
        return Err(Problem::new(421, "host", "This Host is not served here")
            .detail("the admin API answers to localhost, to IP addresses and to the names in admin.hosts")
            .hint("call it by its address, or add the name to `admin.hosts`")
            .close());
    }
    let same_site = |origin: &str| origin.strip_prefix("http://").is_some_and(|site| site == host);
    let foreign =
        headers.get_all(ORIGIN).iter().any(|origin| !origin.to_str().is_ok_and(same_site));
    let fetched = headers
        .get("sec-fetch-site")
        .is_some_and(|site| !matches!(site.as_bytes(), b"none" | b"same-origin"));
    if foreign || fetched {
        return Err(Problem::new(403, "origin", "Other sites may not call the admin API")
            .detail("the request comes from a web page of another origin")
            .close());
    }
    Ok(())
}

fn host_allowed(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        // [::1]:3001
        Some(v6) => match v6.split_once(']') {
            Some((address, rest)) if rest.is_empty() || rest.starts_with(':') => address,
            _ => return false,
        },
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.parse::<IpAddr>().is_ok() || hosts.contains(&name)
}

/// Refuses a body that does not say that it is JSON: a page of another site cannot send one that does.
pub(super) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json") {
        return Ok(());
    }
    Err(Problem::new(415, "content-type", "The body has to be JSON")
        .detail("Content-Type is not application/json")
        .close())
}

/// Refuses who lacks the token that a path needs.
pub(super) fn check_access(
    headers: &HeaderMap,
    tokens: &Tokens,
    need: Need,
) -> Result<(), Problem> {
    let given = headers.get(AUTHORIZATION);
    let access = tokens.access(given.map(http::HeaderValue::as_bytes));
    match (need, access) {
        (Need::Nothing, _)
        | (Need::Metrics, Some(Access::Metrics | Access::Full))
        | (Need::Full, Some(Access::Full)) => Ok(()),
        (Need::Full, Some(Access::Metrics)) => {
            Err(Problem::new(403, "token", "This token can read metrics only")
                .hint("use the token in the state directory's file `token`")
                .close())
        }
        (Need::Metrics | Need::Full, None) => {
            let detail = if given.is_some() {
                "the token in `Authorization` is not this node's"
            } else {
                "there is no `Authorization: Bearer ...`"
            };
            Err(Problem::new(401, "token", "A token is needed")
                .detail(detail)
                .hint("it is in the file `token` of the node's state directory")
                .close())
        }
    }
}

/// Refuses the content types that an HTML form can send, which a browser sends anywhere without asking first.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let value = value.to_str().unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(essence.as_str(), "application/wasm" | "application/octet-stream") {
        return Ok(());
    }
    Err(Problem::new(415, "content-type", "A module is sent as application/wasm")
        .detail(format!("the request's Content-Type is {}", mayfly_observe::logs::escape(essence.as_bytes())))
        .hint("with curl: -T module.wasm, or --data-binary @module.wasm -H 'Content-Type: application/wasm'")
        .close())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_hosts() {
        let hosts = vec!["node.example".to_owned()];
        for good in [
            "localhost",
            "LOCALHOST:3001",
            "127.0.0.1:3001",
            "10.1.2.3",
            "[::1]:3001",
            "[::1]",
            "Node.Example:1",
        ] {
            assert!(host_allowed(good, &hosts), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1",
            "[::1]x",
            ":80",
        ] {
            assert!(!host_allowed(bad, &hosts), "{bad}");
        }
    }
}
