//! What a parent and its child hand each other: a JSON header and blobs, in one anonymous file.
//!
//! ```text
//! header_len:u64 header blob_count:u64 blob_len:u64* blob*
//! ```

use std::fs::File;
use std::io::{self, Write as _};

use bytes::{Buf as _, Bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a header: settings, a few names and at most 64 KiB of log.
const HEADER_BYTES: u64 = 1 << 20;
/// Blobs of one message: a module, code, a cache and every asset.
const BLOBS: u64 = 4 + mayfly_abi::limits::ASSETS as u64;

/// Writes one message at the file's position.
pub fn write(
    file: &mut File,
    header: &impl Serialize,
    blobs: &[impl AsRef<[u8]>],
) -> io::Result<()> {
    let header = serde_json::to_vec(header)?;
    let mut head = Vec::with_capacity(header.len() + 8 * (2 + blobs.len()));
    head.extend_from_slice(&(header.len() as u64).to_le_bytes());
    head.extend_from_slice(&header);
    head.extend_from_slice(&(blobs.len() as u64).to_le_bytes());
    for blob in blobs {
        head.extend_from_slice(&(blob.as_ref().len() as u64).to_le_bytes());
    }
    file.write_all(&head)?;
    blobs.iter().try_for_each(|blob| file.write_all(blob.as_ref()))
}

/// Reads a whole message. The blobs are parts of it, not copies.
///
/// Lengths are checked against the message's before anything is allocated: the other side may be hostile.
pub fn read<H: DeserializeOwned>(mut message: Bytes) -> io::Result<(H, Vec<Bytes>)> {
    let header_len = number(&mut message)?;
    if header_len > HEADER_BYTES {
        return Err(malformed("its header is too long"));
    }
    let header = serde_json::from_slice(&take(&mut message, header_len)?)?;
    let count = number(&mut message)?;
    if count > BLOBS {
        return Err(malformed("it has too many parts"));
    }
    let lens: Vec<u64> = (0..count).map(|_| number(&mut message)).collect::<Result<_, _>>()?;
    let blobs = lens.into_iter().map(|len| take(&mut message, len)).collect::<Result<_, _>>()?;
    if message.is_empty() { Ok((header, blobs)) } else { Err(malformed("bytes are left over")) }
}

fn number(message: &mut Bytes) -> io::Result<u64> {
    message.try_get_u64_le().map_err(|_| malformed("it is cut short"))
}

fn take(message: &mut Bytes, len: u64) -> io::Result<Bytes> {
    match usize::try_from(len) {
        Ok(len) if len <= message.len() => Ok(message.split_to(len)),
        _ => Err(malformed("it is cut short")),
    }
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the message between processes is malformed: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    fn message() -> Vec<u8> {
        let mut made = tempfile::tempfile().unwrap();
        write(&mut made, &("job", 7), &[b"one".to_vec(), Vec::new(), b"three".to_vec()]).unwrap();
        let mut bytes = Vec::new();
        made.rewind().unwrap();
        made.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn parsed(bytes: &[u8]) -> io::Result<((String, u32), Vec<Bytes>)> {
        read(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn a_message_survives_the_round_trip() {
        let (header, blobs) = parsed(&message()).unwrap();
        assert_eq!(header, ("job".to_owned(), 7));
        assert_eq!(blobs, ["one", "", "three"]);
    }

    #[test]
    fn every_prefix_and_every_longer_one_is_refused() {
        let whole = message();
        for cut in 0..whole.len() {
            assert!(parsed(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(parsed(&[&whole[..], b"x"].concat()).is_err());
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        let mut bad = message();
        bad[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(parsed(&bad).is_err());
    }
}
