//! How an invocation ended: one enum, and the only map from it to HTTP, metrics, logs and words.
//!
//! No `match` that decides an effect has a wildcard arm, so a new way to end does not compile until each effect is decided.
//! 500 means that Mayfly itself is wrong; whatever a guest does is 502 or 504, whatever a client does is 4xx.

use serde::Serialize;

/// Where in an invocation something happened; the order is the order in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Waiting for a slot.
    Queue,
    /// From the slot to the instance being ready to be called.
    Instantiate,
    /// The guest runs.
    Call,
    /// The response's rest is on its way.
    Respond,
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The guest answered, whatever its status.
    Answered,
    /// No function or route of that name.
    NotFound,
    /// Method or target that a gateway does not serve (CONNECT, TRACE, `*`).
    Unroutable,
    /// The request is malformed in a way that hyper let through.
    BadRequest(&'static str),
    /// Path and query over the limit.
    UriTooLong,
    /// Body over the function's `request-body` limit, in bytes.
    RequestTooLarge {
        /// The limit in force.
        limit_bytes: u64,
    },
    /// The client stopped sending its body.
    BodyTimeout,
    /// The client went away.
    ClientGone,
    /// The function runs as often as it may at once.
    FunctionBusy {
        /// The limit in force.
        concurrency: u64,
    },
    /// No slot became free in time.
    NodeFull,
    /// The function is there but its artifact is being made anew.
    Preparing,
    /// The node is shutting down.
    Draining,
    /// Over the wall limit.
    WallLimit {
        /// The limit in force, as written.
        limit: String,
    },
    /// Over the CPU limit.
    CpuLimit {
        /// The limit in force, as written.
        limit: String,
    },
    /// The guest failed after a `memory.grow` was denied.
    MemoryLimit {
        /// The limit in force, as written.
        limit: String,
    },
    /// The guest's stack is used up.
    StackOverflow,
    /// The guest trapped; the text is for the log.
    Trap(String),
    /// A command module exited with this code, not zero.
    ExitCode(i32),
    /// The guest ended without a response.
    NoResponse,
    /// The guest's response is not HTTP; the text is for the log.
    BadResponse(String),
    /// Body over the function's `response-body` limit, in bytes.
    ResponseTooLarge {
        /// The limit in force.
        limit_bytes: u64,
    },
    /// Mayfly is wrong; the text is for the log.
    Internal(String),
    /// More headers than a request may have.
    HeadersTooMany,
    /// The node's memory was nearly used up, and this function held the most of it.
    MemoryPressure {
        /// What this instance held, in bytes.
        held_bytes: u64,
    },
    /// There was no memory for one more instance in time.
    MemoryFull,
}

/// How loud an outcome is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Business as usual.
    Info,
    /// The function's author should look.
    Warn,
    /// The operator should look.
    Error,
}

/// Body of an error response: RFC 9457, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Stable identifier of the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words; the same for every occurrence.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, without anything that only the function's owner should see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do about it, with the key to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The id under which the details are logged.
    pub request_id: String,
}

impl Outcome {
    /// The response's status. 499 is never sent: nobody listens.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Answered => 200,
            Self::BadRequest(_) => 400,
            Self::NotFound => 404,
            Self::Unroutable => 405,
            Self::BodyTimeout => 408,
            Self::RequestTooLarge { .. } => 413,
            Self::UriTooLong => 414,
            Self::HeadersTooMany => 431,
            Self::FunctionBusy { .. } => 429,
            Self::ClientGone => 499,
            Self::Internal(_) => 500,
            Self::StackOverflow
            | Self::MemoryLimit { .. }
            | Self::Trap(_)
            | Self::ExitCode(_)
            | Self::NoResponse
            | Self::BadResponse(_)
            | Self::ResponseTooLarge { .. } => 502,
            // The function kept to its limits: another try may find more room.
            Self::NodeFull
            | Self::Preparing
            | Self::Draining
            | Self::MemoryPressure { .. }
            | Self::MemoryFull => 503,
            Self::WallLimit { .. } | Self::CpuLimit { .. } => 504,
        }
    }

    /// Value of the metric label `error_type`, and the last part of the problem's `type`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotFound => "not-found",
            Self::Unroutable => "unroutable",
            Self::BadRequest(_) => "bad-request",
            Self::UriTooLong => "uri-too-long",
            Self::HeadersTooMany => "headers-too-many",
            Self::RequestTooLarge { .. } => "request-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::ClientGone => "client-gone",
            Self::FunctionBusy { .. } => "function-busy",
            Self::NodeFull => "node-full",
            Self::Preparing => "preparing",
            Self::Draining => "draining",
            Self::WallLimit { .. } => "wall-limit",
            Self::CpuLimit { .. } => "cpu-limit",
            Self::MemoryLimit { .. } => "memory-limit",
            Self::StackOverflow => "stack-overflow",
            Self::Trap(_) => "trap",
            Self::ExitCode(_) => "exit-code",
            Self::NoResponse => "no-response",
            Self::BadResponse(_) => "bad-response",
            Self::ResponseTooLarge { .. } => "response-too-large",
            Self::Internal(_) => "internal",
            Self::MemoryPressure { .. } => "memory-pressure",
            Self::MemoryFull => "memory-full",
        }
    }

    /// Every label, in the enum's order: metric handles are made from it at publish.
    pub const LABELS: [&str; 25] = [
        "answered",
        "not-found",
        "unroutable",
        "bad-request",
        "uri-too-long",
        "request-too-large",
        "body-timeout",
        "client-gone",
        "function-busy",
        "node-full",
        "preparing",
        "draining",
        "wall-limit",
        "cpu-limit",
        "memory-limit",
        "stack-overflow",
        "trap",
        "exit-code",
        "no-response",
        "bad-response",
        "response-too-large",
        "internal",
        "headers-too-many",
        "memory-pressure",
        "memory-full",
    ];

    /// Position of this outcome's label in [`Outcome::LABELS`].
    #[must_use]
    pub fn index(&self) -> usize {
        match self {
            Self::Answered => 0,
            Self::NotFound => 1,
            Self::Unroutable => 2,
            Self::BadRequest(_) => 3,
            Self::UriTooLong => 4,
            Self::RequestTooLarge { .. } => 5,
            Self::BodyTimeout => 6,
            Self::ClientGone => 7,
            Self::FunctionBusy { .. } => 8,
            Self::NodeFull => 9,
            Self::Preparing => 10,
            Self::Draining => 11,
            Self::WallLimit { .. } => 12,
            Self::CpuLimit { .. } => 13,
            Self::MemoryLimit { .. } => 14,
            Self::StackOverflow => 15,
            Self::Trap(_) => 16,
            Self::ExitCode(_) => 17,
            Self::NoResponse => 18,
            Self::BadResponse(_) => 19,
            Self::ResponseTooLarge { .. } => 20,
            Self::Internal(_) => 21,
            Self::HeadersTooMany => 22,
            Self::MemoryPressure { .. } => 23,
            Self::MemoryFull => 24,
        }
    }

    /// How loud it is.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Answered
            | Self::NotFound
            | Self::Unroutable
            | Self::BadRequest(_)
            | Self::UriTooLong
            | Self::HeadersTooMany
            | Self::RequestTooLarge { .. }
            | Self::BodyTimeout
            | Self::ClientGone
            | Self::Draining => Level::Info,
            Self::FunctionBusy { .. }
            | Self::NodeFull
            | Self::MemoryPressure { .. }
            | Self::MemoryFull
            | Self::Preparing
            | Self::WallLimit { .. }
            | Self::CpuLimit { .. }
            | Self::MemoryLimit { .. }
            | Self::StackOverflow
            | Self::Trap(_)
            | Self::ExitCode(_)
            | Self::NoResponse
            | Self::BadResponse(_)
            | Self::ResponseTooLarge { .. } => Level::Warn,
            Self::Internal(_) => Level::Error,
        }
    }

    /// Seconds for `Retry-After`, where a retry makes sense.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::FunctionBusy { .. } | Self::NodeFull | Self::MemoryFull => Some(1),
            // Who held the most comes back last.
            Self::Preparing | Self::Draining | Self::MemoryPressure { .. } => Some(5),
            Self::Answered
            | Self::NotFound
            | Self::Unroutable
            | Self::BadRequest(_)
            | Self::UriTooLong
            | Self::HeadersTooMany
            | Self::RequestTooLarge { .. }
            | Self::BodyTimeout
            | Self::ClientGone
            | Self::WallLimit { .. }
            | Self::CpuLimit { .. }
            | Self::MemoryLimit { .. }
            | Self::StackOverflow
            | Self::Trap(_)
            | Self::ExitCode(_)
            | Self::NoResponse
            | Self::BadResponse(_)
            | Self::ResponseTooLarge { .. }
            | Self::Internal(_) => None,
        }
    }

    /// What the operator's log says and the client never sees.
    #[must_use]
    pub fn log_detail(&self) -> Option<&str> {
        match self {
            Self::Trap(detail) | Self::BadResponse(detail) | Self::Internal(detail) => Some(detail),
            _ => None,
        }
    }

    /// The public body.
    #[must_use]
    pub fn problem(&self, request_id: &str) -> Problem {
        let (title, detail, hint) = self.words();
        Problem {
            kind: format!("urn:mayfly:outcome:{}", self.label()),
            title,
            status: self.status(),
            detail,
            hint,
            request_id: request_id.into(),
        }
    }

    fn words(&self) -> (&'static str, Option<String>, Option<String>) {
        let size = crate::units::format_size;
        let hint = |text: &str| Some(text.to_owned());
        match self {
            Self::Answered => ("The function answered", None, None),
            Self::NotFound => (
                "No such function",
                None,
                hint("`mayfly list` shows the functions that are deployed, with their routes"),
            ),
            Self::Unroutable => ("Mayfly serves no such method or target", None, None),
            Self::BadRequest(what) => ("The request is malformed", Some((*what).to_owned()), None),
            Self::UriTooLong => (
                "Path and query are too long",
                Some(format!("at most {} bytes", crate::limits::node::URI_BYTES)),
                None,
            ),
            Self::HeadersTooMany => (
                "The request has too many headers",
                Some(format!("at most {}", crate::limits::node::REQUEST_HEADERS)),
                None,
            ),
            Self::RequestTooLarge { limit_bytes } => (
                "The request's body is too large",
                Some(format!("request-body limit {} reached", size(*limit_bytes))),
                hint("raise it with `mayfly deploy --limit request-body=...`"),
            ),
            Self::BodyTimeout => ("The request's body stopped arriving", None, None),
            Self::ClientGone => ("The client went away", None, None),
            Self::FunctionBusy { concurrency } => (
                "The function is busy",
                Some(format!("concurrency limit {concurrency} reached")),
                hint("retry, or raise it with `mayfly deploy --limit concurrency=...`"),
            ),
            Self::NodeFull => (
                "The node is full",
                Some("no instance slot became free in time".to_owned()),
                hint("retry; the operator can raise `engine.slots`"),
            ),
            Self::Preparing => (
                "The function is being prepared",
                Some("its compiled code is being made anew".to_owned()),
                hint("retry in a few seconds"),
            ),
            Self::Draining => ("The node is shutting down", None, hint("retry on another node")),
            Self::WallLimit { limit } => (
                "The function took too long",
                Some(format!("wall limit {limit} reached")),
                hint("raise it with `mayfly deploy --limit wall=...`"),
            ),
            Self::CpuLimit { limit } => (
                "The function used too much CPU time",
                Some(format!("cpu limit {limit} reached")),
                hint("raise it with `mayfly deploy --limit cpu=...`"),
            ),
            Self::MemoryLimit { limit } => (
                "The function ran out of memory",
                Some(format!("memory limit {limit} reached")),
                hint("raise it with `mayfly deploy --limit memory=...`"),
            ),
            Self::StackOverflow => (
                "The function ran out of stack",
                Some(format!(
                    "stack limit {} reached",
                    size(crate::limits::node::WASM_STACK_BYTES as u64)
                )),
                hint("look for unbounded recursion"),
            ),
            Self::Trap(_) => (
                "The function failed",
                None,
                hint("`mayfly logs` has the reason under this request id"),
            ),
            Self::ExitCode(code) => (
                "The function failed",
                Some(format!("it exited with code {code}")),
                hint("`mayfly logs` has its output under this request id"),
            ),
            Self::NoResponse => (
                "The function ended without a response",
                None,
                hint("a command writes its head and a blank line to stdout; see docs/abi.md"),
            ),
            Self::BadResponse(_) => (
                "The function's response is not valid HTTP",
                None,
                hint("`mayfly logs` has the reason under this request id"),
            ),
            Self::ResponseTooLarge { limit_bytes } => (
                "The function's response is too large",
                Some(format!("response-body limit {} reached", size(*limit_bytes))),
                hint("raise it with `mayfly deploy --limit response-body=...`"),
            ),
            Self::Internal(_) => (
                "Mayfly failed",
                None,
                hint("this is a bug in Mayfly: please report it with this request id"),
            ),
            Self::MemoryPressure { held_bytes } => (
                "The function was ended because the node ran out of memory",
                Some(format!(
                    "it held the most of what functions hold, {} in this request",
                    crate::units::human_size(*held_bytes)
                )),
                hint(
                    "retry; lower what it may take with `mayfly deploy --limit memory=...`, or the operator raises `engine.memory-budget`",
                ),
            ),
            Self::MemoryFull => (
                "The node is full",
                Some("there was no memory for one more instance in time".to_owned()),
                hint(
                    "retry; the operator can raise `engine.memory-budget`, a lower `--limit memory=...` lets more instances in",
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Outcome> {
        let text = || "30s".to_owned();
        vec![
            Outcome::Answered,
            Outcome::NotFound,
            Outcome::Unroutable,
            Outcome::BadRequest("x"),
            Outcome::UriTooLong,
            Outcome::RequestTooLarge { limit_bytes: 10 },
            Outcome::BodyTimeout,
            Outcome::ClientGone,
            Outcome::FunctionBusy { concurrency: 3 },
            Outcome::NodeFull,
            Outcome::Preparing,
            Outcome::Draining,
            Outcome::WallLimit { limit: text() },
            Outcome::CpuLimit { limit: text() },
            Outcome::MemoryLimit { limit: "128MiB".into() },
            Outcome::StackOverflow,
            Outcome::Trap("secret".into()),
            Outcome::ExitCode(3),
            Outcome::NoResponse,
            Outcome::BadResponse("secret".into()),
            Outcome::ResponseTooLarge { limit_bytes: 10 },
            Outcome::Internal("secret".into()),
            Outcome::HeadersTooMany,
            Outcome::MemoryPressure { held_bytes: 128 << 20 },
            Outcome::MemoryFull,
        ]
    }

    #[test]
    fn labels_are_distinct_and_indexed() {
        let all = one_of_each();
        assert_eq!(all.len(), Outcome::LABELS.len());
        for (i, outcome) in all.iter().enumerate() {
            assert_eq!((outcome.index(), Outcome::LABELS[i]), (i, outcome.label()));
        }
    }

    #[test]
    fn only_mayfly_is_500_and_only_then_is_it_an_error() {
        for outcome in one_of_each() {
            let internal = matches!(outcome, Outcome::Internal(_));
            assert_eq!(outcome.status() == 500, internal);
            assert_eq!(outcome.level() == Level::Error, internal);
        }
    }

    #[test]
    fn log_details_stay_out_of_the_public_body() {
        for outcome in one_of_each() {
            let body = serde_json::to_string(&outcome.problem("id-1")).unwrap();
            assert!(!body.contains("secret"), "{body}");
            assert!(body.contains("id-1"));
        }
        assert_eq!(Outcome::Trap("secret".into()).log_detail(), Some("secret"));
    }

    #[test]
    fn statuses_as_documented() {
        let expect = [
            200, 404, 405, 400, 414, 413, 408, 499, 429, 503, 503, 503, 504, 504, 502, 502, 502,
            502, 502, 502, 502, 500, 431, 503, 503,
        ];
        assert!(one_of_each().iter().map(Outcome::status).eq(expect));
    }

    #[test]
    fn a_refusal_for_want_of_room_says_when_to_retry() {
        for outcome in one_of_each() {
            assert_eq!(outcome.retry_after_s().is_some(), matches!(outcome.status(), 429 | 503));
        }
    }

    #[test]
    fn a_limit_names_its_value_and_its_key() {
        let problem = Outcome::MemoryLimit { limit: "128MiB".into() }.problem("r");
        assert_eq!(problem.detail.as_deref(), Some("memory limit 128MiB reached"));
        assert!(problem.hint.unwrap().contains("--limit memory="));
        assert_eq!(problem.kind, "urn:mayfly:outcome:memory-limit");
    }
}
