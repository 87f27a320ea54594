//! Whether a new version does worse than the one before.

use std::fmt;
use std::str::FromStr;

use mayfly_core::deployment::Percent;
use mayfly_core::limits::node;
use mayfly_host::revision::Counted;
use serde::{Deserialize, Serialize};

/// What a new version may not do.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Guard {
    /// So much more of its requests may fail than of the version's before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Percent>,
    /// Its 99th percentile may be so many times as long as that of the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
}

/// Why a text is no guard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no guard: write errors=1%, p99=2x, or both with a comma between them")]
pub struct GuardError(String);

impl FromStr for Guard {
    type Err = GuardError;

    fn from_str(text: &str) -> Result<Self, GuardError> {
        let refuse = || GuardError(text.chars().take(64).collect());
        let mut guard = Self::default();
        for part in text.split(',') {
            match part.trim().split_once('=') {
                Some(("errors", margin)) => {
                    guard.errors = Some(margin.parse().map_err(|_| refuse())?);
                }
                Some(("p99", factor)) => {
                    let factor = factor.strip_suffix('x').unwrap_or(factor);
                    let factor: f64 = factor.parse().map_err(|_| refuse())?;
                    if !(1.0..=1000.0).contains(&factor) {
                        return Err(refuse());
                    }
                    guard.p99 = Some(factor);
                }
                _ => return Err(refuse()),
            }
        }
        Ok(guard)
    }
}

impl fmt::Display for Guard {
    /// As it is read; `none` for one that looks at nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.errors.map(|margin| format!("errors={margin}%"));
        let p99 = self.p99.map(|factor| format!("p99={factor}x"));
        let parts: Vec<_> = errors.into_iter().chain(p99).collect();
        f.write_str(if parts.is_empty() { "none" } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

impl Guard {
    /// What is wrong with the new version, if enough of its requests have shown that; by what both did meanwhile.
    pub(super) fn objects(&self, new: &Counted, old: &Counted) -> Option<String> {
        if new.requests < node::GUARD_REQUESTS_ERRORS {
            return None;
        }
        if let Some(margin) = self.errors
            && fails_more(new, old, f64::from(margin.points()) / 10_000.0)
        {
            return Some(format!(
                "{} of its {} requests failed, and {} of the {} of the version before",
                new.errors, new.requests, old.errors, old.requests
            ));
        }
        if new.requests < node::GUARD_REQUESTS {
            return None;
        }
        let (factor, new_us, old_us) = (self.p99?, new.p99_us()?, old.p99_us()?);
        #[expect(
            clippy::cast_precision_loss,
            reason = "52 bits of microseconds are a hundred years"
        )]
        let too_slow = new_us as f64 > old_us as f64 * factor;
        // Of few requests of the one before nothing is known.
        (too_slow && old.requests >= node::GUARD_REQUESTS).then(|| {
            format!(
                "its 99th percentile is {new_us} us, and {old_us} us that of the version before"
            )
        })
    }
}

/// One-sided test of two proportions with a margin, at p < 0.01: whether the new version's share of failures is above the
/// old one's by more than the margin, and not by chance.
#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn fails_more(new: &Counted, old: &Counted, margin: f64) -> bool {
    /// The 99th percentile of the standard normal distribution.
    const Z: f64 = 2.326;
    let share = |counted: &Counted| counted.errors as f64 / (counted.requests.max(1)) as f64;
    // Agresti and Caffo's one more of each kind keeps the variance above zero where nothing has failed yet.
    let variance = |counted: &Counted| {
        let (n, failed) = (counted.requests as f64 + 2.0, counted.errors as f64 + 1.0);
        (failed / n) * (1.0 - failed / n) / n
    };
    let above = share(new) - share(old) - margin;
    let variance = variance(new) + if old.requests == 0 { 0.0 } else { variance(old) };
    above > Z * variance.sqrt()
}

#[cfg(test)]
mod tests {
    use mayfly_core::FunctionName;
    use mayfly_host::revision::Vitals;
    use mayfly_observe::metrics::Metrics;

    use super::*;

    fn counted(requests: u64, errors: u64, ns: u64) -> Counted {
        let vitals =
            Vitals::new(Metrics::new().version(&FunctionName::new("f").unwrap(), requests));
        for at in 0..requests {
            vitals.count(if at < errors { 502 } else { 200 }, ns);
        }
        vitals.counted()
    }

    #[test]
    fn guards_are_read() {
        let guard: Guard = "errors=1%,p99=2x".parse().unwrap();
        assert_eq!((guard.errors.unwrap().points(), guard.p99), (100, Some(2.0)));
        assert_eq!("p99=1.5".parse::<Guard>().unwrap().p99, Some(1.5));
        assert_eq!(
            (guard.to_string(), Guard::default().to_string()),
            ("errors=1%,p99=2x".into(), "none".into())
        );
        for wrong in [
            "",
            "errors",
            "errors=",
            "p99=0.5x",
            "p99=x",
            "p50=2x",
            "errors=1%,,",
            "p99=NaN",
            "p99=inf",
        ] {
            assert!(wrong.parse::<Guard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn failures_count_when_they_are_no_chance() {
        let guard: Guard = "errors=1%".parse().unwrap();
        let good = counted(10_000, 10, 1_000_000);
        for (requests, errors, objects) in [
            (19, 19, false),
            (20, 20, true),
            (20, 3, false),
            (20, 8, true),
            (200, 200, true),
            (200, 2, false),
            (200, 5, false),
            (200, 12, true),
            (10_000, 110, false),
            (10_000, 180, true),
            (10_000, 10, false),
        ] {
            let new = counted(requests, errors, 1_000_000);
            assert_eq!(guard.objects(&new, &good).is_some(), objects, "{errors} of {requests}");
        }
        // Where the one before failed as often, it is nobody's fault.
        let (new, bad) = (counted(500, 200, 1), counted(5_000, 2_000, 1));
        assert!(guard.objects(&new, &bad).is_none());
        let words = guard.objects(&counted(200, 200, 1), &good).unwrap();
        assert!(words.starts_with("200 of its 200 requests failed"), "{words}");
    }

    #[test]
    fn slowness_counts_against_the_one_before() {
        let guard: Guard = "p99=2x".parse().unwrap();
        let old = counted(1_000, 0, 1_000_000);
        assert!(guard.objects(&counted(300, 0, 1_900_000), &old).is_none());
        assert!(guard.objects(&counted(300, 0, 2_600_000), &old).is_some());
        assert!(guard.objects(&counted(300, 0, 2_600_000), &counted(10, 0, 1_000_000)).is_none());
        assert!(guard.objects(&counted(100, 0, 2_600_000), &old).is_none());
        assert!(Guard::default().objects(&counted(300, 300, 2_600_000), &old).is_none());
    }
}
