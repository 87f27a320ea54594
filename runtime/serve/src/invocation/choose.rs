//! Which of a function's versions a request gets, where there is more than one.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response};
use mayfly_core::FunctionName;
use mayfly_core::deployment::{self, Bucket, Sticky};
use mayfly_host::catalog::{Entry, Function};
use mayfly_host::exchange::ResponseBody;
use mayfly_host::sandbox::head::{PREVIEW, VERSION};
use rand::RngCore as _;

use crate::node::Node;

/// What the response says of the choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    version: u64,
    /// The client's bucket, if it is new.
    cookie: Option<Bucket>,
}

impl Mark {
    pub(super) fn of(version: u64) -> Self {
        Self { version, cookie: None }
    }

    pub(super) fn put(self, response: &mut Response<ResponseBody>) {
        let headers = response.headers_mut();
        headers.insert(VERSION, HeaderValue::from(self.version));
        let Some(bucket) = self.cookie else { return };
        let name = deployment::COOKIE;
        let cookie = format!("{name}={}; Path=/; HttpOnly; SameSite=Lax", bucket.number());
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

/// The version of a function for a request that names none in its path; nothing if it names one that is not there, and
/// may.
pub fn choose<'f>(
    node: &Node,
    function: &'f Function,
    headers: &HeaderMap,
) -> Option<(&'f Entry, Option<Bucket>)> {
    if let Some(asked) = headers.get(VERSION) {
        let reached = asked.to_str().ok().and_then(|asked| function.reach(asked));
        let has_token = || has_token(node, &function.deployment.function, headers);
        match reached {
            Some(reached) if reached.public || has_token() => {
                return function.entry(reached.version).map(|entry| (entry, None));
            }
            // Who may ask for one must not take another's answer for it.
            None if has_token() => return None,
            _ => {}
        }
    }
    if !function.is_split() {
        return Some((function.main(), None));
    }
    let (bucket, new) = bucket(function, headers);
    let entry = function.choose(bucket);
    Some((if is_ready(entry) { entry } else { instead(function, entry) }, new))
}

/// The same, with what the response is to say of it.
pub(super) fn pick<'f>(
    node: &Node,
    function: &'f Function,
    headers: &HeaderMap,
) -> Option<(&'f Entry, Option<Mark>)> {
    let (entry, cookie) = choose(node, function, headers)?;
    Some((entry, Some(Mark { version: entry.record().number, cookie })))
}

/// Whether a request has the token for a function's previews.
pub fn has_token(node: &Node, function: &FunctionName, headers: &HeaderMap) -> bool {
    let Some(key) = &node.previews else { return false };
    headers.get(PREVIEW).is_some_and(|given| key.opens(function, given.as_bytes()))
}

/// The part of the requests that one belongs to, and whether its client is to be told.
fn bucket(function: &Function, headers: &HeaderMap) -> (Bucket, Option<Bucket>) {
    let drawn = || Bucket::drawn(rand::rng().next_u64());
    let of_key = |key: &[u8]| Bucket::of_key(&function.deployment.function, key);
    match &function.deployment.sticky {
        Sticky::None => (drawn(), None),
        Sticky::Header(name) => {
            let key = headers.get(name).map(|value| of_key(value.as_bytes()));
            (key.unwrap_or_else(drawn), None)
        }
        Sticky::Cookie(name) => {
            let key = cookie(headers, name.as_bytes()).map(of_key);
            (key.unwrap_or_else(drawn), None)
        }
        Sticky::OwnCookie => {
            let own = cookie(headers, deployment::COOKIE.as_bytes());
            match own.and_then(Bucket::from_text) {
                Some(bucket) => (bucket, None),
                None => {
                    let new = drawn();
                    (new, Some(new))
                }
            }
        }
    }
}

/// The first cookie of a name.
fn cookie<'h>(headers: &'h HeaderMap, name: &[u8]) -> Option<&'h [u8]> {
    let all = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    all.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

/// Another version that shares the requests, while the chosen one is made anew: an answer of the version before is better
/// than none.
fn instead<'f>(function: &'f Function, chosen: &'f Entry) -> &'f Entry {
    let serves = |entry: &&Entry| is_ready(entry) && function.serves(entry.record().number);
    match chosen {
        Entry::Preparing(_) => function.entries().find(serves).unwrap_or(chosen),
        Entry::Ready(_) | Entry::Loading(_) => chosen,
    }
}

fn is_ready(entry: &Entry) -> bool {
    matches!(entry, Entry::Ready(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; mayfly-split=42;b=2"));
        headers.append(COOKIE, HeaderValue::from_static("xmayfly-split=7; c=3"));
        let get = |name: &str| cookie(&headers, name.as_bytes());
        assert_eq!(get("mayfly-split"), Some(&b"42"[..]));
        assert_eq!(
            (get("a"), get("b"), get("c")),
            (Some(&b"1"[..]), Some(&b"2"[..]), Some(&b"3"[..]))
        );
        assert_eq!((get("mayfly"), get("d"), get("")), (None, None, None));
    }

    #[test]
    fn a_response_says_which_version_answered_beside_what_the_guest_says() {
        let mut response = Response::new(ResponseBody::Whole(bytes::Bytes::new()));
        response.headers_mut().append(SET_COOKIE, HeaderValue::from_static("own=1"));
        response.headers_mut().append(VERSION, HeaderValue::from_static("99"));
        Mark { version: 7, cookie: Bucket::from_text(b"12") }.put(&mut response);
        let headers = response.headers();
        assert_eq!(headers.get_all(VERSION).iter().collect::<Vec<_>>(), ["7"]);
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies, ["own=1", "mayfly-split=12; Path=/; HttpOnly; SameSite=Lax"]);
    }
}
