use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use http::StatusCode;

/// An error that the client should see: its status and its detail become an
/// [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) `application/problem+json` response.
///
/// Every other error from [`Function::handle`](crate::Function::handle) is the function's own
/// fault: it goes to the function's log and the client gets a 502 that says nothing about it.
///
/// ```
/// use mayfly::{Error, Result};
///
/// fn page(query: Option<&str>) -> Result<u32> {
///     let query = query.ok_or_else(|| Error::bad_request("say which page: ?page=7"))?;
///     Ok(query.parse().map_err(|_| Error::bad_request("page must be a number"))?)
/// }
/// # assert!(page(None).is_err());
/// ```
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    detail: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error answered with `status`; `detail` is shown to the client.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), source: None }
    }

    /// 400: the request makes no sense.
    #[must_use]
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: no such thing here.
    #[must_use]
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405: another method is needed; name it in `detail`.
    #[must_use]
    pub fn method_not_allowed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    /// 413: the body is larger than this function takes.
    #[must_use]
    pub fn too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 415: the body is of a kind that this function does not read.
    #[must_use]
    pub fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 422: well formed, but not what this function can work with.
    #[must_use]
    pub fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Adds what caused it. Logged with the error when its status is 500 or more; never shown to the client.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The status that the client gets.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body that the client gets.
    pub(crate) fn problem(&self) -> String {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut body = String::with_capacity(80 + title.len() + self.detail.len());
        body.push_str(r#"{"type":"about:blank","title":""#);
        body.push_str(title);
        body.push_str(r#"","status":"#);
        body.push_str(self.status.as_str());
        body.push_str(r#","detail":""#);
        escape_json(&self.detail, &mut body);
        body.push_str("\"}");
        body
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The client went away while the response was written. Not worth a line in the log: nobody is there to be answered.
#[derive(Debug)]
pub(crate) struct ClientGone;

impl fmt::Display for ClientGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client is gone")
    }
}

impl StdError for ClientGone {}

/// The first `E` in a chain. An [`io::Error`] hides the error that it was made from, so that is looked at too.
pub(crate) fn find<E: StdError + 'static>(error: &anyhow::Error) -> Option<&E> {
    error.chain().find_map(|link| {
        link.downcast_ref::<E>()
            .or_else(|| link.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<E>())
    })
}

/// `text` as a JSON string.
#[cfg(feature = "onnx")]
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    escape_json(text, &mut out);
    out.push('"');
    out
}

fn escape_json(text: &str, out: &mut String) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if u32::from(c) < 0x20 => {
                let code = c as usize;
                out.push_str("\\u00");
                out.push(HEX[code >> 4].into());
                out.push(HEX[code & 15].into());
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_problem_is_json_whatever_the_detail_holds() {
        let problem = Error::bad_request("a \"b\" \\ \n \u{1} é").problem();
        assert_eq!(
            problem,
            "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\
             \"detail\":\"a \\\"b\\\" \\\\ \\n \\u0001 é\"}"
        );
    }

    #[test]
    fn a_status_is_found_through_context_and_io_errors() {
        let inner = || Error::not_found("no such page");
        let plain = anyhow::Error::from(inner());
        let wrapped = Err::<(), _>(inner()).context("one").context("two").unwrap_err();
        let io = anyhow::Error::from(io::Error::other(inner())).context("reading");
        for error in [plain, wrapped, io] {
            assert_eq!(find::<Error>(&error).unwrap().status(), StatusCode::NOT_FOUND);
        }
        assert!(find::<Error>(&anyhow::anyhow!("mine")).is_none());
    }
}
