//! The two frames. All integers are little-endian; a `str` is a `u16` length and that many bytes.
//!
//! ```text
//! request  = method:str target:str base:str scheme:str authority:str remote:str request_id:str version:u8 headers
//! response = status:u16 headers
//! fetch    = method:str url:str timeout_ms:u32 flags:u32 headers
//! headers  = count:u16 (name:str value:str)*
//! ```

/// A frame that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// It ends before the field that its lengths promise.
    Truncated,
    /// Bytes are left over after the last header.
    TrailingBytes,
}

/// The buffer is too small for the frame, or a field is longer than 65,535 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated;

/// Everything of a request head but its headers. Byte strings, as the client sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestLine<'a> {
    /// `GET`, `POST`, …
    pub method: &'a [u8],
    /// Path and query below the route, starting with `/`, percent-encoded as sent.
    pub target: &'a [u8],
    /// The route's prefix that was taken off `target`: `/name`, or empty.
    pub base: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a [u8],
    /// Host and port as the client named them; may be empty in HTTP/1.0.
    pub authority: &'a [u8],
    /// The client's address and port.
    pub remote: &'a [u8],
    /// The id under which the host logs this request.
    pub request_id: &'a [u8],
    /// 10, 11 or 20.
    pub version: u8,
}

/// A decoded request head; headers are read on the fly.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The fields before the headers.
    pub line: RequestLine<'a>,
    headers: HeadReader<'a>,
}

/// A decoded response head; headers are read on the fly.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// Unchecked: the host refuses what is not 200 to 599.
    pub status: u16,
    headers: HeadReader<'a>,
}

impl<'a> RequestHead<'a> {
    /// Decodes a whole frame and checks that every header in it is complete.
    ///
    /// # Errors
    /// [`FrameError`] when the frame is short or too long.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader(frame);
        let line = RequestLine {
            method: reader.bytes()?,
            target: reader.bytes()?,
            base: reader.bytes()?,
            scheme: reader.bytes()?,
            authority: reader.bytes()?,
            remote: reader.bytes()?,
            request_id: reader.bytes()?,
            version: reader.u8()?,
        };
        Ok(Self { line, headers: HeadReader::checked(reader)? })
    }

    /// Name and value of each header, in the order received.
    #[must_use]
    pub fn headers(&self) -> HeadReader<'a> {
        self.headers
    }
}

impl<'a> ResponseHead<'a> {
    /// Decodes a whole frame and checks that every header in it is complete.
    ///
    /// # Errors
    /// [`FrameError`] when the frame is short or too long.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader(frame);
        let status = reader.u16()?;
        Ok(Self { status, headers: HeadReader::checked(reader)? })
    }

    /// Name and value of each header, in the order written.
    #[must_use]
    pub fn headers(&self) -> HeadReader<'a> {
        self.headers
    }
}

/// Everything of a call to others but its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchLine<'a> {
    /// `GET`, `POST`, …
    pub method: &'a [u8],
    /// `https://host[:port]/path?query`.
    pub url: &'a [u8],
    /// Milliseconds until its answer is read whole; 0 is no clock of its own.
    pub timeout_ms: u32,
    /// Must be 0.
    pub flags: u32,
}

/// A decoded call to others; headers are read on the fly.
#[derive(Debug, Clone, Copy)]
pub struct FetchHead<'a> {
    /// The fields before the headers.
    pub line: FetchLine<'a>,
    headers: HeadReader<'a>,
}

impl<'a> FetchHead<'a> {
    /// Decodes a whole frame and checks that every header in it is complete.
    ///
    /// # Errors
    /// [`FrameError`] when the frame is short or too long.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = Reader(frame);
        let line = FetchLine {
            method: reader.bytes()?,
            url: reader.bytes()?,
            timeout_ms: reader.u32()?,
            flags: reader.u32()?,
        };
        Ok(Self { line, headers: HeadReader::checked(reader)? })
    }

    /// Name and value of each header, in the order written.
    #[must_use]
    pub fn headers(&self) -> HeadReader<'a> {
        self.headers
    }
}

/// Iterates over the headers of a frame that was checked when it was decoded.
#[derive(Debug, Clone, Copy)]
pub struct HeadReader<'a> {
    left: u16,
    reader: Reader<'a>,
}

impl<'a> HeadReader<'a> {
    fn checked(mut reader: Reader<'a>) -> Result<Self, FrameError> {
        let left = reader.u16()?;
        let headers = Self { left, reader };
        for _ in 0..left {
            reader.bytes()?;
            reader.bytes()?;
        }
        if reader.0.is_empty() { Ok(headers) } else { Err(FrameError::TrailingBytes) }
    }
}

impl<'a> Iterator for HeadReader<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = self.reader.bytes().ok()?;
        let value = self.reader.bytes().ok()?;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for HeadReader<'_> {}

#[derive(Debug, Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], FrameError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(FrameError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn bytes(&mut self) -> Result<&'a [u8], FrameError> {
        let n = self.u16()?;
        self.take(n.into())
    }
}

/// Writes a frame into a caller's buffer.
#[derive(Debug)]
pub struct HeadWriter<'b> {
    buffer: &'b mut [u8],
    at: usize,
    count_at: usize,
    count: u16,
}

impl<'b> HeadWriter<'b> {
    /// Starts a request frame.
    ///
    /// # Errors
    /// [`Truncated`] when `buffer` is too small or a field too long.
    pub fn request(buffer: &'b mut [u8], line: &RequestLine<'_>) -> Result<Self, Truncated> {
        let mut writer = Self { buffer, at: 0, count_at: 0, count: 0 };
        for field in [
            line.method,
            line.target,
            line.base,
            line.scheme,
            line.authority,
            line.remote,
            line.request_id,
        ] {
            writer.bytes(field)?;
        }
        writer.raw(&[line.version])?;
        writer.start_headers()
    }

    /// Starts a response frame.
    ///
    /// # Errors
    /// [`Truncated`] when `buffer` is too small.
    pub fn response(buffer: &'b mut [u8], status: u16) -> Result<Self, Truncated> {
        let mut writer = Self { buffer, at: 0, count_at: 0, count: 0 };
        writer.raw(&status.to_le_bytes())?;
        writer.start_headers()
    }

    /// Starts the frame of a call to others.
    ///
    /// # Errors
    /// [`Truncated`] when `buffer` is too small or a field too long.
    pub fn fetch(buffer: &'b mut [u8], line: &FetchLine<'_>) -> Result<Self, Truncated> {
        let mut writer = Self { buffer, at: 0, count_at: 0, count: 0 };
        writer.bytes(line.method)?;
        writer.bytes(line.url)?;
        writer.raw(&line.timeout_ms.to_le_bytes())?;
        writer.raw(&line.flags.to_le_bytes())?;
        writer.start_headers()
    }

    /// Adds one header.
    ///
    /// # Errors
    /// [`Truncated`] when it does not fit; the frame is then as it was before.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Truncated> {
        let before = self.at;
        let count = self.count.checked_add(1).ok_or(Truncated)?;
        if self.bytes(name).and_then(|()| self.bytes(value)).is_err() {
            self.at = before;
            return Err(Truncated);
        }
        self.count = count;
        self.buffer[self.count_at..self.count_at + 2].copy_from_slice(&count.to_le_bytes());
        Ok(())
    }

    /// Length of the frame, in bytes from the buffer's start.
    #[must_use]
    pub fn finish(self) -> usize {
        self.at
    }

    fn start_headers(mut self) -> Result<Self, Truncated> {
        self.count_at = self.at;
        self.raw(&[0, 0])?;
        Ok(self)
    }

    fn bytes(&mut self, field: &[u8]) -> Result<(), Truncated> {
        let n = u16::try_from(field.len()).map_err(|_| Truncated)?;
        self.raw(&n.to_le_bytes())?;
        self.raw(field)
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), Truncated> {
        let end = self.at.checked_add(bytes.len()).ok_or(Truncated)?;
        self.buffer.get_mut(self.at..end).ok_or(Truncated)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_round_trip() {
        let line = RequestLine {
            method: b"POST",
            target: b"/a?b=c",
            base: b"/echo",
            scheme: b"http",
            authority: b"localhost:3000",
            remote: b"127.0.0.1:5",
            request_id: b"id",
            version: 11,
        };
        let mut buffer = [0; 256];
        let mut writer = HeadWriter::request(&mut buffer, &line).unwrap();
        writer.header(b"accept", b"*/*").unwrap();
        writer.header(b"x-raw", b"\xff").unwrap();
        let n = writer.finish();
        let head = RequestHead::decode(&buffer[..n]).unwrap();
        assert_eq!(head.line, line);
        assert!(head.headers().eq([(&b"accept"[..], &b"*/*"[..]), (b"x-raw", b"\xff")]));
    }

    #[test]
    fn a_call_survives_the_round_trip_and_no_prefix_of_it_does() {
        let line =
            FetchLine { method: b"POST", url: b"https://a.example/", timeout_ms: 800, flags: 0 };
        let mut buffer = [0; 128];
        let mut writer = HeadWriter::fetch(&mut buffer, &line).unwrap();
        writer.header(b"accept", b"*/*").unwrap();
        let n = writer.finish();
        let head = FetchHead::decode(&buffer[..n]).unwrap();
        assert_eq!(head.line, line);
        assert!(head.headers().eq([(&b"accept"[..], &b"*/*"[..])]));
        for cut in 0..n {
            assert_eq!(FetchHead::decode(&buffer[..cut]).unwrap_err(), FrameError::Truncated);
        }
        assert_eq!(FetchHead::decode(&buffer[..n + 1]).unwrap_err(), FrameError::TrailingBytes);
    }

    #[test]
    fn every_prefix_of_a_frame_and_every_longer_one_is_refused() {
        let mut buffer = [0; 64];
        let mut writer = HeadWriter::response(&mut buffer, 404).unwrap();
        writer.header(b"a", b"b").unwrap();
        let n = writer.finish();
        for cut in 0..n {
            assert_eq!(ResponseHead::decode(&buffer[..cut]).unwrap_err(), FrameError::Truncated);
        }
        assert_eq!(ResponseHead::decode(&buffer[..n + 1]).unwrap_err(), FrameError::TrailingBytes);
        assert_eq!(ResponseHead::decode(&buffer[..n]).unwrap().status, 404);
    }

    #[test]
    fn a_header_that_does_not_fit_leaves_the_frame_whole() {
        let mut buffer = [0; 12];
        let mut writer = HeadWriter::response(&mut buffer, 200).unwrap();
        writer.header(b"a", b"b").unwrap();
        assert_eq!(writer.header(b"cc", b"dd"), Err(Truncated));
        let n = writer.finish();
        assert_eq!(ResponseHead::decode(&buffer[..n]).unwrap().headers().len(), 1);
    }
}
