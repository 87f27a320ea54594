//! Where each frame of an HTTP/2 connection begins, so that no more heads are given to h2 at once than are served.
//!
//! h2 reads whatever is there and decodes all of it before the first request is looked at: a hundred heads of one
//! connection, and of each other connection that is ready as well. A head may be 2 KiB on the wire and 140 KiB once it
//! is decoded, and stays so while its end does not come.

/// The bytes that a connection begins with.
const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// Bytes of a header block that is waited for.
const LONGEST: usize = mayfly_core::limits::node::REQUEST_HEAD_BYTES;

/// Follows one connection.
#[derive(Debug)]
pub struct Frames {
    /// Bytes of the preface or of a frame's payload that are still to come.
    skip: usize,
    /// The start of a frame: length, kind, flags, stream.
    head: [u8; 9],
    have: usize,
    /// A header block has begun and not ended.
    open: bool,
    /// The next bytes are of a header block whose end is not there yet.
    waits: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, head: [0; 9], have: 0, open: false, waits: false }
    }
}

impl Frames {
    /// Follows the connection through `bytes`, `limit` of them at most, up to where `most` header blocks have begun and
    /// another one would, or one would that has no end in `bytes`; gives how many bytes that are, and how many blocks.
    ///
    /// Such a block waits: h2 decodes each of its frames as it comes, and 1.9 KiB of references to one header are 154 KiB.
    /// One that is longer than heads may be passes, so that h2 refuses it.
    pub fn follow(&mut self, bytes: &[u8], limit: usize, most: usize) -> (usize, usize) {
        let (mut at, mut heads) = (0, 0);
        self.waits = false;
        while at < limit {
            let skipped = self.skip.min(limit - at);
            self.skip -= skipped;
            at += skipped;
            if at == limit {
                break;
            }
            self.head[self.have] = bytes[at];
            if self.have + 1 < self.head.len() {
                self.have += 1;
                at += 1;
                continue;
            }
            let Frame { kind, flags, length } = Frame::of(&self.head);
            let ends = flags & END_HEADERS != 0;
            if kind == HEADERS {
                let rest = &bytes[at + 1..];
                self.waits = !ends && rest.len() <= LONGEST && !is_whole(rest, length);
                if self.waits || heads == most {
                    break;
                }
                heads += 1;
            }
            if kind == HEADERS || kind == CONTINUATION {
                self.open = !ends;
            }
            self.skip = length;
            self.have = 0;
            at += 1;
        }
        (at, heads)
    }

    /// Whether the next bytes can pass only with those that follow them.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Whether a header block has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

/// How a frame begins.
struct Frame {
    kind: u8,
    flags: u8,
    length: usize,
}

impl Frame {
    fn of(head: &[u8; 9]) -> Self {
        let [a, b, c, kind, flags, ..] = *head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Self { kind, flags, length }
    }
}

/// Whether a header block is there to its end, if its first frame has `length` bytes and these follow its start.
fn is_whole(mut bytes: &[u8], mut length: usize) -> bool {
    loop {
        let Some((head, rest)) = bytes.get(length..).and_then(<[u8]>::split_first_chunk) else {
            return false;
        };
        let next = Frame::of(head);
        // Nothing else may stand there: h2 ends the connection.
        if next.kind != CONTINUATION || (next.flags & END_HEADERS != 0 && rest.len() >= next.length)
        {
            return true;
        }
        (bytes, length) = (rest, next.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frames.concat()].concat()
    }

    #[test]
    fn the_same_heads_are_seen_wherever_the_bytes_are_cut() {
        let bytes = connection(&[
            frame(4, 0, &[]),
            frame(1, 4, &[1; 30]),
            // Looks like a head, and is data.
            frame(0, 0, &frame(1, 4, &[1; 3])),
            frame(1, 0, &[]),
            frame(9, 4, &[9]),
            frame(1, 5, &[2]),
        ]);
        assert_eq!(Frames::default().follow(&bytes, bytes.len(), 9), (bytes.len(), 3));
        for cut in 0..bytes.len() {
            let mut frames = Frames::default();
            let (first, heads) = frames.follow(&bytes[..cut], cut, 9);
            let rest = &bytes[first..];
            let heads = heads + frames.follow(rest, rest.len(), 9).1;
            assert_eq!((heads, frames.is_open(), frames.waits()), (3, false, false), "{cut}");
            // All of them are there, and few may be given.
            let mut frames = Frames::default();
            let heads = frames.follow(&bytes, cut, 9).1;
            let heads = heads + frames.follow(&bytes[cut..], bytes.len() - cut, 9).1;
            assert_eq!((heads, frames.is_open()), (3, false), "{cut}");
        }
    }

    #[test]
    fn what_is_beyond_the_allowance_is_left_for_later() {
        let bytes = connection(&[frame(1, 4, &[1]), frame(1, 4, &[2; 5]), frame(1, 4, &[])]);
        let (mut frames, mut at, mut turns) = (Frames::default(), 0, Vec::new());
        while at < bytes.len() {
            let (n, heads) = frames.follow(&bytes[at..], bytes.len() - at, 1);
            turns.push((n, heads));
            at += n;
        }
        // The last byte of a frame's start is what is held back.
        assert_eq!(turns, [(24 + 9 + 1 + 8, 1), (1 + 5 + 8, 1), (1, 1)]);
        let mut frames = Frames::default();
        assert_eq!(frames.follow(&bytes, bytes.len(), 0), (24 + 8, 0));
        assert_eq!(frames.follow(&bytes[24 + 8..], bytes.len() - 32, 0), (0, 0));
    }

    #[test]
    fn a_block_waits_for_its_end_unless_it_is_too_long() {
        let start = connection(&[frame(4, 0, &[]), frame(1, 1, &[0x82; 200])]);
        let blocks = [start.clone(), frame(9, 0, &[0x82; 200]), frame(9, 4, &[0x82; 3])].concat();
        for cut in start.len()..blocks.len() {
            let mut frames = Frames::default();
            let passed = frames.follow(&blocks[..cut], cut, 1);
            assert_eq!((passed, frames.waits()), ((24 + 9 + 8, 0), true), "{cut}");
            assert_eq!(frames.follow(&blocks[41..cut], cut - 41, 0), (0, 0), "{cut}");
            let rest = &blocks[41..];
            assert_eq!(frames.follow(rest, rest.len(), 1), (rest.len(), 1), "{cut}");
            assert!(!frames.waits() && !frames.is_open());
        }
        // What is no continuation is h2's to refuse.
        let wrong = [start.clone(), frame(6, 0, &[0; 8])].concat();
        assert_eq!(Frames::default().follow(&wrong, wrong.len(), 1), (wrong.len(), 1));
        let long = [start, frame(9, 0, &[0x82; 255]).repeat(LONGEST / 255)].concat();
        let mut frames = Frames::default();
        assert_eq!(frames.follow(&long, long.len(), 1), (long.len(), 1));
        assert!(frames.is_open() && !frames.waits());
    }
}
