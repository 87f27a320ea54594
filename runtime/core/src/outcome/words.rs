//! What an outcome is called. Three read it: the client, who is told what happened and what a client can do; the log,
//! which is the function's owner's and has the key to change; and who calls by `mayfly invoke`, who is mostly both.

use super::{Outcome, Problem};
use crate::limits::node;
use crate::units::{format_size, human_size};

impl Outcome {
    /// The public body.
    #[must_use]
    pub fn problem(&self, request_id: &str) -> Problem {
        Problem {
            kind: format!("urn:mayfly:outcome:{}", self.label()),
            title: self.title(),
            status: self.status(),
            detail: self.detail(),
            hint: self.clients_hint().map(str::to_owned),
            request_id: request_id.into(),
        }
    }

    /// What the log says beside the label: what happened this time, and the key to change.
    #[must_use]
    pub fn log_words(&self) -> Option<String> {
        let happened = self.log_detail().map(str::to_owned).or_else(|| self.detail());
        match (happened, self.operator()) {
            (Some(happened), Some(hint)) => Some(format!("{happened}; {hint}")),
            (Some(words), None) => Some(words),
            (None, hint) => hint.map(str::to_owned),
        }
    }

    /// What the log says and the client never sees.
    #[must_use]
    pub fn log_detail(&self) -> Option<&str> {
        match self {
            Self::Trap(detail) | Self::BadResponse(detail) | Self::Internal(detail) => Some(detail),
            _ => None,
        }
    }

    /// What the owner of a function can do about an outcome of this label, for who has only a response; `logs` is the
    /// command that shows what the log has of it.
    #[must_use]
    pub fn advice(label: &str, logs: &str) -> Option<String> {
        let outcome = Self::one_of_each("", "").into_iter().find(|each| each.label() == label)?;
        let look = matches!(outcome, Self::Trap(_) | Self::ExitCode(_) | Self::BadResponse(_));
        let operator = outcome.operator().map(str::to_owned);
        operator.or_else(|| look.then(|| format!("`{logs}` has the reason")))
    }

    /// What happened this time, without anything that only the function's owner should see.
    fn detail(&self) -> Option<String> {
        Some(match self {
            Self::BadRequest(what) => (*what).to_owned(),
            Self::UriTooLong => format!("at most {} bytes", node::URI_BYTES),
            Self::HeadersTooMany => format!("at most {}", node::REQUEST_HEADERS),
            Self::RequestTooLarge { limit_bytes } => {
                format!("request-body limit {} reached", format_size(*limit_bytes))
            }
            Self::ResponseTooLarge { limit_bytes } => {
                format!("response-body limit {} reached", format_size(*limit_bytes))
            }
            Self::FunctionBusy { concurrency } => {
                format!("concurrency limit {concurrency} reached")
            }
            Self::NodeFull => "no instance slot became free in time".to_owned(),
            Self::MemoryFull => "there was no memory for one more instance in time".to_owned(),
            Self::BodiesFull => {
                "too much is held of bodies that came without a length, for this function or from this client"
                    .to_owned()
            }
            Self::Preparing => "its compiled code is being rebuilt".to_owned(),
            Self::WallLimit { limit } => format!("wall limit {limit} reached"),
            Self::CpuLimit { limit } => format!("cpu limit {limit} reached"),
            Self::MemoryLimit { limit } => format!("memory limit {limit} reached"),
            Self::StackOverflow => {
                let limit = format_size(node::WASM_STACK_BYTES as u64);
                format!("stack limit {limit} reached")
            }
            Self::ExitCode(code) => format!("it exited with code {code}"),
            Self::MemoryPressure { held_bytes } => {
                let held = human_size(*held_bytes);
                format!("it held the most of what functions hold, {held} in this request")
            }
            Self::Answered
            | Self::NotFound
            | Self::Unroutable
            | Self::BodyTimeout
            | Self::ClientGone
            | Self::Draining
            | Self::Trap(_)
            | Self::NoResponse
            | Self::BadResponse(_)
            | Self::Internal(_) => return None,
        })
    }

    /// What a client can do about it, who knows nothing of limits and keys.
    fn clients_hint(&self) -> Option<&'static str> {
        match self {
            Self::FunctionBusy { .. }
            | Self::NodeFull
            | Self::MemoryFull
            | Self::MemoryPressure { .. } => Some("retry"),
            Self::BodiesFull => Some("retry, or send the body with its Content-Length"),
            Self::Preparing => Some("retry in a few seconds"),
            Self::Draining => Some("retry on another node"),
            Self::Internal(_) => Some("please report it with this request id"),
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
            | Self::ResponseTooLarge { .. } => None,
        }
    }

    /// What the function's owner or the operator can do about it, with the key to change.
    #[must_use]
    pub fn operator(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound => {
                "`mayfly list` shows the functions that are deployed, with their routes"
            }
            Self::UriTooLong => "URI_BYTES in docs/limits.md, which is fixed",
            Self::HeadersTooMany => "REQUEST_HEADERS in docs/limits.md, which is fixed",
            Self::RequestTooLarge { .. } => {
                "raise it: deploy it again with `--limit request-body=...`"
            }
            Self::ResponseTooLarge { .. } => {
                "raise it: deploy it again with `--limit response-body=...`"
            }
            Self::BodyTimeout => {
                "`gateway.body-idle-timeout` is the longest pause, BODY_RATE in docs/limits.md the least rate"
            }
            Self::FunctionBusy { .. } => "raise it: deploy it again with `--limit concurrency=...`",
            Self::NodeFull => {
                "raise `engine.slots`, or let requests wait longer by `gateway.queue-timeout`"
            }
            Self::WallLimit { .. } => "raise it: deploy it again with `--limit wall=...`",
            Self::CpuLimit { .. } => "raise it: deploy it again with `--limit cpu=...`",
            Self::MemoryLimit { .. } => "raise it: deploy it again with `--limit memory=...`",
            Self::StackOverflow => {
                "look for unbounded recursion; WASM_STACK_BYTES in docs/limits.md is fixed"
            }
            Self::NoResponse => {
                "a command writes its head and a blank line to stdout, a reactor calls `response_start`; see docs/abi.md"
            }
            Self::Internal(_) => "this is a bug in Mayfly: please report it",
            Self::MemoryPressure { .. } => {
                "lower what it may take: deploy it again with `--limit memory=...`, or raise `engine.memory-budget`"
            }
            Self::MemoryFull => {
                "raise `engine.memory-budget`; a lower `--limit memory=...` lets more instances in"
            }
            Self::BodiesFull => {
                "BODIES_BYTES in docs/limits.md is fixed; a command that reads to the end of its input needs none of it, by \
                 `mayfly deploy --stream-body`"
            }
            Self::Answered
            | Self::Unroutable
            | Self::BadRequest(_)
            | Self::ClientGone
            | Self::Preparing
            | Self::Draining
            | Self::Trap(_)
            | Self::ExitCode(_)
            | Self::BadResponse(_) => return None,
        })
    }

    /// One of each, in the order of [`Outcome::LABELS`], with this limit and this text for the log.
    pub(super) fn one_of_each(limit: &str, text: &str) -> [Self; Self::LABELS.len()] {
        let (limit, text) = (|| limit.to_owned(), || text.to_owned());
        [
            Self::Answered,
            Self::NotFound,
            Self::Unroutable,
            Self::BadRequest("x"),
            Self::UriTooLong,
            Self::RequestTooLarge { limit_bytes: 10 },
            Self::BodyTimeout,
            Self::ClientGone,
            Self::FunctionBusy { concurrency: 3 },
            Self::NodeFull,
            Self::Preparing,
            Self::Draining,
            Self::WallLimit { limit: limit() },
            Self::CpuLimit { limit: limit() },
            Self::MemoryLimit { limit: limit() },
            Self::StackOverflow,
            Self::Trap(text()),
            Self::ExitCode(3),
            Self::NoResponse,
            Self::BadResponse(text()),
            Self::ResponseTooLarge { limit_bytes: 10 },
            Self::Internal(text()),
            Self::HeadersTooMany,
            Self::MemoryPressure { held_bytes: 128 << 20 },
            Self::MemoryFull,
            Self::BodiesFull,
        ]
    }
}
