use std::borrow::Cow;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use mayfly_core::Outcome;
use mayfly_host::exchange::ResponseBody;

use crate::hold::NoRoom;

/// Why a request is not answered with an inference: the protocol's `{"error": ...}` and its status.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    message: Cow<'static, str>,
    retry_after: Option<HeaderValue>,
    /// What goes into the metrics and the log, for a request that reached no guest.
    pub(super) outcome: Outcome,
    /// Whether its words say what the outcome does not.
    says_more: bool,
}

/// What is taken from an answer without success.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
    request_id: Option<serde::de::IgnoredAny>,
}

impl Refusal {
    /// A request that this protocol, or the model, does not take; `status` is a client's mistake, or 501.
    pub(super) fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        let outcome = Outcome::BadRequest("not an inference request that the model can answer");
        Self { status, ..Self::of(outcome, message) }
    }

    /// An outcome in this protocol's words.
    pub(super) fn of(outcome: Outcome, message: impl Into<Cow<'static, str>>) -> Self {
        let retry_after = outcome.retry_after_s().map(HeaderValue::from);
        let (status, message) = (outcome.status(), message.into());
        // The words of these two are the outcome's own detail.
        let says_more = !matches!(outcome, Outcome::Internal(_) | Outcome::BadResponse(_));
        Self { status, message, retry_after, outcome, says_more }
    }

    /// The model's function did what no model may.
    pub(super) fn broken(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::of(Outcome::BadResponse(message.clone()), message)
    }

    /// What a function, or Mayfly on its behalf, answered with a status that is no success.
    pub(super) fn from_problem(status: u16, body: &[u8], retry_after: Option<HeaderValue>) -> Self {
        // The body may be a guest's: nothing is made of it but these words.
        let body = if body.len() <= super::SMALL_JSON { body } else { &[] };
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        let message = match (problem.detail, problem.title) {
            (Some(detail), Some(title)) if problem.request_id.is_some() => {
                format!("{title}: {detail}")
            }
            (Some(words), _) | (None, Some(words)) => words,
            (None, None) => format!("the model's function answered with status {status}"),
        };
        let message = match problem.hint {
            Some(hint) => format!("{message} ({hint})"),
            None => message,
        };
        Self { retry_after, ..Self::new(status, message) }
    }

    /// What the client is told, status and words, where its outcome does not say it.
    pub(super) fn told(&self) -> Option<(u16, &str)> {
        self.says_more.then_some((self.status, &*self.message))
    }

    pub(super) fn response(self) -> Response<ResponseBody> {
        let body = mayfly_oip::error_body(&self.message);
        let mut response = Response::new(ResponseBody::Whole(body.into()));
        let status = StatusCode::from_u16(self.status);
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<mayfly_oip::Error> for Refusal {
    fn from(error: mayfly_oip::Error) -> Self {
        match error {
            mayfly_oip::Error::Frame(_) => Self::broken(error.to_string()),
            mayfly_oip::Error::Json(_)
            | mayfly_oip::Error::Request(_)
            | mayfly_oip::Error::Input { .. }
            | mayfly_oip::Error::Output { .. }
            | mayfly_oip::Error::TooLarge { .. } => Self::new(error.status(), error.to_string()),
        }
    }
}

impl From<NoRoom> for Refusal {
    fn from(_: NoRoom) -> Self {
        let busy = "too much of inference requests is held for this model or client; retry soon";
        Self::of(Outcome::NodeFull, busy)
    }
}

impl From<Outcome> for Refusal {
    fn from(outcome: Outcome) -> Self {
        let problem = outcome.problem("");
        let message = match problem.detail {
            Some(detail) => format!("{}: {detail}", problem.title).into(),
            None => Cow::Borrowed(problem.title),
        };
        Self { says_more: false, ..Self::of(outcome, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_becomes_one_line() {
        for (body, expected) in [
            (&br#"{"title":"The function is busy","detail":"limit 1 reached","hint":"retry","request_id":"a"}"#[..],
             "The function is busy: limit 1 reached (retry)"),
            (br#"{"title":"Bad Request","detail":"no input \"x\""}"#, "no input \"x\""),
            (b"<html>", "the model's function answered with status 400"),
        ] {
            assert_eq!(Refusal::from_problem(400, body, None).message, expected);
        }
    }
}
