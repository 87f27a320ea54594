//! Printing. Everything goes through `write!`, so that a closed pipe is an error and no panic; and through here, because
//! names in a module, log lines and answers are written by anybody: none of them may reach the terminal as it is.

use std::io::Write as _;

use mayfly_observe::logs::{escape_json, escape_lines};
use serde_json::Value;

use super::Failure;

/// Writes a line, or several, to stdout; what is no text is escaped.
pub(super) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    raw(format!("{}\n", escape_lines(&text.to_string())).as_bytes())
}

/// Writes bytes to stdout as they are.
pub(super) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Writes JSON, indented.
pub(super) fn json(value: &Value) -> Result<(), Failure> {
    json_line(&format!("{value:#}"))
}

/// Writes JSON that is text already.
pub(super) fn json_line(text: &str) -> Result<(), Failure> {
    raw(format!("{}\n", escape_json(text)).as_bytes())
}

/// Columns as wide as their widest cell, two spaces between.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
        cells.chain([head[i].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let write = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![write(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| write(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// Microseconds for people: `850 us`, `12.3 ms`, `4.56 s`.
#[expect(clippy::cast_precision_loss, reason = "printed with three digits")]
pub(super) fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// A field as text; what is not there is empty.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A field as a number; what is not there is 0.
pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// What there is to say of a snapshot.
pub(super) fn snapshot(revision: &Value) -> String {
    let size = mayfly_core::units::human_size;
    match text(revision, "/snapshot/state") {
        "taken" => format!(
            "{} to map, of {} of memory",
            size(number(revision, "/snapshot/image_bytes")),
            size(number(revision, "/snapshot/memory_bytes"))
        ),
        "refused" => format!("none: {}", text(revision, "/snapshot/reason")),
        _ => "none: the module has no init".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let rows = vec![vec!["hello".into(), "1".into()], vec!["é".into(), "20".into()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME   N\nhello  1\né      20");
    }

    #[test]
    fn times_have_three_digits() {
        assert_eq!([time(850), time(12_345), time(4_560_000)], ["850 us", "12.3 ms", "4.56 s"]);
    }
}
