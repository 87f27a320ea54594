//! Calls from function to function, without a socket: admitted, limited and logged as any other request.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Request, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use mayfly_core::{FunctionName, RequestId};
use mayfly_host::exchange::RequestBody;
use mayfly_host::sandbox::{Hops, Inbound};
use mayfly_outbound::{AnswerBody, CallBody, Code, Fault, Inside};

use crate::invocation;
use crate::node::{Node, Task};

/// Answers calls for as long as the node is there.
pub struct Within(Weak<Node>);

impl Within {
    /// For this node.
    #[must_use]
    pub fn new(node: &Arc<Node>) -> Box<Self> {
        Box::new(Self(Arc::downgrade(node)))
    }
}

impl Inside for Within {
    fn call(
        &self,
        function: FunctionName,
        request: Request<CallBody>,
        hops: u8,
    ) -> Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Fault>> + Send>> {
        let node = self.0.upgrade();
        Box::pin(async move {
            let ended = || Fault::new(Code::Closed, "the node is ending");
            let node = node.ok_or_else(ended)?;
            let inbound = inbound(&function, request, hops)?;
            // A task of its own: its guest's time is not its caller's, and it ends with its caller's call.
            let answered = Task::new(tokio::spawn(async move {
                let (inbound, body) = inbound;
                invocation::within(&node, &function, inbound, body).await
            }));
            let response = answered.join().await.ok_or_else(ended)?;
            let response =
                response.ok_or_else(|| Fault::new(Code::Name, "there is no such function here"))?;
            Ok(response.map(|body| -> AnswerBody { Box::pin(body.map_err(Into::into)) }))
        })
    }
}

/// The call as a request that came in: from this machine, to the function by its name.
fn inbound(
    function: &FunctionName,
    request: Request<CallBody>,
    hops: u8,
) -> Result<(Box<Inbound>, Option<RequestBody>), Fault> {
    let malformed = |_| Fault::new(Code::Name, "the call's path is malformed");
    let (mut parts, body) = request.into_parts();
    parts.uri = Uri::try_from(format!("/{function}{}", parts.uri)).map_err(malformed)?;
    if let Ok(host) = HeaderValue::from_str(function.as_str()) {
        parts.headers.insert(HOST, host);
    }
    if let Some(length) = body.size_hint().exact().filter(|_| !body.is_empty()) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    parts.extensions.insert(Hops(hops));
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut inbound = Inbound::new(parts, here, here, RequestId::from_random(rand::random()));
    inbound.base_len = function.as_str().len() + 1;
    let body: Option<RequestBody> = if body.is_empty() { None } else { Some(Box::pin(body)) };
    Ok((inbound, body))
}
