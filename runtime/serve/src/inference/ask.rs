//! What is asked of a model's function, and how it answers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method, Response, Uri};
use http_body_util::BodyExt as _;
use mayfly_abi::CONTENT_TYPE_MODEL;
use mayfly_core::Outcome;
use mayfly_core::limits::node as limits;
use mayfly_host::exchange::ResponseBody;
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Inbound;
use mayfly_oip::Model;

use super::refusal::Refusal;
use super::{SMALL_JSON, clerk};
use crate::hold::Hold;
use crate::invocation::Placed;
use crate::node::Node;

/// What a revision's model takes and gives: asked of the function once, at its first use.
pub(super) async fn describe(
    node: &Arc<Node>,
    revision: &Arc<Revision>,
    inbound: &Inbound,
) -> Result<Arc<Model>, Refusal> {
    // Who waits for another one's question has its own time.
    let deadline = tokio::time::Instant::from_std(inbound.arrived + revision.limits().wall());
    let ask = || async {
        let request = forward(inbound, revision, Method::GET, HeaderMap::new());
        let placed = Placed::take(node, revision, &request)?;
        let response = placed.run(node, request, None).await;
        let (_, body) = guests_answer(response, CONTENT_TYPE_MODEL, None).await?;
        let small = body.len() <= SMALL_JSON;
        let parse = move || Model::parse(&body);
        let model =
            if small { parse() } else { clerk::aside(node, revision, deadline, parse).await?.0 };
        Ok(Arc::new(model?))
    };
    let late = |_| Refusal::of(Outcome::NodeFull, "the model has not described itself in time");
    let known = tokio::time::timeout_at(deadline, revision.model.get_or_try_init(ask));
    known.await.map_err(late)?.cloned()
}

/// A request of ours to the function: the client's, without what the client said to the protocol.
pub(super) fn forward(
    inbound: &Inbound,
    revision: &Revision,
    method: Method,
    mut headers: HeaderMap,
) -> Box<Inbound> {
    const KEPT: [HeaderName; 3] =
        [HOST, HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
    for name in KEPT {
        if let Some(value) = inbound.parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let mut parts = http::Request::new(()).into_parts().0;
    let name = &revision.record.function;
    parts.method = method;
    // A function's name is a path without any escape.
    parts.uri = Uri::try_from(format!("/{name}/")).unwrap_or_default();
    parts.version = inbound.parts.version;
    parts.headers = headers;
    let base_len = parts.uri.path().len() - 1;
    let Inbound { remote, misled, local, over_tls, request_id, arrived, .. } = *inbound;
    let forwarded = inbound.forwarded.clone();
    Box::new(Inbound {
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

/// The whole body of a function's answer, if it is one of this kind; without a hold, one that may only be short.
pub(super) async fn guests_answer(
    response: Response<ResponseBody>,
    kind: &'static str,
    mut hold: Option<&mut Hold>,
) -> Result<(HeaderMap, Bytes), Refusal> {
    let (head, body) = response.into_parts();
    let long = || {
        let most = limits::INFERENCE_METADATA_BYTES;
        let long = format!("the model describes itself in more than {most} bytes");
        Refusal::broken(long)
    };
    let body = match body {
        ResponseBody::Whole(bytes) => {
            match &mut hold {
                Some(hold) => hold.grow(bytes.len())?,
                None if bytes.len() > limits::INFERENCE_METADATA_BYTES => return Err(long()),
                None => {}
            }
            bytes
        }
        ResponseBody::Streamed(streamed) => {
            let mut body = ResponseBody::Streamed(streamed);
            let mut all = Vec::new();
            while let Some(frame) = body.frame().await {
                let broken = |_| Refusal::broken("the model's function failed while it answered");
                let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
                match &mut hold {
                    Some(hold) => hold.extend(&mut all, &data, usize::MAX)?,
                    None if all.len() + data.len() > limits::INFERENCE_METADATA_BYTES => {
                        return Err(long());
                    }
                    None => all.extend_from_slice(&data),
                }
            }
            all.into()
        }
    };
    if !head.status.is_success() {
        let retry_after = head.headers.get(RETRY_AFTER).cloned();
        return Err(Refusal::from_problem(head.status.as_u16(), &body, retry_after));
    }
    if head.headers.get(CONTENT_TYPE).is_none_or(|given| given != kind) {
        return Err(Refusal::broken(format!("the model's function did not answer with {kind}")));
    }
    Ok((head.headers, body))
}
