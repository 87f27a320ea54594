//! A snapshot: the module that goes on where init ended. Its code is the module's own, and what init left is told apart
//! from it: a memory's pages, which become an image, and a few globals.
//!
//! What init left is said by a child that ran untrusted code, so it is numbers and bytes here, and never wasm.

use bytes::Bytes;
use mayfly_core::Limits;
use serde::{Deserialize, Serialize};
use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
use wasm_encoder::{
    ConstExpr, DataCountSection, DataSection, ExportKind, ExportSection, GlobalSection, Ieee32,
    Ieee64, Module, RawSection,
};
use wasmparser::{DataKind, ExternalKind, Parser, Payload, ValType};
use wasmtime::Val;

use super::image::WASM_PAGE;

/// Granularity of copy-on-write, and of what is looked at for zeros.
pub const HOST_PAGE: usize = 4 << 10;

/// The number of a global, as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// `i32`.
    I32(i32),
    /// `i64`.
    I64(i64),
    /// `f32`.
    F32(u32),
    /// `f64`.
    F64(u64),
    /// `v128`.
    V128(u128),
}

impl Value {
    /// What a global has; nothing for a reference.
    #[must_use]
    pub fn of(value: &Val) -> Option<Self> {
        Some(match value {
            Val::I32(value) => Self::I32(*value),
            Val::I64(value) => Self::I64(*value),
            Val::F32(bits) => Self::F32(*bits),
            Val::F64(bits) => Self::F64(*bits),
            Val::V128(value) => Self::V128(value.as_u128()),
            _ => return None,
        })
    }

    /// The same for the engine.
    #[must_use]
    pub fn val(self) -> Val {
        match self {
            Self::I32(value) => Val::I32(value),
            Self::I64(value) => Val::I64(value),
            Self::F32(bits) => Val::F32(bits),
            Self::F64(bits) => Val::F64(bits),
            Self::V128(value) => Val::V128(value.into()),
        }
    }

    fn ty(self) -> ValType {
        match self {
            Self::I32(_) => ValType::I32,
            Self::I64(_) => ValType::I64,
            Self::F32(_) => ValType::F32,
            Self::F64(_) => ValType::F64,
            Self::V128(_) => ValType::V128,
        }
    }

    fn expression(self) -> ConstExpr {
        match self {
            Self::I32(value) => ConstExpr::i32_const(value),
            Self::I64(value) => ConstExpr::i64_const(value),
            Self::F32(bits) => ConstExpr::f32_const(Ieee32::new(bits)),
            Self::F64(bits) => ConstExpr::f64_const(Ieee64::new(bits)),
            Self::V128(value) => ConstExpr::v128_const(value.cast_signed()),
        }
    }
}

/// What init left, as its child says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Left {
    /// Linear memory.
    pub memory_bytes: u64,
    /// The mutable globals, in their order.
    pub globals: Vec<Value>,
}

/// Runs of memory that are not zero: where each begins, and its bytes, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    /// `(start:u64 length:u64)*`, rising and apart.
    pub places: Bytes,
    /// All their bytes.
    pub contents: Bytes,
}

impl Runs {
    /// Of a memory: whole pages, but for its end.
    #[must_use]
    pub fn of(memory: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut places, mut contents) = (Vec::new(), Vec::new());
        let mut run: Option<(usize, usize)> = None;
        let mut close = |run: Option<(usize, usize)>| {
            let Some((start, end)) = run else { return };
            places.extend_from_slice(&(start as u64).to_le_bytes());
            places.extend_from_slice(&((end - start) as u64).to_le_bytes());
            contents.extend_from_slice(&memory[start..end]);
        };
        for (at, page) in memory.chunks(HOST_PAGE).enumerate() {
            let start = at * HOST_PAGE;
            let end = start + page.len();
            if is_zero(page) {
                close(run.take());
            } else {
                run = Some((run.map_or(start, |(start, _)| start), end));
            }
        }
        close(run);
        (places, contents)
    }

    /// Each place with where its bytes are in `contents`.
    ///
    /// # Errors
    /// If they are not what [`Runs::of`] makes of a memory of so many bytes.
    pub fn parts(&self, memory_bytes: u64) -> Result<Vec<(u64, std::ops::Range<usize>)>, Odd> {
        let (pairs, rest) = self.places.as_chunks::<16>();
        let (mut parts, mut end, mut used) = (Vec::with_capacity(pairs.len()), 0, 0_usize);
        for pair in pairs {
            let number = |at: usize| {
                let bytes = pair[at..at + 8].try_into().unwrap_or_default();
                u64::from_le_bytes(bytes)
            };
            let (start, length) = (number(0), number(8));
            let next = start.checked_add(length).filter(|next| *next <= memory_bytes);
            let to = usize::try_from(length).ok().and_then(|length| used.checked_add(length));
            let (Some(next), Some(to)) = (next, to) else { return Err(Odd("a run of memory")) };
            if start < end || length == 0 || to > self.contents.len() {
                return Err(Odd("a run of memory"));
            }
            parts.push((start, used..to));
            (end, used) = (next, to);
        }
        if used != self.contents.len() || !rest.is_empty() {
            return Err(Odd("a run of memory"));
        }
        Ok(parts)
    }
}

/// Sixteen bytes at a time: a memory of 64 MiB is looked at in some milliseconds.
pub(super) fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<16>();
    words.iter().fold(0, |seen, word| seen | u128::from_ne_bytes(*word)) == 0
        && rest.iter().all(|byte| *byte == 0)
}

/// What a child said is not what ours would say.
#[derive(Debug, thiserror::Error)]
#[error("what init left is not in order: {0}")]
pub struct Odd(&'static str);

impl Odd {
    pub(super) const NOTHING: Self = Self("there is none");
}

/// Under which name the mutable global of this number is exported where init runs.
#[must_use]
pub fn global_name(number: usize) -> String {
    format!("mayfly:global:{number}")
}

/// The module that init runs in: its mutable globals can be seen.
///
/// # Errors
/// [`Odd`] for a module that is not valid.
pub fn instrument(wasm: &[u8]) -> Result<Vec<u8>, Odd> {
    let mut module = Module::new();
    let mut mutable = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(odd)?;
        match &payload {
            Payload::GlobalSection(section) => {
                for (index, global) in (0..).zip(section.clone()) {
                    if global.map_err(odd)?.ty.mutable {
                        mutable.push(index);
                    }
                }
            }
            Payload::ExportSection(section) => {
                let mut exports = ExportSection::new();
                for export in section.clone() {
                    copy_export(&mut exports, export.map_err(odd)?);
                }
                // Nothing but functions can be imported, so these are all globals there are.
                for (number, index) in mutable.iter().enumerate() {
                    exports.export(&global_name(number), ExportKind::Global, *index);
                }
                module.section(&exports);
                continue;
            }
            _ => {}
        }
        copy(&mut module, &payload, wasm);
    }
    Ok(module.finish())
}

/// Checks what a child says against the module that it ran.
///
/// # Errors
/// [`Odd`] for what no child of ours says.
pub fn check(wasm: &[u8], left: &Left, limits: &Limits) -> Result<(), Odd> {
    let (mut types, mut least, mut most) = (Vec::new(), 0, u64::MAX);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(odd)? {
            Payload::GlobalSection(section) => {
                for global in section {
                    let ty = global.map_err(odd)?.ty;
                    types.extend(ty.mutable.then_some(ty.content_type));
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.map_err(odd)?;
                    least = memory.initial.saturating_mul(WASM_PAGE);
                    most = memory.maximum.map_or(most, |most| most.saturating_mul(WASM_PAGE));
                }
            }
            _ => {}
        }
    }
    if !types.iter().copied().eq(left.globals.iter().map(|value| value.ty())) {
        return Err(Odd("its globals"));
    }
    let (bytes, most) = (left.memory_bytes, most.min(limits.memory_bytes));
    match (least..=most).contains(&bytes) && bytes.is_multiple_of(WASM_PAGE) {
        true => Ok(()),
        false => Err(Odd("its memory")),
    }
}

/// What is compiled of a snapshot: the module without what has run (its start function, and the exports `_initialize` and
/// init), with its globals as init left them, and without data, which are in the image. Two snapshots of one module are
/// the same here unless init left other globals.
///
/// # Errors
/// [`Odd`] for a module that is not valid.
pub fn resumed(wasm: &[u8], init: &str, globals: &[Value]) -> Result<Vec<u8>, Odd> {
    let mut module = Module::new();
    let mut values = globals.iter();
    // Only with their count before the code can the code name segments.
    let mut counted = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(odd)?;
        match &payload {
            Payload::GlobalSection(section) => {
                module.section(&with_values(section, &mut values)?);
            }
            Payload::ExportSection(section) => {
                let mut exports = ExportSection::new();
                for export in section.clone() {
                    let export = export.map_err(odd)?;
                    if export.name != init && export.name != "_initialize" {
                        copy_export(&mut exports, export);
                    }
                }
                module.section(&exports);
            }
            Payload::StartSection { .. } => {}
            Payload::DataCountSection { count, .. } => {
                counted = true;
                module.section(&DataCountSection { count: *count });
            }
            Payload::DataSection(_) if !counted => {}
            Payload::DataSection(section) => {
                let mut data = DataSection::new();
                for segment in section.clone() {
                    let segment = segment.map_err(odd)?;
                    // What was written is gone afterwards.
                    data.passive(match segment.kind {
                        DataKind::Passive => segment.data.iter().copied(),
                        DataKind::Active { .. } => [].iter().copied(),
                    });
                }
                module.section(&data);
            }
            payload => copy(&mut module, payload, wasm),
        }
    }
    Ok(module.finish())
}

/// Globals, the mutable ones with these values.
fn with_values<'v>(
    section: &wasmparser::GlobalSectionReader<'_>,
    values: &mut impl Iterator<Item = &'v Value>,
) -> Result<GlobalSection, Odd> {
    let mut all = GlobalSection::new();
    for global in section.clone() {
        let global = global.map_err(odd)?;
        let value = if global.ty.mutable { values.next() } else { None };
        if let Some(value) = value {
            let ty = RoundtripReencoder.global_type(global.ty).map_err(odd)?;
            all.global(ty, &value.expression());
        } else {
            RoundtripReencoder.parse_global(&mut all, global).map_err(odd)?;
        }
    }
    Ok(all)
}

fn odd<E>(_: E) -> Odd {
    Odd("its module")
}

fn copy(module: &mut Module, payload: &Payload<'_>, wasm: &[u8]) {
    if let Some((id, range)) = payload.as_section() {
        module.section(&RawSection { id, data: &wasm[range] });
    }
}

fn copy_export(exports: &mut ExportSection, export: wasmparser::Export<'_>) {
    let kind = match export.kind {
        ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
        ExternalKind::Table => ExportKind::Table,
        ExternalKind::Memory => ExportKind::Memory,
        ExternalKind::Global => ExportKind::Global,
        ExternalKind::Tag => ExportKind::Tag,
    };
    exports.export(export.name, kind, export.index);
}

#[cfg(test)]
mod tests;
