//! The one record of an invocation: written once, however it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use mayfly_core::limits::node;
use mayfly_core::{Outcome, RequestId};
use mayfly_host::exchange::{Exchange, Verdict};
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Inbound;
use mayfly_observe::logs::InvocationRecord;
use mayfly_observe::metrics::PhaseTimes;

use super::nanos;
use crate::node::Node;

/// What a request was answered with in place of its outcome's words, by who speaks another protocol.
#[derive(Debug)]
pub struct Told {
    /// The response's status.
    pub status: u16,
    /// Why; for the log, cut.
    pub why: String,
}

/// An open record. Dropped without being closed, it says how the guest ended, or that the client went away.
pub struct Ledger {
    node: Arc<Node>,
    revision: Option<Arc<Revision>>,
    exchange: Option<Arc<Exchange>>,
    method: http::Method,
    /// A counter on the request's head, in case that there is something to say of it.
    target: Option<PathAndQuery>,
    client: std::net::IpAddr,
    /// For log lines and problem bodies.
    pub request_id: RequestId,
    arrived: Instant,
    queue_ns: u64,
    receive_ns: u64,
    spent: Duration,
    /// Whether it is an inference over the protocol, which its revision tallies.
    inference: bool,
    /// Of few requests: boxed, for the others' sake.
    told: Option<Box<Told>>,
    closed: bool,
}

impl Ledger {
    /// Opens the record of a request.
    pub fn open(node: &Arc<Node>, inbound: &Inbound) -> Self {
        node.metrics.active_requests.inc();
        Self {
            node: node.clone(),
            revision: None,
            exchange: None,
            method: short(&inbound.parts.method),
            target: inbound.parts.uri.path_and_query().cloned(),
            client: inbound.remote.ip().to_canonical(),
            request_id: inbound.request_id,
            arrived: inbound.arrived,
            queue_ns: 0,
            receive_ns: 0,
            spent: Duration::ZERO,
            inference: false,
            told: None,
            closed: false,
        }
    }

    /// The request is for this revision.
    pub fn found(&mut self, revision: &Arc<Revision>) {
        self.revision = Some(revision.clone());
    }

    /// The request is an inference.
    pub fn infers(&mut self) {
        self.inference = true;
    }

    /// The request is refused, and so its client is told, if not by its outcome.
    pub fn tells(&mut self, told: Option<(u16, &str)>) {
        self.told = told.map(|(status, why)| {
            let why = cut(why, node::LOG_REASON_BYTES);
            Box::new(Told { status, why })
        });
    }

    /// The request has its slot.
    pub fn admitted(&mut self) {
        self.queue_ns = nanos(self.arrived.elapsed()).saturating_sub(self.receive_ns);
    }

    /// So long its body was waited for before it asked for a slot.
    pub fn received(&mut self, time: Duration) {
        self.receive_ns += nanos(time);
    }

    /// CPU time that was used before the guest's.
    pub fn spend(&mut self, time: Duration) {
        self.spent += time;
    }

    /// All of that.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Where the guest and the client meet.
    pub fn attach(&mut self, exchange: Arc<Exchange>) {
        self.exchange = Some(exchange);
    }

    /// Time between arrival and slot, in nanoseconds.
    pub fn queue_ns(&self) -> u64 {
        self.queue_ns
    }

    /// Writes the record and tells the client's side, if the guest did not.
    pub fn close(mut self, verdict: Verdict) {
        self.write(verdict);
    }

    fn write(&mut self, verdict: Verdict) {
        self.closed = true;
        self.node.metrics.active_requests.dec();
        let (mut request_bytes, mut response_bytes, mut sent) = (0, 0, None);
        if let Some(exchange) = &self.exchange {
            exchange.finish(verdict.clone());
            request_bytes = exchange.request_bytes();
            response_bytes = exchange.response_bytes();
            sent = exchange.status();
        }
        let outcome = &verdict.outcome;
        let told = self.told.take();
        let status = sent.or(told.as_ref().map(|told| told.status));
        let status = status.unwrap_or_else(|| outcome.status());
        let times = self.times(&verdict);
        match &self.revision {
            Some(revision) => {
                revision.metrics.observe(outcome.index(), status, &times);
                if self.inference {
                    revision.tally.phases(&times);
                }
                if let Some(vitals) = revision.vitals.get() {
                    vitals.count(status, times.total_ns);
                }
            }
            None => self.node.metrics.observe_node(outcome.index(), status, &times),
        }
        if !self.node.logs.wants(outcome.level(), status) {
            return;
        }
        let record = self.revision.as_ref().map(|revision| &*revision.record);
        let source = self.revision.as_ref().map(|revision| &revision.terms.log);
        self.node.logs.invocation(
            source,
            InvocationRecord {
                function: record.map(|record| record.function.clone()),
                revision: record.map_or(0, |record| record.number),
                request_id: self.request_id,
                method: self.method.clone(),
                path: self
                    .target
                    .as_ref()
                    .map_or_else(String::new, |target| cut(target.path(), node::LOG_PATH_BYTES)),
                client: self.client,
                status,
                outcome: outcome.label(),
                level: outcome.level(),
                detail: told.map(|told| told.why).or_else(|| outcome.log_words()),
                times,
                request_bytes,
                response_bytes,
                dropped_log_bytes: verdict.dropped_log_bytes,
            },
        );
    }
}

/// Writes down a request that was answered without a guest.
pub fn note(node: &Arc<Node>, inbound: &Inbound, outcome: Outcome) {
    Ledger::open(node, inbound).close(Verdict::of(outcome));
}

/// Writes down a request that was refused before it had a place, with what its client is told.
pub fn refuse(
    node: &Arc<Node>,
    inbound: &Inbound,
    revision: Option<&Arc<Revision>>,
    outcome: Outcome,
    told: Option<(u16, &str)>,
) {
    let mut ledger = Ledger::open(node, inbound);
    ledger.tells(told);
    revision.into_iter().for_each(|revision| ledger.found(revision));
    ledger.close(Verdict::of(outcome));
}

/// Text as the log has it, as far as it is not too long.
fn cut(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    let more = if end < text.len() { "..." } else { "" };
    format!("{}{more}", &text[..end])
}

/// A method as it is kept. One over the limit is refused, and must not be remembered at its length.
fn short(method: &http::Method) -> http::Method {
    match method.as_str().as_bytes().get(..node::METHOD_BYTES) {
        // Part of a token is a token.
        Some(start) => http::Method::from_bytes(start).unwrap_or_default(),
        None => method.clone(),
    }
}

impl Ledger {
    /// What each phase took: who waited, or was waited for, has the time. A guest that was ended from outside, or with
    /// its client, says nothing of its own: what was noted on the way tells how far it had come.
    fn times(&self, verdict: &Verdict) -> PhaseTimes {
        let total_ns = nanos(self.arrived.elapsed());
        let mut times = PhaseTimes {
            queue_ns: self.queue_ns,
            receive_ns: self.receive_ns,
            total_ns,
            ..PhaseTimes::default()
        };
        let since = total_ns.saturating_sub(self.queue_ns + self.receive_ns);
        match (&self.exchange, verdict.instantiate_ns, verdict.call_ns) {
            // It had no slot: if it was for a function, it waited for one.
            (None, ..) if self.revision.is_some() => times.queue_ns += since,
            (None, ..) => {}
            (Some(exchange), 0, 0) => match exchange.notes.instantiate_ns() {
                0 => times.instantiate_ns = since,
                made => (times.instantiate_ns, times.call_ns) = (made, since.saturating_sub(made)),
            },
            (Some(_), made, call) => (times.instantiate_ns, times.call_ns) = (made, call),
        }
        let waited = self.exchange.as_ref().map_or(0, |e| e.notes.waited_ns()).min(times.call_ns);
        times.receive_ns += waited;
        times.call_ns -= waited;
        let accounted = times.queue_ns + times.receive_ns + times.instantiate_ns + times.call_ns;
        times.respond_ns = total_ns.saturating_sub(accounted);
        times
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if !self.closed {
            // The guest's task may be cancelled between its verdict and its record.
            let ended = self.exchange.as_ref().and_then(|exchange| exchange.verdict());
            self.write(ended.unwrap_or_else(|| Verdict::of(Outcome::ClientGone)));
        }
    }
}
