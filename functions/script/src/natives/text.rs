//! Text to bytes and back.

use rquickjs::prelude::Func;
use rquickjs::{Ctx, Object, Result, TypedArray};

use super::{given, taken};

/// windows-1252 from 0x80 to 0x9f, which the web takes for Latin 1.
const WINDOWS: [u16; 32] = [
    0x20ac, 0x81, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039,
    0x0152, 0x8d, 0x017d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
    0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d, 0x017e, 0x0178,
];

pub(super) fn install(native: &Object<'_>) -> Result<()> {
    native.set("utf8Encode", Func::from(utf8_encode))?;
    native.set("utf8Decode", Func::from(utf8_decode))?;
    native.set("utf8Tail", Func::from(utf8_tail))?;
    native.set("utf16Decode", Func::from(utf16_decode))?;
    native.set("latin1Decode", Func::from(latin1_decode))
}

fn utf8_encode<'js>(ctx: Ctx<'js>, text: String) -> Result<TypedArray<'js, u8>> {
    given(&ctx, text.into_bytes())
}

/// Text, with U+FFFD for what is no UTF-8; nothing if that is `fatal`.
fn utf8_decode(ctx: Ctx<'_>, bytes: TypedArray<'_, u8>, fatal: bool) -> Result<Option<String>> {
    Ok(match String::from_utf8(taken(&ctx, &bytes)?) {
        Ok(text) => Some(text),
        Err(_) if fatal => None,
        Err(error) => Some(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    })
}

/// How many bytes at the end are the beginning of a character.
fn utf8_tail(ctx: Ctx<'_>, bytes: TypedArray<'_, u8>) -> Result<usize> {
    let bytes = taken(&ctx, &bytes)?;
    let from = bytes.len().saturating_sub(3);
    let last = bytes[from..].iter().rposition(|byte| byte & 0xc0 != 0x80);
    let Some(last) = last else { return Ok(0) };
    let tail = &bytes[from + last..];
    let unfinished = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
    Ok(if unfinished { tail.len() } else { 0 })
}

fn utf16_decode(
    ctx: Ctx<'_>,
    bytes: TypedArray<'_, u8>,
    big: bool,
    fatal: bool,
) -> Result<Option<String>> {
    let bytes = taken(&ctx, &bytes)?;
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| {
            if big {
                u16::from_be_bytes([pair[0], pair[1]])
            } else {
                u16::from_le_bytes([pair[0], pair[1]])
            }
        })
        .collect();
    Ok(match String::from_utf16(&units) {
        Ok(text) if bytes.len().is_multiple_of(2) => Some(text),
        _ if fatal => None,
        _ => {
            let mut text = String::from_utf16_lossy(&units);
            if bytes.len() % 2 == 1 {
                text.push('\u{fffd}');
            }
            Some(text)
        }
    })
}

/// Latin 1 as it is, or as the web reads it.
fn latin1_decode(ctx: Ctx<'_>, bytes: TypedArray<'_, u8>, windows: bool) -> Result<String> {
    let character = |byte: u8| match byte {
        0x80..=0x9f if windows => {
            char::from_u32(WINDOWS[usize::from(byte - 0x80)].into()).unwrap_or('\u{fffd}')
        }
        byte => char::from(byte),
    };
    Ok(taken(&ctx, &bytes)?.into_iter().map(character).collect())
}
