//! What a log line says, and how it is written.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use mayfly_core::outcome::Level;
use mayfly_core::{FunctionName, RequestId};
use serde::Serialize;

use crate::clock::timestamp;
use crate::metrics::PhaseTimes;

/// Where a guest wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output of a reactor module.
    Stdout,
    /// Standard error.
    Stderr,
    /// Either, during the init at deploy.
    Init,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Init => "init",
        }
    }
}

/// How one invocation went.
#[derive(Debug, Clone)]
pub struct InvocationRecord {
    /// The function; `None` when the request reached none.
    pub function: Option<FunctionName>,
    /// Its revision's number, 0 without a function.
    pub revision: u64,
    /// The request's id.
    pub request_id: RequestId,
    /// The request's method.
    pub method: http::Method,
    /// The request's path, cut; escaped by the log thread. Without its query, which may be secret.
    pub path: String,
    /// Who sent it: by a trusted proxy's word, if it came through one.
    pub client: IpAddr,
    /// The response's status.
    pub status: u16,
    /// [`mayfly_core::Outcome::label`].
    pub outcome: &'static str,
    /// [`mayfly_core::Outcome::level`].
    pub level: Level,
    /// [`mayfly_core::Outcome::log_words`]; escaped by the log thread.
    pub detail: Option<String>,
    /// How long each phase took.
    pub times: PhaseTimes,
    /// Bytes of the request's body that were read.
    pub request_bytes: u64,
    /// Bytes of the response's body that were sent.
    pub response_bytes: u64,
    /// Bytes of log output over the function's `log` limit.
    pub dropped_log_bytes: u64,
}

/// One line, kept and shown.
#[derive(Debug)]
pub struct Entry {
    /// When it was written, by the node's clock.
    pub time: SystemTime,
    /// What it says.
    pub body: Body,
}

/// What a line says.
#[derive(Debug)]
pub enum Body {
    /// A guest's output.
    Line {
        /// The function.
        function: FunctionName,
        /// Its revision's number.
        revision: u64,
        /// The request's id.
        request_id: RequestId,
        /// Where it wrote.
        stream: Stream,
        /// The line, escaped.
        text: String,
        /// Whether its end is missing.
        truncated: bool,
    },
    /// An invocation's end; its path and detail are escaped.
    Invocation(Box<InvocationRecord>),
    /// What an invocation wrote over its function's limit `log`.
    Over {
        /// The function.
        function: FunctionName,
        /// Its revision's number.
        revision: u64,
        /// The request's id.
        request_id: RequestId,
        /// Bytes that are missing.
        bytes: u64,
        /// The limit in force.
        limit_bytes: u64,
    },
    /// Records that are missing here.
    Dropped {
        /// The function; `None` for requests that reached none.
        function: Option<FunctionName>,
        /// How many.
        records: u64,
    },
}

#[derive(Serialize)]
struct JsonDropped<'a> {
    timestamp: String,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a str>,
    message: &'static str,
    dropped: u64,
}

#[derive(Serialize)]
struct JsonOver<'a> {
    timestamp: String,
    level: &'static str,
    function: &'a str,
    revision: u64,
    request_id: &'a str,
    message: String,
    dropped_log_bytes: u64,
}

fn over(bytes: u64, limit_bytes: u64) -> String {
    let limit = mayfly_core::units::format_size(limit_bytes);
    format!(
        "log limit {limit} reached, {bytes} B of output dropped; raise it: deploy it again with `--limit log=...`"
    )
}

/// Why records of a function are missing.
const DROPPED: &str = "log records dropped: more than the function's share of the log (LOG_RATE_BYTES, LOG_QUEUE_PARTS)";

#[derive(Serialize)]
struct JsonLine<'a> {
    timestamp: String,
    level: &'static str,
    function: &'a str,
    revision: u64,
    request_id: &'a str,
    stream: Stream,
    message: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Serialize)]
struct JsonInvocation<'a> {
    timestamp: String,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    request_id: &'a str,
    message: &'static str,
    client: IpAddr,
    method: &'a str,
    path: &'a str,
    status: u16,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    queue_us: f64,
    receive_us: f64,
    instantiate_us: f64,
    call_us: f64,
    respond_us: f64,
    total_us: f64,
    request_bytes: u64,
    response_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dropped_log_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Entry {
    /// The function whose log this belongs to.
    #[must_use]
    pub fn function(&self) -> Option<&FunctionName> {
        match &self.body {
            Body::Line { function, .. } | Body::Over { function, .. } => Some(function),
            Body::Invocation(record) => record.function.as_ref(),
            Body::Dropped { function, .. } => function.as_ref(),
        }
    }

    /// Bytes of memory it takes, roughly.
    pub(super) fn cost(&self) -> usize {
        let text = match &self.body {
            Body::Line { text, .. } => text.capacity(),
            Body::Dropped { .. } | Body::Over { .. } => 0,
            Body::Invocation(record) => {
                size_of::<InvocationRecord>()
                    + record.path.capacity()
                    + record.detail.as_ref().map_or(0, String::capacity)
            }
        };
        size_of::<Self>() + text
    }

    /// One JSON object, without a line end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let timestamp = timestamp(self.time).to_string();
        let json = match &self.body {
            Body::Line { function, revision, request_id, stream, text, truncated } => {
                serde_json::to_string(&JsonLine {
                    timestamp,
                    level: "INFO",
                    function: function.as_str(),
                    revision: *revision,
                    request_id: request_id.as_str(),
                    stream: *stream,
                    message: text,
                    truncated: *truncated,
                })
            }
            Body::Invocation(record) => serde_json::to_string(&json_invocation(timestamp, record)),
            Body::Over { function, revision, request_id, bytes, limit_bytes } => {
                serde_json::to_string(&JsonOver {
                    timestamp,
                    level: "WARN",
                    function: function.as_str(),
                    revision: *revision,
                    request_id: request_id.as_str(),
                    message: over(*bytes, *limit_bytes),
                    dropped_log_bytes: *bytes,
                })
            }
            Body::Dropped { function, records } => serde_json::to_string(&JsonDropped {
                timestamp,
                level: "WARN",
                function: function.as_ref().map(FunctionName::as_str),
                message: DROPPED,
                dropped: *records,
            }),
        };
        // Strings and numbers always serialise; an empty line is better than a panic all the same.
        json.unwrap_or_default()
    }

    /// One line for people, without a line end.
    #[must_use]
    pub fn to_human(&self) -> String {
        let time = timestamp(self.time);
        match &self.body {
            Body::Line { function, revision, request_id, stream, text, truncated } => {
                let cut = if *truncated { " [cut]" } else { "" };
                let stream = stream.as_str();
                format!("{time}  INFO {function}#{revision} {request_id} {stream}: {text}{cut}")
            }
            Body::Invocation(record) => human_invocation(&time.to_string(), record),
            Body::Over { function, revision, request_id, bytes, limit_bytes } => {
                let over = over(*bytes, *limit_bytes);
                format!("{time}  WARN {function}#{revision} {request_id} {over}")
            }
            Body::Dropped { function, records } => {
                let function = function.as_ref().map_or("-", FunctionName::as_str);
                format!("{time}  WARN {function} {records} {DROPPED}")
            }
        }
    }
}

fn json_invocation(timestamp: String, record: &InvocationRecord) -> JsonInvocation<'_> {
    let times = &record.times;
    JsonInvocation {
        timestamp,
        level: level(record.level),
        function: record.function.as_ref().map(FunctionName::as_str),
        revision: record.function.as_ref().map(|_| record.revision),
        request_id: record.request_id.as_str(),
        message: "invocation",
        client: record.client,
        method: record.method.as_str(),
        path: &record.path,
        status: record.status,
        outcome: record.outcome,
        detail: record.detail.as_deref(),
        queue_us: us(times.queue_ns),
        receive_us: us(times.receive_ns),
        instantiate_us: us(times.instantiate_ns),
        call_us: us(times.call_ns),
        respond_us: us(times.respond_ns),
        total_us: us(times.total_ns),
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
        dropped_log_bytes: record.dropped_log_bytes,
    }
}

fn human_invocation(time: &str, record: &InvocationRecord) -> String {
    let mut line = format!("{time} {:>5} ", level(record.level));
    match &record.function {
        Some(function) => drop(write!(line, "{function}#{}", record.revision)),
        None => line.push('-'),
    }
    let times = &record.times;
    let phases = phases([
        times.total_ns,
        times.queue_ns,
        times.receive_ns,
        times.instantiate_ns,
        times.call_ns,
        times.respond_ns,
    ]);
    let _ = write!(
        line,
        " {} {} {} {} {} {} {phases}, {} B in, {} B out",
        record.request_id,
        record.client,
        record.method,
        if record.path.is_empty() { "-" } else { &record.path },
        record.status,
        record.outcome,
        record.request_bytes,
        record.response_bytes,
    );
    if record.dropped_log_bytes > 0 {
        let _ = write!(line, ", {} B of log output dropped", record.dropped_log_bytes);
    }
    if let Some(detail) = &record.detail {
        let _ = write!(line, ": {detail}");
    }
    line
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    }
}

#[expect(clippy::cast_precision_loss, reason = "52 bits of nanoseconds are 52 days")]
fn us(ns: u64) -> f64 {
    // To a tenth: more digits are noise, and the text is shorter.
    (ns as f64 / 100.0).round() / 10.0
}

/// How long an invocation took and its phases, in nanoseconds, as each line has it: all of it, queue, receive,
/// instantiate, call, respond.
#[must_use]
pub fn phases(ns: [u64; 6]) -> String {
    let [total, queue, receive, instantiate, call, respond] = ns.map(human);
    // Most requests have no body, or one that is there at once.
    let receive = if ns[2] == 0 { String::new() } else { format!("receive {receive}, ") };
    format!(
        "in {total} (queue {queue}, {receive}instantiate {instantiate}, call {call}, respond {respond})"
    )
}

/// Three or four digits and a unit: `12.3us`, `4.56ms`, `1.20s`.
fn human(ns: u64) -> String {
    let duration = Duration::from_nanos(ns);
    match ns {
        0..1_000_000 => format!("{:.1}us", us(ns)),
        1_000_000..1_000_000_000 => format!("{:.2}ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.2}s", duration.as_secs_f64()),
    }
}
