//! Where each HTTP/1 message on a connection begins and ends, read as strictly as the RFC allows.
//!
//! Request smuggling needs two readers of one byte stream that disagree about where a message ends. Hyper is a lenient
//! reader (a bare LF ends a line, `Content-Length` may be repeated or stand beside `Transfer-Encoding`), and so are
//! many proxies, each in its own way. This reader comes before hyper and lets through only what all of them read alike;
//! at the first byte that is in doubt it stops, and the socket hands hyper a NUL in its place, which is a 400 in any
//! state. It costs one pass over heads and none over bodies.

use mayfly_core::limits::node;

/// The strict reader of one connection.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    head: Head,
    partial: Partial,
    /// A head has ended in this read.
    ended: bool,
}

/// Bytes of a header that are looked at: no length that is taken is longer, and the rest of the line is hyper's alone.
const LINE_START: usize = 256;

/// A line that is not complete yet; its end is in a later read.
#[derive(Debug, Default)]
struct Partial {
    /// As much of it as matters.
    start: Vec<u8>,
    /// Bytes of all of it, and the last one.
    length: usize,
    last: u8,
}

/// What has been read of a head that matters for framing.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    lines: usize,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Lines up to the empty one.
    #[default]
    Head,
    /// So many bytes of a body or chunk; the flag says that it is a chunk.
    Bytes(u64, bool),
    /// The CR, then the LF, behind a chunk's bytes.
    ChunkEnd(u8),
    /// `size[;extension]` up to its line end.
    ChunkSize,
    /// Lines up to the empty one, behind the last chunk.
    Trailers,
}

/// What the bytes of one read held.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Heads only.
    Heads,
    /// Bytes of a body, or a head that announces one.
    Body,
    /// Bytes behind a whole request without a body: hyper leaves them where they are until it has answered.
    Ahead,
}

impl Framing {
    /// Bytes of the head that has begun and not ended; of trailers and sizes of chunks as well, which hyper bounds.
    pub fn head_bytes(&self) -> usize {
        self.head.bytes
    }

    /// Whether the last message is whole, and no other has begun.
    pub fn is_between(&self) -> bool {
        self.state == State::Head && self.head.bytes == 0
    }

    /// Follows the stream through `bytes`.
    ///
    /// # Errors
    /// The index of the byte at which it can no longer be followed without doubt.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Seen, usize> {
        let (mut at, mut seen) = (0, Seen::Heads);
        self.ended = false;
        while at < bytes.len() {
            if self.ended && seen == Seen::Heads {
                seen = Seen::Ahead;
            }
            let rest = &bytes[at..];
            match self.state {
                State::Bytes(left, chunk) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    at += n;
                    self.state = match (left - n as u64, chunk) {
                        (0, true) => State::ChunkEnd(b'\r'),
                        (0, false) => State::Head,
                        (left, _) => State::Bytes(left, chunk),
                    };
                }
                State::ChunkEnd(expected) => {
                    if rest[0] != expected {
                        return Err(at);
                    }
                    at += 1;
                    self.state =
                        if expected == b'\r' { State::ChunkEnd(b'\n') } else { State::ChunkSize };
                }
                State::Head | State::ChunkSize | State::Trailers => {
                    let Some(end) = rest.iter().position(|&b| b == b'\n') else {
                        self.head.bytes += rest.len();
                        self.keep(rest);
                        break;
                    };
                    self.head.bytes += end + 1;
                    self.line(&rest[..end]).map_err(|()| at)?;
                    at += end + 1;
                }
            }
            if self.state != State::Head {
                seen = Seen::Body;
            }
        }
        if self.state != State::Head {
            seen = Seen::Body;
        }
        Ok(seen)
    }

    /// Remembers the start of a line: a client that never ends one would have its head kept here and in hyper.
    fn keep(&mut self, more: &[u8]) {
        let most = match self.state {
            State::ChunkSize => node::REQUEST_HEAD_BYTES + 1,
            _ => LINE_START,
        };
        let partial = &mut self.partial;
        let room = most.saturating_sub(partial.start.len());
        partial.start.extend_from_slice(&more[..more.len().min(room)]);
        partial.length = partial.length.saturating_add(more.len());
        partial.last = more.last().copied().unwrap_or(partial.last);
    }

    /// One line, without its LF.
    fn line(&mut self, end: &[u8]) -> Result<(), ()> {
        if self.partial.length == 0 {
            return self.whole_line(end);
        }
        self.keep(end);
        let Partial { start, length, last } = std::mem::take(&mut self.partial);
        if length > start.len() { self.long_line(&start, last) } else { self.whole_line(&start) }
    }

    /// A line of which only the start is looked at, and that ends in this byte.
    fn long_line(&mut self, start: &[u8], last: u8) -> Result<(), ()> {
        if last != b'\r' || self.state == State::ChunkSize {
            return Err(());
        }
        if self.state == State::Head {
            self.head.lines += 1;
            if self.head.lines > 1 {
                return self.header(start, true);
            }
        }
        Ok(())
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), ()> {
        if let (Some((start, [.., last])), false) =
            (line.split_at_checked(LINE_START), self.state == State::ChunkSize)
        {
            return self.long_line(start, *last);
        }
        // A bare LF is a line end to some and a part of the line to others.
        let line = line.strip_suffix(b"\r").ok_or(())?;
        match self.state {
            State::ChunkSize => self.chunk_size(line),
            State::Trailers => {
                if line.is_empty() {
                    self.head = Head::default();
                    self.state = State::Head;
                }
                Ok(())
            }
            State::Head if line.is_empty() => {
                // Empty lines before a request are what some old clients send behind a body.
                if self.head.lines > 0 {
                    self.end_of_head();
                }
                Ok(())
            }
            State::Head | State::Bytes(..) | State::ChunkEnd(_) => {
                self.head.lines += 1;
                if self.head.lines == 1 { Ok(()) } else { self.header(line, false) }
            }
        }
    }

    fn end_of_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.ended = true;
        self.state = match (head.chunked, head.length) {
            (true, _) => State::ChunkSize,
            (false, Some(length)) if length > 0 => State::Bytes(length, false),
            (false, _) => State::Head,
        };
    }

    /// A header, or the start of a long one.
    fn header(&mut self, line: &[u8], long: bool) -> Result<(), ()> {
        // Most headers are told from the two that matter by their first byte.
        if !matches!(line[0], b'c' | b'C' | b't' | b'T') {
            return Ok(());
        }
        let Some(colon) = line.iter().position(|&b| b == b':') else {
            // No name that matters is as long as the start of a long line.
            return if long { Ok(()) } else { Err(()) };
        };
        // Spaces only: a tab is white space to the RFC and a part of the value to nginx.
        let (name, value) = (&line[..colon], trim_spaces(&line[colon + 1..]));
        if long
            && [b"content-length".as_slice(), b"transfer-encoding"]
                .iter()
                .any(|n| name.eq_ignore_ascii_case(n))
        {
            return Err(());
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value).ok_or(())?;
            if self.head.chunked || self.head.length.replace(length).is_some() {
                return Err(());
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let doubtful = self.head.chunked || self.head.length.is_some();
            if doubtful || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(());
            }
            self.head.chunked = true;
        }
        Ok(())
    }

    fn chunk_size(&mut self, line: &[u8]) -> Result<(), ()> {
        let end = line.iter().position(|&b| b == b';').unwrap_or(line.len());
        let (digits, extension) = line.split_at(end);
        // Extensions are text; fifteen digits are a petabyte, and cannot overflow.
        let plain = extension.iter().all(|&b| b == b'\t' || (b' '..0x7f).contains(&b));
        if !plain || digits.is_empty() || digits.len() > 15 {
            return Err(());
        }
        let size = digits.iter().try_fold(0u64, |size, &digit| {
            let digit = char::from(digit).to_digit(16).ok_or(())?;
            Ok(size << 4 | u64::from(digit))
        })?;
        self.head.bytes = 0;
        self.state = if size == 0 { State::Trailers } else { State::Bytes(size, true) };
        Ok(())
    }
}

fn trim_spaces(mut value: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = value {
        value = rest;
    }
    value
}

/// Digits only, and few enough not to overflow: no sign, no list, no space.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0u64, |n, &b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows in one piece, byte by byte, and cut at each place: all must agree.
    fn follow(bytes: &[u8]) -> Result<State, ()> {
        let whole = |pieces: &[&[u8]]| {
            let mut framing = Framing::default();
            for piece in pieces {
                framing.follow(piece).map_err(|_| ())?;
            }
            Ok(framing.state)
        };
        let once = whole(&[bytes]);
        let singles: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(once, whole(&singles), "{}", bytes.escape_ascii());
        for cut in 0..bytes.len() {
            assert_eq!(once, whole(&[&bytes[..cut], &bytes[cut..]]), "{cut}");
        }
        once
    }

    #[test]
    fn messages_follow_each_other() {
        for good in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n"[..],
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-LENGTH:  0 \r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=\"b\"\r\n\n\n\n\r\n0a\r\n0123456789\r\n0\r\nT: x\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(follow(good), Ok(State::Head), "{}", good.escape_ascii());
        }
        assert_eq!(follow(b"P / H\r\nContent-Length: 9\r\n\r\nab"), Ok(State::Bytes(7, false)));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for headers in [
            &b"Content-Length: 1\r\nContent-Length: 1"[..],
            b"Content-Length: 1\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 1",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: ",
            b"Content-Length: +1",
            b"Content-Length: 1, 1",
            b"Content-Length: 0x1",
            b"Content-Length:\t1",
            b"Content-Length: ",
            b"Content-Length: 9999999999999999999",
            b"Content-Length",
            b"A: b\nC: d",
        ] {
            let message = [b"POST / HTTP/1.1\r\n", headers, b"\r\n\r\n"].concat();
            assert_eq!(follow(&message), Err(()), "{}", headers.escape_ascii());
        }
        for chunks in [
            &b"3\nabc\r\n"[..],
            b" 3\r\nabc\r\n",
            b"3 \r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"\r\nabc\r\n",
            b"-1\r\n",
            b"1000000000000000\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"3;a\x01\r\nabc\r\n",
            b"0\r\nA: b\n\r\n",
        ] {
            let message = [b"P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", chunks].concat();
            assert_eq!(follow(&message), Err(()), "{}", chunks.escape_ascii());
        }
    }

    #[test]
    fn a_long_line_is_judged_by_its_start_and_its_end() {
        let long = "x".repeat(1000);
        for (header, good) in [
            (format!("Cookie: {long}\r\n"), true),
            (format!("c{long}: y\r\n"), true),
            (format!("Cookie: {long}\n"), false),
            (format!("Content-Length: {}1\r\n", " ".repeat(1000)), false),
            (format!("Transfer-Encoding: {}chunked\r\n", " ".repeat(300)), false),
            (format!("Content-Length: {}0\r\n", " ".repeat(200)), true),
        ] {
            let message = format!("GET / HTTP/1.1\r\n{header}\r\n");
            assert_eq!(follow(message.as_bytes()).is_ok(), good, "{header}");
        }
        assert!(follow(format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes()).is_ok());
        for around in [LINE_START - 10, LINE_START - 9, LINE_START - 8, LINE_START - 7] {
            let header = format!("Cookie: {}\r\n", "x".repeat(around));
            let message = format!("GET / HTTP/1.1\r\n{header}\r\n");
            assert!(follow(message.as_bytes()).is_ok(), "{around}");
        }
    }

    #[test]
    fn a_body_is_seen_and_an_endless_line_is_not_kept() {
        let mut framing = Framing::default();
        assert_eq!(framing.follow(b"GET / HTTP/1.1\r\n\r\n"), Ok(Seen::Heads));
        assert_eq!(framing.follow(b"P / H\r\nContent-Length: 2\r\n\r\n"), Ok(Seen::Body));
        assert_eq!(framing.follow(b"x"), Ok(Seen::Body));
        let mut framing = Framing::default();
        for _ in 0..2 {
            assert_eq!(framing.follow(b"GET / HTTP/1.1\r\n\r\n"), Ok(Seen::Heads));
        }
        assert_eq!(framing.follow(b"GET / HTTP/1.1\r\n\r\nG"), Ok(Seen::Ahead));
        assert_eq!(framing.follow(b"ET / HTTP/1.1\r\n\r\n"), Ok(Seen::Heads));
        for _ in 0..10 {
            let _ = framing.follow(&[b'a'; 60_000]);
        }
        assert_eq!(framing.partial.start.len(), LINE_START);
    }
}
