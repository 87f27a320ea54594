//! What making an instance does before its first instruction, once for each request, and nothing interrupts it.
//!
//! Data are an image, and a table of functions is made as it is used: neither costs a request anything. All else is a
//! straight line of code that the engine makes of the module, so its length is the guest's to choose, and here is the
//! limit.

use mayfly_core::limits::node;
use wasmparser::{
    ConstExpr, Element, ElementItems, ElementKind, Operator, Parser, Payload, TableInit,
};

use super::Refusal;

/// Refuses a module of which each instance would take too long to make.
pub(super) fn check(wasm: &[u8]) -> Result<(), Refusal> {
    let mut startup = Startup::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| Refusal::from_parser(&error))?;
        startup.add(&payload).map_err(|error| Refusal::from_parser(&error))?;
    }
    startup.within()
}

/// Steps of a passive segment and of each of its elements: 100,000 elements took 10 ms of each request, 24,900 of one
/// element 3.4.
const PASSIVE_STEPS: u64 = 10;

/// Counts as sections go by, in their order.
#[derive(Debug, Default)]
struct Startup {
    table: Option<u64>,
    elements: Copied,
    steps: u64,
}

/// If one is copied, all are: each may trap, and the ones before it must have been written by then.
#[derive(Debug, Default)]
struct Copied {
    total: u64,
    any: bool,
}

impl Copied {
    fn cost(&self) -> u64 {
        if self.any { self.total } else { 0 }
    }
}

impl Startup {
    fn add(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let table = table?;
                    self.table = Some(table.ty.initial);
                    if let TableInit::Expr(init) = table.init {
                        self.expression(&init)?;
                        self.steps += table.ty.initial;
                    }
                }
            }
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    self.expression(&global?.init_expr)?;
                }
            }
            Payload::ElementSection(section) => {
                for element in section.clone() {
                    self.element(element?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn within(&self) -> Result<(), Refusal> {
        let steps = self.steps.saturating_add(self.elements.cost());
        if steps > node::STARTUP_STEPS {
            return Err(Refusal::Startup(steps));
        }
        Ok(())
    }

    fn element(&mut self, element: Element<'_>) -> wasmparser::Result<()> {
        let (length, listed) = match &element.items {
            ElementItems::Functions(functions) => (u64::from(functions.count()), true),
            ElementItems::Expressions(_, values) => {
                for value in values.clone() {
                    self.expression(&value?)?;
                }
                (u64::from(values.count()), false)
            }
        };
        match element.kind {
            ElementKind::Declared => {}
            ElementKind::Passive => self.steps += PASSIVE_STEPS * (length + 1),
            ElementKind::Active { offset_expr, .. } => {
                let table = self.table.unwrap_or(0);
                let fits = self.place(&offset_expr, length, table)?;
                self.elements.total += length;
                self.elements.any |= !(fits && listed);
            }
        }
        Ok(())
    }

    /// Whether a segment is at a constant place within what there is from the beginning.
    fn place(&mut self, at: &ConstExpr<'_>, length: u64, room: u64) -> wasmparser::Result<bool> {
        self.expression(at)?;
        Ok(constant(at).is_some_and(|start| start + length <= room))
    }

    /// A single constant is copied with all others; anything else is code.
    fn expression(&mut self, expression: &ConstExpr<'_>) -> wasmparser::Result<()> {
        let (mut steps, mut constant) = (0, false);
        for operator in expression.get_operators_reader() {
            constant = match operator? {
                Operator::End => break,
                Operator::I32Const { .. }
                | Operator::I64Const { .. }
                | Operator::F32Const { .. }
                | Operator::F64Const { .. }
                | Operator::V128Const { .. }
                | Operator::RefNull { .. } => true,
                _ => false,
            };
            steps += 1;
        }
        if steps > 1 || !constant {
            self.steps += steps;
        }
        Ok(())
    }
}

/// The place that an offset names, if it is a constant.
fn constant(at: &ConstExpr<'_>) -> Option<u64> {
    let mut operators = at.get_operators_reader();
    let Operator::I32Const { value } = operators.read().ok()? else { return None };
    matches!(operators.read().ok()?, Operator::End).then(|| u64::from(value.cast_unsigned()))
}
