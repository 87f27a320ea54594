//! Tensors of text in a frame: each element a length of four bytes and so many bytes.

use anyhow::Result;

use super::tensor::Tensor;
use crate::Error;

/// The elements of a frame's `data`.
///
/// # Errors
/// 400 when they are not as many as `shape` has, or no UTF-8.
pub(super) fn decode(name: &str, shape: &[usize], mut data: &[u8]) -> Result<Tensor> {
    let wrong = |what: &str| Error::bad_request(format!("input {name:?}: {what}"));
    let mut texts = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        let (text, rest) =
            rest.split_at_checked(length).ok_or_else(|| wrong("an element is cut off"))?;
        let text = std::str::from_utf8(text).map_err(|_| wrong("an element is not UTF-8"))?;
        texts.push(text.to_owned());
        data = rest;
    }
    let needed = shape.iter().try_fold(1usize, |len, &size| len.checked_mul(size));
    if !data.is_empty() || needed != Some(texts.len()) {
        return Err(wrong("its elements are not as many as its shape says").into());
    }
    Tensor::from_strings(shape, &texts)
}

/// The data of a tensor in a frame.
pub(super) fn encode(texts: &[String]) -> Result<Vec<u8>> {
    let mut data = Vec::with_capacity(texts.iter().map(|text| 4 + text.len()).sum());
    for text in texts {
        data.extend_from_slice(&u32::try_from(text.len())?.to_le_bytes());
        data.extend_from_slice(text.as_bytes());
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_and_read() {
        let texts = ["", "caf\u{e9}"].map(str::to_owned);
        let data = encode(&texts).unwrap();
        assert_eq!(data, b"\0\0\0\0\x05\0\0\0caf\xc3\xa9");
        assert_eq!(decode("x", &[2, 1], &data).unwrap().as_strings().unwrap(), texts);
        let refused =
            |shape: &[usize], data: &[u8]| decode("x", shape, data).unwrap_err().to_string();
        assert!(refused(&[3], &data).contains("as many as its shape"));
        assert!(refused(&[1], &data).contains("as many as its shape"));
        assert!(refused(&[2], &data[..12]).contains("cut off"));
        assert!(refused(&[2], &data[..6]).contains("as many as its shape"));
        assert!(refused(&[1], b"\x01\0\0\0\xff").contains("not UTF-8"));
    }
}
