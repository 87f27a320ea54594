//! One request as it came in: its head, and what is known of its client.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Version};
use mayfly_core::{RequestId, router};

/// What a trusted proxy said of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Whether the client spoke https; `None` if nobody said.
    pub secure: Option<bool>,
    /// The host, and the port unless it is the scheme's own, as the client named them; `None` if the request's own host
    /// is what it named.
    pub authority: Option<String>,
    /// What a proxy took off the path: empty, or starting with `/` and not ending with one.
    pub prefix: String,
}

/// A request as the gateway hands it to an invocation.
#[derive(Debug)]
pub struct Inbound {
    /// Head, without the body.
    pub parts: Parts,
    /// How many bytes of the path the route took.
    pub base_len: usize,
    /// The client; its port is 0 if a proxy did not say it.
    pub remote: SocketAddr,
    /// What a trusted proxy says of how the client addressed the request.
    pub forwarded: Option<Box<Forwarded>>,
    /// What is wrong with what a trusted proxy says.
    pub misled: Option<&'static str>,
    /// Our own address on this connection.
    pub local: SocketAddr,
    /// Whether this connection is TLS.
    pub over_tls: bool,
    /// Ties the response to its log lines.
    pub request_id: RequestId,
    /// When the head was complete.
    pub arrived: Instant,
}

impl Inbound {
    /// A request whose head is complete now, and whose route is not known yet. On the heap, because it is handed on
    /// from one future to the next, and each would copy its 300 bytes.
    #[must_use]
    pub fn new(
        parts: Parts,
        remote: SocketAddr,
        local: SocketAddr,
        request_id: RequestId,
    ) -> Box<Self> {
        let (base_len, forwarded, misled, over_tls) = (0, None, None, false);
        let arrived = Instant::now();
        Box::new(Self {
            parts,
            base_len,
            remote,
            forwarded,
            misled,
            local,
            over_tls,
            request_id,
            arrived,
        })
    }

    /// The scheme by which the client sent the request, as far as is known.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_secure() { "https" } else { "http" }
    }

    /// Whether the client spoke https: by a trusted proxy's word, or as nobody says otherwise.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        let said = self.forwarded.as_ref().and_then(|forwarded| forwarded.secure);
        said.unwrap_or(self.over_tls)
    }

    /// The host, and the port unless it is the scheme's own, that the client named; empty if none.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        let forwarded = self.forwarded.as_ref().and_then(|f| f.authority.as_deref());
        let target = || self.parts.uri.authority().map(http::uri::Authority::as_str);
        let own = || self.parts.headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
        forwarded.or_else(target).map_or_else(own, str::as_bytes)
    }

    /// The port that the client connected to, if its authority does not name one.
    #[must_use]
    pub fn port(&self) -> u16 {
        let secure = self.forwarded.as_ref().and_then(|forwarded| forwarded.secure);
        secure.map_or(self.local.port(), default_port)
    }

    /// What a trusted proxy took off the path: empty, or starting with `/`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.forwarded.as_ref().map_or("", |forwarded| &forwarded.prefix)
    }

    /// The part of the path that the route took, as it was sent.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.parts.uri.path()[..self.base_len]
    }

    /// The same as the route is written, with nothing encoded.
    #[must_use]
    pub fn route(&self) -> Cow<'_, str> {
        router::normalised(self.base())
    }

    /// Path and query as they were sent; those of an absolute target as well.
    #[must_use]
    pub fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// The part of the path below the route, as it was sent: empty, or starting with `/`.
    #[must_use]
    pub fn below(&self) -> &str {
        &self.parts.uri.path()[self.base_len..]
    }

    /// As in CGI's `SERVER_PROTOCOL`.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match self.parts.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        }
    }
}

/// The port that a URL need not name.
#[must_use]
pub fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}
