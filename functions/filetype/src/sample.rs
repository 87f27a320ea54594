//! What the model sees of a body: its two ends.

use std::io::Read;

use mayfly::{Body, Result};

/// Bytes looked at from either end, before white space is taken off.
const BLOCK: usize = 4096;

/// Of these the model takes so many.
const END: usize = 1024;

/// Stands for a place that no byte fills.
const PADDING: i32 = 256;

/// Bytes of a body, white space aside, with which the model begins to make sense.
const ENOUGH: usize = 8;

/// Numbers that the model takes.
pub(crate) const FEATURES: usize = 2 * END;

/// The first and the last [`BLOCK`] bytes of a body; they overlap in a short one.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Sample {
    /// Reads the whole body but keeps only its ends, so that it may be of any length.
    pub(crate) fn read(mut body: Body) -> Result<Self> {
        let mut sample = Self::default();
        let mut chunk = [0; BLOCK];
        loop {
            let n = body.read(&mut chunk)?;
            if n == 0 {
                return Ok(sample);
            }
            sample.take(&chunk[..n]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = BLOCK - self.first.len();
        self.first.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.last.extend_from_slice(bytes);
        let over = self.last.len().saturating_sub(BLOCK);
        self.last.drain(..over);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(crate) fn is_text(&self) -> bool {
        std::str::from_utf8(&self.first).is_ok()
    }

    /// Nothing if too few bytes are left when white space is taken off.
    pub(crate) fn features(&self) -> Option<[i32; FEATURES]> {
        let first = trim_start(&self.first);
        let last = trim_end(&self.last);
        if first.len() < ENOUGH {
            return None;
        }
        let mut features = [PADDING; FEATURES];
        let (begin, end) = features.split_at_mut(END);
        for (feature, &byte) in begin.iter_mut().zip(first) {
            *feature = byte.into();
        }
        for (feature, &byte) in end.iter_mut().rev().zip(last.iter().rev()) {
            *feature = byte.into();
        }
        Some(features)
    }
}

/// What Python's `bytes.strip` takes off: unlike Rust's, that counts the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_space(byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| !is_space(byte)).map_or(0, |last| last + 1);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(bytes: Vec<u8>) -> Sample {
        Sample::read(bytes.into()).unwrap()
    }

    #[test]
    fn a_short_body_is_padded_on_its_outer_sides() {
        let features = sample(b" \x0bfn main() \n".to_vec()).features().unwrap();
        assert_eq!(features[..3], [b'f', b'n', b' '].map(i32::from));
        assert_eq!(features[9..11], [b' ', b'\n'].map(i32::from));
        assert_eq!(features[11], PADDING);
        assert_eq!(features[END], PADDING);
        assert_eq!(features[FEATURES - 1], i32::from(b')'));
    }

    #[test]
    fn of_a_long_body_only_the_ends_count() {
        let mut bytes = vec![b'm'; 100_000];
        bytes[0] = b'a';
        bytes[99_999] = b'z';
        let sample = sample(bytes);
        assert_eq!((sample.first.len(), sample.last.len()), (BLOCK, BLOCK));
        let features = sample.features().unwrap();
        assert_eq!([features[0], features[FEATURES - 1]], [b'a', b'z'].map(i32::from));
        assert!(!features.contains(&PADDING));
    }

    #[test]
    fn white_space_does_not_make_up_for_bytes() {
        assert!(sample(b"1234567 \n \n ".to_vec()).features().is_some());
        assert!(sample(b"   \n1234567".to_vec()).features().is_none());
        assert!(sample(Vec::new()).is_empty());
    }
}
