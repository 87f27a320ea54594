//! What one version of a function may call, and what is added to its calls.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use mayfly_core::FunctionName;
use mayfly_core::limits::outbound;
use mayfly_core::outbound::{EdgeHeader, Rules, Scheme, Target};

use crate::client::{Client, Waiting};
use crate::fault::{Code, Fault};
use crate::fetch::Fetch;
use crate::pool::Pool;
use crate::send::send;
use crate::upload::CallBody;

/// A call that a guest wants to make.
#[derive(Debug)]
pub struct Call {
    /// How.
    pub method: Method,
    /// Where to.
    pub target: Target,
    /// Of the guest's own; what is the host's is dropped.
    pub headers: HeaderMap,
    /// Until its answer is read whole.
    pub timeout: Option<Duration>,
    /// How many calls of functions this one is within.
    pub hops: u8,
}

/// What a version may call.
pub struct Access {
    client: Arc<Client>,
    function: FunctionName,
    rules: Rules,
    edges: Vec<Edge>,
    /// Their values as secrets are now, in the same order.
    values: ArcSwap<Vec<Option<HeaderValue>>>,
    pool: Arc<Pool>,
}

struct Edge {
    origin: Target,
    name: HeaderName,
    header: EdgeHeader,
}

impl Access {
    /// What a deploy said, which was checked then.
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        function: &FunctionName,
        rules: Rules,
        headers: &[EdgeHeader],
    ) -> Arc<Self> {
        let edge = |header: &EdgeHeader| {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            Some(Edge { origin: header.target().ok()?, name, header: header.clone() })
        };
        let edges: Vec<_> = headers.iter().filter_map(edge).collect();
        let pool = client.pool(function);
        let access = Self {
            client,
            function: function.clone(),
            rules,
            edges,
            values: ArcSwap::default(),
            pool,
        };
        access.set_secrets(|_| None);
        Arc::new(access)
    }

    /// Puts these secrets into its headers from the next call on.
    pub fn set_secrets(&self, secret: impl Fn(&str) -> Option<String>) {
        let values = self.edges.iter().map(|edge| edge.header.resolve(&secret)).collect();
        self.values.store(Arc::new(values));
    }

    /// Takes one of the slots that may wait for others.
    ///
    /// # Errors
    /// When there is none.
    pub fn wait(&self) -> Result<Waiting, Fault> {
        self.client.wait()
    }

    /// Whether a call is allowed, by the function's own list and the node's.
    ///
    /// # Errors
    /// [`Code::Denied`], with what would allow it.
    pub fn check(&self, method: &str, target: &Target) -> Result<(), Fault> {
        if !self.rules.allow(method, target) {
            return Err(denied(method, target));
        }
        self.client.ceiling(method, target).map_err(|why| {
            let words = format!("{method} {} is not allowed on this node: {why}", target.origin());
            Fault::new(Code::Denied, words)
        })
    }

    /// Begins a call.
    ///
    /// # Errors
    /// [`Fault`] if it is not to be made at all.
    pub fn fetch(&self, call: Call, body: CallBody) -> Result<Fetch, Fault> {
        let Call { method, target, mut headers, timeout, hops } = call;
        self.check(method.as_str(), &target)?;
        self.add_edges(&target, &mut headers)?;
        let upload = match &body {
            CallBody::Whole(_) => None,
            CallBody::Stream(upload) => Some(upload.clone()),
        };
        if target.scheme == Scheme::Mayfly {
            return self.call_inside(method, target, headers, timeout, hops, body, upload);
        }
        let authority = target.authority();
        let host = HeaderValue::from_str(&authority).map_err(|_| malformed("host"))?;
        headers.insert(HOST, host);
        if !headers.contains_key(USER_AGENT) {
            headers.insert(
                USER_AGENT,
                HeaderValue::from_static(concat!("mayfly/", env!("CARGO_PKG_VERSION"))),
            );
        }
        let uri = target.path_and_query.parse().map_err(|_| malformed("path"))?;
        let request = request(method, uri, headers, body);
        let (client, pool) = (self.client.clone(), self.pool.clone());
        let sent = send(client, pool, Arc::new(target), request);
        Ok(Fetch::new(Box::pin(sent), upload, timeout))
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one call, once")]
    fn call_inside(
        &self,
        method: Method,
        target: Target,
        headers: HeaderMap,
        timeout: Option<Duration>,
        hops: u8,
        body: CallBody,
        upload: Option<crate::upload::Upload>,
    ) -> Result<Fetch, Fault> {
        let hops = hops.saturating_add(1);
        if hops > outbound::OUTBOUND_HOPS {
            let words = format!(
                "{} is called within {} calls of functions already, the most that there may be",
                target.host,
                outbound::OUTBOUND_HOPS
            );
            return Err(Fault::new(Code::Loop, words));
        }
        let none =
            || Fault::new(Code::Name, format!("there is no function '{}' here", target.host));
        let function = FunctionName::new(&target.host).map_err(|_| none())?;
        let inside = self.client.inside().ok_or_else(none)?;
        let uri = target.path_and_query.parse().map_err(|_| malformed("path"))?;
        let request = request(method, uri, headers, body);
        tracing::trace!(from = %self.function, to = %function, hops, "a call within the node");
        Ok(Fetch::new(inside.call(function, request, hops), upload, timeout))
    }

    fn add_edges(&self, target: &Target, headers: &mut HeaderMap) -> Result<(), Fault> {
        if self.edges.is_empty() {
            return Ok(());
        }
        let values = self.values.load();
        for (edge, value) in self.edges.iter().zip(values.iter()) {
            let origin = &edge.origin;
            if origin.scheme != target.scheme
                || origin.host != target.host
                || origin.port != target.port
            {
                continue;
            }
            let Some(value) = value else {
                let words = format!(
                    "a secret of its header '{}' is missing, or cannot be in a header: `mayfly secret list` shows which",
                    edge.name
                );
                return Err(Fault::new(Code::Denied, words));
            };
            headers.insert(edge.name.clone(), value.clone());
        }
        Ok(())
    }
}

/// The refusal of a call that no rule allows, with the flag that would.
#[must_use]
pub fn denied(method: &str, target: &Target) -> Fault {
    let origin = target.origin();
    let origin = if target.scheme == Scheme::Mayfly { format!("{origin}/...") } else { origin };
    let words = format!("{method} {origin} is not allowed: deploy with --outbound '{origin}'");
    Fault::new(Code::Denied, words)
}

fn malformed(what: &str) -> Fault {
    Fault::new(Code::Name, format!("the call's {what} is malformed"))
}

fn request(
    method: Method,
    uri: http::Uri,
    headers: HeaderMap,
    body: CallBody,
) -> Request<CallBody> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    *request.version_mut() = Version::HTTP_11;
    request
}
