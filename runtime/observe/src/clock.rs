//! Times as people read them: RFC 3339, in UTC.
//!
//! A clock may be set to anything, and the library panics before 1970 and fails after 9999: such times become the
//! nearest that can be written. A panic here would be one in the panic hook as well, which aborts the process.

use std::time::{Duration, SystemTime};

use humantime::{Rfc3339Timestamp, format_rfc3339_micros, format_rfc3339_seconds};

/// Seconds from 1970 to the last of the year 9999.
const LAST_S: u64 = 253_402_300_799;

/// A moment, to the microsecond.
#[must_use]
pub fn timestamp(time: SystemTime) -> Rfc3339Timestamp {
    format_rfc3339_micros(time.max(SystemTime::UNIX_EPOCH).min(after_epoch(LAST_S)))
}

/// A moment so many seconds after 1970, to the second.
#[must_use]
pub fn date(unix_s: u64) -> Rfc3339Timestamp {
    format_rfc3339_seconds(after_epoch(unix_s.min(LAST_S)))
}

fn after_epoch(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
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
        for (seconds, expected) in [(0, "1970-01-01T00:00:00Z"), (u64::MAX, "9999-12-31T23:59:59Z")]
        {
            assert_eq!(date(seconds).to_string(), expected);
        }
    }
}
