//! Just enough of HTTP/1.1 to know where a response ends: hyper's own parser for the head, lengths and chunks for the
//! body. A whole client costs about what a server does, and would be what a load on a fast server measures.

/// Bytes of one response at most; a server that sends more is broken.
const RESPONSE_BYTES: usize = 64 << 20;
const HEADERS: usize = 64;

/// Name and value, in the order they came; names in lower case.
pub type Headers = Vec<(String, String)>;

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Headers,
    /// Its body, chunks joined.
    pub body: Vec<u8>,
}

/// What a reader knows of a response so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Partial,
    /// The response takes this many bytes.
    Complete {
        /// Its length on the wire.
        length: usize,
        /// Its status.
        status: u16,
        /// Whether the server closes the connection now.
        close: bool,
    },
}

/// Where the head of a response ended, so that a long body does not have it parsed again for each read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reader {
    head: Option<Head>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    status: u16,
    close: bool,
    framing: Framing,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

impl Reader {
    /// Looks at everything received of one response.
    ///
    /// # Errors
    /// When it is not HTTP/1.1 with a length or in chunks.
    pub fn read(&mut self, bytes: &[u8]) -> anyhow::Result<Progress> {
        anyhow::ensure!(
            bytes.len() <= RESPONSE_BYTES,
            "a response of more than {RESPONSE_BYTES} bytes"
        );
        let head = match self.head {
            Some(head) => head,
            None => match parse(bytes)? {
                Some((head, _)) => *self.head.insert(head),
                None => return Ok(Progress::Partial),
            },
        };
        let body = &bytes[head.length..];
        let body = match head.framing {
            Framing::Length(n) => (body.len() >= n).then_some(n),
            Framing::Chunked => unchunk(body, |_| {})?,
        };
        let Some(body) = body else { return Ok(Progress::Partial) };
        self.head = None;
        let length = head.length + body;
        Ok(Progress::Complete { length, status: head.status, close: head.close })
    }
}

/// Takes a complete response apart.
///
/// # Errors
/// When it is malformed or not complete.
pub fn decode(bytes: &[u8]) -> anyhow::Result<Response> {
    let Some((head, headers)) = parse(bytes)? else {
        anyhow::bail!("a response without a whole head")
    };
    let rest = &bytes[head.length..];
    let mut body = Vec::new();
    match head.framing {
        Framing::Length(n) => body.extend_from_slice(rest.get(..n).unwrap_or(rest)),
        Framing::Chunked => {
            unchunk(rest, |chunk| body.extend_from_slice(chunk))?;
        }
    }
    Ok(Response { status: head.status, headers, body })
}

fn parse(bytes: &[u8]) -> anyhow::Result<Option<(Head, Headers)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes)? else { return Ok(None) };
    let status = response.code.unwrap_or(0);
    let find = |name: &str| {
        response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    };
    let chunked = find("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case(b"chunked"));
    let framing = match find("content-length") {
        _ if chunked => Framing::Chunked,
        Some(value) => Framing::Length(std::str::from_utf8(value)?.trim().parse()?),
        None if status == 204 || status == 304 => Framing::Length(0),
        None => anyhow::bail!("a response with neither a length nor chunks"),
    };
    let close = find("connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
    let owned = response
        .headers
        .iter()
        .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()));
    // Only `decode` needs them; a head of a few headers costs well under a microsecond.
    let owned = owned.collect();
    Ok(Some((Head { length, status, close, framing }, owned)))
}

/// Walks over chunks; gives how many bytes they and their end take, or `None` if the end is not there yet.
fn unchunk(mut bytes: &[u8], mut take: impl FnMut(&[u8])) -> anyhow::Result<Option<usize>> {
    let whole = bytes.len();
    loop {
        let (start, size) = match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => anyhow::bail!("a malformed chunk"),
        };
        let size = usize::try_from(size)?;
        anyhow::ensure!(size <= RESPONSE_BYTES, "a chunk of {size} bytes");
        let end = start + size + 2;
        if bytes.len() < end {
            return Ok(None);
        }
        take(&bytes[start..start + size]);
        bytes = &bytes[end..];
        if size == 0 {
            return Ok(Some(whole - bytes.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_where_its_length_or_last_chunk_says() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP";
        let chunked = b"HTTP/1.1 404 No\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        for (wire, length, status, close) in
            [(&plain[..], plain.len() - 4, 200, false), (&chunked[..], chunked.len(), 404, true)]
        {
            let mut reader = Reader::default();
            for cut in 0..length {
                assert_eq!(reader.read(&wire[..cut]).unwrap(), Progress::Partial);
            }
            assert_eq!(reader.read(wire).unwrap(), Progress::Complete { length, status, close });
            let whole = decode(&wire[..length]).unwrap();
            assert_eq!((whole.status, whole.body.as_slice()), (status, &b"abc"[..]));
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for wire in [
            &b"SMTP ready\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(Reader::default().read(wire).is_err());
        }
    }
}
