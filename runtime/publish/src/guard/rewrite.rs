//! The rewriting itself.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    CodeSection, ElementSection, ExportSection, FunctionSection, GlobalSection, Instruction,
    Module, RawSection, SectionId, StartSection, TableSection, TypeSection,
};
use wasmparser::{BinaryReader, FunctionBody, Operator};

use super::SMALL_BYTES;
use super::bulk::{Helper, PARAMETERS, thunk};
use super::graph::Order;
use super::parts::{ORDER, Parts, count, segments};
use super::path::{BULK, Callee, HOST, Path, Since};

/// Why a module cannot be guarded; a valid one always can.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It is not valid.
    #[error("{0}")]
    Parser(#[from] wasmparser::Error),
    /// It cannot be written again.
    #[error("{0}")]
    Encoder(String),
}

impl From<Error> for GuardError {
    fn from(error: Error) -> Self {
        match error {
            Error::ParseError(error) => Self::Parser(error),
            error => Self::Encoder(error.to_string()),
        }
    }
}

/// Rewrites a valid module.
///
/// # Errors
/// [`GuardError`], for a module that is not valid.
pub fn guard(wasm: &[u8]) -> Result<Vec<u8>, GuardError> {
    let parts = Parts::of(wasm)?;
    let lengths = segments(wasm)?;
    let mut moved = Moved::new(&parts)?;
    let bodies = bodies(&parts, &mut moved)?;
    write(wasm, &parts, &mut moved, &bodies, &lengths)
}

/// The module as [`check`](super::check()) needs it: a model's data is most of it.
///
/// # Errors
/// [`GuardError`], for a module that is not valid.
pub fn without_data(wasm: &[u8]) -> Result<Vec<u8>, GuardError> {
    const DATA: [u8; 2] = [SectionId::Data as u8, SectionId::DataCount as u8];
    let mut module = Module::new();
    for (id, range) in Parts::of(wasm)?.sections {
        if !DATA.contains(&id) {
            module.section(&RawSection { id, data: &wasm[range] });
        }
    }
    Ok(module.finish())
}

/// Where functions are after the rewriting: an import's uses are its thunk's, and helpers come last.
pub(super) struct Moved {
    pub(super) imported: u32,
    pub(super) own: u32,
    pub(super) helpers: BTreeMap<Helper, u32>,
}

impl Reencode for Moved {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        Ok(self.target(function))
    }
}

impl Moved {
    pub(super) fn new(parts: &Parts<'_>) -> wasmparser::Result<Self> {
        let (imported, own) = (parts.imported(), count(parts.bodies.len()));
        let mut moved = Self { imported, own, helpers: BTreeMap::new() };
        for body in &parts.bodies {
            let mut reader = body.get_operators_reader()?;
            let mut length = None;
            while !reader.eof() {
                let operator = reader.read()?;
                if let Some(helper) = helper_for(&operator, length) {
                    moved.helpers.insert(helper, 0);
                }
                length = match operator {
                    Operator::I32Const { value } => Some(value.cast_unsigned()),
                    _ => None,
                };
            }
        }
        for (index, at) in (2 * imported + own..).zip(moved.helpers.values_mut()) {
            *at = index;
        }
        Ok(moved)
    }

    fn target(&self, function: u32) -> u32 {
        if function < self.imported { self.imported + self.own + function } else { function }
    }
}

/// The helper that an instruction needs, if its length is not a small constant.
fn helper_for(operator: &Operator<'_>, length: Option<u32>) -> Option<Helper> {
    let helper = match operator {
        Operator::MemoryFill { .. } => Helper::Fill,
        Operator::MemoryCopy { .. } => Helper::Copy,
        Operator::MemoryInit { data_index, .. } => Helper::Init { segment: *data_index },
        _ => return None,
    };
    length.is_none_or(|length| length > SMALL_BYTES).then_some(helper)
}

/// Callees first, so that what each may have done at its end is known to its callers.
fn bodies(parts: &Parts<'_>, moved: &mut Moved) -> Result<Vec<Vec<u8>>, GuardError> {
    let order = Order::of(&parts.calls()?);
    let mut ends = vec![Since::default(); parts.bodies.len()];
    let mut bodies = vec![Vec::new(); parts.bodies.len()];
    for &function in &order.functions {
        let callee = |index: u32| match index.checked_sub(moved.imported) {
            None => HOST,
            Some(to) if order.leads_back(function, to) => Callee::Deep,
            Some(to) => ends.get(to as usize).map_or(Callee::Deep, |end| Callee::Known(*end)),
        };
        let at = function as usize;
        (bodies[at], ends[at]) = body(&parts.bodies[at], moved, callee)?;
    }
    Ok(bodies)
}

fn body(
    body: &FunctionBody<'_>,
    moved: &Moved,
    callee: impl Fn(u32) -> Callee,
) -> Result<(Vec<u8>, Since), GuardError> {
    let (bytes, start) = (body.as_bytes(), body.range().start);
    let mut reader = body.get_operators_reader()?;
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 64);
    out.extend_from_slice(&bytes[..reader.original_position() - start]);
    let mut path = Path::new();
    while !reader.eof() {
        let from = reader.original_position() - start;
        let operator = reader.read()?;
        let helper = helper_for(&operator, path.constant());
        let helper = helper.and_then(|helper| moved.helpers.get(&helper));
        let call = helper.map(|helper| Operator::Call { function_index: *helper });
        let operator = call.unwrap_or(operator);
        if path.is_due(&operator) {
            for instruction in [Instruction::Loop(wasm_encoder::BlockType::Empty), Instruction::End]
            {
                wasm_encoder::Encode::encode(&instruction, &mut out);
            }
            path.checked();
        }
        path.step(&operator, |index| if helper.is_some() { BULK } else { callee(index) });
        match operator {
            Operator::Call { function_index } => {
                let to = Instruction::Call(moved.target(function_index));
                wasm_encoder::Encode::encode(&to, &mut out);
            }
            Operator::RefFunc { function_index } => {
                let to = Instruction::RefFunc(moved.target(function_index));
                wasm_encoder::Encode::encode(&to, &mut out);
            }
            _ => out.extend_from_slice(&bytes[from..reader.original_position() - start]),
        }
    }
    Ok((out, path.at_return()))
}

fn write(
    wasm: &[u8],
    parts: &Parts<'_>,
    moved: &mut Moved,
    bodies: &[Vec<u8>],
    lengths: &[u32],
) -> Result<Vec<u8>, GuardError> {
    let mut module = Module::new();
    for id in ORDER {
        let range = parts.sections.iter().find(|(found, _)| *found == id);
        let range = range.map(|(_, range)| range.clone());
        // A module of imports alone gets its first functions here.
        if id == 3 {
            module.section(&functions(parts, moved));
            continue;
        } else if id == 10 {
            module.section(&code(parts, moved, bodies, lengths));
            continue;
        }
        let Some(range) = range else { continue };
        let reader = || BinaryReader::new(&wasm[range.clone()], range.start);
        match id {
            1 => {
                let mut types = TypeSection::new();
                moved.parse_type_section(
                    &mut types,
                    wasmparser::TypeSectionReader::new(reader())?,
                )?;
                if !moved.helpers.is_empty() {
                    types.ty().function(PARAMETERS, []);
                }
                module.section(&types);
            }
            4 => {
                let mut tables = TableSection::new();
                let section = wasmparser::TableSectionReader::new(reader())?;
                moved.parse_table_section(&mut tables, section)?;
                module.section(&tables);
            }
            6 => {
                let mut globals = GlobalSection::new();
                let section = wasmparser::GlobalSectionReader::new(reader())?;
                moved.parse_global_section(&mut globals, section)?;
                module.section(&globals);
            }
            7 => {
                let mut exports = ExportSection::new();
                let section = wasmparser::ExportSectionReader::new(reader())?;
                moved.parse_export_section(&mut exports, section)?;
                module.section(&exports);
            }
            8 => {
                let function = reader().read_var_u32()?;
                module.section(&StartSection { function_index: moved.target(function) });
            }
            9 => {
                let mut elements = ElementSection::new();
                let section = wasmparser::ElementSectionReader::new(reader())?;
                moved.parse_element_section(&mut elements, section)?;
                module.section(&elements);
            }
            _ => {
                module.section(&RawSection { id, data: &wasm[range] });
            }
        }
    }
    Ok(module.finish())
}

fn functions(parts: &Parts<'_>, moved: &Moved) -> FunctionSection {
    let mut functions = FunctionSection::new();
    let helper = count(parts.parameters.len());
    let helpers = moved.helpers.keys().map(|_| &helper);
    for ty in parts.types.iter().chain(&parts.imports).chain(helpers) {
        functions.function(*ty);
    }
    functions
}

fn code(parts: &Parts<'_>, moved: &Moved, bodies: &[Vec<u8>], lengths: &[u32]) -> CodeSection {
    let mut code = CodeSection::new();
    for body in bodies {
        code.raw(body);
    }
    for (import, ty) in (0..).zip(&parts.imports) {
        let parameters = parts.parameters.get(*ty as usize).copied().unwrap_or(0);
        code.raw(&thunk(import, parameters));
    }
    for helper in moved.helpers.keys() {
        let length = match helper {
            Helper::Init { segment } => lengths.get(*segment as usize).copied().unwrap_or(0),
            Helper::Fill | Helper::Copy => 0,
        };
        code.raw(&helper.body(length));
    }
    code
}
