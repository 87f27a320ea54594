//! The time of a log line.

use std::time::{Duration, SystemTime};

/// Seconds from 1970 to the last of the year 9999.
const LAST_S: u64 = 253_402_300_799;

/// A time as RFC 3339 has it, in UTC, with microseconds.
///
/// A clock may be set to anything, and the library panics before 1970 and fails after 9999: such times become the
/// nearest that can be written. A panic here would be one in the panic hook as well, which aborts the process.
#[must_use]
pub fn timestamp(time: SystemTime) -> humantime::Rfc3339Timestamp {
    let last = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(LAST_S));
    let time = time.max(SystemTime::UNIX_EPOCH).min(last.unwrap_or(SystemTime::UNIX_EPOCH));
    humantime::format_rfc3339_micros(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clock_can_be_written() {
        let epoch = SystemTime::UNIX_EPOCH;
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        for (time, expected) in [
            (epoch - 10 * year, "1970-01-01T00:00:00.000000Z"),
            (epoch, "1970-01-01T00:00:00.000000Z"),
            (epoch + Duration::from_micros(1_500_000), "1970-01-01T00:00:01.500000Z"),
            (epoch + 9_000 * year, "9999-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(timestamp(time).to_string(), expected);
        }
    }
}
