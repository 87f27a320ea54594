//! How an invocation ended: one enum, and the only map from it to HTTP, metrics, logs and words.
//!
//! No `match` that decides an effect has a wildcard arm, so a new way to end does not compile until each effect is decided.
//! 500 means that Mayfly itself is wrong; whatever a guest does is 502 or 504, whatever a client does is 4xx.

mod words;

use serde::Serialize;

/// Where in an invocation something happened; the order is the order in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Waiting for a slot.
    Queue,
    /// Waiting for the request's body.
    Receive,
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
    /// The function is there but its artifact is being rebuilt.
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
    /// There is no room to hold one more body that came without a length.
    BodiesFull,
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
    /// What the client can do about it; what the function's owner can is in the log.
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
            | Self::MemoryFull
            | Self::BodiesFull => 503,
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
            Self::BodiesFull => "bodies-full",
        }
    }

    /// Every label, in the enum's order: metric handles are made from it at publish.
    pub const LABELS: [&str; 26] = [
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
        "bodies-full",
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
            Self::BodiesFull => 25,
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
            | Self::BodiesFull
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
            Self::FunctionBusy { .. } | Self::NodeFull | Self::MemoryFull | Self::BodiesFull => {
                Some(1)
            }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Outcome> {
        Outcome::one_of_each("30s", "secret").into()
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
            502, 502, 502, 502, 500, 431, 503, 503, 503,
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
    fn a_limit_names_its_value_to_all_and_its_key_to_the_owner() {
        let outcome = Outcome::MemoryLimit { limit: "128MiB".into() };
        let problem = outcome.problem("r");
        assert_eq!(problem.detail.as_deref(), Some("memory limit 128MiB reached"));
        assert_eq!(
            (problem.hint, problem.kind.as_str()),
            (None, "urn:mayfly:outcome:memory-limit")
        );
        assert_eq!(
            outcome.log_words().as_deref(),
            Some("memory limit 128MiB reached; raise it with `mayfly deploy --limit memory=...`")
        );
        assert_eq!(Outcome::advice("memory-limit", "").as_deref(), outcome.operator());
        assert_eq!(
            Outcome::advice("trap", "mayfly logs f").unwrap(),
            "`mayfly logs f` has the reason"
        );
        assert_eq!(Outcome::advice("nonsense", ""), None);
    }

    #[test]
    fn a_stranger_is_told_nothing_that_an_operator_would_do() {
        for outcome in one_of_each() {
            let body = serde_json::to_string(&outcome.problem("id-1")).unwrap();
            for word in
                ["mayfly deploy", "mayfly list", "mayfly logs", "engine.", "gateway.", "docs/"]
            {
                assert!(!body.contains(word), "{body}");
            }
        }
    }

    #[test]
    fn what_a_limit_caused_names_it_in_the_log() {
        for outcome in one_of_each() {
            let label = outcome.label();
            let limited = label.ends_with("-limit")
                || label.ends_with("-large")
                || label.ends_with("-long")
                || label.ends_with("-many")
                || matches!(
                    label,
                    "function-busy" | "node-full" | "body-timeout" | "stack-overflow"
                );
            let words = outcome.log_words().unwrap_or_default();
            let key = ["--limit ", "engine.", "gateway.", "_BYTES", "_HEADERS"];
            assert!(!limited || key.iter().any(|key| words.contains(key)), "{label}: {words}");
        }
    }
}
