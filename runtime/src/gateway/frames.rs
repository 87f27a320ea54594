//! Where each frame of an HTTP/2 connection begins, so that no more heads are given to h2 at once than are served.
//!
//! h2 reads whatever is there and decodes all of it before the first request is looked at: a hundred heads of one
//! connection, and of each other connection that is ready as well. A head may be 2 KiB on the wire and 140 KiB once it
//! is decoded.

/// The bytes that a connection begins with.
const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

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
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, head: [0; 9], have: 0, open: false }
    }
}

impl Frames {
    /// Follows the connection through `bytes` up to where `most` header blocks have begun and another one would; gives
    /// how many bytes that are, and how many blocks.
    pub fn follow(&mut self, bytes: &[u8], most: usize) -> (usize, usize) {
        let (mut at, mut heads) = (0, 0);
        while at < bytes.len() {
            let skipped = self.skip.min(bytes.len() - at);
            self.skip -= skipped;
            at += skipped;
            if at == bytes.len() {
                break;
            }
            self.head[self.have] = bytes[at];
            if self.have + 1 < self.head.len() {
                self.have += 1;
                at += 1;
                continue;
            }
            let [a, b, c, kind, flags, ..] = self.head;
            if kind == HEADERS {
                if heads == most {
                    break;
                }
                heads += 1;
            }
            if kind == HEADERS || kind == CONTINUATION {
                self.open = flags & END_HEADERS == 0;
            }
            self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            self.have = 0;
            at += 1;
        }
        (at, heads)
    }

    /// Whether a header block has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open
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
        assert_eq!(Frames::default().follow(&bytes, 9), (bytes.len(), 3));
        for cut in 0..bytes.len() {
            let mut frames = Frames::default();
            let (first, rest) = bytes.split_at(cut);
            let heads = frames.follow(first, 9).1 + frames.follow(rest, 9).1;
            assert_eq!((heads, frames.is_open()), (3, false), "{cut}");
        }
    }

    #[test]
    fn what_is_beyond_the_allowance_is_left_for_later() {
        let bytes = connection(&[frame(1, 4, &[1]), frame(1, 4, &[2; 5]), frame(1, 4, &[])]);
        let (mut frames, mut at, mut turns) = (Frames::default(), 0, Vec::new());
        while at < bytes.len() {
            let (n, heads) = frames.follow(&bytes[at..], 1);
            turns.push((n, heads));
            at += n;
        }
        // The last byte of a frame's start is what is held back.
        assert_eq!(turns, [(24 + 9 + 1 + 8, 1), (1 + 5 + 8, 1), (1, 1)]);
        let mut frames = Frames::default();
        assert_eq!(frames.follow(&bytes, 0), (24 + 8, 0));
        assert_eq!(frames.follow(&bytes[24 + 8..], 0), (0, 0));
    }

    #[test]
    fn a_block_is_open_until_its_end() {
        let mut frames = Frames::default();
        frames.follow(&connection(&[frame(1, 1, &[1])]), 1);
        assert!(frames.is_open());
        frames.follow(&frame(9, 0, &[1]), 1);
        assert!(frames.is_open());
        frames.follow(&frame(9, 4, &[]), 1);
        assert!(!frames.is_open());
    }
}
