//! Why a call is refused.

use core::fmt;

/// The name of the rule that a descriptor broke. On the host it becomes a trap; in the guest, an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub &'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel call refused: {}", self.0)
    }
}

impl core::error::Error for Refused {}

pub(crate) fn ensure(holds: bool, rule: &'static str) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused(rule)) }
}

/// Product of sizes, or refusal when it passes `max`. Sizes of zero are refused: no caller has a use for them.
pub(crate) fn product(sizes: &[usize], max: u64, rule: &'static str) -> Result<u64, Refused> {
    let mut total = 1u64;
    for &size in sizes {
        total = total.checked_mul(size as u64).ok_or(Refused(rule))?;
        ensure(total != 0 && total <= max, rule)?;
    }
    Ok(total)
}

/// Whether `len` floats hold the last element of a strided block: `sum((size - 1) * stride) + tail`.
pub(crate) fn reaches(
    len: usize,
    steps: &[(usize, usize)],
    tail: u64,
    rule: &'static str,
) -> Result<(), Refused> {
    let mut end = u128::from(tail);
    for &(size, stride) in steps {
        end += (size as u128 - 1) * stride as u128;
    }
    ensure(end <= len as u128, rule)
}
