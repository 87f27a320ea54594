//! Hundredths of a percent, which add up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A part of all requests, in hundredths of a percent.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct Percent(u16);

/// Why a text or number is no [`Percent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no percentage: write 0 to 100 with at most two decimals, as in 12.5")]
pub struct PercentError(String);

impl Percent {
    /// No requests.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(10_000);

    /// In hundredths of a percent.
    #[must_use]
    pub fn points(self) -> u16 {
        self.0
    }

    /// What is left of all.
    #[must_use]
    pub fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }

    /// Parts that stand to each other as these do and make `whole` together; what rounding leaves goes to the largest
    /// remainders. All of it to the first if there is nothing to go by.
    #[must_use]
    pub fn scaled(parts: &[Self], whole: Self) -> Vec<Self> {
        let sum: u32 = parts.iter().map(|part| u32::from(part.0)).sum();
        let Some(first) = parts.first() else { return Vec::new() };
        if sum == 0 {
            let mut scaled = vec![Self::NONE; parts.len()];
            scaled[0] = Self(whole.0.max(first.0));
            return scaled;
        }
        let exact: Vec<u32> =
            parts.iter().map(|part| u32::from(part.0) * u32::from(whole.0)).collect();
        let mut scaled: Vec<u32> = exact.iter().map(|exact| exact / sum).collect();
        let mut left = u32::from(whole.0) - scaled.iter().sum::<u32>();
        let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
        by_remainder.sort_by_key(|&at| std::cmp::Reverse(exact[at] % sum));
        for at in by_remainder {
            let more = left.min(1);
            scaled[at] += more;
            left -= more;
        }
        scaled.into_iter().map(|points| Self(u16::try_from(points).unwrap_or(0))).collect()
    }
}

impl TryFrom<u16> for Percent {
    type Error = PercentError;

    fn try_from(points: u16) -> Result<Self, PercentError> {
        if points <= Self::ALL.0 {
            return Ok(Self(points));
        }
        Err(PercentError(written(points.into())))
    }
}

impl From<Percent> for u16 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let refuse = || PercentError(text.chars().take(32).collect());
        let plain = text.strip_suffix('%').unwrap_or(text);
        let (whole, part) = plain.split_once('.').unwrap_or((plain, "0"));
        let digits = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, 3) || !digits(part, 2) {
            return Err(refuse());
        }
        let whole: u16 = whole.parse().map_err(|_| refuse())?;
        let part: u16 = format!("{part:0<2}").parse().map_err(|_| refuse())?;
        Self::try_from(whole * 100 + part).map_err(|_| refuse())
    }
}

/// Hundredths of a percent, in percent.
pub(super) fn written(points: u32) -> String {
    match (points / 100, points % 100) {
        (whole, 0) => whole.to_string(),
        (whole, part) if part % 10 == 0 => format!("{whole}.{}", part / 10),
        (whole, part) => format!("{whole}.{part:02}"),
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(self.0.into()))
    }
}
