//! Refusals, as RFC 9457 wants them.

use http::{HeaderValue, Response, header};
use mayfly_publish::PublishError;
use serde::Serialize;

use super::body::AdminBody;
use super::control::Refused;

/// A refusal; boxed, because it is the rare half of many a `Result`.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Problem(Box<Fields>);

#[derive(Debug, Serialize)]
struct Fields {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The stage of a publish that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    /// What the function's init wrote before it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    init_log: Option<String>,
    #[serde(skip)]
    allow: Option<&'static str>,
    #[serde(skip)]
    close: bool,
}

impl Problem {
    /// `kind` follows `urn:mayfly:admin:`, and is stable.
    pub(super) fn new(status: u16, kind: &str, title: &str) -> Self {
        Self(Box::new(Fields {
            kind: format!("urn:mayfly:admin:{kind}"),
            title: title.into(),
            status,
            detail: None,
            hint: None,
            stage: None,
            init_log: None,
            allow: None,
            close: false,
        }))
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(super) fn allow(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// Closes the connection after the response: there is a body that nobody will read.
    pub(super) fn close(mut self) -> Self {
        self.0.close = true;
        self
    }

    pub(super) fn response(self) -> Response<AdminBody> {
        // Strings and numbers always serialise.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(AdminBody::Whole(Some(body.into())));
        *response.status_mut() =
            http::StatusCode::from_u16(self.0.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        let fixed = HeaderValue::from_static;
        headers.insert(header::CONTENT_TYPE, fixed("application/problem+json"));
        if let Some(allow) = self.0.allow {
            headers.insert(header::ALLOW, fixed(allow));
        }
        if self.0.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, fixed("Bearer"));
        }
        if self.0.status == 503 {
            headers.insert(header::RETRY_AFTER, PublishError::RETRY_AFTER_S.into());
        }
        if self.0.close {
            headers.insert(header::CONNECTION, fixed("close"));
        }
        response
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let kind = match (refused.kind, &refused.stage) {
            (Some(kind), _) => kind.to_owned(),
            (None, Some(stage)) => format!("publish-{stage}"),
            (None, None) => "refused".to_owned(),
        };
        let mut problem = Self::new(refused.status, &kind, "Mayfly did not do that");
        if let Some(stage) = &refused.stage {
            problem.0.title = format!("The deploy failed at the stage '{stage}'");
        }
        problem.0.detail = Some(refused.why);
        problem.0.hint = refused.hint;
        problem.0.stage = refused.stage;
        problem.0.init_log = refused.init_log;
        problem
    }
}
