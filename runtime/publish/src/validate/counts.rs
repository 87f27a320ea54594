//! How much of everything a module has, before anything is kept of it.
//!
//! The validator holds each type, name and export on the heap: 126 MiB of types with a thousand parameters each took a
//! GiB, in the process that serves. So this looks first, and stops at the first number that no compiler's module has.

use mayfly_core::limits::node;
use wasmparser::{Parser, Payload};

use super::Refusal;

/// Refuses a module that has more of something than is allowed.
pub(super) fn check(wasm: &[u8]) -> Result<(), Refusal> {
    let (mut names, mut sections) = (0, 0);
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| Refusal::from_parser(&error))?;
        sections += usize::from(!matches!(payload, Payload::CodeSectionEntry(_)));
        within("sections", sections, node::MODULE_SECTIONS)?;
        section(&payload, &mut names)?;
    }
    Ok(())
}

fn section(payload: &Payload<'_>, names: &mut usize) -> Result<(), Refusal> {
    let items = |what, count: u32| within(what, count as usize, node::MODULE_ITEMS);
    match payload {
        Payload::TypeSection(section) => {
            within("types", section.count() as usize, node::MODULE_TYPES)?;
            let mut values = 0;
            for ty in section.clone().into_iter_err_on_gc_types() {
                let ty = ty.map_err(|error| Refusal::from_parser(&error))?;
                values += ty.params().len() + ty.results().len();
                within("parameters and results of types", values, node::MODULE_TYPE_VALUES)?;
            }
        }
        Payload::ImportSection(section) => {
            items("imports", section.count())?;
            for import in section.clone().into_imports() {
                let import = import.map_err(|error| Refusal::from_parser(&error))?;
                add(names, [import.module, import.name])?;
            }
        }
        Payload::ExportSection(section) => {
            items("exports", section.count())?;
            for export in section.clone() {
                add(names, [export.map_err(|error| Refusal::from_parser(&error))?.name])?;
            }
        }
        Payload::FunctionSection(section) => {
            within("functions", section.count() as usize, node::MODULE_FUNCTIONS)?;
        }
        Payload::GlobalSection(section) => items("globals", section.count())?,
        Payload::ElementSection(section) => items("element segments", section.count())?,
        Payload::DataSection(section) => {
            within("data segments", section.count() as usize, node::MODULE_DATA)?;
        }
        _ => {}
    }
    Ok(())
}

fn add<const N: usize>(names: &mut usize, more: [&str; N]) -> Result<(), Refusal> {
    *names += more.iter().map(|name| name.len()).sum::<usize>();
    within("bytes in names of imports and exports", *names, node::MODULE_NAME_BYTES)
}

fn within(what: &'static str, found: usize, most: usize) -> Result<(), Refusal> {
    if found <= most { Ok(()) } else { Err(Refusal::TooMany { what, most }) }
}
