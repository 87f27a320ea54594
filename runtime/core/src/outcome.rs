//! How an invocation ended: one enum, and the only map from it to HTTP, metrics, logs and words.
//!
//! A new way to end is a new row of the table below, and does not compile until `words.rs` has decided what is said of it.
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

/// One row for each way to end: what it carries, its label, status, level in the log, title, and after how many seconds
/// another try makes sense, if it does.
macro_rules! outcomes {
    ($(
        $(#[$doc:meta])*
        $name:ident $(($payload:ty))? $({ $($fields:tt)* })?:
            $label:literal, $status:literal, $level:ident, $title:literal $(, retry $retry:literal)?;
    )*) => {
        /// How an invocation ended.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Outcome {
            $($(#[$doc])* $name $(($payload))? $({ $($fields)* })?,)*
        }

        enum Row { $($name,)* }

        impl Outcome {
            /// Values of the metric label `error_type`, in the enum's order: metric handles are made from them at publish.
            pub const LABELS: [&str; [$($label),*].len()] = [$($label),*];

            /// The statuses, in the same order.
            pub const STATUSES: [u16; Self::LABELS.len()] = [$($status),*];

            const LEVELS: [Level; Self::LABELS.len()] = [$(Level::$level),*];
            const TITLES: [&str; Self::LABELS.len()] = [$($title),*];
            const RETRIES: [Option<u32>; Self::LABELS.len()] = [$(retry!($($retry)?)),*];

            /// Position of this outcome in [`Outcome::LABELS`] and [`Outcome::STATUSES`].
            #[must_use]
            pub fn index(&self) -> usize {
                match self {
                    $(Self::$name { .. } => Row::$name as usize,)*
                }
            }
        }
    };
}

macro_rules! retry {
    () => {
        None
    };
    ($seconds:literal) => {
        Some($seconds)
    };
}

outcomes! {
    /// The guest answered, whatever its status.
    Answered: "answered", 200, Info, "The function answered";
    /// No function or route of that name.
    NotFound: "not-found", 404, Info, "No such function";
    /// Method or target that a gateway does not serve (CONNECT, TRACE, `*`).
    Unroutable: "unroutable", 405, Info, "Mayfly serves no such method or target";
    /// The request is malformed in a way that hyper let through.
    BadRequest(&'static str): "bad-request", 400, Info, "The request is malformed";
    /// Path and query over the limit.
    UriTooLong: "uri-too-long", 414, Info, "Path and query are too long";
    /// Body over the function's `request-body` limit, in bytes.
    RequestTooLarge {
        /// The limit in force.
        limit_bytes: u64,
    }: "request-too-large", 413, Info, "The request's body is too large";
    /// The client stopped sending its body.
    BodyTimeout: "body-timeout", 408, Info, "The request's body stopped arriving";
    /// The client went away. Never sent: nobody listens.
    ClientGone: "client-gone", 499, Info, "The client went away";
    /// The function runs as often as it may at once.
    FunctionBusy {
        /// The limit in force.
        concurrency: u64,
    }: "function-busy", 429, Warn, "The function is busy", retry 1;
    /// No slot became free in time.
    NodeFull: "node-full", 503, Warn, "The node is full", retry 1;
    /// The function is there but its artifact is being rebuilt.
    Preparing: "preparing", 503, Warn, "The function is being prepared", retry 5;
    /// The node is shutting down.
    Draining: "draining", 503, Info, "The node is shutting down", retry 5;
    /// Over the wall limit.
    WallLimit {
        /// The limit in force, as written.
        limit: String,
    }: "wall-limit", 504, Warn, "The function took too long";
    /// Over the CPU limit.
    CpuLimit {
        /// The limit in force, as written.
        limit: String,
    }: "cpu-limit", 504, Warn, "The function used too much CPU time";
    /// The guest failed after a `memory.grow` was denied.
    MemoryLimit {
        /// The limit in force, as written.
        limit: String,
    }: "memory-limit", 502, Warn, "The function ran out of memory";
    /// The guest's stack is used up.
    StackOverflow: "stack-overflow", 502, Warn, "The function ran out of stack";
    /// The guest trapped; the text is for the log.
    Trap(String): "trap", 502, Warn, "The function failed";
    /// A command module exited with this code, not zero.
    ExitCode(i32): "exit-code", 502, Warn, "The function failed";
    /// The guest ended without a response.
    NoResponse: "no-response", 502, Warn, "The function ended without a response";
    /// The guest's response is not HTTP; the text is for the log.
    BadResponse(String): "bad-response", 502, Warn, "The function's response is not valid HTTP";
    /// Body over the function's `response-body` limit, in bytes.
    ResponseTooLarge {
        /// The limit in force.
        limit_bytes: u64,
    }: "response-too-large", 502, Warn, "The function's response is too large";
    /// Mayfly is wrong; the text is for the log.
    Internal(String): "internal", 500, Error, "Mayfly failed";
    /// More headers than a request may have.
    HeadersTooMany: "headers-too-many", 431, Info, "The request has too many headers";
    /// The node's memory was nearly used up, and this function held the most of it: it comes back last.
    MemoryPressure {
        /// What this instance held, in bytes.
        held_bytes: u64,
    }: "memory-pressure", 503, Warn, "The function was ended because the node ran out of memory", retry 5;
    /// There was no memory for one more instance in time.
    MemoryFull: "memory-full", 503, Warn, "The node is full", retry 1;
    /// There is no room to hold one more body that came without a length.
    BodiesFull: "bodies-full", 503, Warn, "The node is full", retry 1;
}

impl Outcome {
    /// The response's status.
    #[must_use]
    pub fn status(&self) -> u16 {
        Self::STATUSES[self.index()]
    }

    /// Value of the metric label `error_type`, and the last part of the problem's `type`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// How loud it is.
    #[must_use]
    pub fn level(&self) -> Level {
        Self::LEVELS[self.index()]
    }

    /// The kind in words; the same for every occurrence.
    fn title(&self) -> &'static str {
        Self::TITLES[self.index()]
    }

    /// Seconds for `Retry-After`, where a retry makes sense.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u32> {
        Self::RETRIES[self.index()]
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
    fn each_has_a_line_in_troubleshooting() {
        let page = include_str!("../../../docs/troubleshooting.md");
        for label in &Outcome::LABELS[1..] {
            assert!(page.contains(&format!("`{label}`")), "{label}");
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
            Some(
                "memory limit 128MiB reached; raise it: deploy it again with `--limit memory=...`"
            )
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
