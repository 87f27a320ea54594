//! Checked ranges of guest memory: the only way a kernel gets at a float.
//!
//! All of it is safe Rust. What a call writes is split off guest memory first, so that it can neither overlap what
//! the call reads nor leave memory: the borrow checker, not a comparison of ours, keeps the kernels inside.

use mayfly_kernels::Refused;
use mayfly_kernels::wire::{Shared, Span, Writes};

/// Guest memory less the ranges that are written: up to three stretches, by address.
pub struct Rest<'a> {
    stretches: [(usize, &'a [u8]); 3],
}

/// Bytes of a span, checked to lie in a memory of `len` bytes.
fn range(span: Span, len: usize) -> Result<(usize, usize), Refused> {
    let start = span.address as usize;
    let end = (span.floats as usize).checked_mul(4).and_then(|bytes| start.checked_add(bytes));
    let end = end.filter(|&end| end <= len).ok_or(Refused("a range leaves memory"))?;
    Ok((start, end))
}

/// Splits guest memory into what a call writes and what it may read.
pub fn split(memory: &mut [u8], writes: [Span; 2]) -> Result<(Writes<'_>, Rest<'_>), Refused> {
    let (output, scratch) = (range(writes[0], memory.len())?, range(writes[1], memory.len())?);
    let swapped = output.0 > scratch.0;
    let (low, high) = if swapped { (scratch, output) } else { (output, scratch) };
    if low.1 > high.0 {
        return Err(Refused("result and scratch overlap"));
    }
    let (before, rest) = memory.split_at_mut(low.0);
    let (first, rest) = rest.split_at_mut(low.1 - low.0);
    let (between, rest) = rest.split_at_mut(high.0 - low.1);
    let (second, after) = rest.split_at_mut(high.1 - high.0);
    let (output, scratch) = if swapped { (second, first) } else { (first, second) };
    let unaligned = Refused("an address is not a multiple of 4");
    let writes = Writes {
        output: bytemuck::try_cast_slice_mut(output).map_err(|_| unaligned)?,
        scratch: bytemuck::try_cast_slice_mut(scratch).map_err(|_| unaligned)?,
    };
    let stretches = [(0, &*before), (low.1, &*between), (high.1, &*after)];
    Ok((writes, Rest { stretches }))
}

impl<'a> Shared<'a> for Rest<'a> {
    fn floats(&self, span: Span) -> Result<&'a [f32], Refused> {
        let start = span.address as usize;
        let bytes = span.floats as usize * 4;
        for &(base, stretch) in &self.stretches {
            let Some(from) = start.checked_sub(base) else { continue };
            if let Some(found) = stretch.get(from..).and_then(|s| s.get(..bytes)) {
                return bytemuck::try_cast_slice(found)
                    .map_err(|_| Refused("an address is not a multiple of 4"));
            }
        }
        Err(Refused("a range leaves memory or meets what the call writes"))
    }
}
