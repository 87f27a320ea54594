//! Whether a module is guarded. Trusts nothing that the rewriting says.

use wasmparser::{
    ConstExpr, ElementItems, ExternalKind, FunctionBody, Operator, Parser, Payload, TableInit,
};

use super::SMALL_BYTES;
use super::bulk::{Helper, thunk};
use super::graph::Order;
use super::parts::{Parts, segments};
use super::path::{BULK, Callee, HOST, Path, Since};
use super::work::{Class, class};

/// What is wrong with it, and in which function.
#[derive(Debug, thiserror::Error)]
pub enum Unguarded {
    /// It is no module.
    #[error("{0}")]
    Parser(#[from] wasmparser::Error),
    /// An import that can be reached past its thunk.
    #[error("the imported function {import} is used in {place}, where only its thunk may use it")]
    Import {
        /// Which.
        import: u32,
        /// Where.
        place: &'static str,
    },
    /// Memory moved in one go.
    #[error("function {function} moves memory in one go")]
    Bulk {
        /// Which, among those that are not imported.
        function: u32,
    },
    /// A path that is too long.
    #[error("function {function} has a path that meets no check for too long")]
    Long {
        /// Which, among those that are not imported.
        function: u32,
    },
    /// Of a proposal that is off.
    #[error("function {function} has an instruction whose work is not known")]
    Instruction {
        /// Which, among those that are not imported.
        function: u32,
    },
}

/// Checks a module that may lack its data; `original` has it, and the segments' lengths are read from there.
///
/// # Errors
/// [`Unguarded`] names the first thing that is wrong.
pub fn check(guarded: &[u8], original: &[u8]) -> Result<(), Unguarded> {
    let parts = Parts::of(guarded)?;
    let lengths = segments(original)?;
    uses(guarded, parts.imported())?;
    let known: Vec<Option<Callee>> = parts
        .bodies
        .iter()
        .zip(&parts.types)
        .map(|(body, ty)| {
            let parameters = parts.parameters.get(*ty as usize).copied().unwrap_or(0);
            stands_in(body, parts.imported(), parameters, &lengths)
        })
        .collect::<wasmparser::Result<_>>()?;
    let order = Order::of(&parts.calls()?);
    let mut ends = vec![Since::default(); parts.bodies.len()];
    for &function in &order.functions {
        let at = function as usize;
        if known[at].is_some() {
            continue;
        }
        let callee = |index: u32| {
            let Some(to) = index.checked_sub(parts.imported()) else { return HOST };
            match known.get(to as usize) {
                Some(Some(known)) => *known,
                Some(None) if !order.leads_back(function, to) => Callee::Known(ends[to as usize]),
                _ => Callee::Deep,
            }
        };
        ends[at] = walk(&parts.bodies[at], function, parts.imported(), callee)?;
    }
    Ok(())
}

/// What a thunk or a helper may have done at its end, if this is one, byte for byte.
fn stands_in(
    body: &FunctionBody<'_>,
    imported: u32,
    parameters: u32,
    lengths: &[u32],
) -> wasmparser::Result<Option<Callee>> {
    /// The longest helper has less.
    const LONGEST: usize = 400;
    let bytes = body.as_bytes();
    let length = bytes.len();
    if length > LONGEST.max(16 + 6 * parameters as usize) {
        return Ok(None);
    }
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        let (same, end) = match reader.read()? {
            Operator::Call { function_index } if function_index < imported => {
                (thunk(function_index, parameters) == bytes, HOST)
            }
            Operator::MemoryFill { .. } => (Helper::Fill.body(0) == bytes, BULK),
            Operator::MemoryCopy { .. } => (Helper::Copy.body(0) == bytes, BULK),
            Operator::MemoryInit { data_index: segment, .. } => {
                let length = lengths.get(segment as usize).copied().unwrap_or(0);
                (Helper::Init { segment }.body(length) == bytes, BULK)
            }
            _ => continue,
        };
        return Ok(same.then_some(end));
    }
    Ok(None)
}

fn walk(
    body: &FunctionBody<'_>,
    function: u32,
    imported: u32,
    callee: impl Fn(u32) -> Callee,
) -> Result<Since, Unguarded> {
    let mut path = Path::new();
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        let operator = reader.read()?;
        match operator {
            Operator::Call { function_index: import }
            | Operator::RefFunc { function_index: import }
                if import < imported =>
            {
                return Err(Unguarded::Import { import, place: "code" });
            }
            _ => {}
        }
        match class(&operator) {
            Class::Off => return Err(Unguarded::Instruction { function }),
            Class::MemoryBulk if path.constant().is_none_or(|length| length > SMALL_BYTES) => {
                return Err(Unguarded::Bulk { function });
            }
            _ => {}
        }
        // The head of a loop is itself a check: nothing is due before it.
        if !matches!(operator, Operator::Loop { .. }) && path.is_due(&operator) {
            return Err(Unguarded::Long { function });
        }
        path.step(&operator, &callee);
    }
    Ok(path.at_return())
}

/// Every use of a function outside the code.
fn uses(wasm: &[u8], imported: u32) -> Result<(), Unguarded> {
    let allowed = |import, place| {
        if import < imported { Err(Unguarded::Import { import, place }) } else { Ok(()) }
    };
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if matches!(export.kind, ExternalKind::Func | ExternalKind::FuncExact) {
                        allowed(export.index, "an export")?;
                    }
                }
            }
            Payload::StartSection { func, .. } => allowed(func, "the start function")?,
            Payload::GlobalSection(section) => {
                for global in section {
                    constant(&global?.init_expr, |import| allowed(import, "a global"))?;
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    if let TableInit::Expr(init) = table?.init {
                        constant(&init, |import| allowed(import, "a table"))?;
                    }
                }
            }
            Payload::ElementSection(section) => {
                for element in section {
                    match element?.items {
                        ElementItems::Functions(functions) => {
                            for function in functions {
                                allowed(function?, "an element segment")?;
                            }
                        }
                        ElementItems::Expressions(_, values) => {
                            for value in values {
                                constant(&value?, |import| allowed(import, "an element segment"))?;
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn constant(
    expression: &ConstExpr<'_>,
    allowed: impl Fn(u32) -> Result<(), Unguarded>,
) -> Result<(), Unguarded> {
    for operator in expression.get_operators_reader() {
        if let Operator::RefFunc { function_index } = operator? {
            allowed(function_index)?;
        }
    }
    Ok(())
}
