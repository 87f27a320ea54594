//! A module taken apart as far as guarding it needs.

use std::ops::Range;

use wasmparser::{
    BinaryReader, CodeSectionReader, CompositeInnerType, FunctionBody, Operator, Parser, Payload,
    TypeRef,
};

/// Sections by their place in a module; the data count comes before the code.
pub const ORDER: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11];

/// What is in a module.
#[derive(Debug, Default)]
pub struct Parts<'w> {
    /// Its sections by number, custom ones aside.
    pub sections: Vec<(u8, Range<usize>)>,
    /// Parameters of each type.
    pub parameters: Vec<u32>,
    /// Types of the imported functions.
    pub imports: Vec<u32>,
    /// Types of the others.
    pub types: Vec<u32>,
    /// The others' bodies.
    pub bodies: Vec<FunctionBody<'w>>,
}

impl<'w> Parts<'w> {
    /// Takes a module apart. Nothing is copied.
    pub fn of(wasm: &'w [u8]) -> wasmparser::Result<Self> {
        let mut parts = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let Some((id, range)) = payload.as_section().filter(|(id, _)| *id != 0) {
                parts.sections.push((id, range));
            }
            match payload {
                Payload::TypeSection(section) => {
                    for ty in section.into_iter().flat_map(types_of) {
                        parts.parameters.push(ty?);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if let TypeRef::Func(ty) = import?.ty {
                            parts.imports.push(ty);
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    parts.types = section.into_iter().collect::<wasmparser::Result<_>>()?;
                }
                Payload::CodeSectionStart { range, .. } => {
                    // Of a module that was cut there is less: an empty section is an error of the reader's.
                    let section = wasm.get(range.clone()).unwrap_or_default();
                    let reader = BinaryReader::new(section, range.start);
                    let bodies = CodeSectionReader::new(reader)?;
                    parts.bodies = bodies.into_iter().collect::<wasmparser::Result<_>>()?;
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    /// How many functions are imported.
    pub fn imported(&self) -> u32 {
        count(self.imports.len())
    }

    /// The functions that each body calls, by their place among the bodies; imports are left out.
    pub fn calls(&self) -> wasmparser::Result<Vec<Vec<u32>>> {
        let imported = self.imported();
        let own = count(self.bodies.len());
        self.bodies
            .iter()
            .map(|body| {
                let mut calls = Vec::new();
                let mut reader = body.get_operators_reader()?;
                while !reader.eof() {
                    if let Operator::Call { function_index } = reader.read()? {
                        calls.extend(function_index.checked_sub(imported).filter(|to| *to < own));
                    }
                }
                calls.sort_unstable();
                calls.dedup();
                Ok(calls)
            })
            .collect()
    }
}

/// Lengths of the data segments.
pub fn segments(wasm: &[u8]) -> wasmparser::Result<Vec<u32>> {
    let mut lengths = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::DataSection(section) = payload? {
            for segment in section {
                lengths.push(count(segment?.data.len()));
            }
        }
    }
    Ok(lengths)
}

/// No module has four milliards of anything.
pub fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn types_of(group: wasmparser::Result<wasmparser::RecGroup>) -> Vec<wasmparser::Result<u32>> {
    match group {
        Err(error) => vec![Err(error)],
        Ok(group) => group
            .types()
            .map(|ty| match &ty.composite_type.inner {
                CompositeInnerType::Func(ty) => Ok(count(ty.params().len())),
                // Off, and so in no valid module.
                _ => Ok(0),
            })
            .collect(),
    }
}
