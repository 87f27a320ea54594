use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};

use mayfly_abi::ERR_CLOSED;

use crate::error::ClientGone;
use crate::{Error, Result, host};

/// Bytes moved at once between request and response. Each one dirties memory that the host has to
/// restore, so larger is not better: 16 KiB are four pages.
const CHUNK: usize = 16 * 1024;

/// The body of a [`Request`](crate::Request) or a [`Response`](crate::Response).
///
/// A request's body arrives while the function runs: read it in pieces by [`Read`], or whole by
/// [`bytes`](Self::bytes) and [`text`](Self::text). A response's body is bytes that are ready, a
/// [`stream`](Self::stream) written piece by piece, or the request's body sent back.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    content_type: Option<&'static str>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Bytes {
        bytes: Cow<'static, [u8]>,
        read: usize,
    },
    /// What the client sends. An instance has one request, so there is nothing to tell apart.
    Incoming {
        length_hint: usize,
    },
    Stream(StreamFn),
}

type StreamFn = Box<dyn FnOnce(&mut BodyWriter<'_>) -> Result<()>>;

impl Body {
    /// The most that [`bytes`](Self::bytes), [`text`](Self::text) and `json` read, in bytes: 16 MiB.
    pub const DEFAULT_CAP: usize = 16 << 20;

    /// A body without bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// A response body that is written while the client receives it: `write` is called once the
    /// response's head is on its way.
    ///
    /// A write waits while the client is slow, and fails when the client is gone: let that error
    /// out with `?`. An error of any other kind cuts the response off, as its head is gone already.
    ///
    /// ```
    /// use std::io::Write;
    /// # use mayfly::Body;
    /// let body = Body::stream(|out| {
    ///     for n in 0..3 {
    ///         writeln!(out, "line {n}")?;
    ///     }
    ///     Ok(())
    /// });
    /// assert_eq!(body.text()?, "line 0\nline 1\nline 2\n");
    /// # mayfly::anyhow::Ok(())
    /// ```
    pub fn stream(write: impl FnOnce(&mut BodyWriter<'_>) -> Result<()> + 'static) -> Self {
        Self { kind: Kind::Stream(Box::new(write)), content_type: None }
    }

    /// A response body of JSON. The response gets `Content-Type: application/json` unless it has one.
    ///
    /// # Errors
    /// When `value` cannot be serialised: a map whose keys are not strings, for instance.
    #[cfg(feature = "json")]
    pub fn from_json(value: &impl serde::Serialize) -> Result<Self> {
        let mut body = Self::from(serde_json::to_vec(value)?);
        body.content_type = Some("application/json");
        Ok(body)
    }

    /// The whole body, up to [`DEFAULT_CAP`](Self::DEFAULT_CAP).
    ///
    /// # Errors
    /// An [`Error`] with status 413 when it is longer, 400 when the client breaks off.
    pub fn bytes(self) -> Result<Vec<u8>> {
        self.bytes_up_to(Self::DEFAULT_CAP)
    }

    /// The whole body, if it has no more than `cap` bytes.
    ///
    /// # Errors
    /// An [`Error`] with status 413 when it is longer, 400 when the client breaks off.
    pub fn bytes_up_to(mut self, cap: usize) -> Result<Vec<u8>> {
        let hint = match &self.kind {
            Kind::Empty | Kind::Stream(_) => 0,
            Kind::Bytes { bytes, read } => bytes.len() - read,
            Kind::Incoming { length_hint } => *length_hint,
        };
        let too_large = || Error::too_large(format!("the body is longer than {cap} bytes"));
        if hint > cap {
            return Err(too_large().into());
        }
        if let Kind::Bytes { bytes, read: 0 } = self.kind {
            return Ok(bytes.into_owned());
        }
        // One byte over tells a body that ends at the cap from one that goes on.
        let mut bytes = Vec::with_capacity(hint);
        let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
        self.by_ref().take(most).read_to_end(&mut bytes)?;
        if bytes.len() > cap {
            return Err(too_large().into());
        }
        Ok(bytes)
    }

    /// The whole body as text, up to [`DEFAULT_CAP`](Self::DEFAULT_CAP).
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and an [`Error`] with status 400 when it is not UTF-8.
    pub fn text(self) -> Result<String> {
        let text = String::from_utf8(self.bytes()?);
        Ok(text.map_err(|error| Error::bad_request("the body is not UTF-8").with_source(error))?)
    }

    /// The whole body as JSON, up to [`DEFAULT_CAP`](Self::DEFAULT_CAP).
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and an [`Error`] with status 400 that says where and why the JSON does not fit `T`.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        let parsed = serde_json::from_slice(&self.bytes()?);
        Ok(parsed.map_err(|error| Error::bad_request(format!("the body's JSON: {error}")))?)
    }

    /// What the client sends; `length_hint` is its `Content-Length`, or 0.
    pub(crate) fn incoming(length_hint: usize) -> Self {
        Self { kind: Kind::Incoming { length_hint }, content_type: None }
    }

    pub(crate) fn with_content_type(mut self, content_type: &'static str) -> Self {
        self.content_type = Some(content_type);
        self
    }

    /// The `Content-Type` for a response that names none.
    pub(crate) fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }

    /// The bytes that can go out together with the head.
    pub(crate) fn ready(&self) -> &[u8] {
        match &self.kind {
            Kind::Bytes { bytes, read } => &bytes[*read..],
            _ => &[],
        }
    }

    /// Writes what is not [`ready`](Self::ready).
    pub(crate) fn finish(self, out: &mut BodyWriter<'_>) -> Result<()> {
        match self.kind {
            Kind::Empty | Kind::Bytes { .. } => Ok(()),
            Kind::Stream(write) => write(out),
            Kind::Incoming { .. } => {
                let mut chunk = vec![0; CHUNK];
                loop {
                    let n = read_incoming(&mut chunk)?;
                    if n == 0 {
                        return Ok(());
                    }
                    out.write_all(&chunk[..n])?;
                }
            }
        }
    }
}

fn read_incoming(buffer: &mut [u8]) -> io::Result<usize> {
    host::request_body_read(buffer).map_err(|_| {
        let error = Error::bad_request("the request's body broke off");
        io::Error::new(io::ErrorKind::ConnectionAborted, error)
    })
}

impl Read for Body {
    /// Waits for bytes and copies up to `buffer.len()` of them; 0 is the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Kind::Stream(_) = &self.kind {
            let mut bytes = Vec::new();
            if let Kind::Stream(write) = std::mem::take(&mut self.kind) {
                write(&mut BodyWriter(Sink::Memory(&mut bytes))).map_err(io::Error::other)?;
            }
            self.kind = Kind::Bytes { bytes: bytes.into(), read: 0 };
        }
        match &mut self.kind {
            Kind::Empty | Kind::Stream(_) => Ok(0),
            Kind::Incoming { .. } => read_incoming(buffer),
            Kind::Bytes { bytes, read } => {
                let n = (&bytes[*read..]).read(buffer)?;
                *read += n;
                Ok(n)
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Empty => f.write_str("Body(empty)"),
            Kind::Bytes { bytes, read } => write!(f, "Body({} bytes)", bytes.len() - read),
            Kind::Incoming { .. } => f.write_str("Body(the request's)"),
            Kind::Stream(_) => f.write_str("Body(a stream)"),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Cow::<'static, [u8]>::from(bytes).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Cow::from(bytes).into()
    }
}

impl From<Cow<'static, [u8]>> for Body {
    fn from(bytes: Cow<'static, [u8]>) -> Self {
        Self { kind: Kind::Bytes { bytes, read: 0 }, content_type: None }
    }
}

/// The response gets `Content-Type: text/plain; charset=utf-8` unless it has one.
impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::from(text.as_bytes()).with_content_type("text/plain; charset=utf-8")
    }
}

/// The response gets `Content-Type: text/plain; charset=utf-8` unless it has one.
impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes()).with_content_type("text/plain; charset=utf-8")
    }
}

/// Where a [`Body::stream`] writes. Each write is sent at once; put a [`std::io::BufWriter`] over it for many small ones.
#[derive(Debug)]
pub struct BodyWriter<'a>(Sink<'a>);

#[derive(Debug)]
enum Sink<'a> {
    Client,
    Memory(&'a mut Vec<u8>),
}

impl BodyWriter<'_> {
    pub(crate) fn client() -> Self {
        Self(Sink::Client)
    }

    /// Whether it writes to the client, and not into memory.
    pub(crate) fn is_client(&self) -> bool {
        matches!(self.0, Sink::Client)
    }
}

impl Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Sink::Memory(memory) => memory.extend_from_slice(bytes),
            Sink::Client => host::response_write(bytes).map_err(|refused| match refused {
                ERR_CLOSED => io::Error::new(io::ErrorKind::BrokenPipe, ClientGone),
                code => io::Error::other(format!("the host refused to take the body ({code})")),
            })?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::find;

    #[test]
    fn a_body_is_read_in_pieces_then_whole() {
        let mut body = Body::from("hello");
        let mut two = [0; 2];
        body.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"he");
        assert_eq!(body.text().unwrap(), "llo");
    }

    #[test]
    fn a_body_at_the_cap_passes_and_one_byte_more_is_413() {
        assert_eq!(Body::from("four").bytes_up_to(4).unwrap(), b"four");
        let stream = |n| Body::stream(move |out| Ok(out.write_all(&vec![0; n])?));
        assert_eq!(stream(4).bytes_up_to(4).unwrap().len(), 4);
        for body in [Body::from("fives"), stream(5)] {
            let error = body.bytes_up_to(4).unwrap_err();
            assert_eq!(find::<Error>(&error).unwrap().status(), 413);
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_the_clients_fault() {
        let error = Body::from(vec![0xff]).text().unwrap_err();
        assert_eq!(find::<Error>(&error).unwrap().status(), 400);
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_goes_both_ways_and_says_where_it_is_wrong() {
        let body = Body::from_json(&[1, 2]).unwrap();
        assert_eq!(body.content_type(), Some("application/json"));
        assert_eq!(body.json::<Vec<u8>>().unwrap(), [1, 2]);
        let error = Body::from("[1,]").json::<Vec<u8>>().unwrap_err();
        assert!(error.to_string().contains("line 1 column 4"), "{error}");
    }
}
