//! A request to a model from its admission to its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use mayfly_abi::CONTENT_TYPE_TENSORS;
use mayfly_core::Outcome;
use mayfly_core::shares::Grant;
use mayfly_host::exchange::{RequestBody, ResponseBody};
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Inbound;
use mayfly_oip::{Data, Encoded, HEADER_LENGTH, InferRequest, Model};

use super::ask::{describe, forward, guests_answer};
use super::clerk;
use super::frame::FrameBody;
use super::receive::{self, Received};
use super::refusal::Refusal;
use super::{Asked, SMALL_JSON, description, plain};
use crate::hold::Hold;
use crate::invocation::{self, Placed};
use crate::node::Node;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A request to a model that may be received.
pub(super) struct Admitted {
    revision: Arc<Revision>,
    /// The request as the function gets it, without what the client said to the protocol.
    inbound: Box<Inbound>,
    asked: Asked,
    /// One of the node's requests that are being received.
    receiving: Grant,
    /// One of the function's requests: not yet of the first, which has to ask for the model's description.
    placed: Option<Placed>,
    hold: Hold,
}

impl Admitted {
    pub(super) fn new(
        node: &Arc<Node>,
        revision: Arc<Revision>,
        inbound: &Inbound,
        asked: Asked,
    ) -> Result<Box<Self>, Refusal> {
        let client = inbound.remote.ip();
        let mut receiving =
            node.rooms.receiving.grant(Some(revision.shares.receiving.clone()), client);
        if !receiving.grow(1) {
            invocation::note(node, inbound, Outcome::NodeFull);
            return Err(Outcome::NodeFull.into());
        }
        let known = revision.model.get().is_some();
        let placed = known.then(|| Placed::take(node, &revision, inbound)).transpose()?;
        let share = Some(revision.shares.buffers.clone());
        let hold = Hold::new(node.rooms.buffers.grant(share, client));
        let inbound = forward(inbound, &revision, Method::POST, HeaderMap::new());
        Ok(Box::new(Self { revision, inbound, asked, receiving, placed, hold }))
    }

    /// The answer; an inference is counted by then.
    pub(super) async fn answer(
        self: Box<Self>,
        node: &Arc<Node>,
        body: Option<RequestBody>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (revision, arrived) = (self.revision.clone(), self.inbound.arrived);
        let infers = matches!(self.asked, Asked::Infer(_));
        let answered = self.answer_uncounted(node, body).await;
        if infers {
            revision.tally.ended(answered.is_ok(), arrived.elapsed());
        }
        answered
    }

    async fn answer_uncounted(
        mut self: Box<Self>,
        node: &Arc<Node>,
        body: Option<RequestBody>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let model = describe(node, &self.revision, &self.inbound).await?;
        let Asked::Infer(expected) = self.asked else {
            return Ok(description(&self.revision, &model, self.asked));
        };
        let mut placed = match self.placed.take() {
            Some(placed) => placed,
            None => Placed::take(node, &self.revision, &self.inbound)?,
        };
        placed.infers();
        match self.prepare(node, &model, expected, body, &mut placed).await {
            Ok((request, frame)) => self.infer(node, placed, &model, request, frame).await,
            Err(refusal) => {
                placed.refuse(refusal.outcome.clone(), refusal.told());
                Err(refusal)
            }
        }
    }

    /// From a request's body to a checked request and the frame for the guest.
    async fn prepare(
        &mut self,
        node: &Arc<Node>,
        model: &Arc<Model>,
        expected: receive::Expected,
        body: Option<RequestBody>,
        placed: &mut Placed,
    ) -> Result<(InferRequest, FrameBody), Refusal> {
        let limits = self.revision.limits();
        let deadline = self.deadline();
        let began = Instant::now();
        let read = receive::read(expected, body, node.body_idle_timeout, &mut self.hold);
        let late =
            |_| Refusal::of(Outcome::BodyTimeout, "the request's JSON took too long to arrive");
        let read = tokio::time::timeout_at(deadline, read);
        let read = read.await;
        placed.received(began.elapsed());
        let Received { json, after, rest, rest_bytes } = read.map_err(late)??;
        let bounds = mayfly_oip::Bounds {
            binary_bytes: after.iter().map(|part| part.len() as u64).sum::<u64>() + rest_bytes,
            frame_bytes: limits.request_body_bytes,
        };
        // Two characters of JSON make eight bytes of a tensor at the most: taken before they are made.
        let json_bytes = json.len();
        let most = (4 * json_bytes).min(usize::try_from(bounds.frame_bytes).unwrap_or(usize::MAX));
        self.hold.grow(most)?;
        let known = model.clone();
        let parse = move || InferRequest::parse(&json, &known, bounds);
        let (parsed, time) = self.aside(node, json_bytes, parse).await?;
        placed.spend(time);
        let mut request = parsed?;
        self.hold.shrink(json_bytes);
        let head = request.frame_head()?;
        let length = head.len() as u64 + request.data_bytes();
        if length > bounds.frame_bytes {
            let limit_bytes = bounds.frame_bytes;
            return Err(Outcome::RequestTooLarge { limit_bytes }.into());
        }
        let mut parts: Vec<Bytes> = vec![head.into()];
        let mut here = 0;
        for input in &mut request.inputs {
            if let Data::Here(data) = &mut input.data {
                here += data.len();
                parts.push(std::mem::take(data).into());
            }
        }
        self.hold.shrink(most.saturating_sub(here));
        parts.extend(after);
        Ok((request, FrameBody::new(parts, rest, length)))
    }

    async fn infer(
        mut self: Box<Self>,
        node: &Arc<Node>,
        placed: Placed,
        model: &Arc<Model>,
        request: InferRequest,
        frame: FrameBody,
    ) -> Result<Response<ResponseBody>, Refusal> {
        // It has been received: from here on the pool's slots are what it waits for.
        let all = self.receiving.amount();
        self.receiving.shrink(all);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_TENSORS));
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(frame.length()));
        let forwarded = forward(&self.inbound, &self.revision, Method::POST, headers);
        let response = placed.run(node, forwarded, Some(Box::pin(frame))).await;
        let (headers, body) =
            guests_answer(response, CONTENT_TYPE_TENSORS, Some(&mut self.hold)).await?;
        let frame_bytes = body.len();
        let outputs = mayfly_oip::decode_frame(&body)?;
        // A shape that the model has refused is none to make ready.
        if let Some(shapes) = &model.shapes
            && self.revision.met.note(shapes, &request)
        {
            node.met.notify_one();
        }
        drop(body);
        let record = &self.revision.record;
        let (name, version) = (record.function.as_str().to_owned(), record.number.to_string());
        // Taken before it is made, however large its numbers become as text.
        let most = mayfly_oip::most_bytes(&name, &version, &request, model, &outputs);
        self.hold.grow(most)?;
        let known = model.clone();
        let encode = move || mayfly_oip::encode(&name, &version, &request, &known, &outputs);
        let (encoded, _) = self.aside(node, frame_bytes, encode).await?;
        let Encoded { mut body, json_bytes } = encoded?;
        body.shrink_to_fit();
        let Self { mut hold, .. } = *self;
        hold.keep(body.capacity());
        let take_by = receive::take_by(body.len());
        let mut response = plain(hold.around(body));
        response.extensions_mut().insert(take_by);
        if let Some(length) = json_bytes {
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            headers.insert(HeaderName::from_static(HEADER_LENGTH), HeaderValue::from(length));
        }
        if let Some(timing) = headers.get(SERVER_TIMING) {
            response.headers_mut().insert(SERVER_TIMING, timing.clone());
        }
        Ok(response)
    }

    /// Runs what takes a core for a while on the clerks' threads, few at once of one function, and what does not right
    /// here. Gives the CPU time that it took as well.
    async fn aside<T: Send + 'static>(
        &self,
        node: &Arc<Node>,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Duration), Refusal> {
        if bytes <= SMALL_JSON {
            return Ok(clerk::timed(work));
        }
        clerk::aside(node, &self.revision, self.deadline(), work).await
    }

    /// When its function's time is over, which counts from the request's arrival.
    fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.inbound.arrived + self.revision.limits().wall())
    }
}
