//! A module's data apart from its code: what every memory begins with, as a file of its own.
//!
//! What an active segment writes, every instance has before its first instruction, so it can be written once. Such a
//! segment is as good as gone afterwards: an empty passive one of the same index is exactly what is left of it.

use std::ops::Range;

use mayfly_store::artifact::store::Part;
use wasm_encoder::{DataCountSection, DataSection, Module, RawSection, SectionId};
use wasmparser::{ConstExpr, DataKind, Operator, Parser, Payload};

/// A page of wasm, in bytes.
pub const WASM_PAGE: u64 = 64 << 10;
/// Granularity of copy-on-write.
const HOST_PAGE: u64 = 4 << 10;
/// Holes of an image below this are not worth an entry of their own.
const HOLE: u64 = 256 << 10;
/// Runs of an image that are told apart; the last one reaches to the end.
const RUNS: usize = 64;

/// Where data lie in a module's bytes, or a snapshot's, and where they go in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// The image's length: whole pages of wasm, or zero.
    pub bytes: u64,
    parts: Vec<(u64, Range<usize>)>,
}

/// Why a module's data cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Not valid.
    #[error("{0}")]
    Parser(#[from] wasmparser::Error),
    /// Every instance would trap.
    #[error(
        "data segment {index} ends at byte {end} of a memory of {memory}: no instance can be made"
    )]
    Outside {
        /// Which segment.
        index: usize,
        /// Where it ends.
        end: u64,
        /// Bytes of memory.
        memory: u64,
    },
    /// A place that is known only to an instance.
    #[error("data segment {index} has no place that is known before there is an instance")]
    Unplaced {
        /// Which segment.
        index: usize,
    },
}

impl Layout {
    /// Of a valid module.
    ///
    /// # Errors
    /// [`LayoutError`] when no instance could be made of it.
    pub fn of(wasm: &[u8]) -> Result<Self, LayoutError> {
        let (mut layout, mut memory) = (Self::default(), 0);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::MemorySection(section) => {
                    for ty in section {
                        memory = ty?.initial.saturating_mul(WASM_PAGE);
                    }
                }
                Payload::DataSection(section) => {
                    for (index, segment) in section.into_iter().enumerate() {
                        let segment = segment?;
                        let DataKind::Active { offset_expr, .. } = &segment.kind else { continue };
                        let at = value(offset_expr)?.ok_or(LayoutError::Unplaced { index })?;
                        let bytes = segment.data.len();
                        let end = u64::from(at) + bytes as u64;
                        if end > memory {
                            return Err(LayoutError::Outside { index, end, memory });
                        }
                        if bytes > 0 {
                            layout.bytes = layout.bytes.max(end.next_multiple_of(WASM_PAGE));
                            let from = segment.range.end - bytes;
                            layout.parts.push((u64::from(at), from..segment.range.end));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(layout)
    }

    /// Of these parts of a memory: where each goes, and where its bytes are.
    #[must_use]
    pub fn of_parts(parts: Vec<(u64, Range<usize>)>) -> Self {
        let end = |(at, range): &(u64, Range<usize>)| at + range.len() as u64;
        let bytes = parts.iter().map(end).max().unwrap_or(0).next_multiple_of(WASM_PAGE);
        Self { bytes, parts }
    }

    /// The parts of the image, in the order in which they are written, from the bytes that this is the layout of.
    #[must_use]
    pub fn parts<'w>(&self, wasm: &'w [u8]) -> Vec<Part<'w>> {
        self.parts.iter().map(|(at, range)| (*at, &wasm[range.clone()])).collect()
    }
}

/// The same module without the data that are in the image.
///
/// # Errors
/// For a module that is not valid.
pub fn without_data(wasm: &[u8]) -> wasmparser::Result<Vec<u8>> {
    const COUNT: u8 = SectionId::DataCount as u8;
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        match &payload {
            Payload::DataSection(section) => {
                let mut data = DataSection::new();
                for segment in section.clone() {
                    let segment = segment?;
                    data.passive(match segment.kind {
                        DataKind::Passive => segment.data.iter().copied(),
                        DataKind::Active { .. } => [].iter().copied(),
                    });
                }
                module.section(&data);
            }
            Payload::DataCountSection { count, .. } => {
                module.section(&DataCountSection { count: *count });
            }
            payload => {
                if let Some((id, range)) = payload.as_section().filter(|(id, _)| *id != COUNT) {
                    module.section(&RawSection { id, data: &wasm[range] });
                }
            }
        }
    }
    Ok(module.finish())
}

/// Bytes of the pages that parts of a memory touch, and where runs of these pages begin and end. A snapshot's parts are
/// sorted and apart; an upload's segments may overlap, and then this counts a page twice.
#[must_use]
pub fn touched(parts: impl IntoIterator<Item = (u64, u64)>) -> (u64, Vec<[u64; 2]>) {
    let (mut pages, mut seen) = (0, 0);
    let mut runs: Vec<[u64; 2]> = Vec::new();
    for (start, length) in parts {
        if length == 0 {
            continue;
        }
        let runs_full = runs.len() >= RUNS;
        let first = (start / HOST_PAGE).max(seen);
        let end = (start + length).div_ceil(HOST_PAGE);
        pages += end.saturating_sub(first);
        seen = end.max(seen);
        match runs.last_mut() {
            // An upload's segments may come in any order: then a run is only larger than it need be.
            Some([_, last]) if first * HOST_PAGE <= *last + HOLE || runs_full => {
                *last = (*last).max(end * HOST_PAGE);
            }
            _ => runs.push([first * HOST_PAGE, end * HOST_PAGE]),
        }
    }
    (pages * HOST_PAGE, runs)
}

/// What a constant expression comes to, if it needs no import.
fn value(expression: &ConstExpr<'_>) -> wasmparser::Result<Option<u32>> {
    let mut stack: Vec<u32> = Vec::new();
    for operator in expression.get_operators_reader() {
        let operator = operator?;
        if let Operator::I32Const { value } = operator {
            stack.push(value.cast_unsigned());
            continue;
        }
        if matches!(operator, Operator::End) {
            break;
        }
        let (Some(b), Some(a)) = (stack.pop(), stack.pop()) else { return Ok(None) };
        stack.push(match operator {
            Operator::I32Add => a.wrapping_add(b),
            Operator::I32Sub => a.wrapping_sub(b),
            Operator::I32Mul => a.wrapping_mul(b),
            _ => return Ok(None),
        });
    }
    Ok(stack.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(wat: &str) -> Result<Layout, String> {
        Layout::of(&wat::parse_str(wat).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn segments_go_where_their_offsets_say() {
        let wasm = wat::parse_str(
            r#"(module (memory 4) (data (i32.const 100) "abc") (data "passive")
                (data (i32.sub (i32.const 200000) (i32.mul (i32.const 2) (i32.const 5))) "late") (data (i32.const 101) "X"))"#,
        );
        let wasm = wasm.unwrap();
        let layout = Layout::of(&wasm).unwrap();
        assert_eq!(layout.bytes, 4 << 16);
        let parts = layout.parts(&wasm);
        assert_eq!(parts, [(100, &b"abc"[..]), (199_990, b"late"), (101, b"X")]);
        assert_eq!(Layout::of(b"\0asm\x01\0\0\0").unwrap(), Layout::default());
    }

    #[test]
    fn what_would_trap_in_every_instance_is_refused() {
        let error = layout(r#"(module (memory 1) (data (i32.const 65535) "ab"))"#).unwrap_err();
        assert!(error.contains("segment 0 ends at byte 65537 of a memory of 65536"), "{error}");
        let error = layout(r#"(module (memory 1) (data (i32.const -1) ""))"#).unwrap_err();
        assert!(error.contains("segment 0"), "{error}");
        assert_eq!(layout(r#"(module (memory 1) (data (i32.const 65536) ""))"#).unwrap().bytes, 0);
        let imported =
            r#"(module (import "a" "b" (global i32)) (memory 1) (data (global.get 0) "a"))"#;
        assert!(layout(imported).unwrap_err().contains("no place"));
    }

    #[test]
    fn what_is_left_of_an_active_segment_is_an_empty_one() {
        let wasm = wat::parse_str(
            r#"(module (memory 1) (data (i32.const 8) "active") (data $p "passive")
                (func (export "f") (memory.init $p (i32.const 0) (i32.const 0) (i32.const 7)) (data.drop 0)))"#,
        );
        let left = without_data(&wasm.unwrap()).unwrap();
        let text = segments(&left);
        assert_eq!(text, [(true, 0), (true, 7)]);
        wasmparser::validate(&left).unwrap();
    }

    fn segments(wasm: &[u8]) -> Vec<(bool, usize)> {
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            if let Payload::DataSection(section) = payload.unwrap() {
                found.extend(section.into_iter().map(|segment| {
                    let segment = segment.unwrap();
                    (matches!(segment.kind, DataKind::Passive), segment.data.len())
                }));
            }
        }
        found
    }
}
