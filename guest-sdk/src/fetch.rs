//! Calls to others: to what the function was allowed when it was deployed, and to nothing else.
//!
//! ```no_run
//! use std::time::Duration;
//! use mayfly::{Request, Response, Result, fetch};
//!
//! fn weather(_: Request) -> Result<Response> {
//!     let answer = fetch::get("https://api.example.com/v1/today")?
//!         .header("accept", "application/json")
//!         .timeout(Duration::from_millis(800))
//!         .send()?;
//!     Ok(fetch::pipe(answer))
//! }
//! ```
//!
//! Deploy it with `--outbound 'https://api.example.com/v1/...'`. Redirects are not followed: an answer of 302 is an answer.
//! Names and addresses are the host's affair; so is TLS, and so are headers with secrets that the deploy adds by
//! `--outbound-header`.

use std::io::{self, Read, Write};
use std::time::Duration;
use std::{fmt, mem};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mayfly_abi::{ERR_CLOSED, ERR_FETCH_LOOP, FetchLine, HeadWriter, ResponseHead};

use crate::error::ClientGone;
use crate::{Body, Error as Shown, Response, Result, host};

/// Bytes moved at once.
const CHUNK: usize = 16 * 1024;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: i32,
    words: String,
}

impl Error {
    fn of(handle: i32, code: i32) -> Self {
        let mut words = vec![0; 512];
        let mut length = host::fetch_error(handle, &mut words);
        if length > words.len() {
            words.resize(length, 0);
            length = host::fetch_error(handle, &mut words);
        }
        words.truncate(length);
        Self { code, words: String::from_utf8_lossy(&words).into_owned() }
    }

    /// -10 denied, -11 name, -12 address, -13 connect, -14 TLS, -15 timeout, -16 too large, -17 budget, -18 closed, -19 loop.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (fetch {})", self.words, self.code)
    }
}

impl std::error::Error for Error {}

/// A failure as what a handler returns: functions that call each other in a circle are 508, all others the function's own.
fn failed(handle: i32, code: i32) -> anyhow::Error {
    let error = Error::of(handle, code);
    if code == ERR_FETCH_LOOP {
        return Shown::new(StatusCode::LOOP_DETECTED, "functions call each other in a circle")
            .with_source(error)
            .into();
    }
    error.into()
}

/// A call that is not made yet.
#[derive(Debug, Clone)]
pub struct Call {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout_ms: u32,
}

/// A call by GET.
///
/// # Errors
/// When the URL has no scheme.
pub fn get(url: impl Into<String>) -> Result<Call> {
    call("GET", url)
}

/// A call by POST, with this body.
///
/// # Errors
/// When the URL has no scheme.
pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Result<Call> {
    Ok(call("POST", url)?.body(body))
}

/// A call by any method.
///
/// # Errors
/// When the URL has no scheme.
pub fn call(method: &str, url: impl Into<String>) -> Result<Call> {
    let url = url.into();
    if !url.contains("://") {
        anyhow::bail!("'{url}' is no URL to call: it begins with https://, http:// or mayfly://");
    }
    let (headers, body) = (Vec::new(), Vec::new());
    Ok(Call { method: method.to_owned(), url, headers, body, timeout_ms: 0 })
}

/// Makes all of these calls at once, and waits for the heads of their answers, which come in the order of the calls.
pub fn all(calls: impl IntoIterator<Item = Call>) -> Vec<Result<Answer>> {
    let started: Vec<_> = calls.into_iter().map(Call::start).collect();
    started.into_iter().map(|call| call?.answer()).collect()
}

/// An answer as the function's own response: its status, its headers, and its body, which does not pass the function's
/// memory.
#[must_use]
pub fn pipe(mut answer: Answer) -> Response {
    let (status, headers) = (answer.status, mem::take(&mut answer.headers));
    let mut response = Response::new(answer.into());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

impl Call {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends these bytes.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Until the answer is read whole; without it the host's clocks hold alone.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// Makes the call and waits for its answer's head.
    ///
    /// # Errors
    /// [`Error`] says why there is no answer. One of any status is an answer.
    pub fn send(self) -> Result<Answer> {
        self.start()?.answer()
    }

    /// Makes the call, and does not wait.
    ///
    /// # Errors
    /// [`Error`] if it is not to be made.
    pub fn start(self) -> Result<Pending> {
        let frame = self.frame()?;
        let handle = host::fetch_start(&frame, &self.body).map_err(|code| failed(-1, code))?;
        Ok(Pending(Handle(handle)))
    }

    /// Makes the call with a body that is written piece by piece. A header `content-length` says how long it will be.
    ///
    /// # Errors
    /// [`Error`] if it is not to be made.
    pub fn stream(self) -> Result<Upload> {
        let handle = host::fetch_begin(&self.frame()?).map_err(|code| failed(-1, code))?;
        Ok(Upload(Handle(handle)))
    }

    fn frame(&self) -> Result<Vec<u8>> {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4);
        let mut frame = vec![0; 16 + self.method.len() + self.url.len() + headers.sum::<usize>()];
        let line = FetchLine {
            method: self.method.as_bytes(),
            url: self.url.as_bytes(),
            timeout_ms: self.timeout_ms,
            flags: 0,
        };
        let long = |_| anyhow::anyhow!("a part of the call is longer than 65,535 bytes");
        let mut writer = HeadWriter::fetch(&mut frame, &line).map_err(long)?;
        for (name, value) in &self.headers {
            writer.header(name.as_bytes(), value).map_err(long)?;
        }
        let length = writer.finish();
        frame.truncate(length);
        Ok(frame)
    }
}

/// A call's place in the host; dropping it ends the call.
#[derive(Debug)]
struct Handle(i32);

impl Drop for Handle {
    fn drop(&mut self) {
        host::fetch_drop(self.0);
    }
}

/// A call under way.
#[derive(Debug)]
pub struct Pending(Handle);

impl Pending {
    /// Waits for the answer's head.
    ///
    /// # Errors
    /// [`Error`] says why there is no answer.
    pub fn answer(self) -> Result<Answer> {
        let Self(handle) = self;
        let mut frame = vec![0; 1024];
        let refused = |code| failed(handle.0, code);
        let mut length = host::fetch_head(handle.0, &mut frame).map_err(refused)?;
        if length > frame.len() {
            frame.resize(length, 0);
            length = host::fetch_head(handle.0, &mut frame).map_err(refused)?;
        }
        let head = frame.get(..length).and_then(|frame| ResponseHead::decode(frame).ok());
        let head =
            head.ok_or_else(|| anyhow::anyhow!("the host's frame of an answer is malformed"))?;
        let mut headers = HeaderMap::with_capacity(head.headers().len());
        for (name, value) in head.headers() {
            headers.append(HeaderName::from_bytes(name)?, HeaderValue::from_bytes(value)?);
        }
        Ok(Answer { status: StatusCode::from_u16(head.status)?, headers, handle })
    }
}

/// The index of the first of these calls whose answer is there, or which has failed; nothing if none is in time.
///
/// # Errors
/// When there are more than the function may make at once.
pub fn first_of(calls: &[Pending], timeout: Option<Duration>) -> Result<Option<usize>> {
    let handles: Vec<i32> = calls.iter().map(|call| call.0.0).collect();
    let timeout = timeout.map_or(-1, |time| i32::try_from(time.as_millis()).unwrap_or(i32::MAX));
    host::fetch_wait(&handles, timeout).map_err(|code| failed(-1, code))
}

/// The body of a call that is written piece by piece.
#[derive(Debug)]
pub struct Upload(Handle);

impl Upload {
    /// Ends the body.
    ///
    /// # Errors
    /// When the call is gone.
    pub fn finish(self) -> Result<Pending> {
        host::fetch_finish(self.0.0).map_err(|code| failed(self.0.0, code))?;
        Ok(Pending(self.0))
    }
}

impl Write for Upload {
    /// Waits while the origin is slow.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        host::fetch_write(self.0.0, bytes)
            .map_err(|code| io::Error::other(Error::of(self.0.0, code)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer: its head, and a body that is read piece by piece.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    handle: Handle,
}

impl Answer {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The rest of its body, if it has no more than `cap` bytes.
    ///
    /// # Errors
    /// [`Error`] if it breaks off, and an error if it is longer.
    pub fn bytes_up_to(mut self, cap: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
        self.by_ref().take(most).read_to_end(&mut bytes)?;
        anyhow::ensure!(bytes.len() <= cap, "the answer is longer than {cap} bytes");
        Ok(bytes)
    }

    /// The rest of its body, up to [`Body::DEFAULT_CAP`].
    ///
    /// # Errors
    /// As above.
    pub fn bytes(self) -> Result<Vec<u8>> {
        self.bytes_up_to(Body::DEFAULT_CAP)
    }

    /// The rest of its body as text, up to [`Body::DEFAULT_CAP`].
    ///
    /// # Errors
    /// As above, and when it is not UTF-8.
    pub fn text(self) -> Result<String> {
        Ok(String::from_utf8(self.bytes()?)?)
    }

    /// The rest of its body as JSON, up to [`Body::DEFAULT_CAP`].
    ///
    /// # Errors
    /// As above, and when the JSON does not fit `T`.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        Ok(serde_json::from_slice(&self.bytes()?)?)
    }
}

impl Read for Answer {
    /// Waits for bytes and copies up to `buffer.len()` of them; 0 is the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        host::fetch_read(self.handle.0, buffer)
            .map_err(|code| io::Error::other(Error::of(self.handle.0, code)))
    }
}

/// The rest of the answer's body, sent to the client without passing the function's memory.
impl From<Answer> for Body {
    fn from(mut answer: Answer) -> Self {
        Self::stream(move |out| {
            if out.is_client() {
                return host::fetch_pipe(answer.handle.0).map_err(|code| match code {
                    ERR_CLOSED => ClientGone.into(),
                    code => failed(answer.handle.0, code),
                });
            }
            let mut chunk = vec![0; CHUNK];
            loop {
                let n = answer.read(&mut chunk)?;
                if n == 0 {
                    return Ok(());
                }
                out.write_all(&chunk[..n])?;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use mayfly_abi::FetchHead;

    use super::*;

    #[test]
    fn a_call_is_framed_as_it_was_said() {
        let call = post("https://a.example/x", "body").unwrap();
        let call = call.header("accept", "text/plain").timeout(Duration::from_millis(800));
        let frame = call.frame().unwrap();
        let head = FetchHead::decode(&frame).unwrap();
        assert_eq!((head.line.method, head.line.timeout_ms), (&b"POST"[..], 800));
        assert!(head.headers().eq([(&b"accept"[..], &b"text/plain"[..])]));
        assert!(get("a.example").is_err());
        assert!(get("https://a.example").unwrap().header("a", vec![b'b'; 70_000]).send().is_err());
    }

    #[test]
    fn without_a_host_nothing_is_allowed() {
        let error = get("https://a.example").unwrap().send().unwrap_err();
        assert_eq!(error.downcast_ref::<Error>().unwrap().code(), -10);
    }
}
