//! Sizes and durations as people write them: `64MiB`, `250ms`.

use std::time::Duration;

/// A text that is not a size or duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a size.
    #[error("'{0}' is not a size: write a whole number and B, KiB, MiB or GiB, as in 128MiB")]
    Size(String),
    /// Not a duration.
    #[error("'{0}' is not a duration: write a whole number and us, ms, s, m or h, as in 250ms")]
    Duration(String),
}

/// Parses `128MiB`, `64 KiB`, `512` (bytes).
///
/// # Errors
/// [`UnitError::Size`] when it is not of that form or does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        _ => return Err(UnitError::Size(text.into())),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(|| UnitError::Size(text.into()))
}

/// Parses `250ms`, `30s`, `2m`.
///
/// # Errors
/// [`UnitError::Duration`] when it is not of that form or does not fit 64 bits of microseconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text);
    let scale: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(UnitError::Duration(text.into())),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .map(Duration::from_micros)
        .ok_or_else(|| UnitError::Duration(text.into()))
}

/// The largest unit that leaves a whole number: `128MiB`, `1000B`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (scale, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    format!("{bytes}B")
}

/// Three significant digits for people: `46.7 MiB`. Not for configuration.
#[must_use]
pub fn human_size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "printed with one decimal")]
    let n = bytes as f64;
    for (scale, unit) in [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        #[expect(clippy::cast_precision_loss, reason = "powers of two are exact")]
        let scale = scale as f64;
        if n >= scale {
            return format!("{:.1} {unit}", n / scale);
        }
    }
    format!("{bytes} B")
}

/// The largest unit that leaves a whole number: `30s`, `250ms`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let us = duration.as_micros();
    for (scale, unit) in [(1_000_000, "s"), (1_000, "ms")] {
        if us >= scale && us.is_multiple_of(scale) {
            return format!("{}{unit}", us / scale);
        }
    }
    format!("{us}us")
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("128MiB"), Ok(128 << 20));
        assert_eq!(parse_size("64 KiB"), Ok(64 << 10));
        assert_eq!(parse_size("512"), Ok(512));
        for bad in
            ["", "MiB", "1.5MiB", "-1", "1TB", "99999999999999999999", "18446744073709551615GiB"]
        {
            assert_eq!(parse_size(bad), Err(UnitError::Size(bad.into())), "{bad}");
        }
        for text in ["128MiB", "1GiB", "1000B", "1KiB", "0B"] {
            assert_eq!(format_size(parse_size(text).unwrap()), text);
        }
        assert_eq!(human_size(46_700_000), "44.5 MiB");
        assert_eq!(human_size(12), "12 B");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "10", "s", "1.5s", "-1s", "18446744073709551615h"] {
            assert_eq!(parse_duration(bad), Err(UnitError::Duration(bad.into())), "{bad}");
        }
        for text in ["30s", "250ms", "1500us", "0us"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }
}
