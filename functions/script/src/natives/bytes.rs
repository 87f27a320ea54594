//! base64 as the web has it: whitespace is passed over, padding may be missing, and one character has one byte.

use rquickjs::prelude::{Func, Opt};
use rquickjs::{Ctx, Object, Result, TypedArray};

use super::{given, taken};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn install(native: &Object<'_>) -> Result<()> {
    native.set("base64Encode", Func::from(encode_text))?;
    native.set("base64EncodeBytes", Func::from(encode_bytes))?;
    native.set("base64Decode", Func::from(decode_text))?;
    native.set("fillRandom", Func::from(fill_random))?;
    native.set("indexOf", Func::from(index_of))
}

/// `btoa`; nothing if a character is none of a byte.
fn encode_text(text: String) -> Option<String> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    Some(encode(&bytes?))
}

fn encode_bytes(ctx: Ctx<'_>, bytes: TypedArray<'_, u8>) -> Result<String> {
    Ok(encode(&taken(&ctx, &bytes)?))
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let code = (word >> (18 - 6 * at)) & 63;
            out.push(if at > chunk.len() { '=' } else { char::from(ALPHABET[code as usize]) });
        }
    }
    out
}

/// `atob`: bytes, or nothing for what is no base64.
fn decode_text<'js>(ctx: Ctx<'js>, text: String) -> Result<Option<TypedArray<'js, u8>>> {
    decode(&text).map(|bytes| given(&ctx, bytes)).transpose()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut codes: Vec<u8> =
        text.bytes().filter(|c| !matches!(c, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r')).collect();
    if codes.len().is_multiple_of(4) {
        let padding = codes.iter().rev().take(2).take_while(|c| **c == b'=').count();
        codes.truncate(codes.len() - padding);
    }
    if codes.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(codes.len() * 3 / 4);
    for chunk in codes.chunks(4) {
        let mut word = 0u32;
        for code in chunk {
            let value = match code {
                b'A'..=b'Z' => code - b'A',
                b'a'..=b'z' => code - b'a' + 26,
                b'0'..=b'9' => code - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(value);
        }
        let [_, bytes @ ..] = (word << (6 * (4 - chunk.len()))).to_be_bytes();
        out.extend_from_slice(&bytes[..chunk.len() * 3 / 4]);
    }
    Some(out)
}

/// Fresh random bytes.
fn fill_random<'js>(ctx: Ctx<'js>, length: usize) -> Result<TypedArray<'js, u8>> {
    let mut bytes = vec![0; length];
    mayfly::fill_random(&mut bytes);
    given(&ctx, bytes)
}

/// Where `needle` begins, at or after `from`; -1 if nowhere.
fn index_of(
    ctx: Ctx<'_>,
    hay: TypedArray<'_, u8>,
    needle: TypedArray<'_, u8>,
    from: Opt<usize>,
) -> Result<i32> {
    let needle = taken(&ctx, &needle)?;
    // SAFETY: no script runs while they are looked through.
    let hay = unsafe { hay.as_bytes() }.unwrap_or_default();
    let from = from.0.unwrap_or(0);
    let (Some(rest), Some(first)) = (hay.get(from..), needle.first()) else { return Ok(-1) };
    let mut at = 0;
    while let Some(next) = rest[at..].iter().position(|byte| byte == first) {
        at += next;
        if rest[at..].starts_with(&needle) {
            return Ok(i32::try_from(from + at).unwrap_or(-1));
        }
        at += 1;
    }
    Ok(-1)
}
