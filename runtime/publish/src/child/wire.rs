//! What a parent and its child hand each other: a JSON header and blobs, in one anonymous file.
//!
//! ```text
//! header_len:u64 header blob_count:u64 blob_len:u64* blob*
//! ```

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

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

/// Reads the message that fills a file from its start.
///
/// Lengths are checked against the file's before anything is allocated: the other side may be hostile.
pub fn read<H: DeserializeOwned>(file: &mut File) -> io::Result<(H, Vec<Vec<u8>>)> {
    let mut left = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let header_len = number(file, &mut left)?;
    if header_len > HEADER_BYTES {
        return Err(malformed("its header is too long"));
    }
    let header = bytes(file, &mut left, header_len)?;
    let header = serde_json::from_slice(&header)?;
    let count = number(file, &mut left)?;
    if count > BLOBS {
        return Err(malformed("it has too many parts"));
    }
    let lens: Vec<u64> = (0..count).map(|_| number(file, &mut left)).collect::<Result<_, _>>()?;
    let blobs =
        lens.into_iter().map(|len| bytes(file, &mut left, len)).collect::<Result<_, _>>()?;
    if left == 0 { Ok((header, blobs)) } else { Err(malformed("bytes are left over")) }
}

fn number(file: &mut File, left: &mut u64) -> io::Result<u64> {
    let eight = bytes(file, left, 8)?;
    let eight = eight.try_into().map_err(|_| malformed("it is cut short"))?;
    Ok(u64::from_le_bytes(eight))
}

fn bytes(file: &mut File, left: &mut u64, len: u64) -> io::Result<Vec<u8>> {
    *left = left.checked_sub(len).ok_or_else(|| malformed("it is cut short"))?;
    let len = usize::try_from(len).map_err(|_| malformed("it is too long"))?;
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the message between processes is malformed: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn message() -> Vec<u8> {
        let mut made = tempfile::tempfile().unwrap();
        write(&mut made, &("job", 7), &[b"one".to_vec(), Vec::new(), b"three".to_vec()]).unwrap();
        let mut bytes = Vec::new();
        made.rewind().unwrap();
        made.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_message_survives_the_round_trip() {
        let (header, blobs) = read::<(String, u32)>(&mut file(&message())).unwrap();
        assert_eq!(header, ("job".to_owned(), 7));
        assert_eq!(blobs, [b"one".to_vec(), Vec::new(), b"three".to_vec()]);
    }

    #[test]
    fn every_prefix_and_every_longer_one_is_refused() {
        let whole = message();
        for cut in 0..whole.len() {
            assert!(read::<(String, u32)>(&mut file(&whole[..cut])).is_err(), "{cut}");
        }
        assert!(read::<(String, u32)>(&mut file(&[&whole[..], b"x"].concat())).is_err());
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        let mut bad = message();
        bad[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read::<(String, u32)>(&mut file(&bad)).is_err());
    }
}
