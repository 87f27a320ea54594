//! Making bytes of a guest harmless in a log: no control character, nothing that reorders text, no invalid UTF-8.

use std::fmt::Write as _;

/// Text that shows on one line as itself. Control characters become `\n`, `\t`, `\u{1b}`; bytes that are no UTF-8
/// become `\xff`; the marks that reverse or hide text become `\u{202e}`. A backslash stays one: this is for
/// reading, not for parsing back.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(&mut out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// The same for text of several lines.
#[must_use]
pub fn escape_lines(text: &str) -> String {
    let lines = text.split('\n').map(|line| escape(line.as_bytes()));
    lines.collect::<Vec<_>>().join("\n")
}

/// JSON with what moves a cursor or reorders text written as JSON has it. All of that stands in strings.
#[must_use]
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && (c.is_control() || reorders(c)) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

fn reorders(c: char) -> bool {
    matches!(
        c,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

fn push(out: &mut String, c: char) {
    if !c.is_control() && !reorders(c) {
        out.push(c);
        return;
    }
    let _ = match c {
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        _ => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_guest_writes_moves_the_cursor() {
        for (raw, shown) in [
            (&b"plain, with \"quotes\" and \\ too"[..], "plain, with \"quotes\" and \\ too"),
            ("Grüße, 世界 🦋".as_bytes(), "Grüße, 世界 🦋"),
            (b"a\nforged line", "a\\nforged line"),
            (b"tab\tcr\r", "tab\\tcr\\r"),
            (b"\x1b[2J\x07\x00\x7f", "\\u{1b}[2J\\u{7}\\u{0}\\u{7f}"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            ("a\u{202e}b\u{2028}".as_bytes(), "a\\u{202e}b\\u{2028}"),
            (b"\xff\xfe ok \xe2\x82", "\\xff\\xfe ok \\xe2\\x82"),
        ] {
            assert_eq!(escape(raw), shown);
        }
    }

    #[test]
    fn lines_stay_lines_and_json_stays_json() {
        assert_eq!(escape_lines("a\x1b[1m\n\u{202e}b\r"), "a\\u{1b}[1m\n\\u{202e}b\\r");
        let value = serde_json::json!({ "a\u{9b}": "\u{202e}\x7f\x1b ü" });
        let shown = escape_json(&format!("{value:#}"));
        assert!(!shown.contains(['\u{9b}', '\u{202e}', '\x7f', '\x1b']), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn every_byte_gives_printable_text() {
        let all: Vec<u8> = (0..=255).collect();
        assert!(escape(&all).chars().all(|c| !c.is_control()));
    }
}
