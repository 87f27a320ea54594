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
    outcome: Option<Outcome>,
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
    pub(super) fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), retry_after: None, outcome: None }
    }

    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(HeaderValue::from(seconds));
        self
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
        Self { status, message: message.into(), retry_after, outcome: None }
    }

    /// What goes into the metrics and the log, for a request that reached no guest.
    pub(super) fn outcome(&self) -> Outcome {
        if let Some(outcome) = &self.outcome {
            return outcome.clone();
        }
        match self.status {
            404 => Outcome::NotFound,
            405 => Outcome::Unroutable,
            408 => Outcome::BodyTimeout,
            500 => Outcome::Internal(self.message.clone().into_owned()),
            502 => Outcome::BadResponse(self.message.clone().into_owned()),
            503 => Outcome::NodeFull,
            _ => Outcome::BadRequest("not an inference request that the model can answer"),
        }
    }

    /// What the client is told, status and words, where its outcome does not say it.
    pub(super) fn told(&self) -> Option<(u16, &str)> {
        let said = self.outcome.is_some() || matches!(self.status, 500 | 502);
        (!said).then_some((self.status, &*self.message))
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
        Self::new(error.status(), error.to_string())
    }
}

impl From<NoRoom> for Refusal {
    fn from(_: NoRoom) -> Self {
        let busy = "too much of inference requests is held for this model or client; retry soon";
        Self::new(503, busy).retry_after(1)
    }
}

impl From<Outcome> for Refusal {
    fn from(outcome: Outcome) -> Self {
        let problem = outcome.problem("");
        let message = match problem.detail {
            Some(detail) => format!("{}: {detail}", problem.title).into(),
            None => Cow::Borrowed(problem.title),
        };
        let retry_after = outcome.retry_after_s().map(HeaderValue::from);
        Self { status: outcome.status(), message, retry_after, outcome: Some(outcome) }
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
