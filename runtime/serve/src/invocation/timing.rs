//! `Server-Timing`: what a response says of its own times.

use std::fmt::Write as _;
use std::time::Instant;

use http::{HeaderName, HeaderValue, Response};
use mayfly_host::exchange::{Exchange, ResponseBody, Verdict};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The clock of one invocation whose response is to carry its times.
#[derive(Clone, Copy)]
pub struct Clock {
    queue_ns: u64,
    began: Instant,
}

impl Clock {
    /// For a guest that waited this long for its slot, and has it since now.
    pub fn start(queue_ns: u64) -> Self {
        Self { queue_ns, began: Instant::now() }
    }

    /// The times of a guest that has ended.
    pub fn add_whole(
        self,
        response: &mut Response<ResponseBody>,
        exchange: &Exchange,
        verdict: &Verdict,
    ) {
        if (verdict.instantiate_ns, verdict.call_ns) == (0, 0) {
            // It was ended from outside: the times until then are those of its head.
            let (instantiate_ns, call_ns) = self.so_far(exchange);
            return self.add(response, exchange, instantiate_ns, ("call", call_ns));
        }
        self.add(response, exchange, verdict.instantiate_ns, ("call", verdict.call_ns));
    }

    /// What is known when a head leaves before its guest's end.
    pub fn add_to_head(self, response: &mut Response<ResponseBody>, exchange: &Exchange) {
        let (instantiate_ns, head_ns) = self.so_far(exchange);
        self.add(response, exchange, instantiate_ns, ("head", head_ns));
    }

    /// What making the instance took, and what has passed since then.
    fn so_far(self, exchange: &Exchange) -> (u64, u64) {
        let instantiate_ns = exchange.notes.instantiate_ns();
        let since_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        (instantiate_ns, since_ns.saturating_sub(instantiate_ns))
    }

    fn add(
        self,
        response: &mut Response<ResponseBody>,
        exchange: &Exchange,
        instantiate_ns: u64,
        last: (&str, u64),
    ) {
        let mut text = String::with_capacity(96);
        for (name, ns) in [("queue", self.queue_ns), ("instantiate", instantiate_ns), last] {
            let glue = if text.is_empty() { "" } else { ", " };
            // Milliseconds with three decimals, as the header's specification has them.
            let _ = write!(text, "{glue}{name};dur={}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000);
        }
        for (id, us) in exchange.notes.marks() {
            let _ = write!(text, ", mark{id};dur={}.{:03}", us / 1_000, us % 1_000);
        }
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(SERVER_TIMING, value);
        }
    }
}
