//! One pass over a valid module: what it imports, exports and needs.

use std::ops::Range;

use mayfly_abi::limits as abi_limits;
use mayfly_core::limits::node;
use mayfly_core::record::Abi;
use mayfly_host::imports;
use wasmparser::types::TypesRef;
use wasmparser::{
    DataKind, ExternalKind, FuncType, FunctionBody, GlobalType, Operator, Parser, Payload, TypeRef,
    ValType,
};

use super::Refusal;
use crate::image::{WASM_PAGE, touched};

/// Names in an error message.
const NAMES_SHOWN: usize = 10;

/// What a module is made of, as far as publishing it depends on that.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// How a request reaches it.
    pub abi: Abi,
    /// The export to run before a snapshot.
    pub init: Option<&'static str>,
    /// What it does that a snapshot cannot keep, each once.
    pub obstacles: Vec<&'static str>,
    /// Whether it exports the seed probe.
    pub seed_probe: bool,
    /// Whether it says what it keeps of weights.
    pub weight_bytes: bool,
    /// Memory it starts with, in bytes.
    pub memory_bytes: u64,
    /// Bytes of 4-KiB pages that its data segments touch.
    pub image_bytes: u64,
    /// Where runs of these pages begin and end; holes below 256 KiB are left in.
    pub image: Vec<[u64; 2]>,
    /// Elements its table starts with.
    pub table_elements: u64,
    /// Assets by name, in order, and where they are in the file.
    pub assets: Vec<(String, Range<usize>)>,
}

struct Exports {
    functions: Vec<(String, FuncType)>,
    memory: bool,
}

/// Takes a module apart that has been validated.
pub(super) fn inspect(
    wasm: &[u8],
    types: TypesRef<'_>,
    known: Option<&[&'static str]>,
) -> Result<Inspection, Refusal> {
    let mut exports = Exports { functions: Vec::new(), memory: false };
    let mut obstacles = known.unwrap_or_default().to_vec();
    let mut assets = Vec::new();
    let (mut memory_bytes, mut tables, mut table_elements) = (None, 0, 0);
    let (mut image_bytes, mut image) = (0, Vec::new());
    let parser = |error| Refusal::from_parser(&error);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(parser)? {
            Payload::ImportSection(section) => check_imports(section, types)?,
            Payload::TableSection(section) => {
                for table in section {
                    tables += 1;
                    table_elements += table.map_err(parser)?.ty.initial;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    memory_bytes = Some(memory.map_err(parser)?.initial.saturating_mul(WASM_PAGE));
                }
            }
            Payload::GlobalSection(section) => {
                check_globals(section, &mut obstacles).map_err(parser)?;
            }
            Payload::ExportSection(section) => {
                for export in section {
                    exports.add(&export.map_err(parser)?, types);
                }
            }
            Payload::CodeSectionEntry(body) if known.is_none() => {
                scan(&body, &mut obstacles).map_err(parser)?;
            }
            Payload::DataSection(section) => {
                (image_bytes, image) = touched(placed(section).map_err(parser)?);
            }
            Payload::CustomSection(section) => {
                assets.extend(asset(&section)?);
                if assets.len() > abi_limits::ASSETS {
                    return Err(Refusal::Assets(assets.len()));
                }
            }
            _ => {}
        }
    }
    if tables > node::TABLES {
        return Err(Refusal::Tables(tables));
    }
    let abi = exports.abi()?;
    let init = exports.init()?;
    let seed_probe =
        exports.typed(mayfly_abi::EXPORT_SEED_PROBE, &[ValType::I64], "[] -> [i64]")?;
    let weight_bytes =
        exports.typed(mayfly_abi::EXPORT_WEIGHT_BYTES, &[ValType::I64], "[] -> [i64]")?;
    let memory_bytes = memory_bytes.filter(|_| exports.memory).ok_or(Refusal::NoMemory)?;
    Ok(Inspection {
        abi,
        init,
        obstacles,
        seed_probe,
        weight_bytes,
        memory_bytes,
        image_bytes,
        image,
        table_elements,
        assets,
    })
}

fn check_globals(
    section: wasmparser::GlobalSectionReader<'_>,
    obstacles: &mut Vec<&'static str>,
) -> wasmparser::Result<()> {
    for global in section {
        let GlobalType { mutable, content_type, .. } = global?.ty;
        if mutable && matches!(content_type, ValType::Ref(_)) {
            note(obstacles, "a mutable global that holds a reference");
        }
    }
    Ok(())
}

impl Exports {
    fn add(&mut self, export: &wasmparser::Export<'_>, types: TypesRef<'_>) {
        match export.kind {
            ExternalKind::Memory => self.memory |= export.name == "memory",
            ExternalKind::Func => {
                let ty = types[types.core_function_at(export.index)].unwrap_func();
                self.functions.push((export.name.to_owned(), ty.clone()));
            }
            _ => {}
        }
    }

    fn find(&self, name: &str) -> Option<&FuncType> {
        self.functions.iter().find(|(n, _)| n == name).map(|(_, ty)| ty)
    }

    /// Whether there is such an export; an error if it has parameters, or other results than these.
    fn typed(
        &self,
        name: &'static str,
        results: &[ValType],
        expected: &'static str,
    ) -> Result<bool, Refusal> {
        match self.find(name) {
            None => Ok(false),
            Some(ty) if ty.params().is_empty() && ty.results() == results => Ok(true),
            Some(_) => Err(Refusal::ExportType { name, expected }),
        }
    }

    fn plain(&self, name: &'static str) -> Result<bool, Refusal> {
        self.typed(name, &[], "[] -> []")
    }

    fn abi(&self) -> Result<Abi, Refusal> {
        let handle = self.plain(mayfly_abi::EXPORT_HANDLE)?;
        let marker = self.plain(mayfly_abi::EXPORT_ABI_V1)?;
        let other = self
            .functions
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| name.starts_with("mayfly_abi_") && *name != mayfly_abi::EXPORT_ABI_V1);
        match (handle, marker, other) {
            (true, true, _) => {
                self.plain("_initialize")?;
                Ok(Abi::Reactor)
            }
            (_, false, Some(other)) => Err(Refusal::AbiVersion(format!(
                "the module speaks `{other}`, and this Mayfly speaks `{}`",
                mayfly_abi::EXPORT_ABI_V1
            ))),
            (true, false, None) => Err(Refusal::AbiVersion(format!(
                "the module exports `{}` but not `{}`, which says what version it speaks",
                mayfly_abi::EXPORT_HANDLE,
                mayfly_abi::EXPORT_ABI_V1
            ))),
            (false, ..) if self.plain("_start")? => Ok(Abi::Command),
            (false, ..) => {
                let names = self.functions.iter().map(|(name, _)| shown(name));
                Err(Refusal::NoEntry(names.take(NAMES_SHOWN).collect()))
            }
        }
    }

    fn init(&self) -> Result<Option<&'static str>, Refusal> {
        for name in [mayfly_abi::EXPORT_INIT, mayfly_abi::EXPORT_INIT_WIZER] {
            if self.plain(name)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

fn check_imports(
    section: wasmparser::ImportSectionReader<'_>,
    types: TypesRef<'_>,
) -> Result<(), Refusal> {
    for import in section.into_imports() {
        check_import(&import.map_err(|error| Refusal::from_parser(&error))?, types)?;
    }
    Ok(())
}

fn check_import(import: &wasmparser::Import<'_>, types: TypesRef<'_>) -> Result<(), Refusal> {
    let (module, name) = (shown(import.module), shown(import.name));
    let kind = match import.ty {
        TypeRef::Func(index) => {
            let ty = types[types.core_type_at_in_module(index)].unwrap_func();
            return imports::check(import.module, import.name, ty)
                .map_err(|error| Refusal::Import { module, name, error });
        }
        TypeRef::FuncExact(_) => "exact function",
        TypeRef::Table(_) => "table",
        TypeRef::Memory(_) => "memory",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    };
    Err(Refusal::ImportKind { kind, module, name })
}

/// A guest-chosen name, short enough for a message and without control characters.
fn shown(name: &str) -> String {
    name.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn asset(
    section: &wasmparser::CustomSectionReader<'_>,
) -> Result<Option<(String, Range<usize>)>, Refusal> {
    let Some(name) = section.name().strip_prefix(mayfly_abi::ASSET_SECTION_PREFIX) else {
        return Ok(None);
    };
    if name.is_empty() {
        return Err(Refusal::AssetName("empty"));
    }
    if name.len() > abi_limits::ASSET_NAME_BYTES {
        return Err(Refusal::AssetName("over 128 bytes long"));
    }
    let start = section.data_offset();
    Ok(Some((name.to_owned(), start..start + section.data().len())))
}

/// Where active segments go, and how long they are.
fn placed(section: wasmparser::DataSectionReader<'_>) -> wasmparser::Result<Vec<(u64, u64)>> {
    let mut parts = Vec::new();
    for data in section {
        let data = data?;
        let DataKind::Active { offset_expr, .. } = data.kind else { continue };
        if let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? {
            parts.push((u64::from(value.cast_unsigned()), data.data.len() as u64));
        }
    }
    Ok(parts)
}

fn note(obstacles: &mut Vec<&'static str>, what: &'static str) {
    if !obstacles.contains(&what) {
        obstacles.push(what);
    }
}

/// Notes instructions whose effects are not in memory or globals.
fn scan(body: &FunctionBody<'_>, obstacles: &mut Vec<&'static str>) -> wasmparser::Result<()> {
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let what = match operators.read()? {
            Operator::TableSet { .. } => "table.set",
            Operator::TableGrow { .. } => "table.grow",
            Operator::TableFill { .. } => "table.fill",
            Operator::TableCopy { .. } => "table.copy",
            Operator::TableInit { .. } => "table.init",
            Operator::ElemDrop { .. } => "elem.drop",
            Operator::DataDrop { .. } => "data.drop",
            _ => continue,
        };
        note(obstacles, what);
    }
    Ok(())
}
